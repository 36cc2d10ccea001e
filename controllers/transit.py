"""Collision-free transit: from where the arm is to a hover pose or a joint goal, jerk-limited.

The cheap ways come first: straight in joint space, then up, over and down. Only when both are blocked does a sampling
planner (OMPL's RRT-Connect) search, with a fixed seed and a budget counted in checks, so that equal questions get
equal answers whatever the machine's speed. Corners are rounded, and the rounded path is checked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from hiervla.controllers.collision import CollisionModel, HeldObject, Obstacles, densify
from hiervla.controllers.errors import MotionLimitError, NoPath, UnreachablePose
from hiervla.controllers.kinematics import (
    DifferentialIK,
    Kinematics,
    motion_limits,
    pose_error,
    tool_yaw,
    topdown_pose,
)
from hiervla.controllers.limits import Array, JointLimits
from hiervla.controllers.timing import Trajectory, state_to_state, stop_from, time_path

_COARSE_RAD = 0.05
_FINE_RAD = 0.02
_LIFTS_M = (0.02, 0.05, 0.10, 0.16, 0.24)
_SAFE_HEIGHTS_M = (0.0, 0.06, 0.12, 0.20)
_RISE_M = 0.03
_ROUNDINGS_RAD = (0.5, 0.25, 0.1, 0.03)


class TransitMethod(StrEnum):
    """How a transit was found."""

    NOTHING = "nothing_to_do"
    STRAIGHT = "straight"
    OVER = "up_over_down"
    SEARCH = "search"


@dataclass(frozen=True)
class Transit:
    """A motion that may be executed.

    Attributes:
        trajectory: joint motion at the control rate, at rest at its end.
        goal_q: (7,) where it ends [rad].
        method: how it was found.
        margin_m: clearance that was kept all the way [m].
        escaped: it starts with a retreat upwards, because the arm began within the margin of something.
        checks: postures that were checked for collision.
    """

    trajectory: Trajectory
    goal_q: Array
    method: TransitMethod
    margin_m: float
    escaped: bool
    checks: int


class TransitPlanner:
    """Plans transits; deterministic, and one object serves one thread."""

    def __init__(
        self,
        *,
        limits: JointLimits | None = None,
        margins_m: Sequence[float] = (0.012, 0.004),
        search_checks: int = 20_000,
        seed: int = 7,
    ) -> None:
        """Set up.

        Args:
            limits: what the joints may do; the default is :func:`motion_limits`.
            margins_m: clearances to try, widest first [m].
            search_checks: budget of the sampling planner, in postures checked.
            seed: seed of the sampling planner.
        """
        self.limits = limits or motion_limits()
        self.kinematics = Kinematics(self.limits)
        self.margins_m = tuple(margins_m)
        self.search_checks = search_checks
        self.seed = seed
        self._model = CollisionModel(self.margins_m[0])
        self._servo = DifferentialIK(self.limits)

    def to_hover(
        self,
        q: ArrayLike,
        position: ArrayLike,
        yaw: float,
        obstacles: Obstacles,
        *,
        dq: ArrayLike | None = None,
        held: HeldObject | None = None,
        speed: float = 1.0,
        may_rise_m: float = 0.0,
    ) -> Transit:
        """Transit to a top-down pose; `yaw` counts modulo pi, and either side of the gripper will do.

        Args:
            q: (7,) present joint reference [rad].
            position: (3,) tool centre point to reach, world frame [m].
            yaw: finger-closing direction [rad].
            obstacles: what is in the way.
            dq: (7,) present velocity; the arm is stopped first if it moves [rad/s].
            held: size of an object in the gripper.
            speed: share of the limits to use, in (0, 1].
            may_rise_m: where the pose touches something, poses up to this much higher will do [m].

        Raises:
            UnreachablePose: the arm cannot get there at all.
            NoPath: it could, but everything that was tried touches something.
        """
        start = np.asarray(q, dtype=np.float64)
        x, y, z = (float(v) for v in np.asarray(position))
        name = f"hover pose ({x:.3f}, {y:.3f}, {z:.3f}) m, yaw {yaw:.2f} rad"
        for rise in np.arange(0.0, may_rise_m + 1e-9, _RISE_M):
            try:
                goals = list(self.kinematics.topdown_candidates((x, y, z + rise), yaw, start))
                return self._plan(start, goals, name, obstacles, dq, held, speed)
            except NoPath as error:
                if error.reason != "goal_in_collision":
                    raise
                refusal = error
            except UnreachablePose:
                if rise == 0.0:
                    raise
                break
        raise refusal

    def to_joints(
        self,
        q: ArrayLike,
        goal_q: ArrayLike,
        obstacles: Obstacles,
        *,
        dq: ArrayLike | None = None,
        held: HeldObject | None = None,
        speed: float = 1.0,
    ) -> Transit:
        """Transit to a joint position, such as home; see :meth:`to_hover`.

        Raises:
            NoPath: everything that was tried touches something.
            ValueError: the goal is outside the joint limits.
        """
        goal = np.asarray(goal_q, dtype=np.float64)
        if not self.limits.contain(goal, 1e-6):
            raise ValueError(f"goal joints {goal.round(3)} are outside the limits. Clip them first")
        name = "joint position (" + ", ".join(f"{v:.2f}" for v in goal) + ")"
        return self._plan(np.asarray(q, dtype=np.float64), [self.limits.clip(goal)], name, obstacles, dq, held, speed)

    def rise(self, q: ArrayLike, height_m: float, *, dq: ArrayLike | None = None) -> Trajectory | None:
        """The tool straight up: how a hand leaves what it has just let go of, which stands between the fingers.

        Nothing is checked for collision: the hand came down this way.

        Args:
            q: (7,) present joint reference [rad].
            height_m: how far [m].
            dq: (7,) present velocity; the arm is stopped first if it moves [rad/s].

        Returns:
            None where the arm cannot follow the line.
        """
        start, stop = np.asarray(q, dtype=np.float64), None
        if dq is not None and float(np.abs(np.asarray(dq)).max()) > 1e-3:
            stop = stop_from(start, dq, self.limits)
            start = np.array(stop.q[-1])
        start = self.limits.clip(start)
        pose = self.kinematics.forward(start)
        target = pose.copy()
        target[2, 3] += height_m
        path = _line(self._servo, self.kinematics, start, pose, target)
        if path is None:
            return None
        try:
            motion = time_path(path, self.limits)
        except MotionLimitError:
            return None
        return motion if stop is None else stop.then(motion)

    def _plan(
        self,
        q: Array,
        goals: list[Array],
        name: str,
        obstacles: Obstacles,
        dq: ArrayLike | None,
        held: HeldObject | None,
        speed: float,
    ) -> Transit:
        limits = self.limits.scaled(speed, speed, speed) if speed < 1.0 else self.limits
        stop = None
        if dq is not None and float(np.abs(np.asarray(dq)).max()) > 1e-3:
            stop = stop_from(q, dq, self.limits)
            q = np.array(stop.q[-1])
        q = self.limits.clip(q)
        self._model.set_scene(obstacles)
        self._model.set_held(held)
        failure: NoPath | None = None
        for margin in self.margins_m:
            try:
                query = _Query(self, q, goals, name, limits, margin)
                transit = query.run()
            except NoPath as error:
                failure = error
                continue
            if stop is None:
                return transit
            return Transit(
                stop.then(transit.trajectory),
                transit.goal_q,
                transit.method,
                margin,
                transit.escaped,
                transit.checks,
            )
        assert failure is not None
        raise failure


class _Query:
    """One question at one margin: keeps the count of checks and the retreat that was needed."""

    def __init__(
        self,
        planner: TransitPlanner,
        q: Array,
        goals: list[Array],
        name: str,
        limits: JointLimits,
        margin: float,
    ) -> None:
        self.start = q
        self.goals = goals
        self.name = name
        self.limits = limits
        self.margin = margin
        self.kinematics = planner.kinematics
        self.servo = planner._servo
        self.model = planner._model
        self.model.set_margin(margin)
        self.search_checks = planner.search_checks
        self.seed = planner.seed
        self.checks = 0

    def run(self) -> Transit:
        near = min(self.goals, key=lambda g: float(np.abs(g - self.start).max()))
        if float(np.abs(near - self.start).max()) < 1e-4:
            still = Trajectory(np.zeros(1), self.start[None], np.zeros((1, len(self.start))))
            return Transit(still, self.start, TransitMethod.NOTHING, self.margin, False, 0)
        retreat = self._retreat()
        free_goals = [g for g in self.goals if self._free(g)]
        if not free_goals:
            raise NoPath(self.name, "goal_in_collision", self.model.touched(self.goals[0]))
        base = retreat[-1]
        free_goals.sort(key=lambda g: float(np.linalg.norm(g - base)))
        for method, finder in (
            (TransitMethod.STRAIGHT, self._straight),
            (TransitMethod.OVER, self._over),
            (TransitMethod.SEARCH, self._search),
        ):
            for goal in free_goals:
                for polyline in finder(base, goal):
                    trajectory = self._time(retreat, polyline)
                    if trajectory is not None:
                        escaped = len(retreat) > 1
                        return Transit(trajectory, goal, method, self.margin, escaped, self.checks)
        raise NoPath(self.name, "gave_up", self._blockers(base, free_goals[0]))

    def _free(self, q: Array) -> bool:
        self.checks += 1
        return self.model.free(q)

    def _path_free(self, path: Array, step: float) -> bool:
        return all(self._free(q) for q in densify(path, step))

    def _blockers(self, start: Array, goal: Array) -> tuple[str, ...]:
        names: set[str] = set()
        for q in densify(np.stack([start, goal]), _COARSE_RAD):
            names.update(self.model.touched(q))
        return tuple(sorted(names))

    def _retreat(self) -> Array:
        """Joint path (N, 7) from the start to a free posture: one row if it is free already, else straight up."""
        if self._free(self.start):
            return self.start[None]
        allowed = self.model.depth(self.start) + 0.003
        pose = self.kinematics.forward(self.start)
        for lift in _LIFTS_M:
            target = pose.copy()
            target[2, 3] += lift
            path = _line(self.servo, self.kinematics, self.start, pose, target)
            if path is None:
                break
            self.checks += len(path)
            if self._free(path[-1]) and all(self.model.depth(q) <= allowed for q in path):
                return path
        raise NoPath(self.name, "start_in_collision", self.model.touched(self.start))

    def _straight(self, start: Array, goal: Array) -> Iterator[Array]:
        path = np.stack([start, goal])
        if self._path_free(path, _COARSE_RAD):
            yield path

    def _over(self, start: Array, goal: Array) -> Iterator[Array]:
        """Up to a safe height, over, and down, at the lowest height that is free."""
        here, there = self.kinematics.forward(start), self.kinematics.forward(goal)
        base = max(float(here[2, 3]), float(there[2, 3]))
        for extra in _SAFE_HEIGHTS_M:
            corners = [start]
            try:
                for pose in (here, there):
                    high = topdown_pose([pose[0, 3], pose[1, 3], base + extra], tool_yaw(pose))
                    if pose_error(pose, high)[0] > 0.01:
                        corners.append(self.kinematics.solve(high, corners[-1], restarts=2))
            except UnreachablePose:
                continue
            path = np.stack([*corners, goal])
            if self._path_free(path, _COARSE_RAD):
                yield path

    def _search(self, start: Array, goal: Array) -> Iterator[Array]:
        from hiervla.controllers.search import connect

        budget = self.search_checks
        path = connect(start, goal, self._free, self.limits, budget=budget, seed=self.seed, step_rad=_COARSE_RAD)
        if path is not None:
            yield path

    def _time(self, retreat: Array, polyline: Array) -> Trajectory | None:
        """Give the path its timing; None if even the sharp path touches something on closer inspection."""
        if len(retreat) == 1 and len(polyline) == 2:
            # Ruckig strays a little from the line, so it is the motion itself that is checked.
            motion = state_to_state(polyline[0], polyline[1], self.limits)
            if self._path_free(motion.q, _FINE_RAD):
                return motion
        candidates = [np.concatenate([retreat[:1], polyline]), np.concatenate([retreat, polyline[1:]])]
        for corners in candidates if len(retreat) > 1 else [polyline]:
            for radius in _ROUNDINGS_RAD:
                curve = round_corners(corners, radius)
                if self._acceptable(curve):
                    return time_path(curve, self.limits)
        return None

    def _acceptable(self, curve: Array) -> bool:
        """Free all the way; from a start that is not, never deeper than there, and once free, always free."""
        if self._free(curve[0]):
            return self._path_free(curve[1:], _FINE_RAD)
        allowed = self.model.depth(curve[0]) + 0.003
        escaped = False
        for q in densify(curve, _FINE_RAD):
            free = self._free(q)
            if not free and (escaped or self.model.depth(q) > allowed):
                return False
            escaped = escaped or free
        return escaped


def _line(servo: DifferentialIK, kinematics: Kinematics, q: Array, pose: Array, target: Array) -> Array | None:
    """Joint path along a straight line of the tool, or None where the arm cannot follow."""
    count = max(2, int(np.ceil(np.linalg.norm(target[:3, 3] - pose[:3, 3]) / 0.01)))
    rows = [q]
    for k in range(1, count + 1):
        step = pose.copy()
        step[:3, 3] += (target[:3, 3] - pose[:3, 3]) * (k / count)
        for _ in range(3):
            q = servo.step(q, step)
        rows.append(q)
    if pose_error(kinematics.forward(q), target)[0] > 0.005:
        return None
    return np.array(rows)


def round_corners(polyline: Array, radius: float, spacing: float = 0.02) -> Array:
    """Dense samples (N, J) of a polyline whose corners are rounded with continuous curvature.

    Args:
        polyline: (K, J) corners, the first and last of which are kept [rad].
        radius: how far from a corner the rounding starts, at most [rad].
        spacing: distance between samples [rad].
    """
    lengths = np.linalg.norm(np.diff(polyline, axis=0), axis=1)
    keep = np.concatenate([[True], lengths > 1e-6])
    points = polyline[keep]
    if len(points) < 3:
        return densify(points, spacing)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    pieces = [points[:1]]
    for k in range(1, len(points) - 1):
        reach = min(radius, 0.45 * lengths[k - 1], 0.45 * lengths[k])
        corner = points[k]
        enter = corner + (points[k - 1] - corner) * (reach / lengths[k - 1])
        leave = corner + (points[k + 1] - corner) * (reach / lengths[k])
        # A quintic Bezier curve with these control points meets both lines with no curvature.
        control = np.stack([enter, (enter + corner) / 2, corner, corner, (corner + leave) / 2, leave])
        t = np.linspace(0.0, 1.0, max(8, int(2 * reach / spacing)))[:, None]
        weights = np.hstack([c * t**i * (1 - t) ** (5 - i) for i, c in enumerate((1, 5, 10, 10, 5, 1))])
        pieces += [densify(np.stack([pieces[-1][-1], enter]), spacing)[1:], (weights @ control)[1:]]
    pieces.append(densify(np.stack([pieces[-1][-1], points[-1]]), spacing)[1:])
    return np.concatenate(pieces)
