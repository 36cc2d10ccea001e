"""What ``skills handoff`` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from hiervla.training.seams import Seam


def pairs(first: str | None, second: str | None, every: bool) -> list[Seam]:
    """The pairs that were asked for.

    Raises:
        typer.BadParameter: neither two skills nor ``--all``.
        UnknownNameError: no such skill, or one that cannot follow the other.
    """
    from hiervla.training.seams import Seam, occurring

    if every and first is None:
        return list(occurring())
    if every or first is None or second is None:
        raise typer.BadParameter("give two skills, as in `hiervla skills handoff pick place`, or --all")
    return [Seam(first, second)]


def run_handoffs(
    seams: list[Seam],
    trials: int,
    seed: int,
    *,
    policy: str,
    workers: int,
    states: Path | None,
    as_json: bool,
) -> int:
    """Try every pair, print what came of it, and keep the moments where the second skill failed."""
    from hiervla.training.handoffs import HandoffReport, handoff
    from hiervla.training.states import SUFFIX

    reports: list[HandoffReport] = []
    kept = 0
    for seam in seams:
        report = handoff(seam, trials, seed, policy=policy, workers=workers)
        reports.append(report)
        if not as_json:
            print(report, flush=True)
        for k, state in enumerate(report.states if states is not None else ()):
            assert states is not None
            state.save(states / f"{seam.first}-{seam.second}-{seed}-{k:03d}{SUFFIX}")
            kept += 1
    if as_json:
        print(json.dumps([r.to_json() for r in reports], indent=2))
    elif kept:
        print(f"{kept} moments to train on: {states}")
        print(f"next: hiervla collect --from-states {states}")
    return 0 if all(r.chained[0] == r.chained[1] for r in reports) else 1


__all__ = ["pairs", "run_handoffs"]
