"""Checks that ask somebody else whether a step worked, where the skill's own check is in doubt."""

from __future__ import annotations

import threading

from hiervla.executor.activities import SkillVerifier
from hiervla.representations import Verdict
from hiervla.skills import Skill, SkillContext, Termination
from hiervla.skills.doubt import BELOW, check_below, settled


class SecondOpinion(SkillVerifier):
    """The skills' own checks; whether a step worked is also asked of a judge where the skill does not know for sure.

    Args:
        judge: answers from the pictures before and after; see :class:`hiervla.planner.vlm.verdict.ModelVerdict`.
        below: confidence of the skill's own verdict from which nobody else is asked, 0 to 1.

    Raises:
        ConventionError: the limit is no probability.
    """

    def __init__(self, judge: Termination, below: float = BELOW) -> None:
        check_below("SecondOpinion.below", below)
        self.judge = judge
        self.below = below
        # Several arms ask at the same time, and a model answers one after the other.
        self._asking = threading.Lock()

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return settled(super().done(skill, context), lambda: self._ask(context), self.below)

    def _ask(self, context: SkillContext) -> Verdict:
        with self._asking:
            return self.judge(context)
