"""Measured rates from recorded runs: what the checks of each attempt said, by skill, kind of thing and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt, RunView
from hiervla.representations import Step
from hiervla.representations.plans import StepOutcome
from hiervla.skills import SkillLibrary
from hiervla.skills.reliability import Rate, Reliability, digest_of

_SAYS_NOTHING: tuple[StepOutcome | None, ...] = (
    None, "cancelled", "envelope_stop", "not_found", "precondition_failed", "blocked", "unreachable",
)  # fmt: skip
"""Outcomes of attempts in which the skill itself never acted to its end."""
_CARRIERS = ("block", "bowl", "plate", "mug", "can", "sponge")


def count_runs(
    records: Iterable[Path],
    known: Reliability,
    library: SkillLibrary,
    weights: Callable[[str], str],
    policy_id: Callable[[str], str],
) -> Reliability:
    """Rates with the attempts of some records counted in; a run that was counted before is left out.

    A record names the policy that made its chunks, not the hash of its weights: attempts count where that name is the
    present policy's.

    Args:
        records: folders of records.
        known: what was measured so far.
        library: the skills.
        weights: gives the version of the policy of a name.
        policy_id: gives the name that the chunks of a policy carry.

    Raises:
        RecordError: a record is damaged.
    """
    counted = set(known.runs)
    for path in records:
        record = RunRecord.open(path)
        if record.manifest.run_id in counted:
            continue
        counted.add(record.manifest.run_id)
        won: Counter[tuple[str, str, str]] = Counter()
        tried: Counter[tuple[str, str, str]] = Counter()
        for run in RunView.of(record).steps:
            for attempt in run.attempts:
                skill = run.step.skill
                if skill not in library or not _tells(attempt, policy_id(library.get(skill).policy)):
                    continue
                key = (skill, *situation(run.step))
                tried[key] += 1
                won[key] += attempt.outcome == "succeeded"
        known = known.plus(
            Rate(
                skill=skill, kind=kind, where=where, successes=won[skill, kind, where], trials=n,
                digest=digest_of(library.get(skill), weights(library.get(skill).policy)),
            )
            for (skill, kind, where), n in tried.items()
        )  # fmt: skip
    return known.replace(runs=tuple(sorted(counted)))


def situation(step: Step) -> tuple[str, str]:
    """Kind of the thing that a step is about, and where it lies or is to go, from the planner's words."""
    kind = _last(step.args.get("object", "") or step.args.get("surface", "") or step.args.get("drawer", ""))
    if step.skill == "pick":
        source = step.args.get("source", "")
        return kind, "on_object" if _last(source) in _CARRIERS else source.replace(" ", "_")
    if step.skill == "throw_away":
        return kind, "bin"
    target = step.args.get("target", "")
    return kind, _last(target) if _last(target) in _CARRIERS else target.replace(" ", "_")


def _tells(attempt: Attempt, policy: str) -> bool:
    return attempt.outcome not in _SAYS_NOTHING and bool(attempt.chunks) and attempt.chunks[-1].policy == policy


def _last(words: str) -> str:
    return words.rsplit(maxsplit=1)[-1] if words else ""


__all__ = ["count_runs", "situation"]
