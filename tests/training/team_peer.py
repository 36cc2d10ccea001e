"""What one of two processes does in `test_team.py`: torchrun starts it. Arguments: data, folder, shared or alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from hiervla.training.demos import load_demos
from hiervla.training.policy import Trainer, TrainSpec
from hiervla.training.team import Team, team


def settings(**options: Any) -> TrainSpec:
    return TrainSpec(**{"family": "tokens", "steps": 9, "batch": 8, "points": 32, "held_out": 0.0, **options})


def losses(trainer: Trainer, steps: int) -> list[float]:
    return [trainer.train_step(0.3) for _ in range(steps)]


def checked(data: Path, folder: Path, together: Team) -> dict[str, Any]:
    """Losses by what was trained, and what is different or the same between the processes."""
    demos, found = load_demos([data]), dict[str, Any]()
    trainings: dict[str, dict[str, Any]] = {
        "tokens": {}, "bf16": {"precision": "bf16"}, "flow": {"family": "flow"}, "words": {"words": True},
    }  # fmt: skip
    for name, options in trainings.items():
        trainer = Trainer(demos, settings(lr=1e-2, **options), team=together)
        found[name] = losses(trainer, 3)
        trainer.save(folder / f"{name}.pt")
        after = losses(trainer, 1)
        again = Trainer(demos, settings(lr=1e-2, **options), team=together)
        again.resume(folder / f"{name}.pt")
        found[f"{name} resumed alike"] = losses(again, 1) == after
        found[f"{name} after"] = after
        mine = torch.cat([p.detach().reshape(-1) for p in trainer.network.parameters()])
        theirs = together.collected(mine.view(torch.uint8))
        found[f"{name} same weights"] = all(bool((t == theirs[0]).all()) for t in theirs)
    noise = together.collected(torch.randn(4).view(torch.uint8))
    found["own noise"] = not any(bool((n == noise[0]).all()) for n in noise[1:])
    return found


def main(data: str, folder: str) -> None:
    """Check, and write what was found where the first process is."""
    torch.set_num_threads(1)
    with team("cpu") as together:
        found = checked(Path(data), Path(folder), together)
        if together.first:
            (Path(folder) / "found.json").write_text(json.dumps(found | {"size": together.size}))


if __name__ == "__main__":
    main(*sys.argv[1:])
