"""The seams of a run: everything whose result is recorded and can be taken from a record instead.

The orchestrator decides; it sees the world only through these. A live run gives it a planner, policies, a body and the
skills' own checks; a replay gives it the same four, made from a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.control import Control, LetItRun
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.recorder import Purpose, Recorder
from hiervla.executor.screening import PlanScreen, Screen
from hiervla.planner.base import Planner
from hiervla.representations import ActionChunk, HiervlaError, Observation, Proprioception, Step, Verdict
from hiervla.skills import Approach, Skill, SkillContext
from hiervla.skills.errors import SkillFailedError

V = TypeVar("V")


class RobotBody(Protocol):
    """A robot for the length of one run: it looks, moves and holds still.

    Attributes:
        parent: id of the event that new events belong to, set while a step is attempted.
        tick_s: length of a control tick [s].
    """

    parent: str | None
    tick_s: float

    @property
    def now_s(self) -> float:
        """The world's clock [s]."""
        ...

    def proprio(self) -> Proprioception:
        """Proprioception now."""
        ...

    def observe(self, purpose: Purpose) -> Observation:
        """Look with all configured cameras, and put what is seen on record."""
        ...

    def look(self, purpose: Purpose) -> Observation:
        """Hold still for a moment, then look."""
        ...

    def snapshot(self, label: str) -> None:
        """Put the physical state on record, where the world can save it."""
        ...

    def hold(self, ticks: int) -> None:
        """Stand still for some control ticks, gripper as it is."""
        ...

    def wait(self, seconds: float) -> None:
        """Stand still for so long, also on the computer's clock: for something elsewhere that needs the time."""
        ...

    def holding(self, question: Callable[[], V]) -> V:
        """The answer to a question that takes its time; where the world's time goes on, the arm holds still meanwhile.

        Raises:
            RunCancelled: the run was cancelled before there was an answer, which is not waited for.
        """
        ...

    def home(self, step_id: str) -> None:
        """Bring the arm home, carrying what is held.

        Raises:
            NoPath: everything that was tried touches something.
        """
        ...

    def approach(self, step: Step, approach: Approach, target_w: NDArray[np.float64], observation: Observation) -> None:
        """Transit to the skill's hover above the target.

        Raises:
            UnreachablePose: the arm cannot get there.
            NoPath: it could, but not without touching something.
        """
        ...

    def start_tracking(self) -> None:
        """Prepare for chunks."""
        ...

    def track(self, chunk: ActionChunk | None, ticks: int) -> None:
        """Track for some ticks; a chunk, if given, takes over from what is left of the one before."""
        ...

    def stop(self) -> None:
        """Bring the arm to rest within its limits; always possible."""
        ...


class Verifier(Protocol):
    """Answers the questions of a skill's contract, from observations."""

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        """May the step start?"""
        ...

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """Does the step's invariant hold? None for a skill without one."""
        ...

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        """Is it time to end the policy's part?"""
        ...

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """Did the step work?"""
        ...

    def lasts(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """Does the step's effect still hold at the end of the run? None for a skill that cannot tell."""
        ...


class SkillVerifier:
    """The skills' own checks."""

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`Verifier`."""
        return _asked(skill, "ready", lambda: skill.ready(context))

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`Verifier`."""
        return _asked(skill, "holds", lambda: skill.holds(context))

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`Verifier`."""
        return _asked(skill, "termination", lambda: skill.termination(context))

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`Verifier`."""
        return _asked(skill, "done", lambda: skill.done(context))

    def lasts(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`Verifier`."""
        return _asked(skill, "lasts", lambda: skill.lasts(context))


def _asked(skill: Skill, place: str, check: Callable[[], V]) -> V:
    """The answer of a skill's own function.

    Raises:
        HiervlaError: what it raised; anything else that it raised is told with the skill's name.
    """
    try:
        return check()
    except HiervlaError:
        raise
    except Exception as error:  # a stranger's skill may raise anything; the run ends safely and names it
        raise SkillFailedError(skill.name, place, error) from error


@dataclass
class Parts:
    """All that a loop works with; a fork exchanges the recorded ones for live ones in the middle of a run.

    Attributes:
        planner: who plans.
        policy_for: gives the policy of a name that a skill asks for.
        body: what looks and moves.
        verifier: who answers the questions of a skill's contract.
        screen: who checks whole plans before the first motion; None: nobody.
        recorder: what keeps the record.
        control: who may hold and correct the run.
        fallback: who plans where the planner gives no answer any more, from there to the end; None: nobody.
    """

    planner: Planner
    policy_for: Callable[[str], Policy]
    body: RobotBody
    recorder: Recorder
    verifier: Verifier = field(default_factory=SkillVerifier)
    screen: Screen | None = None
    control: Control = field(default_factory=LetItRun)
    fallback: Planner | None = None

    def take_over(self) -> None:
        """Have the fallback plan from now on."""
        if self.fallback is not None:
            self.planner, self.fallback = self.fallback, None
            if isinstance(self.screen, PlanScreen):
                self.screen = self.screen.lifted_by(self.planner)
