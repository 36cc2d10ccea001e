"""What a skill may look at when it decides: observations, its grounded step and the executor's belief."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import (
    Constraints,
    HiervlaError,
    Observation,
    Proprioception,
    Step,
    ValueMap,
    Waypoint3D,
    Waypoints3D,
)
from hiervla.skills.value_maps import peak_of

A = TypeVar("A")


class MissingTargetError(HiervlaError, ValueError):
    """A step that should be acted upon carries no keypoint with a position in the world.

    Attributes:
        step: id of the step.
        skill: its skill.
        found: kinds of the artifacts that it does carry.
    """

    def __init__(self, step: str, skill: str, found: tuple[str, ...]) -> None:
        self.step = step
        self.skill = skill
        self.found = found
        has = ", ".join(found) or "nothing"
        super().__init__(
            f"step {step} ({skill}): the policy needs a keypoints artifact whose first point has position_w, "
            f"but the step carries {has}. Ground the step's artifacts before acting."
        )


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
        now: the latest observation while the skill runs, arm in view; None before and after.
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
    now: Observation | None = None

    @property
    def target_w(self) -> NDArray[np.float64]:
        """(3,) point that the step is about in the world frame [m]; see :func:`target_point`.

        Raises:
            MissingTargetError: the step has no such point, or one that was never lifted to the world.
        """
        return target_point(self.step)

    def artifact(self, kind: type[A]) -> A | None:
        """The step's first artifact of one class, such as ``Waypoints3D``; None when it carries none."""
        return next((a for a in self.step.artifacts if isinstance(a, kind)), None)


def target_point(step: Step) -> NDArray[np.float64]:
    """The point that the step is about, (3,) in the world frame [m].

    Its first grounded keypoint. For a step without one: where the gripper acts on its 3D path, or the path's first
    point where it never does; the highest place of its value map; or the first keypoint of its constraints.

    Raises:
        MissingTargetError: the step carries no such point.
    """
    for artifact in step.artifacts:
        if artifact.kind == "keypoints" and artifact.points[0].position_w is not None:
            return np.array(artifact.points[0].position_w, dtype=np.float64)
    for artifact in step.artifacts:
        match artifact:
            case Waypoints3D():
                contact = contact_of(artifact.points)
                return np.array((contact or artifact.points[0]).position_w, dtype=np.float64)
            case ValueMap():
                return np.array(peak_of(artifact), dtype=np.float64)
            case Constraints() if artifact.keypoints and artifact.keypoints[0].position_w is not None:
                return np.array(artifact.keypoints[0].position_w, dtype=np.float64)
            case _:
                pass
    raise MissingTargetError(step.id, step.skill, tuple(a.kind for a in step.artifacts))


def contact_of(way: Sequence[Waypoint3D]) -> Waypoint3D | None:
    """Where the gripper acts on a way: where it closes, else where it last opens; None where it does neither."""
    # What is opened on the way to a thing is but a preparation.
    for gripper in ("close", "open"):
        acting = [p for p in way if p.gripper == gripper]
        if acting:
            return acting[-1]
    return None
