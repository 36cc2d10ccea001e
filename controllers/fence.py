"""Where another arm's space begins: a plane that no part of this arm may cross.

Each arm has a plane of its own. As long as it has not claimed the space between the two, it keeps well away from the
other arm's plane; once it has, it may go further. Whoever grants such claims sees to it that only one has it at a time;
then the arms cannot meet, whatever they are told.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hiervla.controllers.collision import Box
from hiervla.controllers.limits import Array
from hiervla.controllers.shape import ArmShape

HAND_HALF_M = 0.11
"""Half of a hand's width along the closing direction, with a little room [m]."""
_FAR_M = 2.0


class Fence:
    """One arm's plane, in its base frame; the envelope and the planner of transits keep to it.

    Attributes:
        name: of the space behind it.
        normal: (3,) unit vector into that space, horizontal.
        free_m: how far along it the arm may reach at any time [m].
        entered_m: how far it may reach while the space is its own [m].
        entered: whether it is.
    """

    def __init__(self, name: str, normal: ArrayLike, free_m: float, entered_m: float) -> None:
        """Set up, closed.

        Raises:
            ValueError: the normal is no horizontal unit vector, or entering would allow less.
        """
        self.name = name
        self.normal: Array = np.array(normal, dtype=np.float64)
        self.free_m = free_m
        self.entered_m = entered_m
        self.entered = False
        if abs(float(np.linalg.norm(self.normal)) - 1.0) > 1e-6 or abs(self.normal[2]) > 1e-6:
            raise ValueError(f"a fence needs a horizontal unit vector, not {self.normal.tolist()}")
        if entered_m < free_m:
            raise ValueError(f"a fence at {free_m} m cannot open to {entered_m} m. Give the farther one second")

    @property
    def limit_m(self) -> float:
        """How far the arm may reach now [m]."""
        return self.entered_m if self.entered else self.free_m

    def behind(self, point: ArrayLike, around_m: float) -> bool:
        """Whether an arm with its hand at a point (3,) needs the space, with so much around the point [m]."""
        return float(np.asarray(point, dtype=np.float64) @ self.normal) + around_m > self.free_m

    def out_of_bounds(self, point: ArrayLike, around_m: float) -> bool:
        """Whether the arm may not have its hand there at all."""
        return float(np.asarray(point, dtype=np.float64) @ self.normal) + around_m > self.entered_m

    def clear(self, shape: ArmShape, q: ArrayLike) -> bool:
        """Whether an arm at joint position `q` (7,) [rad] is out of the space."""
        shape.place(q)
        return shape.extent(self.normal) <= self.free_m

    def wall(self) -> Box:
        """The forbidden side as a solid box, for whoever plans motions."""
        centre = self.normal * (self.limit_m + _FAR_M)
        yaw = float(np.arctan2(self.normal[1], self.normal[0]))
        at = (float(centre[0]), float(centre[1]), 0.5)
        return Box(f"the space '{self.name}', which another arm may use", at, (_FAR_M, _FAR_M, 1.5), yaw)
