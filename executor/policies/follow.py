"""The policy that follows a way: paths, value maps, constraints and motions in words.

The planner says along where, and where the gripper acts; how to take hold and how to set down is this policy's business,
from what the cameras show of the place, as it is the learned policy's. It looks when the step begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.policies.features import FeatureSpec, crop_cloud, grasp_frame, observe_features
from hiervla.representations import Constraints, Observation, Step, Waypoint3D
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


def follow_policy() -> MotionPolicy:
    """What ``make_policy("follow")`` gives; it has no weights."""
    return MotionPolicy(FOLLOW, plot)


def plot(observation: Observation, step: Step) -> Sequence[Waypoint]:
    """Where the tool goes for a step that says the way.

    Raises:
        MissingTargetError: the step carries no way.
        UnsolvableError: its constraints cannot be satisfied.
        CameraError: a camera is missing or gives no depth.
    """
    hang = hang_of(observation)
    way = route_of(step, observation, hang)
    # Constraints speak of the lowest point of what is held, and were solved with it; ways lead to the surface.
    solved = any(isinstance(a, Constraints) for a in step.artifacts)
    return tuple(_motion(way, observation, step, 0.0 if solved else hang))


def _motion(way: Sequence[Waypoint3D], observation: Observation, step: Step, hang: float) -> Iterator[Waypoint]:
    acts = "close" if step.skill == "pick" else "open"
    contacts = [k for k, p in enumerate(way) if p.gripper == acts]
    # Opening on the way to a thing, and closing on the way to its place, only prepare.
    contact = contacts[-1] if contacts else None
    for k, point in enumerate(way):
        if k == contact:
            yield from _grasp(point, observation) if acts == "close" else _set_down(point, observation, step, hang)
        elif contact is None or not _descends(point, way[contact]) or k > contact:
            plain = Waypoint.of(point)
            yield Waypoint(plain.position_w, yaw=plain.yaw, opening=plain.opening, speed_m_s=_FREE_M_S, dwell_s=0.0)


def _descends(point: Waypoint3D, contact: Waypoint3D) -> bool:
    dx, dy, dz = (a - b for a, b in zip(point.position_w, contact.position_w, strict=True))
    return bool(np.hypot(dx, dy) < _NEAR_M and dz < _ABOVE_M)


def _grasp(contact: Waypoint3D, observation: Observation) -> Iterator[Waypoint]:
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
