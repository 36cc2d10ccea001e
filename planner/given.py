"""A person's program in the place of the planner's plan; everything else is still asked of the planner."""

from __future__ import annotations

from hiervla.planner.base import Planner, PlannerContext, RejectedAttempt
from hiervla.planner.seeing import NoVisionError, Seeing
from hiervla.representations import Observation, Plan, Program, Provenance, Refusal, SeenThing, Step

PERSON = "person"
"""What stands in the provenance of a program as its model when a person wrote it."""


def persons_program(source: str) -> Program:
    """A program's text with its author."""
    return Program(source=source, provenance=Provenance(model=PERSON))


class GivenProgram:
    """Answers the first question with the given program, and has a planner see, point and lift for it.

    When somebody says something meanwhile, the planner is asked for a plan as always.
    """

    def __init__(self, planner: Planner, program: Program) -> None:
        self._planner = planner
        self._program = program
        self._answered = False

    @property
    def id(self) -> str:
        """The planner's."""
        return self._planner.id

    @property
    def rejected(self) -> tuple[RejectedAttempt, ...]:
        """The planner's, of its last answer."""
        return self._planner.rejected if self._answered else ()

    @rejected.setter
    def rejected(self, value: tuple[RejectedAttempt, ...]) -> None:
        self._planner.rejected = value

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """The program; once something was said, the planner's plan."""
        if context.said:
            self._answered = True
            return self._planner.plan(observation, instruction, context)
        return Plan(goal=instruction, steps=(), remaining=(), program=self._program)

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """See :class:`hiervla.planner.base.Planner`."""
        self._answered = True
        return self._planner.refresh(observation, plan, context)

    def ground(self, observation: Observation, step: Step) -> Step:
        """See :class:`hiervla.planner.base.Planner`."""
        return self._planner.ground(observation, step)

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """See :class:`hiervla.planner.seeing.Seeing`."""
        if not isinstance(self._planner, Seeing):
            raise NoVisionError(self.id)
        self._answered = True
        return self._planner.things(observation, context)
