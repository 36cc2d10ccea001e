"""Geometric verdicts from observations: what the skills' contracts are made of. Nothing here is privileged.

Those that compare a picture with one taken ``after`` are unsure while there is none yet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import CameraFrame, Observation, Proprioception, Verdict
from hiervla.representations.geometry import deproject

CAMERA = "front"
HELD_MIN_M = 0.006
HELD_MAX_M = 0.077
_OPEN_M = 0.070
_CELL_M = 0.02
_RISE_M = 0.018
_CLUMP = 5
_ARM_M = 0.22
_BELOW_M, _ABOVE_M = 0.04, 0.16


def holding(proprio: Proprioception) -> Verdict:
    """Is there something between the fingers? From the gripper's width and closing force."""
    width, effort = proprio.gripper_width_m, proprio.gripper_effort_n
    yes = HELD_MIN_M < width < HELD_MAX_M and effort > 2.0
    margin = min(abs(width - HELD_MIN_M), abs(width - HELD_MAX_M)) / 0.01
    return Verdict(
        name="holding",
        value="yes" if yes else "no",
        confidence=float(min(1.0, 0.5 + margin / 2)),
        evidence={"width_m": width, "effort_n": effort},
    )


def hand_empty(proprio: Proprioception) -> Verdict:
    """Is the gripper free? The opposite of :func:`holding`."""
    held = holding(proprio)
    return Verdict(
        name="hand_empty",
        value="no" if held.yes else "yes",
        confidence=held.confidence,
        evidence=held.evidence,
    )


def released(proprio: Proprioception) -> Verdict:
    """Is the gripper open wide, so that nothing is held?"""
    margin = proprio.gripper_width_m - _OPEN_M
    return Verdict(
        name="released",
        value="yes" if margin > 0.0 else "no",
        confidence=float(min(1.0, 0.5 + abs(margin) / 0.02)),
        evidence={"width_m": proprio.gripper_width_m},
    )


def heights_near(frame: CameraFrame, point_w: NDArray[np.float64], radius_m: float) -> NDArray[np.float64]:
    """Heights of the visible surface within a horizontal radius of a point.

    Points far above are left out: the arm at home hangs over a part of the table.

    Returns:
        (N,) world z of the points [m]; empty where the camera sees nothing there.

    Raises:
        CameraError: the camera gives no depth.
    """
    cloud = deproject(frame).reshape(-1, 3)
    near = np.hypot(cloud[:, 0] - point_w[0], cloud[:, 1] - point_w[1]) < radius_m
    level = (cloud[:, 2] > point_w[2] - _BELOW_M) & (cloud[:, 2] < point_w[2] + _ABOVE_M)
    return np.asarray(cloud[near & level, 2])


def appeared(
    before: Observation, after: Observation | None, point_w: NDArray[np.float64], *, radius_m: float = 0.035
) -> Verdict:
    """Did something come to stand on ``point_w``? The visible surface there has risen by at least 1.2 cm."""
    if after is None:
        return _unseen("appeared")
    old = heights_near(before.frame(CAMERA), point_w, radius_m)
    new = heights_near(after.frame(CAMERA), point_w, radius_m)
    if len(old) < 4 or len(new) < 4:
        return Verdict(name="appeared", value="unsure", confidence=0.0, evidence={"points": float(len(new))})
    rise = float(np.percentile(new, 90) - np.percentile(old, 90))
    return Verdict(
        name="appeared",
        value="yes" if rise > 0.012 else "no",
        confidence=float(np.clip(abs(rise - 0.012) / 0.02, 0.0, 1.0)),
        evidence={"rise_m": rise},
    )


def occupancy(frame: CameraFrame, centre_w: NDArray[np.float64], half_m: tuple[float, float, float]) -> int:
    """Number of visible points in an axis-aligned box around ``centre_w`` [m].

    Raises:
        CameraError: the camera gives no depth.
    """
    cloud = deproject(frame).reshape(-1, 3)
    inside = (np.abs(cloud - centre_w) < np.asarray(half_m)).all(axis=1)
    return int(inside.sum())


def gone(
    before: Observation, after: Observation | None, point_w: NDArray[np.float64], *, half_m: float = 0.03
) -> Verdict:
    """Has what was seen at ``point_w`` left its place? The points near it have become less than half as many.

    Args:
        before: the observation in which ``point_w`` was found.
        after: an observation taken since.
        point_w: (3,) a point on the thing's surface [m].
        half_m: half the edge of the cube that is looked at [m].
    """
    if after is None:
        return _unseen("gone")
    half = (half_m, half_m, half_m)
    lifted = point_w + (0.0, 0.0, max(0.0, half_m + 0.004 - float(point_w[2])))  # the table itself never leaves
    old = occupancy(before.frame(CAMERA), lifted, half)
    left = occupancy(after.frame(CAMERA), lifted, half)
    if old < 4:
        return Verdict(name="gone", value="unsure", confidence=0.0, evidence={"points_before": float(old)})
    share = left / old
    return Verdict(
        name="gone",
        value="yes" if share < 0.5 else "no",
        confidence=float(min(1.0, abs(share - 0.5) / 0.5)),
        evidence={"points_before": float(old), "points_after": float(left)},
    )


def strayed(
    before: Observation, after: Observation | None, point_w: NDArray[np.float64], *, radius_m: float = 0.13
) -> Verdict:
    """Did nothing come to lie outside of where it was dropped? No where the surface has risen elsewhere.

    Only places whose bare surface was seen before count: a thing that stood there before is none that fell.

    Args:
        before: the observation in which ``point_w`` was found.
        after: an observation taken since.
        point_w: (3,) where the thing was to be dropped [m].
        radius_m: rises nearer to it than this are where the thing belongs [m].
    """
    if after is None:
        return _unseen("strayed")
    old, new = (_columns(o.frame(CAMERA)) for o in (before, after))
    risen = {c: new[c] - z for c, z in old.items() if c in new and new[c] - z > _RISE_M}
    far = {c: r for c, r in risen.items() if np.hypot(*(np.array(c) * _CELL_M - point_w[:2])) > radius_m}
    clump = _largest(set(far))
    yes = clump < _CLUMP
    return Verdict(
        name="nothing_strayed",
        value="yes" if yes else "no",
        confidence=float(np.clip(abs(clump - _CLUMP + 0.5) / _CLUMP, 0.0, 1.0)),
        evidence={"cells_risen": float(clump)},
    )


def _columns(frame: CameraFrame) -> dict[tuple[int, int], float]:
    """Height of the visible surface in each cell of the table, below where the arm hangs [m]."""
    cloud = deproject(frame).reshape(-1, 3)
    cloud = cloud[np.isfinite(cloud).all(axis=1)]
    x, y, z = cloud.T
    cloud = cloud[(x > 0.15) & (x < 0.85) & (np.abs(y) < 0.62) & (z > -0.02) & (z < _ARM_M)]
    cells = np.round(cloud[:, :2] / _CELL_M).astype(int)
    heights: dict[tuple[int, int], float] = {}
    for (i, j), height in zip(cells.tolist(), cloud[:, 2].tolist(), strict=True):
        heights[i, j] = max(height, heights.get((i, j), -1.0))
    return heights


def _largest(cells: set[tuple[int, int]]) -> int:
    """Size of the largest group of neighbouring cells."""
    best, left = 0, set(cells)
    while left:
        group, edge = 0, [left.pop()]
        while edge:
            i, j = edge.pop()
            group += 1
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            edge += near
        best = max(best, group)
    return best


def slid(
    before: Observation, after: Observation | None, point_w: NDArray[np.float64], shift_m: tuple[float, float, float]
) -> Verdict:
    """Did the thing seen at ``point_w`` move by about ``shift_m``? Used for the drawer's handle.

    It has left its old place, and something of that height is seen along the last quarter of the shift.
    """
    if after is None:
        return _unseen("slid")
    half = (0.05, 0.022, 0.025)
    old = occupancy(before.frame(CAMERA), point_w, half)
    left = occupancy(after.frame(CAMERA), point_w, half)
    along = [point_w + np.asarray(shift_m) * s for s in (0.75, 0.9, 1.0, 1.1)]
    there = max(occupancy(after.frame(CAMERA), p, half) for p in along)
    if old < 4:
        return Verdict(name="slid", value="unsure", confidence=0.0, evidence={"points": float(old)})
    yes = left < 0.4 * old and there > 0.3 * old
    return Verdict(
        name="slid",
        value="yes" if yes else "no",
        confidence=float(np.clip(1.0 - left / old, 0.0, 1.0)) if yes else float(np.clip(left / old, 0.0, 1.0)),
        evidence={
            "points_old_place": float(left),
            "points_new_place": float(there),
            "points_before": float(old),
        },
    )


def stain(frame: CameraFrame, centre_w: NDArray[np.float64], *, inner_m: float = 0.065, outer_m: float = 0.11) -> float:
    """Share of the table near ``centre_w`` whose colour differs from the ring around it, 0 to 1.

    Raises:
        CameraError: the camera gives no depth.
    """
    cloud = deproject(frame)
    flat = np.abs(cloud[..., 2] - centre_w[2]) < 0.012
    distance = np.hypot(cloud[..., 0] - centre_w[0], cloud[..., 1] - centre_w[1])
    ring = flat & (distance > inner_m) & (distance < outer_m)
    disc = flat & (distance <= inner_m)
    if ring.sum() < 10 or disc.sum() < 10:
        return float("nan")
    colours = frame.rgb.astype(np.float64)
    background = np.median(colours[ring], axis=0)
    spread = np.percentile(np.linalg.norm(colours[ring] - background, axis=1), 80)
    threshold = max(28.0, 2.0 * float(spread))
    return float((np.linalg.norm(colours[disc] - background, axis=1) > threshold).mean())


def wiped(before: Observation, after: Observation | None, point_w: NDArray[np.float64]) -> Verdict:
    """Is the stain around ``point_w`` gone? Compares its share of the disc before and after."""
    if after is None:
        return _unseen("wiped")
    old, new = stain(before.frame(CAMERA), point_w), stain(after.frame(CAMERA), point_w)
    if not (np.isfinite(old) and np.isfinite(new)) or old < 0.02:
        return Verdict(name="wiped", value="unsure", confidence=0.0)
    left = new / old
    return Verdict(
        name="wiped",
        value="yes" if left < 0.2 else "no",
        confidence=float(np.clip(abs(left - 0.2) / 0.2, 0.0, 1.0)),
        evidence={"stain_before": old, "stain_after": new},
    )


def reachable(point_w: NDArray[np.float64], *, inner_m: float = 0.22, outer_m: float = 0.80) -> Verdict:
    """Is the point within the arm's top-down reach? A quick test by radius and height, before any IK is solved."""
    radius = float(np.hypot(point_w[0], point_w[1]))
    height = float(point_w[2])
    margin = min(radius - inner_m, outer_m - radius, height + 0.03, 0.45 - height)
    return Verdict(
        name="reachable",
        value="yes" if margin > 0.0 else "no",
        confidence=float(min(1.0, 0.5 + abs(margin) / 0.1)),
        evidence={"radius_m": radius, "height_m": height},
    )


def _unseen(name: str) -> Verdict:
    return Verdict(name=name, value="unsure", confidence=0.0, evidence={"after": "no picture yet"})
