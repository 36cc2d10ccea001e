"""What experts speak in: waypoints, and the chunk of rows that following them at a set speed makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

MAX_WIDTH_M = 0.08
_YAW_SPEED = 1.8
_SLOW = 7.0
_CREEP = 0.03


@dataclass(frozen=True)
class Waypoint:
    """Go there; then stay for `dwell_s`.

    Attributes:
        position: (3,) tool centre point in the world frame [m].
        yaw: finger-closing axis about world z [rad]; reached by the shorter way modulo pi.
        opening: gripper opening while going and staying, 0..1.
        speed: of the tool [m/s].
        dwell_s: how long to stay [s].
        through: do not slow down before it.
    """

    position: Vector
    yaw: float
    opening: float
    speed: float = 0.25
    dwell_s: float = 0.0
    through: bool = False


def turn(yaw: float, reference: float, period: float = np.pi) -> float:
    """The angle equal to `yaw` modulo `period` that is nearest to `reference` [rad]."""
    return float(reference + (yaw - reference + period / 2) % period - period / 2)


def follow(
    position: Vector, yaw: float, waypoints: Sequence[Waypoint], horizon: int, rate_hz: float
) -> NDArray[np.float64]:
    """Rows (horizon, 5) of x, y, z [m], yaw [rad], opening, starting from a tool pose at rest or in motion.

    Speed is a function of the distance to go alone, so that the same state always gives the same rows, wherever
    in a motion it occurs; that is what makes the labels consistent.
    """
    here, angle = np.array(position, dtype=np.float64), float(yaw)
    rows = np.empty((horizon, 5))
    queue = list(waypoints)
    waited = 0.0
    tick = 0.02
    for k in range(horizon):
        for _ in range(max(1, round(1.0 / rate_hz / tick))):
            goal = queue[0]
            gap = goal.position - here
            distance = float(np.linalg.norm(gap))
            gap_yaw = turn(goal.yaw, angle) - angle
            near = distance < (0.012 if goal.through else 0.0008) and abs(gap_yaw) < (0.15 if goal.through else 0.01)
            if near:
                waited += tick
                if waited >= goal.dwell_s and len(queue) > 1:
                    queue.pop(0)
                    waited = 0.0
                continue
            speed = goal.speed if goal.through else float(np.clip(_SLOW * distance, _CREEP, goal.speed))
            # Turning and going end together.
            time = max(distance / speed, abs(gap_yaw) / _YAW_SPEED, tick)
            here = here + gap * (tick / time)
            angle += gap_yaw * (tick / time)
        rows[k] = *here, angle, queue[0].opening
    return rows


def as_actions(rows: NDArray[Any], target_w: Vector) -> NDArray[np.float32]:
    """Rows as (H, 6) labels relative to the keypoint; see `network.ACTION_DIM`."""
    yaw = rows[:, 3:4]
    actions = np.concatenate([rows[:, :3] - target_w, np.sin(2 * yaw), np.cos(2 * yaw), rows[:, 4:]], axis=1)
    return np.asarray(actions, dtype=np.float32)
