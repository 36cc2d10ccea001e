"""A person's program in the place of the planner's plan; everything else is still asked of the planner."""

from __future__ import annotations

from hiervla.planner.base import Planner, PlannerContext
from hiervla.planner.wrapping import PlannerWrapper
from hiervla.representations import Observation, Plan, Program, Provenance, Refusal

PERSON = "person"
"""What stands in the provenance of a program as its model when a person wrote it."""


def persons_program(source: str) -> Program:
    """A program's text with its author."""
    return Program(source=source, provenance=Provenance(model=PERSON))


class GivenProgram(PlannerWrapper):
    """Answers the first question with the given program, and has a planner see, point and lift for it.

    When somebody says something meanwhile, the planner is asked for a plan as always.
    """

    looks_over = False
    """The program says itself when it is done."""

    def __init__(self, planner: Planner, program: Program) -> None:
        super().__init__(planner)
        self._program = program

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """The program; once something was said, the planner's plan."""
        if context.said:
            return super().plan(observation, instruction, context)
        return Plan(goal=instruction, steps=(), remaining=(), program=self._program)
