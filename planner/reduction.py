"""From boxes and affordance maps to the one point that a policy is conditioned on; each by a stated rule."""

from __future__ import annotations

import numpy as np

from hiervla.representations import AffordanceMap, Box, Boxes, CameraFrame, ImageRef, Keypoint, Keypoints
from hiervla.representations.geometry import deproject

LEAST: float = 0.5
"""A region of an affordance map is where it is at least this share of its peak."""


def point_of_map(artifact: AffordanceMap) -> Keypoints:
    """The mean position of the 3 by 3 cells around the highest one, weighted by the map.

    That is finer than a cell, and not drawn away by a second peak elsewhere. The mass of the window is the confidence.
    """
    values = artifact.values.astype(np.float64)
    h, w = values.shape
    i, j = (int(k) for k in np.unravel_index(int(values.argmax()), values.shape))
    rows, columns = slice(max(i - 1, 0), i + 2), slice(max(j - 1, 0), j + 2)
    window = values[rows, columns]
    mass = float(window.sum())
    di, dj = np.indices(window.shape, dtype=np.float64)
    v = (rows.start + 0.5 + float((window * di).sum()) / mass) * artifact.image.height / h
    u = (columns.start + 0.5 + float((window * dj).sum()) / mass) * artifact.image.width / w
    point = Keypoint(label=artifact.label, u=u, v=v, confidence=min(mass, 1.0))
    return Keypoints(image=artifact.image, points=(point,), provenance=artifact.provenance)


def point_of_box(artifact: Boxes, frame: CameraFrame) -> Keypoints:
    """The pixel in the first box that is nearest to its middle among those that show what stands out there.

    What stands out is the upper half of the heights within the box: its middle may show the ground between two parts
    of a thing, such as a mug's handle and its body. Without depth it is the middle.
    """
    box = artifact.boxes[0]
    u, v = (box.u_min + box.u_max) / 2, (box.v_min + box.v_max) / 2
    if frame.depth_m is not None:
        u, v = _standing_out(frame, box, u, v)
    point = Keypoint(label=box.label, u=u, v=v, confidence=box.confidence)
    return Keypoints(image=artifact.image, points=(point,), provenance=artifact.provenance)


def region_of_map(artifact: AffordanceMap, image: ImageRef) -> Box:
    """The smallest box around the cells near the peak that are at least half as high as it, in pixels."""
    values = artifact.values
    h, w = values.shape
    i, j = (int(k) for k in np.unravel_index(int(values.argmax()), values.shape))
    high = values >= LEAST * values[i, j]
    top, bottom, left, right = i, i, j, j
    grown = True
    while grown:
        grown = False
        if top > 0 and high[top - 1, left : right + 1].any():
            top, grown = top - 1, True
        if bottom < h - 1 and high[bottom + 1, left : right + 1].any():
            bottom, grown = bottom + 1, True
        if left > 0 and high[top : bottom + 1, left - 1].any():
            left, grown = left - 1, True
        if right < w - 1 and high[top : bottom + 1, right + 1].any():
            right, grown = right + 1, True
    su, sv = image.width / w, image.height / h
    mass = float(values[top : bottom + 1, left : right + 1].sum())
    return Box(
        label=artifact.label, u_min=left * su, v_min=top * sv, u_max=(right + 1) * su, v_max=(bottom + 1) * sv,
        confidence=min(mass, 1.0),
    )  # fmt: skip


def _standing_out(frame: CameraFrame, box: Box, u: float, v: float) -> tuple[float, float]:
    rows = slice(max(int(box.v_min), 0), max(int(box.v_max), int(box.v_min) + 1))
    columns = slice(max(int(box.u_min), 0), max(int(box.u_max), int(box.u_min) + 1))
    heights = deproject(frame)[rows, columns, 2]
    seen = np.isfinite(heights)
    if not seen.any():
        return u, v
    low, high = np.percentile(heights[seen], (5, 95))
    good = seen & (heights >= (low + high) / 2) if high - low > 0.012 else seen
    row, column = np.nonzero(good)
    x, y = column + columns.start + 0.5, row + rows.start + 0.5
    k = int(np.argmin((x - u) ** 2 + (y - v) ** 2))
    return float(x[k]), float(y[k])
