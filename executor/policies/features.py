"""What the flow policy sees: a coloured point cloud around the artifact's keypoint, and proprioception.

Everything is expressed relative to the keypoint, with world-aligned axes; the planner thereby decides what the policy
looks at. The arm itself is cut out with forward kinematics alone, so that what remains is the surroundings and
whatever the gripper holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.kinematics import Kinematics
from hiervla.representations import CameraFrame, Observation, Proprioception

Floats = NDArray[np.float32]

POINT_DIM = 7
"""x, y, z relative to the keypoint [m]; r, g, b in -0.5..0.5; 0 for the front, 1 for the wrist camera."""
PROPRIO_DIM = 12
"""ee position relative to the keypoint [m] (3); sin, cos of twice the yaw (2); gripper width [m]; effort [N];
keypoint's height above the table [m]; ee's height above the table [m]; ee velocity [m/s] (3)."""


FRAMED = frozenset({"pick"})
"""Skills that work in the frame of the thing that the keypoint lies on; see :func:`grasp_frame`."""
_TABLE_SKIN_M = 0.007
_REACH_M = 0.08
_GAP_M = 0.02


@dataclass(frozen=True)
class FeatureSpec:
    """Which part of the world the policy sees, and how finely.

    Attributes:
        cameras: names of the cameras, in the order of the camera flag.
        half_xy_m: half the side of the crop around the keypoint [m].
        below_m: how far the crop reaches below the keypoint [m].
        above_m: how far it reaches above [m].
        points: number of points N kept.
        voxel_m: points nearer to each other than about this count as one [m].
        table_share: largest share of the points that may lie on the bare table top.
    """

    cameras: tuple[str, ...] = ("front", "wrist")
    half_xy_m: float = 0.15
    below_m: float = 0.09
    above_m: float = 0.27
    points: int = 320
    voxel_m: float = 0.006
    table_share: float = 0.25

    def finer(self) -> FeatureSpec:
        """The same box with as many points as measuring a thing takes."""
        return replace(self, points=900, voxel_m=0.004)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FeatureSpec:
        """Read what `dataclasses.asdict` and JSON made of one.

        Raises:
            TypeError: an unknown field.
        """
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True)
class PolicyInput:
    """One observation, ready for the network.

    Attributes:
        points: (N, 7) float32, see :data:`POINT_DIM`; rows of zeros beyond `count`.
        count: number of rows of `points` that are real, at most N.
        proprio: (12,) float32, see :data:`PROPRIO_DIM`.
    """

    points: Floats
    count: int
    proprio: Floats


def observe_features(
    observation: Observation, target_w: NDArray[np.float64], spec: FeatureSpec | None = None
) -> PolicyInput:
    """Features of an observation around `target_w`, (3,) in the world frame [m]. Deterministic.

    Raises:
        CameraError: a camera of `spec` is missing or gives no depth.
    """
    spec = spec or FeatureSpec()
    parts = [
        crop_cloud(observation.frame(name), observation.proprio, target_w, spec, flag)
        for flag, name in enumerate(spec.cameras)
    ]
    cloud = thin(np.concatenate(parts), float(target_w[2]), spec)
    points = np.zeros((spec.points, POINT_DIM), dtype=np.float32)
    points[: len(cloud)] = cloud
    return PolicyInput(points, len(cloud), proprio_features(observation.proprio, target_w))


@dataclass(frozen=True)
class GraspFrame:
    """Where and how a thing lies, as far as its visible points tell; relative to the keypoint.

    Attributes:
        middle: (2,) middle of its upper rim in x and y [m].
        yaw: direction across it, in which fingers would close: of its short side, or of a square one's nearest
            side; where it is round, that of the gripper now [rad].
    """

    middle: NDArray[np.float64]
    yaw: float


def grasp_frame(inputs: PolicyInput) -> GraspFrame:
    """Find the thing under the keypoint.

    A planner points somewhere on a thing; the policy is spared to learn what a region of points tells. Grows a
    region of solid points from the keypoint, and fits the smallest rectangle around its upper rim. Without anything
    solid there, the frame is the keypoint's and the gripper's own.
    """
    now = 0.5 * float(np.arctan2(inputs.proprio[3], inputs.proprio[4]))
    nothing = GraspFrame(np.zeros(2), now)
    cloud = inputs.points[: inputs.count].astype(np.float64)
    solid = cloud[cloud[:, 2] + float(inputs.proprio[7]) > _TABLE_SKIN_M, :3]
    solid = solid[solid[:, 2] > _support(solid)]
    if len(solid) < 5:
        return nothing
    distance = np.linalg.norm(solid, axis=1)
    grown = distance < max(0.02, float(np.sort(distance)[4]))
    if distance[grown].min() > 0.05:
        return nothing
    reach = np.hypot(solid[:, 0], solid[:, 1]) < _REACH_M
    touching = np.linalg.norm(solid[:, None] - solid[None], axis=2) < _GAP_M
    while True:
        more = grown | (touching[grown].any(axis=0) & reach)
        if more.sum() == grown.sum():
            break
        grown = more
    thing = solid[grown]
    rim = thing[thing[:, 2] > np.percentile(thing[:, 2], 90) - 0.02, :2]
    return GraspFrame((rim.min(axis=0) + rim.max(axis=0)) / 2, _across(rim, now))


def _across(rim: NDArray[np.float64], now: float) -> float:
    """Finger-closing direction for a thing with this outline, (M, 2) [m]; see :class:`GraspFrame`."""
    angles = np.deg2rad(np.arange(0.0, 90.0, 3.0))
    axes = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    other = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    one, two = np.ptp(rim @ axes.T, axis=0), np.ptp(rim @ other.T, axis=0)
    area = one * two
    # Neighbouring angles are averaged: one stray point moves the minimum of a coarse outline.
    smooth = area + 0.5 * (np.roll(area, 1) + np.roll(area, -1))
    best = int(np.argmin(smooth))
    narrow, wide = min(one[best], two[best]), max(one[best], two[best])
    yaw = float(angles[best]) + (0.0 if one[best] <= two[best] else np.pi / 2)
    if wide > 1.28 * max(narrow, 1e-6):
        return _nearest(yaw, now, np.pi)
    if smooth.min() > 0.80 * smooth.max():
        return now
    return _nearest(yaw, now, np.pi / 2)


def _nearest(yaw: float, reference: float, period: float) -> float:
    return float(reference + (yaw - reference + period / 2) % period - period / 2)


def _support(solid: NDArray[np.float64]) -> float:
    """Height up to which points near the keypoint belong to a board or plate that it stands on [m]."""
    near = solid[(np.hypot(solid[:, 0], solid[:, 1]) < _REACH_M) & (solid[:, 2] < -0.008)]
    height = -np.inf
    for low in np.arange(-0.12, -0.008, 0.003):
        layer = near[(near[:, 2] >= low) & (near[:, 2] < low + 0.005)]
        # Nothing that can be picked up is so wide.
        if len(layer) >= 8 and np.ptp(layer[:, :2], axis=0).max() > 0.12:
            height = low + 0.006
    return float(height)


def in_frame(inputs: PolicyInput, frame: GraspFrame) -> PolicyInput:
    """The same input relative to a grasp frame: keypoint in its middle, and its yaw at zero."""
    points, proprio = inputs.points.copy(), inputs.proprio.copy()
    n = inputs.count
    points[:n, :2] = rotate(points[:n, :2] - frame.middle, -frame.yaw)
    proprio[:2] = rotate(proprio[:2] - frame.middle, -frame.yaw)
    proprio[3:5] = rotate(proprio[4:2:-1], -2.0 * frame.yaw)[::-1]
    proprio[9:11] = rotate(proprio[9:11], -frame.yaw)
    return PolicyInput(points, n, proprio)


def from_frame(rows: NDArray[Any], frame: GraspFrame) -> NDArray[Any]:
    """Action rows (..., 6), see `network.ACTION_DIM`, from a grasp frame to the keypoint's axes."""
    out = np.array(rows)
    out[..., :2] = rotate(rows[..., :2], frame.yaw) + frame.middle
    out[..., 3:5] = rotate(rows[..., 4:2:-1], 2.0 * frame.yaw)[..., ::-1]
    return out


def to_frame(rows: NDArray[Any], frame: GraspFrame) -> NDArray[Any]:
    """The inverse of :func:`from_frame`."""
    out = np.array(rows)
    out[..., :2] = rotate(rows[..., :2] - frame.middle, -frame.yaw)
    out[..., 3:5] = rotate(rows[..., 4:2:-1], -2.0 * frame.yaw)[..., ::-1]
    return out


def rotate(xy: NDArray[Any], angle: float) -> NDArray[Any]:
    """Vectors (..., 2) turned by `angle` [rad]."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(xy @ np.array([[c, s], [-s, c]]))


def proprio_features(proprio: Proprioception, target_w: NDArray[np.float64]) -> Floats:
    """(12,) float32, see :data:`PROPRIO_DIM`."""
    position = proprio.ee_position
    relative = position - target_w
    double = 2.0 * proprio.ee_yaw
    return np.array(
        [
            *relative,
            np.sin(double),
            np.cos(double),
            proprio.gripper_width_m,
            np.clip(proprio.gripper_effort_n, 0.0, 60.0),
            target_w[2],
            position[2],
            *ee_velocity(proprio),
        ],
        dtype=np.float32,
    )


def ee_velocity(proprio: Proprioception) -> NDArray[np.float64]:
    """Velocity of the tool centre point, (3,) in the world frame [m/s], from joint positions and velocities."""
    arm = _kinematics()
    ahead = arm.forward(proprio.q + 0.005 * proprio.dq)[:3, 3]
    behind = arm.forward(proprio.q - 0.005 * proprio.dq)[:3, 3]
    return np.asarray((ahead - behind) / 0.01)


@cache
def _kinematics() -> Kinematics:
    return Kinematics()


def crop_cloud(
    frame: CameraFrame,
    proprio: Proprioception,
    target_w: NDArray[np.float64],
    spec: FeatureSpec,
    flag: int,
) -> Floats:
    """Lift one frame and keep what lies in the box and is not the arm: (M, 7) float32.

    Raises:
        CameraError: the frame has no depth.
    """
    depth = frame.require_depth()
    rows, columns = _window(frame, target_w, spec)
    # A camera close by sees everything many times over.
    stride = 2 if (rows.stop - rows.start) * (columns.stop - columns.start) > 16000 else 1
    patch = depth[rows, columns][::stride, ::stride]
    v, u = np.nonzero(np.isfinite(patch) & (patch > 0.0))
    z = patch[v, u].astype(np.float64)
    v, u = v * stride + rows.start, u * stride + columns.start
    K = frame.K
    camera = np.stack([(u + 0.5 - K[0, 2]) / K[0, 0] * z, (v + 0.5 - K[1, 2]) / K[1, 1] * z, z])
    world = (frame.T_world_camera[:3, :3] @ camera).T + frame.T_world_camera[:3, 3]
    relative = world - target_w
    inside = (
        (np.abs(relative[:, 0]) < spec.half_xy_m)
        & (np.abs(relative[:, 1]) < spec.half_xy_m)
        & (relative[:, 2] > -spec.below_m)
        & (relative[:, 2] < spec.above_m)
    )
    inside[inside] = ~on_arm(world[inside], proprio)
    colour = frame.rgb[v[inside], u[inside]].astype(np.float32) / 255.0 - 0.5
    cloud = np.empty((len(colour), POINT_DIM), dtype=np.float32)
    cloud[:, :3] = relative[inside]
    cloud[:, 3:6] = colour
    cloud[:, 6] = flag
    return cloud


def on_arm(points_w: NDArray[np.float64], proprio: Proprioception) -> NDArray[np.bool_]:
    """Which points, (M, 3) in the world frame, lie on the hand or the arm above it, by kinematics alone.

    Points between the fingers are kept: they are what the gripper holds.
    """
    pose = proprio.T_world_ee
    local = (points_w - pose[:3, 3]) @ pose[:3, :3]
    x, y, z = np.abs(local[:, 0]), np.abs(local[:, 1]), local[:, 2]
    # Distances from the hand's published drawing, with a few millimetres for depth and calibration errors.
    hand = (z < -0.034) & (z > -0.13) & (x < 0.066) & (y < 0.112)
    arm = (z <= -0.085) & (x < 0.16) & (y < 0.16)
    gap = proprio.gripper_width_m / 2
    fingers = (z >= -0.05) & (z < 0.015) & (x < 0.015) & (y > gap - 0.002) & (y < gap + 0.028)
    return np.asarray(hand | arm | fingers)


def thin(cloud: Floats, target_height: float, spec: FeatureSpec) -> Floats:
    """At most ``spec.points`` rows of `cloud`, spread evenly over space rather than over pixels. Deterministic.

    No camera and not the bare table may crowd out the rest.
    """
    if len(cloud) == 0:
        return cloud
    rng = np.random.default_rng(len(cloud))
    cloud = cloud[rng.permutation(len(cloud))]
    cells = np.floor((cloud[:, :3] + 1.0) / spec.voxel_m).astype(np.int64)
    keys = ((cells[:, 0] * 4096 + cells[:, 1]) * 4096 + cells[:, 2]) * 2 + (cloud[:, 6] > 0)
    cloud = cloud[np.sort(np.unique(keys, return_index=True)[1])]
    table = np.abs(cloud[:, 2] + target_height) < 0.004
    far = cloud[:, 6] == 0
    room = spec.points
    kept = []
    # Each group may take its share, and what the groups after it cannot fill.
    groups = (~table & far, ~table & ~far, table)
    shares = (0.42 * room, room, room)
    sizes = [int(g.sum()) for g in groups]
    reserve = min(int(spec.table_share * room), sizes[2])
    for i, (group, share) in enumerate(zip(groups, shares, strict=True)):
        later = (sizes[1] + sizes[2]) if i == 0 else reserve if i == 1 else 0
        take = min(sizes[i], max(int(min(share, room - later if i == 1 else room)), room - later), room)
        kept.append(cloud[group][:take])
        room -= take
    return np.concatenate(kept)


def _window(frame: CameraFrame, target_w: NDArray[np.float64], spec: FeatureSpec) -> tuple[slice, slice]:
    """Rows and columns of the image that can show the crop box; all of them if the camera is too near to tell."""
    h = spec.half_xy_m
    corners = np.array(
        [[x, y, z] for x in (-h, h) for y in (-h, h) for z in (-spec.below_m, spec.above_m)], dtype=np.float64
    )
    rotation, origin = frame.T_world_camera[:3, :3], frame.T_world_camera[:3, 3]
    camera = (corners + target_w - origin) @ rotation
    if camera[:, 2].min() < 0.05:
        return slice(0, frame.height), slice(0, frame.width)
    pixels: NDArray[Any] = (camera / camera[:, 2:]) @ frame.K.T
    low = np.floor(pixels[:, :2].min(axis=0)).astype(int)
    high = np.ceil(pixels[:, :2].max(axis=0)).astype(int)
    u0, u1 = np.clip([low[0], high[0]], 0, frame.width)
    v0, v1 = np.clip([low[1], high[1]], 0, frame.height)
    return slice(int(v0), int(v1)), slice(int(u0), int(u1))
