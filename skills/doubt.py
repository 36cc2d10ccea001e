"""A second opinion, asked for only where the first one is in doubt, because it is dear: a model that takes seconds.

Simple checks (a gripper's width, a done-head) are right nearly always and cost nothing; a vision-language model sees
more and takes its time. So the second is asked only where the first does not know: its answer is "unsure", or its
confidence lies below a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hiervla.representations import ConventionError, Verdict
from hiervla.skills.context import SkillContext
from hiervla.skills.termination import Termination, named

BELOW = 0.3
"""Confidence below which a yes or no is doubted."""


@dataclass(frozen=True)
class InDoubt:
    """What ``part`` says; where it is in doubt, what ``ask`` says, unless that does not know either.

    Attributes:
        part: asked always.
        ask: asked in doubt.
        below: confidence of the part from which it is taken at its word, 0 to 1; 0 doubts only "unsure".

    Raises:
        ConventionError: the limit is no probability.
    """

    part: Termination
    ask: Termination
    below: float = BELOW

    def __post_init__(self) -> None:
        """Refuse a limit that means nothing."""
        check_below("InDoubt.below", self.below)

    def __call__(self, context: SkillContext) -> Verdict:
        """Ask once or twice."""
        return settled(self.part(context), lambda: self.ask(context), self.below)

    @property
    def inner(self) -> tuple[Termination, ...]:
        """Both."""
        return (self.part, self.ask)

    def __str__(self) -> str:
        """``in_doubt(done_head(0.5), model)``."""
        return f"in_doubt({self.part}, {self.ask})"


def in_doubt(part: Termination, ask: Termination, below: float = BELOW) -> InDoubt:
    """What ``part`` says, and where it is unsure or its confidence is below the limit, what ``ask`` says."""
    return InDoubt(part, ask, below)


def settled(first: Verdict, ask: Callable[[], Verdict], below: float) -> Verdict:
    """The first verdict, or in doubt the second; both are in the evidence, and the name tells who was asked.

    Args:
        first: the cheap answer.
        ask: gets the dear one.
        below: confidence of the first from which it is taken at its word.
    """
    if first.value != "unsure" and first.confidence >= below:
        return first
    second = ask()
    decides = first if second.value == "unsure" else second
    evidence = named({}, first)
    return Verdict(
        name=f"in_doubt({first.name}, {second.name})",
        value=decides.value,
        confidence=decides.confidence,
        evidence=evidence | named(evidence, second),
    )


def check_below(field: str, below: float) -> None:
    """Refuse a limit of confidence that is none.

    Raises:
        ConventionError: it is not from 0 to 1.
    """
    if not 0.0 <= below <= 1.0:
        raise ConventionError(field, f"{below:g} is not in [0, 1]", "Give a confidence")
