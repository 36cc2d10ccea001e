"""Thresholds of the policies' done- and progress-heads, fitted offline on run records.

What a record can tell: at each chunk boundary, what the heads said; at the end, whether the step's own check found that
it had worked. A boundary at which an attempt went on counts as "not done yet", the last one of an attempt that worked
counts as "done", and the last one of an attempt that did not work counts as "not done".

What a record cannot tell is what would have happened after a stop that did not take place. And where a head ended the
attempts itself, it agrees with their ends by construction: only attempts that failed or ran into the timer speak about
its present threshold. So a fitted threshold is a proposal and no measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hiervla.executor.record.errors import NotARecordError
from hiervla.executor.record.manifest import MANIFEST_FILE
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt, RunView
from hiervla.skills import (
    After,
    DoneHead,
    FunctionSkill,
    ProgressHead,
    Skill,
    SkillLibrary,
    Termination,
    Timer,
)
from hiervla.skills.doubt import InDoubt
from hiervla.skills.termination import Combined, parts_of

Head = Literal["done_head", "progress_head"]
HEADS: tuple[Head, ...] = ("done_head", "progress_head")
_VALUE = {"done_head": "done_prob", "progress_head": "progress"}
_DEFAULT = {"done_head": 0.5, "progress_head": 0.95}
ENOUGH = 10
"""Samples of either kind below which a fit is printed as an anecdote."""


@dataclass(frozen=True)
class Ended:
    """One attempt, as far as its heads are concerned.

    Attributes:
        skill: of the step.
        worked: what the step's own check said at the end; None where it was unsure or was not asked.
        values: for each head, what it said at each chunk boundary, the last one last.
    """

    skill: str
    worked: bool | None
    values: dict[Head, tuple[float, ...]]


@dataclass(frozen=True)
class Confusion:
    """Answers of a head at one threshold.

    Attributes:
        threshold: yes from there on.
        stops: done, and it says stop.
        misses: done, and it says go on.
        early: not done, and it says stop.
        goes_on: not done, and it says go on.
    """

    threshold: float
    stops: int
    misses: int
    early: int
    goes_on: int

    @classmethod
    def at(cls, threshold: float, done: Sequence[float], not_done: Sequence[float]) -> Confusion:
        """Count the answers at a threshold."""
        stops, early = sum(v >= threshold for v in done), sum(v >= threshold for v in not_done)
        return cls(threshold, stops, len(done) - stops, early, len(not_done) - early)

    @property
    def balanced(self) -> float:
        """Mean of the shares of right answers when done and when not done."""
        right = self.stops / max(1, self.stops + self.misses)
        return 0.5 * (right + self.goes_on / max(1, self.early + self.goes_on))


@dataclass(frozen=True)
class Fit:
    """A head's threshold, as it is and as the records would have it.

    Attributes:
        now: at the present threshold.
        best: at the fitted one; the same object where nothing is better than the present.
        used: whether the skill's termination asks this head at all.
        highest: what the head said at most while an attempt was not done; None without such samples.
        lowest: what it said at least when it was done; None without such samples.
    """

    head: Head
    now: Confusion
    best: Confusion
    used: bool
    highest: float | None = None
    lowest: float | None = None

    @property
    def enough(self) -> bool:
        """Are there samples enough of either kind to believe it?"""
        n = self.now
        return n.stops + n.misses >= ENOUGH and n.early + n.goes_on >= ENOUGH


@dataclass
class SkillFit:
    """What the records say of one skill.

    Attributes:
        attempts: those with a verdict at the end.
        worked: how many of them had worked.
        unsure: attempts left out, since their check was unsure or was not asked.
        silent: attempts left out, since the record does not hold what the heads said at the last boundary.
        fits: by head.
    """

    skill: str
    attempts: int = 0
    worked: int = 0
    unsure: int = 0
    silent: int = 0
    fits: dict[Head, Fit] = field(default_factory=dict)


def find_records(paths: Iterable[Path]) -> list[Path]:
    """The records among the paths, and in the folders among them.

    Raises:
        NotARecordError: a path is no record and holds none.
    """
    found = []
    for path in paths:
        inside = sorted(p.parent for p in path.glob(f"*/{MANIFEST_FILE}"))
        if (path / MANIFEST_FILE).exists():
            inside = [path]
        if not inside:
            raise NotARecordError(path, "it is no run record and holds none")
        found += inside
    return found


def attempts_of(record: RunRecord) -> Iterator[Ended | str]:
    """The attempts of a record; the skill's name alone where the last boundary's values are missing.

    Raises:
        CorruptRecordError: a line holds no event of this version.
    """
    for run in RunView.of(record).steps:
        for attempt in run.attempts:
            if attempt.chunks:
                yield _ended(run.step.skill, attempt) or run.step.skill


def _ended(skill: str, attempt: Attempt) -> Ended | None:
    during = [v.verdict.evidence for v in attempt.verdicts if v.phase == "during"]
    done = [v.verdict.value for v in attempt.verdicts if v.phase == "done"]
    values: dict[Head, tuple[float, ...]] = {}
    for head in HEADS:
        said = [_find(evidence, _VALUE[head]) for evidence in during]
        if None in said and len(attempt.chunks) == len(during) + 1:
            # The chunk after each boundary is what its verdict was based on; the first chunk comes before all of them.
            said = [getattr(chunk, _VALUE[head]) for chunk in attempt.chunks[1:]]
        known = tuple(v for v in said if v is not None)
        if known and len(known) == len(said):
            values[head] = known
    if not values:
        return None
    worked = {"yes": True, "no": False}.get(done[-1]) if done else None
    return Ended(skill, worked, values)


def _find(evidence: dict[str, float | str | bool], key: str) -> float | None:
    """A head's value in a verdict's evidence, under its own name or behind the name of a part."""
    for name, value in evidence.items():
        if name.rpartition(".")[2] == key and isinstance(value, float):
            return value
    return None


def fit(attempts: Iterable[Ended | str], library: SkillLibrary) -> list[SkillFit]:
    """Fit the heads of every skill that the attempts are of, by name."""
    groups: dict[str, list[Ended | str]] = {}
    for attempt in attempts:
        groups.setdefault(attempt if isinstance(attempt, str) else attempt.skill, []).append(attempt)
    return [_fit_skill(name, group, library) for name, group in sorted(groups.items())]


def _fit_skill(name: str, group: Sequence[Ended | str], library: SkillLibrary) -> SkillFit:
    told = [a for a in group if not isinstance(a, str)]
    judged = [a for a in told if a.worked is not None]
    made = SkillFit(
        name, len(judged), sum(bool(a.worked) for a in judged), len(told) - len(judged), len(group) - len(told)
    )
    for head in HEADS:
        done = [a.values[head][-1] for a in judged if a.worked and head in a.values]
        not_done = [v for a in judged if head in a.values for v in a.values[head][: -1 if a.worked else None]]
        if done or not_done:
            now = present(library.get(name), head) if name in library else None
            made.fits[head] = fit_head(head, _DEFAULT[head] if now is None else now, done, not_done, now is not None)
    return made


def fit_head(head: Head, now: float, done: Sequence[float], not_done: Sequence[float], used: bool = True) -> Fit:
    """The threshold with the highest balanced accuracy; the present one where none is better.

    Of the best thresholds, the middle of the widest gap between two samples is taken: it is the farthest from both.
    """
    present_ = Confusion.at(now, done, not_done)
    highest, lowest = max(not_done, default=None), min(done, default=None)
    if not done or not not_done:
        return Fit(head, present_, present_, used, highest, lowest)
    cuts = sorted({0.0, 1.0, *done, *not_done})
    options = [(Confusion.at((a + b) / 2, done, not_done), b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
    best, _ = max(options, key=lambda o: (o[0].balanced, o[1]))
    return Fit(head, present_, best if best.balanced > present_.balanced + 1e-9 else present_, used, highest, lowest)


def present(skill: Skill, head: Head) -> float | None:
    """The threshold that a skill's termination has now; None where it does not ask this head."""
    kind = DoneHead if head == "done_head" else ProgressHead
    return next((p.threshold for p in parts_of(skill.termination) if isinstance(p, kind)), None)


def proposal(fits: Sequence[SkillFit], library: SkillLibrary, records: Sequence[Path]) -> dict[str, Any]:
    """The fits as plain values, with the place where each threshold belongs and the line to put there."""
    skills: dict[str, Any] = {}
    for made in fits:
        heads: dict[str, Any] = {
            head: {
                "present": f.now.threshold,
                "fitted": round(f.best.threshold, 4),
                "asked_by_the_termination": f.used,
                "samples_enough": f.enough,
                "highest_while_not_done": f.highest,
                "lowest_when_done": f.lowest,
                "confusion_present": _counts(f.now),
                "confusion_fitted": _counts(f.best),
            }
            for head, f in made.fits.items()
        }
        entry: dict[str, Any] = {
            "attempts": made.attempts, "worked": made.worked, "unsure": made.unsure, "silent": made.silent, **heads,
        }  # fmt: skip
        if made.skill in library:
            skill = library.get(made.skill)
            changed = {h: round(f.best.threshold, 4) for h, f in made.fits.items() if f.used}
            entry["put"] = f"termination = {code_of(skill.termination, changed)}"
            entry["where"] = where_of(skill)
        skills[made.skill] = entry
    return {"format": 1, "records": [path.name for path in records], "skills": skills}


def where_of(skill: Skill) -> str:
    """The place in the code where a skill's termination stands."""
    if isinstance(skill, FunctionSkill):
        return f"the argument `termination` of @skill at {skill.__module__}.{skill.function.__name__}"
    return f"the property `termination` of {type(skill).__module__}.{type(skill).__name__}"


def code_of(termination: Termination, thresholds: dict[Head, float]) -> str:
    """A termination as code, with other thresholds of its heads."""
    match termination:
        case DoneHead():
            head = replace(termination, threshold=thresholds.get("done_head", termination.threshold))
            return f"DoneHead({head.threshold:g}{_min_s(head.min_s)})"
        case ProgressHead():
            other = replace(termination, threshold=thresholds.get("progress_head", termination.threshold))
            return f"ProgressHead({other.threshold:g}{_min_s(other.min_s)})"
        case Timer():
            return f"Timer({termination.seconds:g})"
        case After():
            part = "" if termination.part is None else f", {code_of(termination.part, thresholds)}"
            return f"after({termination.seconds:g}{part})"
        case InDoubt():
            both = ", ".join(code_of(p, thresholds) for p in termination.inner)
            return f"in_doubt({both}, {termination.below:g})"
        case Combined():
            name = {"any": "any_of", "all": "all_of", "majority": "majority"}[termination.how]
            return f"{name}({', '.join(code_of(p, thresholds) for p in termination.parts)})"
        case _:
            return str(termination)


def _min_s(seconds: float) -> str:
    return f", min_s={seconds:g}" if seconds else ""


def _counts(c: Confusion) -> dict[str, int]:
    return {"done_stop": c.stops, "done_go_on": c.misses, "not_done_stop": c.early, "not_done_go_on": c.goes_on}
