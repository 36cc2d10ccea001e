"""The parallel gripper: width commands at a bounded speed, and whether something is held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from hiervla.controllers import panda
from hiervla.controllers.timing import TICK_S
from hiervla.representations.observations import Proprioception


class GripState(StrEnum):
    """What the fingers are doing, as far as their own sensors tell."""

    OPEN = "open"
    MOVING = "moving"
    CLOSED_EMPTY = "closed_empty"
    HOLDING = "holding"


@dataclass(frozen=True)
class GripThresholds:
    """When fingers count as holding something.

    Attributes:
        min_effort_n: squeezing force that an object in between causes at least [N].
        min_width_m: fingers nearer than this have nothing in between [m].
        stall_m: how far the fingers stay short of the commanded width when an object stops them [m].
        settled_ticks: how many ticks in a row the fingers must have stood still.
        still_m: movement a tick below which fingers stand still [m].
    """

    min_effort_n: float = 3.0
    min_width_m: float = 0.004
    stall_m: float = 0.003
    settled_ticks: int = 4
    still_m: float = 0.0004


class Gripper:
    """Turns opening fractions into width commands, and reads a grasp from proprioception alone.

    Attributes:
        width_m: last commanded width [m].
        state: what the last :meth:`update` concluded.
    """

    def __init__(
        self,
        width_m: float = panda.GRIPPER_MAX_WIDTH_M,
        *,
        max_width_m: float = panda.GRIPPER_MAX_WIDTH_M,
        max_speed_m_s: float = panda.GRIPPER_MAX_SPEED_M_S,
        thresholds: GripThresholds | None = None,
    ) -> None:
        self.max_width_m = max_width_m
        self.max_speed_m_s = max_speed_m_s
        self.thresholds = thresholds or GripThresholds()
        self.reset(width_m)

    def reset(self, width_m: float) -> None:
        """Forget the past; the last command was `width_m`."""
        self.width_m = min(max(width_m, 0.0), self.max_width_m)
        self.state = GripState.MOVING
        self._seen: float | None = None
        self._still = 0

    def command(self, opening: float) -> float:
        """Next width command [m], at most one tick's travel from the last.

        Args:
            opening: wanted opening as a fraction, 0 closed to 1 open; values outside are clamped.

        Raises:
            ValueError: `opening` is not a number.
        """
        if math.isnan(opening):  # it would slip through min and max
            raise ValueError("gripper opening is NaN. Give a fraction between 0 and 1")
        goal = min(max(opening, 0.0), 1.0) * self.max_width_m
        reach = self.max_speed_m_s * TICK_S
        self.width_m += min(max(goal - self.width_m, -reach), reach)
        return self.width_m

    def update(self, proprio: Proprioception) -> GripState:
        """Judge the grasp from one tick's proprioception; call it once a tick."""
        limits = self.thresholds
        width = proprio.gripper_width_m
        moved = abs(width - self._seen) if self._seen is not None else float("inf")
        self._seen = width
        self._still = self._still + 1 if moved < limits.still_m else 0
        if self._still < limits.settled_ticks:
            # An object in the hand does not stop being held because it slips a little.
            squeezed = self.state is GripState.HOLDING and proprio.gripper_effort_n >= limits.min_effort_n
            self.state = GripState.HOLDING if squeezed and width >= limits.min_width_m else GripState.MOVING
        elif width < limits.min_width_m:
            self.state = GripState.CLOSED_EMPTY
        elif width - self.width_m >= limits.stall_m and proprio.gripper_effort_n >= limits.min_effort_n:
            self.state = GripState.HOLDING
        else:
            self.state = GripState.OPEN
        return self.state
