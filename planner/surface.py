"""What stands on the table as the planner's camera shows it: heights over a grid, without the arm."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.obstacles import ColumnGrid, RobotMask
from hiervla.representations import CameraFrame, Proprioception
from hiervla.representations.geometry import deproject

Vector = NDArray[np.float64]

_HAND_M: Final = 0.15
"""What is seen this near to a raised hand is the hand, or what it holds [m]."""
_RAISED_M: Final = 0.27


class Surface:
    """Heights of what is seen from above the table, in columns.

    Args:
        frame: calibrated frame with depth.
        proprio: the arm's state at that time; its own points are left out.

    Attributes:
        grid: extent and cell size.
        heights: (nx, ny) greatest height seen in each cell, 0 where nothing rises above the table [m].

    Raises:
        CameraError: the camera gives no depth.
    """

    def __init__(self, frame: CameraFrame, proprio: Proprioception) -> None:
        self.grid = ColumnGrid()
        cloud = deproject(frame).reshape(-1, 3)
        cloud = cloud[np.isfinite(cloud).all(axis=1)]
        g = self.grid
        inside = (cloud[:, 0] > g.x[0]) & (cloud[:, 0] < g.x[1]) & (cloud[:, 1] > g.y[0]) & (cloud[:, 1] < g.y[1])
        cloud = cloud[inside & (cloud[:, 2] > g.min_height_m) & (cloud[:, 2] < g.max_height_m)]
        hand = np.array(proprio.ee_position)
        by_hand = (np.abs(cloud[:, :2] - hand[:2]) < _HAND_M).all(axis=1)
        cloud = cloud[~(by_hand & (cloud[:, 2] > max(_RAISED_M, hand[2] - _HAND_M)))]
        cloud = cloud[~_mask().near(cloud, proprio)]
        self.heights = np.zeros(g.shape)
        i, j = self._cells(cloud)
        np.maximum.at(self.heights, (i, j), cloud[:, 2])

    def height(self, at_w: Vector, radius_m: float = 0.03) -> float:
        """Greatest height within a radius of a place, (2 or 3,) [m]."""
        return self.ridge(at_w, at_w, radius_m)

    def ridge(self, a_w: Vector, b_w: Vector, half_m: float) -> float:
        """Greatest height within a distance of the straight line between two places, (2 or 3,) each [m]."""
        x, y = self.centres()
        a, b = np.asarray(a_w[:2], float), np.asarray(b_w[:2], float)
        along = b - a
        share = ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(float(along @ along), 1e-12)
        share = np.clip(share, 0.0, 1.0)
        near = np.hypot(x - a[0] - share * along[0], y - a[1] - share * along[1]) <= half_m
        return float(self.heights[near].max(initial=0.0))

    def centres(self) -> tuple[Vector, Vector]:
        """X and y of the middles of all cells, (nx, ny) each [m]."""
        g = self.grid
        x = g.x[0] + (np.arange(g.shape[0]) + 0.5) * g.cell_m
        y = g.y[0] + (np.arange(g.shape[1]) + 0.5) * g.cell_m
        xs, ys = np.meshgrid(x, y, indexing="ij")
        return xs, ys

    def _cells(self, cloud: Vector) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        g = self.grid
        i = ((cloud[:, 0] - g.x[0]) / g.cell_m).astype(np.intp)
        j = ((cloud[:, 1] - g.y[0]) / g.cell_m).astype(np.intp)
        return np.clip(i, 0, g.shape[0] - 1), np.clip(j, 0, g.shape[1] - 1)


@cache
def _mask() -> RobotMask:
    return RobotMask()
