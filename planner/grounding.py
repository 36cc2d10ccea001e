"""From pixels to metres: keypoints are lifted through depth and camera pose, and doubted where there is cause.

A point is refused when it stands on nothing (no depth there), lies outside of where the robot can work, or is
not on the thing that it is said to be on. What is left carries a confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import CameraFrame, HiervlaError, ImageRef, Keypoint
from hiervla.representations._base import Vec3
from hiervla.representations.geometry import deproject, lift

Floats = NDArray[np.float64]
BoxPx = tuple[float, float, float, float]

WORKSPACE: Final[tuple[Vec3, Vec3]] = ((0.10, -0.75, -0.03), (0.80, 0.75, 0.45))
"""Opposite corners of the box in which keypoints make sense for a table-top arm, world frame [m]."""
BOX_MARGIN_PX: Final = 6.0
"""A point on a thing may lie this far outside of the box that the thing was seen in, for images 256 wide [px]."""


class UngroundedError(HiervlaError):
    """A pixel that cannot be taken at its word.

    Attributes:
        label: what the keypoint is called.
        u: column [px].
        v: row [px].
        problem: what is wrong with it, in words.
    """

    def __init__(self, label: str, u: float, v: float, problem: str) -> None:
        super().__init__(f"keypoint '{label}' at (u={u:.1f}, v={v:.1f}): {problem}. Look again and replan.")
        self.label = label
        self.u, self.v = u, v
        self.problem = problem


@dataclass(frozen=True)
class Lifted:
    """A pixel in the world.

    Attributes:
        position_w: the point [m].
        confidence: 0..1; falls with holes and edges in the depth around it.
    """

    position_w: Vec3
    confidence: float


def image_ref(frame: CameraFrame) -> ImageRef:
    """Reference to the very image that was looked at."""
    return ImageRef(camera=frame.name, sha256=frame.sha256, width=frame.width, height=frame.height, time_s=frame.time_s)


def lift_point(frame: CameraFrame, u: float, v: float, label: str = "point", reach: int = 1) -> Lifted:
    """The surface that a pixel shows: median over a small window, on the side of the edge that the pixel is on.

    Args:
        frame: calibrated camera frame with depth.
        u: column [px].
        v: row [px].
        label: for the error message.
        reach: half the window's width [px].

    Raises:
        CameraError: the camera gives no depth.
        UngroundedError: most of the window has no depth.
    """
    depth, good = _window(frame, u, v, reach)
    if good.sum() < max(1, good.size // 3):
        raise UngroundedError(label, u, v, "there is no depth, so it stands on nothing")
    middle = depth[depth.shape[0] // 2, depth.shape[1] // 2]
    reference = middle if np.isfinite(middle) and middle > 0 else float(np.median(depth[good]))
    same = good & (np.abs(depth - reference) < 0.02)
    position = lift(frame, u, v, float(np.median(depth[same])))
    x, y, z = (float(c) for c in position)
    return Lifted((x, y, z), float(same.mean()))


def lift_bar(frame: CameraFrame, u: float, v: float, label: str = "handle", reach: int = 3) -> Lifted:
    """The highest thing in a window around a pixel: a handle's bar is thinner than the pixel error.

    Raises:
        CameraError: the camera gives no depth.
        UngroundedError: most of the window has no depth.
    """
    rows, columns = _bounds(frame, u, v, reach)
    points = deproject(frame)[rows, columns].reshape(-1, 3)
    seen = np.isfinite(points).all(axis=1)
    if np.count_nonzero(seen) < max(1, len(points) // 3):
        raise UngroundedError(label, u, v, "there is no depth, so it stands on nothing")
    points = points[seen]
    height = points[:, 2]
    top = points[height > np.percentile(height, 97) - 0.014]
    x, y, z = (float(c) for c in np.median(top, axis=0))
    return Lifted((x, y, z), float(min(1.0, len(top) / (2 * reach + 1))))


def lift_opening(frame: CameraFrame, u: float, v: float, box: BoxPx, label: str = "opening") -> Lifted:
    """The middle of a container's opening, moved down to the container's floor.

    The pixel shows the inside of a wall, not the opening; so its viewing ray is cut with the plane of the rim,
    which is where the upper part of the container's points lies.

    Args:
        frame: calibrated camera frame with depth.
        u: column of the opening's middle [px].
        v: row of the opening's middle [px].
        box: what the container fills in the image [px].
        label: for the error message.

    Raises:
        CameraError: the camera gives no depth.
        UngroundedError: the box shows no container.
    """
    u0, v0, u1, v1 = (round(b) for b in box)
    points = deproject(frame)[max(v0, 0) : v1, max(u0, 0) : u1].reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 20:
        raise UngroundedError(label, u, v, "there is no container where it was seen")
    rim, floor = (float(z) for z in np.percentile(points[:, 2], (88, 8)))
    if rim - floor < 0.03:
        raise UngroundedError(label, u, v, "what was seen as a container is flat")
    near, far = lift(frame, u, v, 0.1), lift(frame, u, v, 3.0)
    share = (rim - near[2]) / (far[2] - near[2])
    at = near + share * (far - near)
    return Lifted((float(at[0]), float(at[1]), max(floor, 0.0)), 0.9)


def lift_on_plane(frame: CameraFrame, u: Any, v: Any, height_m: float) -> Floats:
    """Where the viewing rays of pixels (*S) meet a horizontal plane, (*S, 3) [m]."""
    near, far = lift(frame, u, v, np.full(np.shape(u), 0.1)), lift(frame, u, v, np.full(np.shape(u), 3.0))
    share = (height_m - near[..., 2]) / (far[..., 2] - near[..., 2])
    return np.asarray(near + share[..., None] * (far - near))


def check_workspace(label: str, point: Keypoint, position: Vec3) -> None:
    """Refuse what no table-top arm reaches.

    Raises:
        UngroundedError: the position is outside of the workspace.
    """
    for axis, value, low, high in zip("xyz", position, *WORKSPACE, strict=True):
        if not low <= value <= high:
            where = f"{axis} = {value:.2f} m is outside of the workspace ({low:g} to {high:g} m)"
            raise UngroundedError(label, point.u, point.v, where)


def distance_outside(u: float, v: float, box: BoxPx) -> float:
    """How far a pixel lies outside of a box along the worse axis, negative inside [px]."""
    u0, v0, u1, v1 = box
    return max(u0 - u, u - u1, v0 - v, v - v1)


def check_inside(label: str, point: Keypoint, box: BoxPx, width: int) -> None:
    """Refuse a point on a thing that is not where the thing was seen.

    Raises:
        UngroundedError: the point is outside of the box, by more than a margin.
    """
    margin = BOX_MARGIN_PX * width / 256
    away = distance_outside(point.u, point.v, box)
    if away > margin:
        raise UngroundedError(label, point.u, point.v, f"it is {away:.0f} px away from where '{label}' was seen")


def _bounds(frame: CameraFrame, u: float, v: float, reach: int) -> tuple[slice, slice]:
    row = min(max(int(v), 0), frame.height - 1)
    column = min(max(int(u), 0), frame.width - 1)
    return (
        slice(max(row - reach, 0), row + reach + 1),
        slice(max(column - reach, 0), column + reach + 1),
    )


def _window(frame: CameraFrame, u: float, v: float, reach: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Depth around a pixel, padded with NaN at the image's border, and where it is valid."""
    depth = frame.require_depth()
    row = min(max(int(v), 0), frame.height - 1)
    column = min(max(int(u), 0), frame.width - 1)
    out = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
    rows, columns = _bounds(frame, u, v, reach)
    part = depth[rows, columns]
    top, left = rows.start - (row - reach), columns.start - (column - reach)
    out[top : top + part.shape[0], left : left + part.shape[1]] = part
    good = np.isfinite(out) & (out > 0.0)
    return out, good
