"""What a dataset is and what is wrong with it, as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hiervla.training.data.opening import open_dataset


def summarise(path: str | Path, *, check: bool = True) -> dict[str, Any]:
    """Open a dataset and, with `check`, read every episode of it, images included.

    Raises:
        DatasetError: it cannot be read at all.
        MissingDependencyError: its format needs a package that is not installed.
    """
    source = open_dataset(path)
    spec = source.spec
    tasks: Counter[str] = Counter()
    successes: Counter[bool | None] = Counter()
    frames = 0
    if check:
        for episode in source.episodes():
            tasks[episode.instruction] += 1
            successes[episode.success] += 1
            frames += len(episode)
    episodes = sum(tasks.values())
    return {
        "path": str(path),
        "format": spec.format,
        "checked": check,
        "declared": spec.declared,
        "episodes": episodes if check else None,
        "frames": frames if check else None,
        "mean_length": frames / episodes if episodes else 0.0,
        "succeeded": successes[True],
        "failed": successes[False],
        "fps": spec.fps,
        "robot": spec.robot,
        "action": asdict(spec.action),
        "features": [{**asdict(f), "shape": list(f.shape), "names": list(f.names)} for f in spec.features],
        "unread": list(spec.extra.get("unread", ())),
        "tasks": dict(tasks.most_common()),
        "skipped": [s.to_json() for s in source.skipped],
    }
