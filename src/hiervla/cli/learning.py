"""``collect`` and ``train``: demonstrations, and weights from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hiervla.training.collect import CollectReport

train_app = typer.Typer(help="Train the learned parts.", rich_markup_mode=None, no_args_is_help=True)

Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Minutes = Annotated[
    float | None, typer.Option(help="Stop after so much wall time, wherever it is.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("collect")(collect)
    app.add_typer(train_app, name="train")


def collect(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the demonstrations.")] = Path("runs/demos"),
    skill: Annotated[
        list[str] | None, typer.Option(help="Only this skill; may be given again. All by default.", show_default=False)
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Demonstrations of each skill.")] = 300,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    minutes: Minutes = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Weights that drive while the experts only say what they would do.", show_default=False),
    ] = None,
    from_states: Annotated[
        list[Path] | None,
        typer.Option(
            help="Begin in moments that `skills handoff --states` saved; may be given again.", show_default=False
        ),
    ] = None,
    point_off: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.1, help="Put the point of a pick anywhere within so many metres of its thing, for --words."
        ),
    ] = 0.0,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Multiply these demonstrations: their motions, carried to new scenes; may be given again.",
            show_default=False,
        ),
    ] = None,
    attempts: Annotated[
        int | None,
        typer.Option(
            min=1, help="Give a skill up after so many tries; with --from, 50 and 10 an episode.", show_default=False
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Play the scenes on a Ray cluster: host:port, ray://host:port, auto; local starts one here.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Make demonstrations in simulation, for `train policy`: by scripted experts, or out of a few demonstrations."""
    from hiervla.executor.policies.base import SKILLS
    from hiervla.training.collect import run_collect

    report = run_collect(
        out,
        skills=tuple(skill) if skill else SKILLS,
        episodes=episodes,
        seed=seed,
        workers=workers,
        budget_s=None if minutes is None else 60.0 * minutes,
        policy=policy,
        states=tuple(from_states or ()),
        point_off_m=point_off,
        sources=tuple(sources or ()),
        attempts=attempts,
        ray=ray,
        on_progress=lambda so_far: _tell({f"{name} episodes": n for name, n in sorted(so_far.kept.items())}),
    )
    if sources:
        _tell_of_sources(report)
    print(f"demonstrations: {out} ({report.samples} samples, {report.seconds:.0f} s)")
    print(f"next: hiervla train policy {out}")
    return 0


def _tell_of_sources(report: CollectReport) -> None:
    for skill in report.skills:
        kept, tried = report.kept[skill], report.kept[skill] + report.failed[skill]
        share = f", {kept / tried:.2f}" if tried else ""
        unlike = f"; {report.unmatched[skill]} times no source was like enough" if report.unmatched[skill] else ""
        print(f"{skill}: {kept} of {tried} succeeded{share}{unlike}")
    for reason, count in report.reasons.most_common(8):
        print(f"  failed {count} times: {reason}")
    useless = report.useless()
    if useless:
        print(f"never succeeded in 5 tries or more: {', '.join(useless)}")
    if report.skipped:
        print(f"left out: {len(report.skipped)} sources")
    for skip in report.skipped[:10]:
        print(f"  {skip.source}: {skip.reason}")


@train_app.command("policy")
def train_policy(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders of demonstrations, or of LeRobot datasets of them.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the weights.")] = Path("runs/policy"),
    family: Annotated[str, typer.Option(help="flow, act, tokens, fast or diffusion.")] = "flow",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.", show_default=False)] = None,
    minutes: Minutes = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step.", show_default=False)] = None,
    lr: Annotated[float | None, typer.Option(min=0.0, help="Peak learning rate.", show_default=False)] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Use so many of the demonstrations.", show_default=False)
    ] = None,
    drop_point: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of samples without the planner's point, to learn to do without."),
    ] = 0.0,
    words: Annotated[bool, typer.Option("--words", help="Let the policy read the words of the step.")] = False,
    drop_words: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of samples without them, to learn to do without.")
    ] = 0.1,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (GPU) arithmetic; weights stay fp32.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
    init: Annotated[
        Path | None,
        typer.Option(help="Weights to start from; of another family the encoder is taken.", show_default=False),
    ] = None,
    encoder_only: Annotated[bool, typer.Option("--encoder-only", help="Take only the encoder from --init.")] = False,
    freeze_encoder: Annotated[bool, typer.Option("--freeze-encoder", help="Leave that encoder as it is.")] = False,
    copies: Annotated[int, typer.Option(min=1, help="Times that a frozen encoder encodes each sample.")] = 8,
    bank: Annotated[
        Path | None,
        typer.Option(help="File of samples that the frozen encoder has encoded; made if missing.", show_default=False),
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between trials in simulation.", show_default=False)
    ] = None,
    eval_trials: Annotated[int, typer.Option(min=1, help="Scenes of each skill in such trials.")] = 4,
) -> int:
    """Train a policy; goes on from its checkpoint when it was interrupted.

    On several GPUs: torchrun --nproc-per-node N -m hiervla.cli train policy ...
    """
    from hiervla.training.policy import Evaluation, TrainSpec
    from hiervla.training.policy import train_policy as train
    from hiervla.training.team import rank_here

    chosen = {"steps": steps, "batch": batch, "lr": lr}
    spec = TrainSpec(
        family=family,  # type: ignore[arg-type]  # the trainer refuses what it does not know
        precision=precision,  # type: ignore[arg-type]  # likewise
        drop_point=drop_point,
        words=words,
        drop_words=drop_words,
        freeze_encoder=freeze_encoder,
        copies=copies,
        seed=seed,
        **{k: v for k, v in chosen.items() if v is not None},  # type: ignore[arg-type]  # typed above
    )
    report = train(
        data,
        out,
        spec,
        work=out / "work",
        init=init,
        encoder_only=encoder_only,
        bank=bank,
        budget_s=None if minutes is None else 60.0 * minutes,
        threads=threads,
        device=device,
        evaluation=None if eval_every is None else Evaluation(eval_every, eval_trials),
        episodes=episodes,
        on_progress=_tell,
    )
    if rank_here() > 0:
        return 0
    print(f"weights: {report.path} ({report.steps} steps, {report.samples} samples, {report.seconds:.0f} s)")
    print(", ".join(f"{name} {value:.3g}" for name, value in report.metrics.items()))
    print(f'next: hiervla run "put the red mug on the top shelf" --policy {report.path}')
    return 0


@train_app.command("planner")
def train_planner(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the weights: runs/planner, or runs/lora with --lora."),
    ] = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    base: Annotated[
        str | None, typer.Option(help="Folder or hub id of a vision-language model, for --lora.", show_default=False)
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train an adapter for --base; see docs/planners.md.")] = False,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="--lora: run records, or a folder of them; may be given again.", show_default=False
        ),
    ] = None,
    scenes: Annotated[int, typer.Option(min=0, help="--lora: rendered scenes with the expert's plans.")] = 0,
    camera: Annotated[str, typer.Option(help="--lora: what the planner looks through in the runs.")] = "front",
    steps: Annotated[int, typer.Option(min=1, help="--lora: optimiser steps.")] = 300,
    batch: Annotated[int, typer.Option(min=1, help="--lora: questions a step.")] = 8,
    rank: Annotated[int, typer.Option(min=1, help="--lora: of the adapter.")] = 16,
    alpha: Annotated[
        float | None, typer.Option(help="--lora: scale of the adapter; twice the rank.", show_default=False)
    ] = None,
    lr: Annotated[float, typer.Option(min=0.0, help="--lora: peak learning rate.")] = 2e-4,
    targets: Annotated[
        str, typer.Option(help="--lora: all-linear, or linear layers of the language part: q_proj,v_proj.")
    ] = "all-linear",
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="--lora: share of runs and scenes held out for the scores.")
    ] = 0.1,
    device: Annotated[
        str | None, typer.Option(help="--lora: torch device; a GPU if there is one.", show_default=False)
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="--lora: recompute activations; slower, far less memory.")
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="--lora: write a merged checkpoint, too.")] = False,
) -> int:
    """Train the small planner; with --base and --lora, an adapter for any vision-language model on your plans."""
    from importlib import import_module

    from hiervla.cli.adapting import LoraOptions, train_adapter

    given = LoraOptions(
        base=base,
        lora=lora,
        runs=runs or (),
        scenes=scenes,
        camera=camera,
        steps=steps,
        batch=batch,
        rank=rank,
        alpha=alpha,
        lr=lr,
        targets=targets,
        held_out=held_out,
        device=device,
        checkpointing=checkpointing,
        merge=merge,
    )
    if given.wanted():
        return train_adapter(given, out or Path("runs/lora"), minutes, seed, _tell)
    out = out or Path("runs/planner")
    path = import_module("hiervla.training.planner").train_planner(out, minutes=minutes, seed=seed, on_progress=_tell)
    print(f"checkpoint: {path}")
    print(f'next: hiervla run "put the red mug on the top shelf" --planner {path}')
    return 0


def _tell(progress: Mapping[str, float]) -> None:
    text = ", ".join(f"{name} {value:.6g}" for name, value in progress.items())
    print(text, file=sys.stderr, flush=True)
