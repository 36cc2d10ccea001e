"""Checks of a whole plan before the first motion: does each step find what it needs, and can the arm get there?

A plan that fails is sent back to the planner with what is wrong, a bounded number of times; each such plan stays on the
record. What a check cannot know it lets pass: every step is pointed at, grounded and asked "ready?" again when its turn
comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.base import GroundingError, Objection, Planner, PlannerFailedError
from hiervla.representations import CameraError, Condition, Observation, Plan, Refusal, Step
from hiervla.skills import Belief, MissingTargetError, SkillContext, SkillLibrary
from hiervla.skills.checks import holding

Reach = Callable[[NDArray[np.float64], float], str | None]
"""What is wrong with a hover position (3,) [m, world] and yaw [rad] for the arm; None when it gets there."""


class Screen(Protocol):
    """Judges plans before anything moves."""

    def objection(self, plan: Plan, observation: Observation, belief: Belief, skills: SkillLibrary) -> Objection | None:
        """What speaks against a plan; None when nothing does.

        Args:
            plan: the planner's answer.
            observation: what it was made from.
            belief: what the executor believes to be in the hand.
            skills: the library.
        """
        ...


class PlanScreen:
    """The checks that every planner's plans go through.

    Args:
        planner: lifts the points of a plan to the world.
        reach: says whether the arm gets to a hover position; None: nobody knows.
    """

    def __init__(self, planner: Planner, reach: Reach | None = None) -> None:
        self._planner = planner
        self._reach = reach

    def lifted_by(self, planner: Planner) -> PlanScreen:
        """The same checks with another planner's eyes."""
        return PlanScreen(planner, self._reach)

    def objection(self, plan: Plan, observation: Observation, belief: Belief, skills: SkillLibrary) -> Objection | None:
        """See :class:`Screen`."""
        steps = [plan.step(i) for i in plan.remaining]
        found = broken_chain(steps, observation, belief) or self._out_of_reach(steps, observation, belief, skills)
        if found is None:
            return None
        index, problem = found
        raw = plan.provenance.raw_text if plan.provenance is not None else None
        return Objection(raw_text=raw or str(plan.goal), problem=problem, step=index)

    def _out_of_reach(
        self, steps: Sequence[Step], observation: Observation, belief: Belief, skills: SkillLibrary
    ) -> tuple[int, str] | None:
        """The first step whose approach the arm cannot reach; steps without a point in this image are left out."""
        if self._reach is None:
            return None
        for index, step in enumerate(steps):
            problem = beyond_reach(step, observation, belief, self._planner, skills, self._reach)
            if problem is not None:
                return index, problem
        return None


def beyond_reach(
    step: Step, observation: Observation, belief: Belief, planner: Planner, skills: SkillLibrary, reach: Reach
) -> str | None:
    """What keeps the arm from a step's approach, in a sentence; None where nothing does or nobody can tell yet."""
    if step.artifacts and all(a.kind == "subtasks" for a in step.artifacts):
        return None  # said in words only: where that is, is looked for when its turn comes
    try:
        lifted = planner.ground(observation, step)
        context = SkillContext(step=lifted, before=observation, proprio=observation.proprio, belief=belief)
        target = context.target_w
    except (GroundingError, CameraError, MissingTargetError, PlannerFailedError):
        return None
    approach = skills.get(step.skill, place=f"step {step.id} of the plan").approach(context)
    problem = reach(approach.hover(target), approach.yaw)
    return None if problem is None else f"step {step.id} ('{step}') is out of the arm's reach: {problem}"


def broken_chain(steps: Sequence[Step], observation: Observation, belief: Belief) -> tuple[int, str] | None:
    """The first step that needs what the steps before it, or the start, contradict: its index, and a sentence.

    Three-valued: what is neither known from the start nor set by a step counts as possible.

    Args:
        steps: remaining steps, in order.
        observation: what the plan was made from; the gripper's feeling is read from it.
        belief: what the executor believes to be in the hand.
    """
    facts = _Facts(observation, belief)
    for index, step in enumerate(steps):
        for needed in step.preconditions:
            if facts.contradict(needed):
                when = "at the start" if index == 0 else f"after {', '.join(s.id for s in steps[:index][-2:])}"
                return index, f"step {step.id} ('{step}') needs {needed}, but {facts.hand()} {when}"
        for condition in step.postconditions:
            facts.take(condition)
    return None


def no_plan_passed(objections: Sequence[Objection]) -> Refusal:
    """What is said when none of the planner's plans passed the checks: nothing moves."""
    last = objections[-1].problem
    return Refusal(
        reason="cannot_do",
        message=f"None of {len(objections)} plans passed the checks before the first motion; of the last one {last}.",
    )


def program_ran_out(why: str) -> Refusal:
    """What is said when a program is through and what it did does not hold."""
    return Refusal(reason="cannot_do", message=f"the program is at its end; {why}")


_HOLDING: Final = "holding"
_EMPTY: Final = "hand_empty"


class _Facts:
    """What is known to hold while a plan is walked through."""

    def __init__(self, observation: Observation, belief: Belief) -> None:
        self._known: dict[tuple[str, tuple[str, ...]], bool] = {}
        self._held: str | None = belief.held
        # An empty hand is felt; what a full one holds is only known from what was picked up.
        self._hand_known = belief.held is not None or not holding(observation.proprio).yes

    def contradict(self, needed: Condition) -> bool:
        """Whether the condition is known not to hold."""
        value = self._value(needed)
        return value is not None and value != needed.holds

    def take(self, condition: Condition) -> None:
        """Follow an effect."""
        if condition.predicate == _HOLDING and condition.args:
            self._hand_known = True
            if condition.holds:
                self._held = condition.args[0]
            elif self._held is not None and _same(self._held, condition.args[0]):
                self._held = None
        elif condition.predicate == _EMPTY:
            self._hand_known = condition.holds
            self._held = None
        else:
            self._known[(condition.predicate, condition.args)] = condition.holds

    def hand(self) -> str:
        """What is in the hand, in words."""
        if not self._hand_known:
            return "what is in the hand is not known"
        return "the hand is empty" if self._held is None else f"the hand holds the {self._held}"

    def _value(self, needed: Condition) -> bool | None:
        if needed.predicate == _EMPTY:
            return self._held is None if self._hand_known else None
        if needed.predicate == _HOLDING and needed.args:
            return (self._held is not None and _same(self._held, needed.args[0])) if self._hand_known else None
        return self._known.get((needed.predicate, needed.args))


def _same(held: str, named: str) -> bool:
    """Whether two names can mean one thing: "orange sponge" is a "sponge"."""
    return held == named or held.split()[-1:] == [named] or named.split()[-1:] == [held]
