"""What ``skills handoff`` and ``skills rates`` do."""

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


def print_rates(runs: list[Path], policy: str, *, as_json: bool) -> int:
    """Count runs into the user's own rates, and print all that the present skills and weights have.

    Raises:
        HiervlaError: a path is no record, or a file of rates is damaged or cannot be written.
    """
    from hiervla.executor.agent import policies
    from hiervla.executor.calibration import find_records
    from hiervla.executor.choosing import known_rates, weights_folder, weights_of
    from hiervla.executor.rates import count_runs
    from hiervla.skills import SkillLibrary
    from hiervla.skills.reliability import Reliability, digest_of, user_file

    library, policy_for = SkillLibrary.load(), policies(policy)
    weights = weights_of(policy, policy_for)
    if runs:
        own = Reliability.read(user_file())
        count_runs(find_records(runs), own, library, weights, lambda name: policy_for(name).id).write(user_file())
    digests = {s.name: digest_of(s, weights(s.policy)) for s in library if s.policy == "flow"}
    known = known_rates(weights_folder(policy))
    fresh = [r for r in known.rates if digests.get(r.skill) == r.digest]
    if as_json:
        print(json.dumps([r.model_dump(mode="json") for r in fresh], indent=2))
        return 0
    for rate in fresh:
        low, high = rate.interval
        share = rate.successes / rate.trials
        print(f"{rate.skill:14}{rate.kind:10}{rate.where:14}{share:.2f} [{low:.2f}, {high:.2f}] ({rate})")
    stale = len(known.rates) - len(fresh)
    if stale:
        print(f"{stale} more were measured with other skills or weights, and count for nothing")
    print(f"your own runs are counted in {user_file()}")
    return 0


__all__ = ["pairs", "print_rates", "run_handoffs"]
