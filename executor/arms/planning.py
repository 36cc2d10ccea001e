"""What one arm's planner answers, as far as this arm can do it."""

from __future__ import annotations

from hiervla.executor.arms.sharing import groups
from hiervla.executor.screening import Reach, beyond_reach
from hiervla.planner.base import Planner, PlannerContext, RejectedAttempt
from hiervla.planner.wrapping import PlannerWrapper
from hiervla.representations import Observation, Plan, Refusal, Step
from hiervla.skills import Belief, SkillLibrary


class ArmPlanner(PlannerWrapper):
    """Stands before a planner that looks through one arm's cameras, and leaves to others what the arm cannot reach.

    An arm's camera also shows things on another arm's side. Steps about such things are left out, with what needs
    them; each is told in `rejected`, which belongs on the record. Every step says which arm it is for.

    Attributes:
        rejected: answers of the last question that did not pass the planner's checks, and steps that were left out.
    """

    def __init__(self, arm: str, inner: Planner, skills: SkillLibrary, reach: Reach) -> None:
        """Stand before a planner.

        Args:
            arm: whose cameras it looks through.
            inner: who plans.
            skills: the library.
            reach: what keeps the arm from a hover pose.
        """
        super().__init__(inner)
        self._arm = arm
        self._skills = skills
        self._reach = reach
        self._share: Plan | None = None

    def begin_with(self, share: Plan) -> None:
        """Answer the first question with the arm's share of a plan, pointed at in the image that comes with it."""
        self._share = share

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """See :class:`hiervla.planner.base.Planner`."""
        share, self._share = self._share, None
        if share is not None and not context.history and not context.said:
            fresh = self.refresh(observation, share, context)
            if fresh is not None:
                return fresh
        answer = super().plan(observation, instruction, context)
        return answer if isinstance(answer, Refusal) else self.within_reach(observation, answer)

    def within_reach(self, observation: Observation, plan: Plan) -> Plan | Refusal:
        """A plan without the steps that the arm cannot reach; a refusal where none is left."""
        steps = [plan.step(i) for i in plan.remaining]
        problems = {s.id: self._problem(observation, s) for s in steps}
        lost = {step_id: problem for step_id, problem in problems.items() if problem is not None}
        found = -1
        while found != len(lost):
            found = len(lost)
            for group in groups(plan):
                for step in group:
                    # What cannot be put down is not picked up either.
                    because = next((n for n in (*step.depends_on, *(s.id for s in group)) if n in lost), None)
                    if because is not None:
                        lost.setdefault(step.id, f"step {step.id} ('{step}') goes with step {because}")
        raw = plan.provenance.raw_text if plan.provenance is not None and plan.provenance.raw_text else plan.goal
        self.rejected += tuple(RejectedAttempt(raw, f"left to another arm: {why}") for why in lost.values())
        if lost and len(lost) == len(plan.remaining):
            message = f"What is left to do is not for the {self._arm} arm: {next(iter(lost.values()))}."
            return Refusal(reason="nothing_to_do" if plan.done else "cannot_do", message=message)
        return plan.replace(
            steps=tuple(s.replace(arm=self._arm) for s in plan.steps if s.id not in lost),
            remaining=tuple(i for i in plan.remaining if i not in lost),
        )

    def _problem(self, observation: Observation, step: Step) -> str | None:
        arms = self._skills.get(step.skill, place=f"step {step.id} of the plan").signature.resources.arms
        if arms and arms != (self._arm,):
            return f"step {step.id} ('{step}') is for {' and '.join(arms)}"
        return beyond_reach(step, observation, Belief(), self.inner, self._skills, self._reach)
