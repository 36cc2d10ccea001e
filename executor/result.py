"""What an agent gives back of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from hiervla.executor.state import Ending, RunState
from hiervla.planner.base import StepRecord
from hiervla.representations import Plan, Refusal
from hiervla.representations.plans import RunOutcome
from hiervla.worlds.base import World


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        instruction: what was asked.
        outcome: typed outcome; ``succeeded`` is the agent's own judgement from observations.
        message: one sentence for a person.
        plan: the last plan, None when the planner refused.
        steps: every attempt at a step, in order, with its outcome.
        record: folder of the run record, None when none was asked for.
        duration_s: length of the run on the world's clock [s].
        refusal: the planner's last no, where the run ended with it: what it does not understand, which of several
            things may be meant, or why it cannot be done.
        arms: of a run of several arms: what came of each arm's part.
    """

    instruction: str
    outcome: RunOutcome
    message: str
    plan: Plan | None
    steps: tuple[StepRecord, ...]
    record: Path | None
    duration_s: float
    refusal: Refusal | None = None
    arms: Mapping[str, RunResult] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Did the agent judge that the goal is reached?"""
        return self.outcome == "succeeded"

    @classmethod
    def of(cls, instruction: str, ending: Ending, state: RunState, record: Path | None, world: World) -> Self:
        """What came of a loop that has ended, in a world."""
        return cls(
            instruction=instruction,
            outcome=ending.outcome,
            message=ending.message,
            plan=state.plan,
            steps=tuple(state.history),
            record=record,
            duration_s=world.time_s,
            refusal=state.refusal if ending.outcome in ("refused", "failed") else None,
        )
