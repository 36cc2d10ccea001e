"""The policy that follows a way: paths, value maps, constraints and motions in words.

The planner says along where, and where the gripper acts; how to take hold and how to set down is this policy's
business, from what the cameras show of the place, as it is the learned policy's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.policies.features import FeatureSpec, crop_cloud, grasp_frame, observe_features
from hiervla.representations import ActionChunk, Constraints, Observation, Step, Waypoint3D
from hiervla.representations.geometry import deproject
from hiervla.skills.checks import holding
from hiervla.skills.motion import MotionPolicy, Waypoint
from hiervla.skills.routes import FOLLOW, route_of

Vector = NDArray[np.float64]

_ABOVE_M: Final = 0.10
"""Things are approached from this high above the contact [m]."""
_NEAR_M: Final = 0.045
"""Points of a way that are this near to the contact and lower than the approach are part of the descent [m]."""
_INTO_M: Final = 0.010
"""The fingers reach this far below the point that was pointed at [m]."""
_LOWEST_M: Final = 0.017
"""Lower than this the fingertips touch the table [m]."""
_LIFT_M: Final = 0.14
_DROP_M: Final = 0.006
"""What is set down is let go this far above the surface [m]."""
_OVER_RIM_M: Final = 0.12
"""What is thrown away is let go this far above the bottom of the bin [m]."""
_PALM_M: Final = 0.021
"""The tool centre point stays at most this far below what stands beside the fingers, where the palm comes [m]."""
_HANG_M: Final = 0.04
"""How far a held thing reaches below the tool centre point where it is not seen [m]."""
_FREE_M_S, _NEAR_M_S = 0.4, 0.13
_HELD: Final = FeatureSpec(half_xy_m=0.07, below_m=0.16, above_m=0.02)


class FollowPolicy:
    """Follows the way of a step; it has no weights.

    The motion is chosen when the step begins. Where something is grasped, the thing is looked at once more from above
    it, when the wrist camera shows it, as the learned policy does.
    """

    id = FOLLOW

    def __init__(self) -> None:
        self._motion = MotionPolicy(FOLLOW, lambda seen, step: self._ahead)
        self._ahead: Sequence[Waypoint] = ()
        self._grasp: Waypoint3D | None = None
        self._after: Sequence[Waypoint] = ()
        self._begun = False

    def reset(self, step: Step, seed: int) -> None:
        """Forget the last attempt's way; nothing here is drawn by chance."""
        self._motion.reset(step, seed)
        self._begun, self._grasp = False, None

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next 1.6 s of the way.

        Raises:
            MissingTargetError: the step carries no way.
            UnsolvableError: its constraints cannot be satisfied.
            ConventionError: its value map is empty.
            CameraError: a camera is missing or gives no depth.
        """
        if not self._begun:
            self._begun = True
            self._ahead, self._grasp, self._after = plot(observation, step)
        chunk = self._motion.act(observation, step)
        if self._grasp is None or (chunk.done_prob or 0.0) < 0.5:
            return chunk if self._grasp is None else chunk.replace(done_prob=0.0)
        # The hover above the thing is reached: look, and come down to where it is.
        self._ahead = (*_grasping(self._grasp, observation), *self._after)
        self._grasp = None
        self._motion.reset(step, 0)
        return self._motion.act(observation, step)


def plot(observation: Observation, step: Step) -> tuple[Sequence[Waypoint], Waypoint3D | None, Sequence[Waypoint]]:
    """Where the tool goes for a step that says the way: up to the hover above a grasp, the grasp, and what follows.

    Raises:
        MissingTargetError: the step carries no way.
        UnsolvableError: its constraints cannot be satisfied.
        CameraError: a camera is missing or gives no depth.
    """
    hang = hang_of(observation)
    way = route_of(step, observation, hang)
    # Constraints speak of the lowest point of what is held, and were solved with it; ways lead to the surface.
    hang = 0.0 if any(isinstance(a, Constraints) for a in step.artifacts) else hang
    acts = "close" if step.skill == "pick" else "open"
    # Opening on the way to a thing, and closing on the way to its place, only prepare.
    contacts = [k for k, p in enumerate(way) if p.gripper == acts]
    if not contacts:
        return [_free(p) for p in way], None, ()
    k = contacts[-1]
    before = [_free(p) for p in way[:k] if not _descends(p, way[k])]
    after = [_free(p) for p in way[k + 1 :]]
    if acts == "close":
        x, y, z = way[k].position_w
        hover = Waypoint((x, y, z + _ABOVE_M), opening=1.0, speed_m_s=_FREE_M_S)
        return [*before, hover], way[k], after
    return [*before, *_set_down(way[k], observation, step, hang), *after], None, ()


def _free(point: Waypoint3D) -> Waypoint:
    plain = Waypoint.of(point)
    return Waypoint(plain.position_w, yaw=plain.yaw, opening=plain.opening, speed_m_s=_FREE_M_S)


def _descends(point: Waypoint3D, contact: Waypoint3D) -> bool:
    dx, dy, dz = (a - b for a, b in zip(point.position_w, contact.position_w, strict=True))
    return bool(np.hypot(dx, dy) < _NEAR_M and dz < _ABOVE_M)


def _grasping(contact: Waypoint3D, observation: Observation) -> Iterator[Waypoint]:
    """Come down around the thing at the contact, close, and lift."""
    at = np.array(contact.position_w)
    frame = grasp_frame(observe_features(observation, at, FeatureSpec().finer()))
    yaw = Waypoint.of(contact).yaw
    yaw = frame.yaw if yaw is None else yaw
    x, y = (float(c) for c in at[:2] + frame.middle)
    low = max(float(at[2]) - _INTO_M, _LOWEST_M)
    yield Waypoint((x, y, float(at[2]) + _ABOVE_M), yaw=yaw, opening=1.0, speed_m_s=_FREE_M_S)
    yield Waypoint((x, y, low), yaw=yaw, opening=1.0, speed_m_s=_NEAR_M_S)
    yield Waypoint((x, y, low), opening=0.0, dwell_s=0.9)
    yield Waypoint((x, y, float(at[2]) + _LIFT_M), opening=0.0, speed_m_s=0.25)


def _set_down(contact: Waypoint3D, observation: Observation, step: Step, hang: float) -> Iterator[Waypoint]:
    """Lower what is held to the surface at the contact, let go, and rise."""
    x, y, z = contact.position_w
    if step.skill == "throw_away":
        high = z + _OVER_RIM_M + max(hang, 0.03)
        yield Waypoint((x, y, high), speed_m_s=0.25)
        yield Waypoint((x, y, high), opening=1.0, dwell_s=0.6)
        return
    low = max(z + hang + _DROP_M, _LOWEST_M, _beside(observation, np.array((x, y, z))) - _PALM_M)
    yield Waypoint((x, y, low + 0.05), speed_m_s=_FREE_M_S)
    yield Waypoint((x, y, low), speed_m_s=_NEAR_M_S)
    yield Waypoint((x, y, low), opening=1.0, dwell_s=0.6)
    yield Waypoint((x, y, low + _LIFT_M), opening=1.0, speed_m_s=0.25)


def hang_of(observation: Observation) -> float:
    """How far what is held reaches below the tool centre point [m]; 0 for an empty hand.

    Measured on the points below the raised hand that are not the arm's.

    Raises:
        CameraError: the front camera is missing or gives no depth.
    """
    proprio = observation.proprio
    if not holding(proprio).yes:
        return 0.0
    here = np.array(proprio.ee_position)
    if here[2] < 0.25:
        return _HANG_M  # other things may stand right below
    cloud = crop_cloud(observation.frame("front"), proprio, here, _HELD, 0)
    below = -cloud[cloud[:, 2] < 0.0, 2]
    return float(np.percentile(below, 97)) if len(below) >= 6 else _HANG_M


def _beside(observation: Observation, spot: Vector) -> float:
    """Height of what stands where the palm comes when something is set down at a spot, fingers across y [m]."""
    cloud = deproject(observation.frame("front")).reshape(-1, 3)
    off = np.abs(cloud - spot)
    under = (off[:, 0] < 0.04) & (off[:, 1] > 0.05) & (off[:, 1] < 0.105) & (cloud[:, 2] < 0.25)
    heights = cloud[under, 2]
    return float(np.percentile(heights, 95)) if len(heights) >= 12 else 0.0
