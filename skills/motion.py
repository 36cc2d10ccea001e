"""Scripted motions: waypoints of the tool, and the policy that turns them into action chunks.

Between two waypoints the tool moves in a straight line with the quintic time scaling that starts and ends at rest
(minimum jerk; Flash and Hogan 1985). The motion is a function of time alone: chunks overlap without a seam, however
long the computer took for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import ActionChunk, ConventionError, Observation, Step, Waypoint3D
from hiervla.skills.checks import holding

RATE_HZ = 10.0
HORIZON = 16
MAX_WIDTH_M = 0.08
_GRIP_S = 0.6
_TURN_RAD_S = 0.9
_PEAK = 1.875
"""Peak speed of the quintic profile as a multiple of its mean."""


@dataclass(frozen=True)
class Waypoint:
    """Go there in a straight line and come to rest; then stay for ``dwell_s``.

    Attributes:
        position_w: tool centre point in the world frame [m].
        yaw: finger-closing axis about world z [rad], reached by the shorter way modulo pi; None keeps it.
        opening: gripper opening while going and staying, 0 closed to 1 open; None keeps it.
        speed_m_s: highest speed of the tool on the way [m/s].
        dwell_s: how long to stay [s].

    Raises:
        ConventionError: a value is not finite, or out of its range.
    """

    position_w: tuple[float, float, float]
    yaw: float | None = None
    opening: float | None = None
    speed_m_s: float = 0.2
    dwell_s: float = 0.0

    def __post_init__(self) -> None:
        """Check every number, since a NaN would show only when the envelope stops the arm."""
        place = tuple(float(c) for c in self.position_w)
        if len(place) != 3 or not all(map(math.isfinite, place)):
            raise ConventionError(
                "Waypoint.position_w", f"{place} are not three finite numbers", "Give x, y, z in metres"
            )
        object.__setattr__(self, "position_w", place)
        if self.yaw is not None and not math.isfinite(self.yaw):
            raise ConventionError("Waypoint.yaw", f"{self.yaw} is not finite", "Give radians, or None to keep it")
        if self.opening is not None and not 0.0 <= self.opening <= 1.0:
            raise ConventionError("Waypoint.opening", f"{self.opening} is not in 0 to 1", "0 is closed, 1 is open")
        if not 0.0 < self.speed_m_s <= 0.5:
            raise ConventionError("Waypoint.speed_m_s", f"{self.speed_m_s} is not in (0, 0.5]", "Give metres a second")
        if not 0.0 <= self.dwell_s <= 60.0:
            raise ConventionError("Waypoint.dwell_s", f"{self.dwell_s} is not in 0 to 60", "Give seconds")

    @classmethod
    def of(cls, waypoint: Waypoint3D) -> Waypoint:
        """A waypoint of a ``waypoints_3d`` artifact; of its orientation, the yaw of a top-down grasp is kept."""
        yaw = None
        if waypoint.quaternion_wxyz is not None:
            w, x, y, z = waypoint.quaternion_wxyz
            # Second column of the rotation: the finger-closing axis.
            yaw = math.atan2(-2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z))
            yaw = (yaw + math.pi / 2) % math.pi - math.pi / 2
        opening = {"open": 1.0, "close": 0.0, "keep": None}[waypoint.gripper]
        dwell = 0.0 if opening is None else _GRIP_S
        return cls(waypoint.position_w, yaw=yaw, opening=opening, dwell_s=dwell)


@dataclass(frozen=True)
class _Leg:
    start_s: float
    move_s: float
    end_s: float
    origin: NDArray[np.float64]
    goal: NDArray[np.float64]
    yaw: float
    turn: float
    opening: float


class Path:
    """Waypoints laid out in time from a tool pose."""

    def __init__(self, observation: Observation, waypoints: Iterable[Waypoint | Waypoint3D]) -> None:
        """Lay the waypoints out.

        Args:
            observation: where the tool and the gripper are at its start.
            waypoints: where to go; none at all is a motion of no length.
        """
        proprio = observation.proprio
        here, yaw = np.array(proprio.ee_position, dtype=np.float64), proprio.ee_yaw
        # Commanding the measured width would let go of what is held.
        opening = 0.0 if holding(proprio).yes else float(np.clip(proprio.gripper_width_m / MAX_WIDTH_M, 0.0, 1.0))
        self._legs: list[_Leg] = []
        now = 0.0
        for given in waypoints:
            w = Waypoint.of(given) if isinstance(given, Waypoint3D) else given
            goal = np.array(w.position_w, dtype=np.float64)
            turn = 0.0 if w.yaw is None else (w.yaw - yaw + math.pi / 2) % math.pi - math.pi / 2
            change = opening if w.opening is None else w.opening
            length = float(np.linalg.norm(goal - here))
            move = _PEAK * max(length / w.speed_m_s, abs(turn) / _TURN_RAD_S)
            end = now + move + w.dwell_s
            self._legs.append(_Leg(now, move, end, here, goal, yaw, turn, change))
            here, yaw, opening, now = goal, yaw + turn, change, end
        if not self._legs:
            self._legs.append(_Leg(0.0, 0.0, 0.0, here, here, yaw, 0.0, opening))

    @property
    def duration_s(self) -> float:
        """Length of the motion [s]."""
        return self._legs[-1].end_s

    def at(self, time_s: float) -> tuple[NDArray[np.float64], float, float]:
        """Tool position (3,) [m], yaw [rad] and opening at a time since the start [s]; at rest after the end."""
        leg = next((leg for leg in self._legs if time_s < leg.end_s), self._legs[-1])
        share = 1.0 if leg.move_s <= 0.0 else float(np.clip((time_s - leg.start_s) / leg.move_s, 0.0, 1.0))
        s = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
        return leg.origin + s * (leg.goal - leg.origin), leg.yaw + s * leg.turn, leg.opening


Plot = Callable[[Observation, Step], Iterable[Waypoint | Waypoint3D]]
"""Where to go, from the observation at the start of the motion and the step."""


class MotionPolicy:
    """Follows waypoints that are chosen once, at the first observation of an attempt; then says that it is done."""

    def __init__(self, name: str, plot: Plot) -> None:
        self._name = name
        self._plot = plot
        self._path: Path | None = None
        self._began_s = 0.0

    @property
    def id(self) -> str:
        """Name of the skill that it belongs to."""
        return self._name

    def reset(self, step: Step, seed: int) -> None:
        """Forget the last attempt's waypoints."""
        self._path = None

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next 1.6 s of the motion.

        Raises:
            MissingTargetError: the motion needs a keypoint, and the step carries none.
            SkillArgumentError: the step's arguments do not fit.
        """
        if self._path is None:
            self._path, self._began_s = Path(observation, self._plot(observation, step)), observation.time_s
        path, elapsed = self._path, observation.time_s - self._began_s
        rows = [path.at(elapsed + (k + 1) / RATE_HZ) for k in range(HORIZON)]
        left = path.duration_s - elapsed
        return ActionChunk(
            positions=np.array([p for p, _, _ in rows]),
            yaws=np.array([y for _, y, _ in rows]),
            gripper=np.array([g for _, _, g in rows]),
            rate_hz=RATE_HZ,
            observed_at_s=observation.time_s,
            # The chunk is asked for a moment before it takes over; by then the motion has ended.
            done_prob=1.0 if left <= 0.2 else 0.0,
            progress=1.0 if left <= 0.2 else float(np.clip(elapsed / path.duration_s, 0.0, 1.0)),
            policy=self._name,
        )
