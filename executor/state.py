"""The state of a run that decisions depend on, and how a run ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from hiervla.executor.memory import Memory
from hiervla.planner.base import StepRecord
from hiervla.representations import Observation, Plan, Refusal
from hiervla.representations.plans import RunOutcome
from hiervla.skills import Belief


@dataclass
class RunState:
    """All state of a run that decisions depend on.

    Attributes:
        history: every attempt so far, with its outcome.
        belief: what is held and where it came from.
        plan: the planner's latest plan.
        observation: what that plan was made from.
        failures: attempts in a row at the same thing that failed.
        attempts: attempts at steps so far.
        said: what a person said since the instruction.
        memory: where things are that are out of sight.
        refusal: the planner's latest answer to a question for a plan, where it was a no.
    """

    history: list[StepRecord] = field(default_factory=list)
    belief: Belief = field(default_factory=Belief)
    plan: Plan | None = None
    observation: Observation | None = None
    failures: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    said: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Ending:
    """How the loop ended.

    Attributes:
        outcome: typed outcome.
        message: one sentence for a person.
    """

    outcome: RunOutcome
    message: str
