"""A planner that stands before another one; what it does not change is the other's."""

from __future__ import annotations

from hiervla.planner.base import Planner, PlannerContext, RejectedAttempt
from hiervla.planner.kinds import kinds_of
from hiervla.planner.seeing import NoVisionError, Seeing
from hiervla.representations import ArtifactKind, Observation, Plan, Refusal, SeenThing, Step


class PlannerWrapper:
    """Passes everything on; subclasses change what they are for.

    Attributes:
        inner: who plans.
        rejected: the inner planner's, of its last answer.
    """

    def __init__(self, inner: Planner) -> None:
        self.inner = inner
        self.rejected: tuple[RejectedAttempt, ...] = ()

    @property
    def id(self) -> str:
        """The inner planner's."""
        return self.inner.id

    @property
    def looks_over(self) -> bool:
        """Whether the inner planner can be asked if anything is left to do."""
        return bool(getattr(self.inner, "looks_over", False))

    @property
    def kinds(self) -> tuple[ArtifactKind, ...]:
        """The kinds of intermediate that the inner planner can make."""
        return kinds_of(self.inner)

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """What the inner planner sees; see :class:`hiervla.planner.seeing.Seeing`.

        Raises:
            NoVisionError: it does not say.
        """
        if not isinstance(self.inner, Seeing):
            raise NoVisionError(self.id)
        try:
            return self.inner.things(observation, context)
        finally:
            self.rejected = self.inner.rejected

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """See :class:`hiervla.planner.base.Planner`."""
        try:
            return self.inner.plan(observation, instruction, context)
        finally:
            # What could not be taken belongs on the record also where no answer came in the end.
            self.rejected = self.inner.rejected

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """See :class:`hiervla.planner.base.Planner`."""
        try:
            return self.inner.refresh(observation, plan, context)
        finally:
            self.rejected = self.inner.rejected

    def ground(self, observation: Observation, step: Step) -> Step:
        """See :class:`hiervla.planner.base.Planner`."""
        return self.inner.ground(observation, step)
