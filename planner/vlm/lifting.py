"""Points of a model without eyes of its own for boxes: lifted through depth, and doubted by depth alone."""

from __future__ import annotations

from typing import Final

import numpy as np

from hiervla.planner.grounding import (
    BoxPx,
    Lifted,
    UngroundedError,
    check_workspace,
    lift_bar,
    lift_opening,
    lift_point,
)
from hiervla.representations import CameraFrame, Keypoint, Step
from hiervla.representations.geometry import deproject

CONTAINER_M: Final = 0.10
"""Half the width of what counts as "around an opening": a small bin and little besides it [m]."""
AROUND_M: Final = 0.06
"""Half the width of the neighbourhood that a graspable thing has to stand out of [m]."""
LEAST_RISE_M: Final = 0.006
"""What rises less above its neighbourhood is a bare surface [m]."""


def lift_for(frame: CameraFrame, step: Step, point: Keypoint) -> Keypoint:
    """The keypoint of a step with its position in the world; what it means depends on the skill.

    Args:
        frame: the frame that the point speaks of, with depth.
        step: the step.
        point: its keypoint.

    Raises:
        CameraError: the camera gives no depth.
        UngroundedError: it stands on nothing, is out of reach, or shows a bare surface where a thing shall be.
    """
    if step.skill == "throw_away":
        lifted = lift_opening(frame, point.u, point.v, _around(frame, point, CONTAINER_M), point.label)
    elif step.skill in ("open_drawer", "close_drawer"):
        lifted = lift_bar(frame, point.u, point.v, point.label)
    else:
        lifted = lift_point(frame, point.u, point.v, point.label)
    if step.skill == "pick":
        _check_rises(frame, point, lifted)
    check_workspace(point.label, point, lifted.position_w)
    return point.replace(position_w=lifted.position_w, confidence=point.confidence * lifted.confidence)


def _check_rises(frame: CameraFrame, point: Keypoint, lifted: Lifted) -> None:
    """Refuse a point on a flat surface: whatever the name says, there is nothing to take hold of."""
    u0, v0, u1, v1 = (round(b) for b in _around(frame, point, AROUND_M))
    heights = deproject(frame)[v0:v1, u0:u1, 2].ravel()
    heights = heights[np.isfinite(heights)]
    rise = lifted.position_w[2] - float(np.percentile(heights, 10)) if heights.size else 0.0
    if rise < LEAST_RISE_M:
        raise UngroundedError(point.label, point.u, point.v, "it shows a bare surface and nothing to take hold of")


def _around(frame: CameraFrame, point: Keypoint, half_m: float) -> BoxPx:
    """The square of that half width at the point's depth, as the camera sees it, cut at the image's border [px].

    Raises:
        CameraError: the camera gives no depth.
        UngroundedError: there is no depth at the point.
    """
    lift_point(frame, point.u, point.v, point.label)
    depth = frame.require_depth()
    row, column = min(int(point.v), frame.height - 1), min(int(point.u), frame.width - 1)
    window = depth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    distance = float(np.median(window[np.isfinite(window) & (window > 0)]))
    du, dv = half_m * float(frame.K[0, 0]) / distance, half_m * float(frame.K[1, 1]) / distance
    return (
        max(point.u - du, 0.0),
        max(point.v - dv, 0.0),
        min(point.u + du, float(frame.width)),
        min(point.v + dv, float(frame.height)),
    )
