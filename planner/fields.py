"""Value maps: drawn to where the step acts, driven away from what depth shows (after VoxPoser, arXiv 2307.05973)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hiervla.planner.surface import Surface
from hiervla.representations import ValueMap

Vector = NDArray[np.float64]

RESOLUTION_M: Final = 0.025
REPEL: Final = 1.5
"""What the middle of an obstacle costs, in metres of way."""
MARGIN_M: Final = 0.12
"""The grid reaches this far beyond start and target [m]."""
_TOP_M: Final = 0.45
_SPREAD_M: Final = 0.04
"""Width of the repulsion around obstacles [m]."""
_OWN_M: Final = 0.07
"""What stands this near to the target is what the step is about, and repels nobody [m]."""


def value_map(label: str, start_w: Vector, target_w: Vector, surface: Surface, clearance_m: float = 0.0) -> ValueMap:
    """A map whose highest voxel has its centre at the target.

    Value is minus the distance to the target, minus what obstacles repel: everything under a seen surface counts as
    filled, since it was not seen.

    Args:
        label: what it is for.
        start_w: (3,) where the tool is [m]; inside the grid.
        target_w: (3,) where it shall go [m].
        surface: what stands on the table.
        clearance_m: obstacles count as this much higher, for what is held [m].
    """
    r = RESOLUTION_M
    low = np.minimum(start_w, target_w) - MARGIN_M
    high = np.maximum(start_w, target_w) + MARGIN_M
    low[2], high[2] = min(low[2], 0.0), max(_TOP_M, float(target_w[2]) + 0.1)
    # The grid is laid so that the target is the middle of a voxel, and nothing is lost by rounding.
    below = np.ceil((target_w - low) / r).astype(int)
    above = np.ceil((high - target_w) / r).astype(int)
    origin = target_w - (below + 0.5) * r
    shape = below + above + 1
    axes = [origin[k] + r * (np.arange(shape[k]) + 0.5) for k in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt((x - target_w[0]) ** 2 + (y - target_w[1]) ** 2 + (z - target_w[2]) ** 2)
    columns = np.array([[surface.height(np.array((a, b)), 0.02) for b in axes[1]] for a in axes[0]])
    filled = (z < (columns + clearance_m)[:, :, None]) & (columns > 0.0)[:, :, None]
    away = np.hypot(x - target_w[0], y - target_w[1]) > _OWN_M
    # Blurred first and cut then: what stands around the target must not move the highest place away from it.
    solid = gaussian_filter(filled.astype(np.float64), _SPREAD_M / r) * away
    # The table itself: nothing goes deeper than the target, or what stands around it.
    under = z < min(float(target_w[2]), 0.0) - 0.5 * r
    values = -distance - REPEL * np.maximum(solid, filled & away) - REPEL * under
    # Rounded, so that it packs well on record; a millimetre is more than a voxel tells.
    values = np.round(values, 3).astype(np.float32)
    return ValueMap(
        label=label, origin_w=(float(origin[0]), float(origin[1]), float(origin[2])), resolution_m=r, values=values
    )
