"""What can go wrong between an action and a joint command."""

from __future__ import annotations

from collections.abc import Sequence

from hiervla.representations.errors import HiervlaError


def _vector(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.3f}" for v in values) + ")"


class UnreachablePose(HiervlaError, ValueError):
    """No joint position puts the end effector where it was asked to be.

    Attributes:
        position: (3,) what was asked for, in the world frame [m].
        yaw: finger-closing direction that was asked for, None for a full orientation [rad].
        residual_m: distance that the best attempt left [m].
        residual_rad: angle that the best attempt left [rad].
    """

    def __init__(self, position: Sequence[float], yaw: float | None, residual_m: float, residual_rad: float) -> None:
        self.position = tuple(float(v) for v in position)
        self.yaw = yaw
        self.residual_m = residual_m
        self.residual_rad = residual_rad
        turn = "" if yaw is None else f", yaw {yaw:.2f} rad"
        super().__init__(
            f"the arm cannot reach position {_vector(self.position)} m{turn}: the best joint position is "
            f"{residual_m * 1000:.1f} mm and {residual_rad:.3f} rad away. "
            "Choose a target nearer to the base, or another yaw."
        )


class NoPath(HiervlaError):
    """The transit planner found no collision-free way.

    Attributes:
        goal: what was to be reached, in words.
        reason: ``"start_in_collision"``, ``"goal_in_collision"`` or ``"gave_up"``.
        blocked_by: names of the bodies that were in the way, where known.
    """

    _SENTENCES = {
        "start_in_collision": "the arm already touches {by}, and no retreat upwards frees it",
        "goal_in_collision": "the goal itself touches {by}",
        "gave_up": "no way around {by} was found within the search budget",
    }

    def __init__(self, goal: str, reason: str, blocked_by: Sequence[str] = ()) -> None:
        self.goal = goal
        self.reason = reason
        self.blocked_by = tuple(blocked_by)
        by = ", ".join(self.blocked_by) or "the obstacles"
        super().__init__(
            f"no collision-free transit to {goal}: {self._SENTENCES[reason].format(by=by)}. "
            "Choose a higher hover pose, clear the obstacle first, or look again."
        )


class MotionLimitError(HiervlaError, ValueError):
    """A motion was asked for that the limits rule out from the start.

    Attributes:
        what: the quantity, such as ``"start velocity of joint 2"``.
        value: what was asked for.
        limit: what is allowed.
    """

    def __init__(self, what: str, value: float, limit: float, remedy: str) -> None:
        self.what = what
        self.value = value
        self.limit = limit
        super().__init__(f"{what} is {value:.4g}, but the limit is {limit:.4g}. {remedy}.")


class WaypointsRefused(HiervlaError, ValueError):
    """Somebody handed intermediate waypoints to the timing layer.

    Ruckig's community edition sends such a problem to a server on the internet; a robot's controller never does.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(
            f"{count} intermediate waypoints were given to a state-to-state trajectory. Ruckig would calculate "
            "them on a remote server, so they are refused. Use time_path(), which is computed here."
        )
