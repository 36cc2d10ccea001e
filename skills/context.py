"""What a skill may look at when it decides: observations, its grounded step and the executor's belief."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import Keypoints, Observation, PlanError, Proprioception, Step


@dataclass(frozen=True)
class Belief:
    """What the executor believes from what it did and saw; nothing here is privileged.

    Attributes:
        held: the planner's name of the thing in the gripper, or None.
        source: where the held thing was taken from, in words.
    """

    held: str | None = None
    source: str = ""


@dataclass(frozen=True)
class SkillContext:
    """Inputs of a contract check.

    Attributes:
        step: the step, with its grounded artifacts.
        before: the observation from which the step was grounded, arm at home.
        proprio: proprioception now.
        belief: the executor's belief at the start of the step.
        after: an observation taken since, arm at home; None while the skill runs.
        elapsed_s: time since the policy took over [s].
        done_prob: the policy's own latest belief that it is done, 0 to 1.
        progress: the policy's own latest progress estimate, 0 to 1.
    """

    step: Step
    before: Observation
    proprio: Proprioception
    belief: Belief = field(default_factory=Belief)
    after: Observation | None = None
    elapsed_s: float = 0.0
    done_prob: float | None = None
    progress: float | None = None

    @property
    def target_w(self) -> NDArray[np.float64]:
        """(3,) grounded keypoint of the step in the world frame [m].

        Raises:
            PlanError: the step has no keypoint, or one that was never lifted to the world.
        """
        return target_point(self.step)


def target_point(step: Step) -> NDArray[np.float64]:
    """(3,) position of the step's first lifted keypoint in the world frame [m].

    Raises:
        PlanError: the step has no keypoint, or one that was never lifted to the world.
    """
    for artifact in step.artifacts:
        if isinstance(artifact, Keypoints) and artifact.points[0].position_w is not None:
            return np.asarray(artifact.points[0].position_w, dtype=np.float64)
    raise PlanError(
        f"step {step.id}",
        f"skill '{step.skill}' needs a keypoint in metres and the step has none",
        "Ground the step first, or give a keypoints artifact with position_w",
    )
