"""``train planner --lora``: an adapter for any image-text-to-text checkpoint."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

TARGETS = "all-linear"


@dataclass(frozen=True)
class LoraOptions:
    """What the command line says of an adapter, beside folder, time and seed."""

    base: str | None
    lora: bool
    runs: Sequence[Path]
    scenes: int
    camera: str
    steps: int
    batch: int
    rank: int
    alpha: float | None
    lr: float
    targets: str
    held_out: float
    device: str | None
    checkpointing: bool
    merge: bool

    def wanted(self) -> bool:
        """Whether an adapter is asked for.

        Raises:
            typer.BadParameter: options that do not go together.
        """
        if self.lora and self.base is None:
            raise typer.BadParameter("--lora adapts a checkpoint. Name its folder or hub id with --base")
        if self.base is not None and not self.lora:
            raise typer.BadParameter("--base is a checkpoint to adapt. Give --lora, too; nothing else is trained of it")
        if not self.lora and (self.runs or self.scenes or self.merge):
            raise typer.BadParameter("--from, --scenes and --merge go with --base and --lora")
        return self.lora


def train_adapter(
    options: LoraOptions, out: Path, minutes: float | None, seed: int, tell: Callable[[dict[str, float]], None]
) -> int:
    """Gather data, train, and say what came of it."""
    from hiervla.planner.vlm.adapter import need_peft
    from hiervla.training.lora.finetune import fine_tune, gather
    from hiervla.training.lora.trainer import LoraSpec

    # Before minutes of rendering.
    need_peft("LoRA fine-tuning")
    assert options.base is not None
    samples, left_out = gather(options.runs, options.scenes, camera=options.camera, seed=seed, on_progress=tell)
    print(f"questions: {len(samples)}" + "".join(f"; left out {n}: {why}" for why, n in left_out.most_common()))
    spec = LoraSpec(
        steps=options.steps,
        batch=options.batch,
        rank=options.rank,
        alpha=2.0 * options.rank if options.alpha is None else options.alpha,
        lr=options.lr,
        targets=tuple(t.strip() for t in options.targets.split(",") if t.strip()) or (TARGETS,),
        held_out=options.held_out,
        checkpointing=options.checkpointing,
        seed=seed,
    )
    report = fine_tune(
        options.base,
        samples,
        out,
        spec,
        device=options.device,
        budget_s=None if minutes is None else 60.0 * minutes,
        merge=options.merge,
        command=shlex.join(["hiervla", *sys.argv[1:]]),
        left_out=left_out,
        on_progress=tell,
    )
    learned, held = sum(report.train.values()), sum(report.held_out.values())
    print(f"adapter: {report.path} ({report.steps} steps, {learned} questions, {report.seconds:.0f} s)")
    if report.after:
        shown = [f"{n} {report.before[n]:.3g} -> {report.after[n]:.3g}" for n in report.after if n in report.before]
        print(f"held out ({held} questions), before -> after: {', '.join(shown)}")
    else:
        print("held out: nothing, since all questions are of one run or scene")
    if report.steps < spec.steps:
        print(f"stopped after {report.steps} of {spec.steps} steps; the same command goes on")
    if report.merged is not None:
        print(f"merged: {report.merged}")
    place = report.merged or report.path
    print(f'next: hiervla run "put the red mug on the top shelf" --planner transformers:{place}')
    return 0
