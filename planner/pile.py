"""Where a thing is dropped onto others: the place counts as high as what lies there already asks for."""

from __future__ import annotations

from typing import Final

import numpy as np

from hiervla.representations import CameraFrame, Keypoint
from hiervla.representations.geometry import deproject

DROPS: Final = frozenset({"throw_away"})
"""Skills that let a thing fall from above a container's rim."""
_AROUND_M: Final = 0.07
"""What lies nearer to the point than this, seen from above, is below a thing that hangs there [m]."""
_DEPTH_M: Final = 0.09
"""So far above the point a drop begins at least [m]: what is no higher than this is out of its way."""
_HIGHEST_M: Final = 0.25
"""What is seen higher above the point hangs there and does not lie there [m]."""
_PIXELS: Final = 3
"""Pixels that make a top; fewer are an edge's noise."""


def above_pile(frame: CameraFrame, point: Keypoint) -> Keypoint:
    """The point, raised where what lies there stands out so far that a thing dropped in the usual way would hit it.

    Args:
        frame: an image with depth in which the arm is out of the way.
        point: a place, lifted.
    """
    if point.position_w is None:
        return point
    x, y, z = point.position_w
    cloud = deproject(frame).reshape(-1, 3)
    cloud = cloud[np.isfinite(cloud).all(axis=1)]
    near = np.hypot(cloud[:, 0] - x, cloud[:, 1] - y) < _AROUND_M
    heights = np.sort(cloud[near & (cloud[:, 2] < z + _HIGHEST_M), 2])
    if len(heights) < _PIXELS:
        return point
    return point.replace(position_w=(x, y, max(z, float(heights[-_PIXELS]) - _DEPTH_M)))
