"""What experts speak in: waypoints, and the chunk of rows that following them at a set speed makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

MAX_WIDTH_M = 0.08
_YAW_SPEED = 0.9
_YAW_ACCELERATION = 2.5
_SLOW = 8.0
_ACCELERATION = 0.8


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
    speed: float = 0.22
    dwell_s: float = 0.0
    through: bool = False


def turn(yaw: float, reference: float, period: float = np.pi) -> float:
    """The angle equal to `yaw` modulo `period` that is nearest to `reference` [rad]."""
    return float(reference + (yaw - reference + period / 2) % period - period / 2)


def follow(
    position: Vector,
    velocity: Vector,
    yaw: float,
    waypoints: Sequence[Waypoint],
    horizon: int,
    rate_hz: float,
) -> NDArray[np.float64]:
    """Rows (horizon, 5) of x, y, z [m], yaw [rad], opening, starting from a tool pose and velocity (3,) [m/s].

    Speed follows from the distance to go, and acceleration is bounded as a vector, so that corners are rounded and
    the joints keep up. The same state always gives the same rows, wherever in a motion it occurs; that is what
    makes the labels consistent.
    """
    here, angle = [float(v) for v in position], float(yaw)
    speed_now = [float(v) for v in velocity]
    rows = np.empty((horizon, 5))
    queue = [([float(v) for v in w.position], w) for w in waypoints]
    waited, spin, tick = 0.0, 0.0, 0.02
    reach = _ACCELERATION * tick
    for k in range(horizon):
        for _ in range(max(1, round(1.0 / rate_hz / tick))):
            place, goal = queue[0]
            gap = [place[0] - here[0], place[1] - here[1], place[2] - here[2]]
            distance = math.sqrt(gap[0] ** 2 + gap[1] ** 2 + gap[2] ** 2)
            gap_yaw = turn(goal.yaw, angle) - angle
            slack, slack_yaw = (0.015, 0.15) if goal.through else (0.0012, 0.012)
            if distance < slack and abs(gap_yaw) < slack_yaw:
                waited += tick
                if waited >= goal.dwell_s and len(queue) > 1:
                    queue.pop(0)
                    waited = 0.0
            speed = goal.speed if goal.through else min(goal.speed, math.sqrt(0.9 * distance), _SLOW * distance)
            # Turning and going end together.
            time = max(distance / max(speed, 1e-6), abs(gap_yaw) / _YAW_SPEED, tick)
            change = [g / time - s for g, s in zip(gap, speed_now, strict=True)]
            size = math.sqrt(change[0] ** 2 + change[1] ** 2 + change[2] ** 2)
            share = min(1.0, reach / max(size, 1e-9))
            speed_now = [s + c * share for s, c in zip(speed_now, change, strict=True)]
            here = [h + s * tick for h, s in zip(here, speed_now, strict=True)]
            wanted = math.copysign(min(abs(gap_yaw) / time, math.sqrt(3.0 * abs(gap_yaw)), 6.0 * abs(gap_yaw)), gap_yaw)
            spin += min(max(wanted - spin, -_YAW_ACCELERATION * tick), _YAW_ACCELERATION * tick)
            angle += spin * tick
        rows[k] = *here, angle, queue[0][1].opening
    return rows


def as_actions(rows: NDArray[Any], target_w: Vector) -> NDArray[np.float32]:
    """Rows as (H, 6) labels relative to the keypoint; see `network.ACTION_DIM`."""
    yaw = rows[:, 3:4]
    actions = np.concatenate([rows[:, :3] - target_w, np.sin(2 * yaw), np.cos(2 * yaw), rows[:, 4:]], axis=1)
    return np.asarray(actions, dtype=np.float32)
