"""From findings to a verdict: which level, where first, how sure, and who comes second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hiervla.executor.blame.contracts import Ledger
from hiervla.executor.blame.findings import LEVELS, Blame, Finding, Level
from hiervla.executor.blame.testimony import Attempt, Testimony

LEAST = 0.35
"""A level whose findings weigh less is not blamed."""
_SAME = 0.03


def decisive(said: Testimony) -> list[Attempt]:
    """The attempts on which a failed run foundered: the last step that was tried, as often as it was tried."""
    if not said.attempts:
        return []
    last = str(said.attempts[-1].step)
    tail: list[Attempt] = []
    for attempt in reversed(said.attempts):
        if str(attempt.step) != last:
            break
        tail.insert(0, attempt)
    return tail


def score(finding: Finding, said: Testimony, claimed: bool) -> float:
    """What a finding weighs for this failure: less where it concerns an attempt that did no harm."""
    fatal = decisive(said)
    if claimed or not fatal or finding.attempt in {a.number for a in fatal}:
        return finding.weight
    if finding.attempt < 0:
        asked = [a.event for f in fatal for a in (f.planned, f.origin) if a is not None]
        return finding.weight * (1.0 if finding.event in asked else 0.8)
    harmless = said.attempts[finding.attempt].outcome == "succeeded"
    return finding.weight * (0.7 if harmless and finding.level != "world" else 0.85)


def conclude(said: Testimony, ledger: Ledger, *, claimed: bool, problem: str, wall_s: float) -> Blame:
    """The verdict.

    Args:
        said: what was heard.
        ledger: what was found.
        claimed: the agent says that it succeeded.
        problem: why the run counts as a failure, in words.
        wall_s: time that it took [s].
    """
    weighed = [(score(f, said, claimed), f) for f in ledger.findings]
    best: dict[Level, float] = {}
    for s, f in weighed:
        best[f.level] = max(best.get(f.level, 0.0), s)
    ranked = sorted(best, key=lambda level: (-best[level], LEVELS.index(level)))
    if not ranked or best[ranked[0]] < LEAST:
        return nobody(
            ledger, "undecided", f"{problem}; every test that could be made came out as recorded", wall_s, ranked
        )
    top = best[ranked[0]]
    close = [(s, f) for s, f in weighed if s > top - _SAME]
    first = min((f for _, f in close), key=_when)
    level = first.level
    evidence = [f for s, f in sorted(weighed, key=lambda p: (-p[0], _when(p[1]))) if f.level == level]
    others = [f for s, f in sorted(weighed, key=lambda p: (-p[0], _when(p[1]))) if f.level != level]
    second = [x for x in ranked if x != level]
    rival = best[second[0]] if second else 0.0
    confidence = top * (0.8 if top - rival < 0.1 else 1.0)
    apart = f", {first.distance}" if first.distance else ""
    return Blame(
        outcome="found",
        level=level,
        step=first.step,
        attempt=first.attempt,
        event=first.event,
        why=f"{problem}; {first.test}: recorded {first.recorded}, expected {first.expected}{apart}",
        confidence=round(min(confidence, 0.99), 3),
        runner_up=second[0] if second else None,
        evidence=tuple([first, *[f for f in evidence if f is not first]]),
        others=tuple(others),
        tested=_counts(ledger),
        untested=tuple(f"{k}: {v}" for k, v in ledger.untested.items()),
        wall_s=wall_s,
    )


def nobody(ledger: Ledger, outcome: str, why: str, wall_s: float, ranked: Sequence[Level] = ()) -> Blame:
    """A verdict without a level: nothing to blame, or undecided."""
    return Blame(
        outcome="nothing" if outcome == "nothing" else "undecided",
        level=None,
        step="",
        attempt=-1,
        event="",
        why=why,
        confidence=0.0,
        runner_up=ranked[0] if ranked else None,
        evidence=(),
        others=tuple(sorted(ledger.findings, key=lambda f: (-f.weight, _when(f)))),
        tested=_counts(ledger),
        untested=tuple(f"{k}: {v}" for k, v in ledger.untested.items()),
        wall_s=wall_s,
    )


def shifted(ledger: Ledger, level: Level, attempt: int, factor: float) -> None:
    """Make the findings of a level about an attempt weigh more or less, after a counterfactual spoke."""
    ledger.findings[:] = [
        replace(f, weight=min(0.99, f.weight * factor)) if f.level == level and f.attempt in {attempt, -1} else f
        for f in ledger.findings
    ]


def _when(finding: Finding) -> tuple[int, int]:
    number = int(finding.event[1:]) if finding.event[1:].isdigit() else 10**9
    return number, LEVELS.index(finding.level)


def _counts(ledger: Ledger) -> tuple[str, ...]:
    return tuple(f"{name} ({count})" for name, count in ledger.tested.items())
