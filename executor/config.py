"""How the orchestrator behaves: every number that steers it, in one frozen, recorded place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hiervla.representations import ArtifactKind, Typed
from hiervla.skills.programs.limits import ProgramLimits

Count = Annotated[int, Field(ge=0)]


class LoopConfig(Typed):
    """Settings of the loop; they are part of the run record.

    ``naive()`` is the loop that the field often uses, kept as a baseline: plan once, run every step on a timer, look
    at nothing in between.
    """

    replan: Literal["every_step", "on_failure", "never"] = Field(
        default="on_failure",
        description="when the planner makes a new plan, with done and remaining steps; in between, the steps stand and "
        "their artifacts are found anew in a new image before each of them",
    )
    repeats: Count = Field(
        default=1,
        description="times that a failed step is tried again, pointed at anew, before a new plan is asked for",
    )
    screen: bool = Field(
        default=True, description="check the whole plan, preconditions and reach, before the first motion"
    )
    repairs: Count = Field(
        default=2, description="times that a plan which fails those checks goes back to the planner before giving up"
    )
    planner_retries: Count = Field(
        default=4,
        description="times that a planner which gives no answer is asked again in the middle of a task, arm held still",
    )
    planner_wait_s: Annotated[float, Field(ge=0.0)] = Field(
        default=2.0, description="wait before the first of these times; it doubles each time [s]"
    )
    stale_after_s: Annotated[float, Field(gt=0.0)] = Field(
        default=15.0, description="age of an observation from which its artifacts are found anew before use [s]"
    )
    verify: bool = Field(default=True, description="check readiness and success of each step from observations")
    check_arrival: bool = Field(
        default=True, description="see on arrival at a skill's hover that what was carried there is still in the hand"
    )
    learned_termination: bool = Field(default=True, description="stop on the policy's done-head; else on a timer")
    max_retries: Count = Field(default=3, description="further attempts at the same step before giving up")
    max_steps: Count = Field(default=40, description="attempts at steps in one run, retries included")
    end_checks: Count = Field(
        default=2,
        description="times that a run which seems to have succeeded is looked over once more and gone on with where "
        "something is left to do; 0 takes the steps' word for it",
    )
    chunk_rows: Annotated[int, Field(ge=1)] = Field(default=8, description="rows of a chunk to run before the next")
    think_ticks: Count = Field(
        default=10, description="control ticks that inference may take while the old chunk is tracked"
    )
    settle_ticks: Count = Field(default=15, description="control ticks to hold still before looking")
    cameras: tuple[str, ...] = ("front", "wrist")
    program: ProgramLimits = Field(default=ProgramLimits(), description="what a mini-program may use up")
    ask: bool = Field(
        default=False,
        description="have the planner ask which of several things is meant instead of taking one; somebody is there to "
        "answer (`Hooks.answer`, a terminal), or reads the refusal",
    )
    emit: ArtifactKind | None = Field(
        default=None, description="kind of intermediate that steps shall carry where their skill takes it"
    )

    @classmethod
    def naive(cls) -> LoopConfig:
        """Plan once, fixed timers, no checks: the baseline of ``benchmarks.tasks``."""
        unchecked = cls(screen=False, verify=False, check_arrival=False, end_checks=0)
        return unchecked.replace(replan="never", learned_termination=False, max_retries=0)
