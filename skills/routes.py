"""Which policy runs a step, and along which way: by the kind of artifact that the step carries.

A step with a keypoint is a learned policy's. One with a path, a value map, constraints or motions in words says more
than
where: the way of the tool. Those are followed, and this module turns each of them into waypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import (
    ArtifactKind,
    Constraints,
    ConventionError,
    LanguageMotion,
    Observation,
    Step,
    ValueMap,
    Waypoint3D,
    Waypoints3D,
)
from hiervla.skills.base import Approach
from hiervla.skills.constraints import solve
from hiervla.skills.context import MissingTargetError, SkillContext
from hiervla.skills.value_maps import climb

FOLLOW: Final = "follow"
"""Name of the policy that follows a way."""
POINTS: Final[tuple[ArtifactKind, ...]] = ("keypoints", "boxes", "affordance_map", "subtasks")
"""What grounding reduces to a point, which any learned policy takes."""
WAYS: Final[tuple[ArtifactKind, ...]] = (
    "waypoints_2d", "waypoints_3d", "value_map", "constraints", "language_motion",
)  # fmt: skip
"""What is a way; grounding makes 3D waypoints of 2D ones."""


def is_followed(step: Step) -> bool:
    """Whether a step says the way and no mere point: it carries one of :data:`WAYS` and no keypoint in the world."""
    lifted = any(a.kind == "keypoints" and a.points[0].position_w is not None for a in step.artifacts)
    return not lifted and any(a.kind in WAYS for a in step.artifacts)


def route_of(step: Step, observation: Observation, hang_m: float = 0.0) -> tuple[Waypoint3D, ...]:
    """The way of a step as waypoints of the tool in the world frame.

    Args:
        step: grounded.
        observation: where the tool is now.
        hang_m: how far what is held reaches below the tool centre point [m].

    Raises:
        MissingTargetError: the step carries no way.
        UnsolvableError: its constraints cannot be satisfied.
        ConventionError: its value map is empty.
    """
    here = np.array(observation.proprio.ee_position)
    for artifact in step.artifacts:
        match artifact:
            case Waypoints3D():
                return artifact.points
            case ValueMap():
                *between, last = climb(artifact, here)
                ways = [Waypoint3D(position_w=p) for p in between[1:]]
                return (*ways, Waypoint3D(position_w=last, gripper=_acts(step)))
            case Constraints():
                return solve(artifact, here, hang_m)
            case _:
                pass
    motions = [a for a in step.artifacts if isinstance(a, LanguageMotion)]
    if motions:
        return told(motions, here)
    raise MissingTargetError(step.id, step.skill, tuple(a.kind for a in step.artifacts))


def approach_of(context: SkillContext, own: Approach) -> Approach:
    """The hover that a step starts from: the skill's own above a point, the place where the way begins otherwise."""
    if not is_followed(context.step):
        return own
    seen = context.before.proprio
    return replace(own, height_m=0.0, yaw=seen.ee_yaw, start_w=start_of(context))


def start_of(context: SkillContext) -> tuple[float, float, float]:
    """Where the tool has to be when a way is begun [m]: at its first waypoint, or where it is."""
    way = context.artifact(Waypoints3D)
    if way is not None:
        return way.points[0].position_w
    x, y, z = (float(c) for c in context.before.proprio.ee_position)
    return x, y, z


def told(motions: Sequence[LanguageMotion], here: NDArray[np.float64]) -> tuple[Waypoint3D, ...]:
    """Waypoints of motions in words, from where the tool is, (3,) in the world frame [m].

    Raises:
        ConventionError: a motion speaks of the end effector's frame, of which nobody here knows how it is turned.
    """
    way = []
    for motion in motions:
        if motion.frame != "world":
            raise ConventionError("language_motion.frame", f"is '{motion.frame}'", "Say it in the world's frame")
        if motion.translation_m is not None:
            here = here + motion.translation_m
        x, y, z = (float(c) for c in here)
        way.append(Waypoint3D(position_w=(x, y, z), gripper=motion.gripper))
    return tuple(way)


def _acts(step: Step) -> Literal["open", "close"]:
    return "close" if step.skill == "pick" else "open"
