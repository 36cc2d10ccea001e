"""When to stop a skill: composable termination policies whose verdicts are logged.

A termination is asked at every chunk boundary. It keeps no state, so that one instance serves all runs; what it may
look at is in :class:`SkillContext`. Verdicts have three values: a head that the policy does not have is "unsure", and a
combination of parts is unsure where their answer would decide (Kleene's three-valued logic).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from hiervla.representations import ConventionError, Verdict
from hiervla.skills.context import SkillContext

Evidence = dict[str, float | str | bool]
Answer = Literal["yes", "no", "unsure"]


class Termination(Protocol):
    """Answers "is it time to stop?" at every chunk boundary, from observations only."""

    def __call__(self, context: SkillContext) -> Verdict:
        """Yes to stop, no to go on."""
        ...


@runtime_checkable
class Composite(Protocol):
    """A termination that is made of others."""

    @property
    def inner(self) -> tuple[Termination, ...]:
        """What it is made of."""
        ...


@dataclass(frozen=True)
class Timer:
    """Yes once ``seconds`` have passed since the policy took over. It is a limit: ending on it alone is a time-out.

    Raises:
        ConventionError: the limit is not positive.
    """

    seconds: float

    def __post_init__(self) -> None:
        """Refuse a limit that ends everything at once."""
        _positive("Timer.seconds", self.seconds)

    def __call__(self, context: SkillContext) -> Verdict:
        """Compare the elapsed time [s]."""
        late = context.elapsed_s >= self.seconds - 1e-9
        return Verdict(
            name="timer",
            value="yes" if late else "no",
            evidence={"elapsed_s": context.elapsed_s, "limit_s": self.seconds},
        )

    def __str__(self) -> str:
        """``timer(9 s)``."""
        return f"timer({self.seconds:g} s)"


@dataclass(frozen=True)
class DoneHead:
    """Yes when the policy's own done-head says so; unsure for a policy without one.

    Raises:
        ConventionError: the threshold is not a probability, or ``min_s`` is negative.
    """

    threshold: float = 0.5
    min_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can never or will always fire."""
        _head("DoneHead", self.threshold, self.min_s)

    def __call__(self, context: SkillContext) -> Verdict:
        """Compare the done probability of the latest chunk."""
        return _above("done_head", "done_prob", context.done_prob, self.threshold, self.min_s, context)

    def __str__(self) -> str:
        """``done_head(0.5, from 0.6 s)``."""
        return f"done_head({self.threshold:g}{_from(self.min_s)})"


@dataclass(frozen=True)
class ProgressHead:
    """Yes when the policy's own progress estimate reaches ``threshold``; unsure for a policy without one.

    Raises:
        ConventionError: the threshold is not a share, or ``min_s`` is negative.
    """

    threshold: float = 0.95
    min_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can never or will always fire."""
        _head("ProgressHead", self.threshold, self.min_s)

    def __call__(self, context: SkillContext) -> Verdict:
        """Compare the progress of the latest chunk."""
        return _above("progress_head", "progress", context.progress, self.threshold, self.min_s, context)

    def __str__(self) -> str:
        """``progress_head(0.95)``."""
        return f"progress_head({self.threshold:g}{_from(self.min_s)})"


@dataclass(frozen=True)
class Geometric:
    """Wraps a geometric predicate of proprioception and keypoint: a function of the context.

    The predicate may answer with a verdict, or with a bool, which is then named after the function.
    """

    check: Callable[[SkillContext], Verdict | bool]

    def __call__(self, context: SkillContext) -> Verdict:
        """Run the check."""
        answer = self.check(context)
        return answer if isinstance(answer, Verdict) else verdict_of(self.name, bool(answer))

    @property
    def name(self) -> str:
        """Name of the predicate."""
        return getattr(self.check, "__name__", type(self.check).__name__).strip("<>")

    def __str__(self) -> str:
        """Name of the predicate."""
        return self.name


@dataclass(frozen=True)
class After:
    """Never before ``seconds``; from then on what ``part`` says, or yes when there is no part.

    Without a part it is a duration that is meant, such as "hold for two seconds", and not a limit as :class:`Timer` is.

    Raises:
        ConventionError: the time is not positive.
    """

    seconds: float
    part: Termination | None = None

    def __post_init__(self) -> None:
        """Refuse a time that changes nothing."""
        _positive("After.seconds", self.seconds)

    def __call__(self, context: SkillContext) -> Verdict:
        """Ask the part also while it does not count, so that the record shows its answer."""
        inner = None if self.part is None else self.part(context)
        own = "" if inner is None else "after."
        evidence: Evidence = {f"{own}elapsed_s": context.elapsed_s, f"{own}from_s": self.seconds}
        if inner is not None:
            evidence |= named({}, inner)
        name = "after" if inner is None else f"after({inner.name})"
        if context.elapsed_s < self.seconds - 1e-9:
            return Verdict(name=name, value="no", evidence=evidence)
        if inner is None:
            return Verdict(name=name, value="yes", evidence=evidence)
        return Verdict(name=name, value=inner.value, confidence=inner.confidence, evidence=evidence)

    @property
    def inner(self) -> tuple[Termination, ...]:
        """The part, if there is one."""
        return () if self.part is None else (self.part,)

    def __str__(self) -> str:
        """``after(2 s, done_head(0.5))``."""
        return f"after({self.seconds:g} s{'' if self.part is None else f', {self.part}'})"


@dataclass(frozen=True)
class Combined:
    """Combines terminations by ``any``, ``all`` or ``majority``.

    The evidence names each part's answer and what it is based on: ``{"timer": "no", "timer.elapsed_s": 0.8, ...}``. Two
    parts of one name are told apart as ``timer`` and ``timer#2``.

    Raises:
        ConventionError: there is nothing to combine.
    """

    how: Literal["any", "all", "majority"]
    parts: tuple[Termination, ...]

    def __post_init__(self) -> None:
        """Refuse an empty combination: "all of nothing" would stop at once."""
        if not self.parts:
            raise ConventionError(f"{self.how}_of" if self.how != "majority" else "majority", "has no parts", _NO_PARTS)

    def __call__(self, context: SkillContext) -> Verdict:
        """Ask every part, so that the record shows each answer."""
        verdicts = [part(context) for part in self.parts]
        yes = [v for v in verdicts if v.yes]
        no = [v for v in verdicts if v.value == "no"]
        needed = {"any": 1, "all": len(verdicts), "majority": len(verdicts) // 2 + 1}[self.how]
        value: Answer
        if len(yes) >= needed:
            value, deciding = "yes", yes
        elif len(verdicts) - len(no) < needed:
            value, deciding = "no", no
        else:
            value, deciding = "unsure", [v for v in verdicts if v.value == "unsure"]
        evidence: Evidence = {}
        for verdict in verdicts:
            evidence |= named(evidence, verdict)
        return Verdict(
            name=f"{self.how}({', '.join(v.name for v in verdicts)})",
            value=value,
            confidence=_combined(self.how, value, [v.confidence for v in deciding]),
            evidence=evidence,
        )

    @property
    def inner(self) -> tuple[Termination, ...]:
        """The parts."""
        return self.parts

    def __str__(self) -> str:
        """``any(done_head(0.5, from 0.6 s), timer(9 s))``."""
        return f"{self.how}({', '.join(map(str, self.parts))})"


def any_of(*parts: Termination) -> Combined:
    """Stop as soon as one part says yes."""
    return Combined("any", parts)


def all_of(*parts: Termination) -> Combined:
    """Stop when every part says yes."""
    return Combined("all", parts)


def majority(*parts: Termination) -> Combined:
    """Stop when more than half of the parts say yes."""
    return Combined("majority", parts)


def after(seconds: float, part: Termination | None = None) -> After:
    """Let ``part`` count only after so many seconds; without a part, stop after them."""
    return After(seconds, part)


def parts_of(termination: Termination) -> Iterator[Termination]:
    """The termination and everything in it, outermost first."""
    yield termination
    for part in termination.inner if isinstance(termination, Composite) else ():
        yield from parts_of(part)


def verdict_of(name: str, answer: bool) -> Verdict:
    """A plain yes or no as a verdict."""
    return Verdict(name=name, value="yes" if answer else "no")


_NO_PARTS = "Give it at least one termination, such as Timer(10.0)"


def _positive(field: str, seconds: float) -> None:
    if not seconds > 0.0:
        raise ConventionError(field, f"{seconds:g} s is not positive", "Give a time above zero")


def _head(name: str, threshold: float, min_s: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise ConventionError(f"{name}.threshold", f"{threshold:g} is not in (0, 1]", "Give a probability above zero")
    if not min_s >= 0.0:
        raise ConventionError(f"{name}.min_s", f"{min_s:g} s is negative", "Give a time of zero or more")


def _above(name: str, what: str, value: float | None, threshold: float, min_s: float, context: SkillContext) -> Verdict:
    """The verdict of a head; the evidence holds both heads, which is what `hiervla calibrate` reads."""
    heads = {"done_prob": context.done_prob, "progress": context.progress}
    evidence: Evidence = {k: v for k, v in heads.items() if v is not None}
    if value is None:
        return Verdict(name=name, value="unsure", confidence=0.0, evidence=evidence)
    yes = value >= threshold and context.elapsed_s >= min_s
    confidence = abs(value - threshold) / max(threshold, 1.0 - threshold)
    return Verdict(
        name=name,
        value="yes" if yes else "no",
        confidence=min(1.0, confidence),
        evidence=evidence | {"threshold": threshold, "elapsed_s": context.elapsed_s},
    )


def _from(min_s: float) -> str:
    return f", from {min_s:g} s" if min_s else ""


def named(taken: Evidence, verdict: Verdict) -> Evidence:
    """A part's answer and evidence under its name; parts of parts keep theirs, so that every leaf can be found."""
    name, number = verdict.name, 1
    while name in taken:
        number += 1
        name = f"{verdict.name}#{number}"
    nested = verdict.name.endswith(")")
    inner = {k if nested else f"{name}.{k}": v for k, v in verdict.evidence.items()}
    fresh: Evidence = {k: v for k, v in inner.items() if k not in taken}
    return fresh | {name: verdict.value}


def _combined(how: str, value: str, confidences: list[float]) -> float:
    """Confidence of a combination: the surest of those of which one suffices, the least sure of those all needed."""
    if value == "unsure":
        return 0.0
    if how == "majority":
        return sum(confidences) / len(confidences)
    one_suffices = (how == "any") == (value == "yes")
    return max(confidences) if one_suffices else min(confidences)
