"""``improve``: the next generations of a policy from runs and rollouts, each measured against the last."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hiervla.training.improve.generations import Generation


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("improve")(improve)


def improve(
    runs: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Run records, or folders of them; may be given again.", show_default=False),
    ] = None,
    skill: Annotated[
        str | None, typer.Option(help="What to improve; by default what the measured rates call weakest.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of thing, for picks.", show_default=False)] = None,
    where: Annotated[str | None, typer.Option(help="Place, for picks: drawer, table ...", show_default=False)] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything that is made.")] = Path("runs/improve"),
    generations: Annotated[int, typer.Option(min=1, help="How many, one after the other.")] = 1,
    weights: Annotated[
        Path | None, typer.Option(help="What to begin with; the shipped flow policy.", show_default=False)
    ] = None,
    demos: Annotated[
        list[Path] | None,
        typer.Option(help="Demonstrations, so that no skill is forgotten; may be given again.", show_default=False),
    ] = None,
    rollouts: Annotated[int, typer.Option(min=0, help="Attempts in simulation, each generation.")] = 120,
    takeovers: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of them in which the expert may take over.")
    ] = 0.6,
    trials: Annotated[int, typer.Option(min=1, help="Held-out scenes that each generation is measured in.")] = 60,
    first_seed: Annotated[int, typer.Option(min=0, help="Of these scenes.")] = 1000,
    best: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of a policy's own moments that are good examples at most.")
    ] = 0.4,
    lookahead: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds before the value function takes over from what came.", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps, each generation.")] = 2000,
    whole: Annotated[
        bool, typer.Option("--whole", help="Train the encoder as well: ten times as long, and more is forgotten.")
    ] = False,
    lr: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 4e-4,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes for rollouts and trials; they give the same.")] = 1,
    device: Annotated[str, typer.Option(help="Torch device of the trainings.")] = "cpu",
) -> int:
    """Learn from experience: label it, train a value function, condition the policy on advantages, measure the gain.

    Goes on where it was interrupted. Exit status 1 where no gain is shown.
    """
    from hiervla.executor.policies.flow import DEFAULT_WEIGHTS
    from hiervla.training.improve.advantages import AdvantageSpec
    from hiervla.training.improve.generations import TRAIN, ImproveSpec
    from hiervla.training.improve.generations import improve as run
    from hiervla.training.improve.rollouts import Exploration
    from hiervla.training.improve.situations import situation_of
    from hiervla.training.improve.value import ValueSpec

    begin = weights or DEFAULT_WEIGHTS
    spec = ImproveSpec(
        situation_of(begin, skill, kind, where),
        rollouts=rollouts,
        trials=trials,
        first_seed=first_seed,
        exploration=Exploration(takeovers=takeovers),
        value=ValueSpec(seed=seed),
        advantage=AdvantageSpec(best=best, lookahead_s=lookahead),
        train=replace(TRAIN, steps=steps, lr=lr, batch=batch, freeze_encoder=not whole, seed=seed),
        seed=seed,
    )
    command = shlex.join(["hiervla", *_words(sys.argv[1:])])
    print(f"improving: {spec.situation}, from {begin}", flush=True)
    made = []
    for generation in run(
        spec, out, begin, generations=generations, runs=tuple(runs or ()), demos=tuple(demos or ()), command=command,
        tell=_tell, workers=workers, device=device,
    ):  # fmt: skip
        made.append(generation)
        print(row(generation), flush=True)
    last = made[-1]
    against = last.against_first
    if against is None or not against.better:
        print(f"no gain is shown: generation {last.number} against generation 0 {against}")
        return 1
    print(f"generation {last.number} against generation 0: {against}")
    print(f'weights: {last.folder}\nnext: hiervla run "pick up the red block" --policy {last.folder}')
    return 0


def row(generation: Generation) -> str:
    """One line of the table."""
    from hiervla.training.rates import rate

    head = f"generation {generation.number}: {rate(*generation.scores.rate)}"
    return head if generation.against_last is None else f"{head}; against the last {generation.against_last}"


def _words(words: list[str]) -> list[str]:
    """The words as typed, without folders of this machine above the named ones."""
    return [Path(w).name if w.startswith("/") else w for w in words]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
