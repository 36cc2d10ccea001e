"""A skill is an option: a typed signature, a contract, a learned policy, a termination and a recovery."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import SkillSignature, Step, Verdict
from hiervla.representations.plans import StepOutcome
from hiervla.skills.context import Belief, SkillContext
from hiervla.skills.recovery import Recovery
from hiervla.skills.termination import DoneHead, Termination, Timer, any_of


@dataclass(frozen=True)
class Approach:
    """Where the collision-free transit hands over to the policy: a top-down hover above the keypoint.

    Attributes:
        height_m: tool centre point above the keypoint [m].
        yaw: finger-closing axis about world z [rad]; 0 closes along world y.
        gripper_width_m: width to travel with; None keeps the grip.
        start_w: hand over at this place of the tool instead, in the world frame [m]; then ``height_m`` adds to it.
    """

    height_m: float = 0.13
    yaw: float = 0.0
    gripper_width_m: float | None = 0.08
    start_w: tuple[float, float, float] | None = None

    def hover(self, target_w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the transit ends for a step about a point, both (3,) in the world frame [m]."""
        start = target_w if self.start_w is None else np.array(self.start_w)
        return np.asarray(start + (0.0, 0.0, self.height_m))


class Skill(ABC):
    """One skill of the library. Constructing it touches no hardware and loads no weights.

    A class is made once and shared: it keeps no state of a run. All it may look at is in :class:`SkillContext`.
    """

    signature: SkillSignature
    """Name and typed parameters: what planner, grammar, validator and docs read."""

    policy: str = "flow"
    """Name of the policy that runs it; ``policy_name`` makes one of a policy that the skill brings along."""

    recovery: Recovery = Recovery()
    """What to do after an attempt that went wrong; nothing by default."""

    timeout_s: float = 10.0
    """Limit for the policy's part [s]."""

    naive_s: float = 6.0
    """Length of the policy's part when a loop without termination runs it on a fixed timer [s]."""

    @property
    def name(self) -> str:
        """Name that plans use."""
        return self.signature.name

    def runner(self, step: Step) -> str:
        """Name of the policy that runs a grounded step; a skill may choose it by the step's artifacts."""
        return self.policy

    @abstractmethod
    def approach(self, context: SkillContext) -> Approach:
        """The hover from which the policy starts."""

    @abstractmethod
    def ready(self, context: SkillContext) -> Verdict:
        """May it start? Asked before the first motion."""

    @abstractmethod
    def done(self, context: SkillContext) -> Verdict:
        """Did it work? Asked after the arm has returned home, with ``context.after``."""

    @abstractmethod
    def effect(self, context: SkillContext) -> Belief:
        """The executor's belief after success."""

    def holds(self, context: SkillContext) -> Verdict | None:
        """Invariant while it runs, such as "still holding"; None when there is none."""
        return None

    def lasts(self, context: SkillContext) -> Verdict | None:
        """Does its effect still hold? Asked at the end of a run, with ``context.after``; None where nothing shows."""
        return None

    def recover(self, outcome: StepOutcome) -> Recovery | None:
        """What to do after an attempt that ended so, before the arm goes home; None for nothing."""
        return self.recovery if outcome in self.recovery.after else None

    def ended(self, verdict: Verdict) -> StepOutcome:
        """What a termination's yes means: "timed_out" when timers alone said it, "succeeded" otherwise."""
        answers = {k.split("#")[0] for k, v in verdict.evidence.items() if v == "yes" and not k.endswith(")")}
        said = answers or {verdict.name}
        return "timed_out" if said == {"timer"} else "succeeded"

    @property
    def termination(self) -> Termination:
        """When the policy's part ends; by default its done-head or the timer."""
        return any_of(DoneHead(0.5, min_s=0.6), Timer(self.timeout_s))
