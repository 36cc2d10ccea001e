"""When to stop a skill: composable termination policies whose verdicts are logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from hiervla.representations import Verdict
from hiervla.skills.context import SkillContext


class Termination(Protocol):
    """Answers "is it time to stop?" at every chunk boundary, from observations only."""

    def __call__(self, context: SkillContext) -> Verdict:
        """Yes to stop, no to go on."""
        ...


@dataclass(frozen=True)
class Timer:
    """Yes once ``seconds`` have passed since the policy took over."""

    seconds: float

    def __call__(self, context: SkillContext) -> Verdict:
        """Compare the elapsed time [s]."""
        late = context.elapsed_s >= self.seconds - 1e-9
        return Verdict(
            name="timer",
            value="yes" if late else "no",
            evidence={"elapsed_s": context.elapsed_s, "limit_s": self.seconds},
        )


@dataclass(frozen=True)
class DoneHead:
    """Yes when the policy's own done-head says so; unsure for a policy without one."""

    threshold: float = 0.5
    min_s: float = 0.0

    def __call__(self, context: SkillContext) -> Verdict:
        """Compare the done probability of the latest chunk."""
        p = context.done_prob
        if p is None:
            return Verdict(name="done_head", value="unsure", confidence=0.0)
        yes = p >= self.threshold and context.elapsed_s >= self.min_s
        confidence = abs(p - self.threshold) / max(self.threshold, 1.0 - self.threshold)
        return Verdict(
            name="done_head",
            value="yes" if yes else "no",
            confidence=min(1.0, confidence),
            evidence={"done_prob": p},
        )


@dataclass(frozen=True)
class Geometric:
    """Wraps a geometric check of the observation."""

    check: Callable[[SkillContext], Verdict]

    def __call__(self, context: SkillContext) -> Verdict:
        """Run the check."""
        return self.check(context)


@dataclass(frozen=True)
class Combined:
    """Combines terminations by ``any``, ``all`` or ``majority``; the evidence names each part's answer."""

    how: Literal["any", "all", "majority"]
    parts: tuple[Termination, ...]

    def __call__(self, context: SkillContext) -> Verdict:
        """Ask every part, so that the record shows each answer."""
        verdicts = [part(context) for part in self.parts]
        yes = sum(v.yes for v in verdicts)
        needed = {"any": 1, "all": len(verdicts), "majority": len(verdicts) // 2 + 1}[self.how]
        deciding = [v for v in verdicts if v.yes] or verdicts
        return Verdict(
            name=f"{self.how}({', '.join(v.name for v in verdicts)})",
            value="yes" if yes >= needed else "no",
            confidence=max(v.confidence for v in deciding),
            evidence={v.name: v.value for v in verdicts},
        )


def any_of(*parts: Termination) -> Combined:
    """Stop as soon as one part says yes."""
    return Combined("any", parts)


def all_of(*parts: Termination) -> Combined:
    """Stop when every part says yes."""
    return Combined("all", parts)


def majority(*parts: Termination) -> Combined:
    """Stop when more than half of the parts say yes."""
    return Combined("majority", parts)
