"""Which thing stands on which, from poses and sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiervla.worlds.tabletop.specs import BIN_HEIGHT, FurnitureSpec, ObjectSpec, Place

_CLOSE_M = 0.014
_DRAWER_WALL_M = 0.07


@dataclass(frozen=True, eq=False)
class Box:
    """An object's bounding box in the world: centre (3,), lowest and highest point, and its upright axis."""

    spec: ObjectSpec
    centre: NDArray[np.float64]
    low: float
    high: float
    up: float

    @classmethod
    def of(cls, spec: ObjectSpec, pose: NDArray[np.float64]) -> Box:
        """The box of an object whose frame (centre of the bottom face) is at `pose` (4, 4)."""
        half = np.array(spec.size) / 2
        centre = pose[:3, 3] + pose[:3, 2] * half[2]
        reach = float(np.abs(pose[2, :3]) @ half)
        return cls(spec, centre, float(centre[2]) - reach, float(centre[2]) + reach, float(pose[2, 2]))


def support_of(box: Box, touching: Sequence[Box], furniture: FurnitureSpec, drawer_open: float) -> str | None:
    """What a resting object stands on: the id of an object that it touches, a place, or None."""
    carriers = [other for other in touching if carries(other, box)]
    if carriers:
        return max(carriers, key=lambda other: other.low).spec.id
    x, y, _ = box.centre
    bin_region = furniture.region("bin")
    if bin_region.contains(x, y) and box.low < BIN_HEIGHT:
        return "bin"
    drawer = furniture.region("drawer", drawer_open)
    if drawer.contains(x, y) and drawer.z - 0.01 < box.low < _DRAWER_WALL_M:
        return "drawer"
    shelves: tuple[Place, ...] = ("top_shelf", "bottom_shelf")
    for place in shelves:
        region = furniture.region(place)
        if region.contains(x, y) and abs(box.low - region.z) < _CLOSE_M:
            return place
    return "table" if box.low < _CLOSE_M else None


def carries(lower: Box, upper: Box) -> bool:
    """Whether `upper`, in contact with `lower`, stands on or in it."""
    dx, dy = (upper.centre - lower.centre)[:2]
    distance = float(np.hypot(dx, dy))
    category = lower.spec.category
    if category in ("bowl", "plate"):
        # In a bowl things lean on the wall: their middle counts, not their lowest corner.
        inside = distance < lower.spec.size[0] / 2
        return inside and lower.up > 0.8 and upper.low > lower.low - 0.002 and upper.centre[2] > lower.centre[2]
    reach = (lower.spec.size[0] + lower.spec.size[1]) / 4
    return distance < 1.1 * reach and abs(upper.low - lower.high) < _CLOSE_M
