"""Jerk-limited motion in time: state to state and per tick (ruckig), and along a given path (computed here).

Ruckig's community edition solves problems with intermediate waypoints on a remote server. Nothing in this module
can make it do so: the input type that is used has a closed door where the waypoints would go in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ruckig
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.ndimage import uniform_filter1d

from hiervla.controllers.errors import MotionLimitError, WaypointsRefused
from hiervla.controllers.limits import Array, JointLimits, readonly
from hiervla.representations.actions import JointCommand

TICK_S = 0.02
"""Length of one control tick [s]."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Joint motion sampled at the control rate.

    Attributes:
        times: (N,) time since the start, first 0 [s].
        q: (N, J) joint positions [rad]; row 0 is where the motion starts.
        dq: (N, J) joint velocities [rad/s].
    """

    times: Array
    q: Array
    dq: Array

    def __post_init__(self) -> None:
        for name in ("times", "q", "dq"):
            object.__setattr__(self, name, readonly(getattr(self, name)))
        if self.q.ndim != 2 or self.q.shape != self.dq.shape or len(self.times) != len(self.q):
            raise ValueError(
                f"trajectory shapes disagree: times {self.times.shape}, q {self.q.shape}, dq {self.dq.shape}"
            )

    @property
    def duration_s(self) -> float:
        """Time from first to last sample [s]."""
        return float(self.times[-1])

    @property
    def ticks(self) -> int:
        """Number of control ticks that the motion takes."""
        return len(self.times) - 1

    def commands(self, gripper_width_m: float, start_s: float) -> Iterator[JointCommand]:
        """One command a tick; the first starts at `start_s` and ends at row 1."""
        for k in range(1, len(self.times)):
            yield JointCommand(
                q=self.q[k],
                dq=self.dq[k],
                gripper_width_m=gripper_width_m,
                time_s=start_s + float(self.times[k - 1]),
            )

    def then(self, other: Trajectory) -> Trajectory:
        """This motion followed by `other`, which starts where this one ends."""
        return Trajectory(
            times=np.concatenate([self.times, self.times[-1] + other.times[1:]]),
            q=np.concatenate([self.q, other.q[1:]]),
            dq=np.concatenate([self.dq, other.dq[1:]]),
        )


class _LocalInput(ruckig.InputParameter):  # type: ignore[misc]  # ruckig ships no types
    """Ruckig's input with the door to the remote waypoint solver bricked up."""

    @property
    def intermediate_positions(self) -> list[Any]:
        return []

    @intermediate_positions.setter
    def intermediate_positions(self, value: Any) -> None:
        if len(value):
            raise WaypointsRefused(len(value))


def _input(limits: JointLimits) -> _LocalInput:
    problem = _LocalInput(limits.dofs)
    problem.max_velocity = limits.velocity
    problem.max_acceleration = limits.acceleration
    problem.max_jerk = limits.jerk
    return problem


def _state(name: str, values: ArrayLike | None, dofs: int) -> Array:
    array = np.zeros(dofs) if values is None else np.asarray(values, dtype=np.float64)
    if array.ndim == 2:
        raise WaypointsRefused(len(array))
    if array.shape != (dofs,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be {dofs} finite numbers, got {array!r}")
    return array


def state_to_state(
    q: ArrayLike,
    goal_q: ArrayLike,
    limits: JointLimits,
    *,
    dq: ArrayLike | None = None,
    goal_dq: ArrayLike | None = None,
    ddq: ArrayLike | None = None,
    tick_s: float = TICK_S,
) -> Trajectory:
    """Time-optimal jerk-limited motion between two joint states, synchronised over the joints.

    From rest to rest the joints move nearly in proportion. Ruckig leaves the straight line (by tens of milliradians)
    where another joint's limit would cost time, so who needs the line exactly takes :func:`time_path`.

    Args:
        q: (J,) start position [rad].
        goal_q: (J,) goal position [rad].
        limits: what the joints may do.
        dq: (J,) start velocity [rad/s]; None is rest.
        goal_dq: (J,) goal velocity [rad/s]; None is rest.
        ddq: (J,) start acceleration [rad/s^2].
        tick_s: sampling period [s].

    Raises:
        WaypointsRefused: `q` or `goal_q` is a list of waypoints.
        MotionLimitError: the goal is outside the position limits, or a goal velocity is too high.
        ValueError: a wrong shape, a NaN or an infinity.
    """
    problem = _input(limits)
    goal = _state("goal_q", goal_q, limits.dofs)
    speed = _state("goal_dq", goal_dq, limits.dofs)
    _check_goal(goal, speed, limits)
    problem.current_position = _state("q", q, limits.dofs)
    problem.current_velocity = _state("dq", dq, limits.dofs)
    problem.current_acceleration = _state("ddq", ddq, limits.dofs)
    problem.target_position = goal
    problem.target_velocity = speed
    problem.synchronization = ruckig.Synchronization.Phase
    return _solve(problem, tick_s)


def stop_from(
    q: ArrayLike,
    dq: ArrayLike,
    limits: JointLimits,
    *,
    ddq: ArrayLike | None = None,
    tick_s: float = TICK_S,
) -> Trajectory:
    """The quickest jerk-limited stop from a moving state; every joint brakes for itself.

    Raises:
        ValueError: a wrong shape, a NaN or an infinity.
    """
    problem = _input(limits)
    problem.control_interface = ruckig.ControlInterface.Velocity
    problem.synchronization = ruckig.Synchronization.No
    problem.current_position = _state("q", q, limits.dofs)
    problem.current_velocity = _state("dq", dq, limits.dofs)
    problem.current_acceleration = _state("ddq", ddq, limits.dofs)
    problem.target_velocity = np.zeros(limits.dofs)
    return _solve(problem, tick_s)


def _check_goal(goal: Array, speed: Array, limits: JointLimits) -> None:
    for joint in range(limits.dofs):
        if not limits.lower[joint] - 1e-9 <= goal[joint] <= limits.upper[joint] + 1e-9:
            bound = limits.lower[joint] if goal[joint] < limits.lower[joint] else limits.upper[joint]
            raise MotionLimitError(
                f"goal position of joint {joint + 1}", float(goal[joint]), float(bound), "Move the goal inside"
            )
        if abs(speed[joint]) > limits.velocity[joint]:
            raise MotionLimitError(
                f"goal velocity of joint {joint + 1}",
                float(speed[joint]),
                float(limits.velocity[joint]),
                "Arrive more slowly",
            )


def _solve(problem: _LocalInput, tick_s: float) -> Trajectory:
    solver = ruckig.Ruckig(problem.degrees_of_freedom)
    solution = ruckig.Trajectory(problem.degrees_of_freedom)
    result = solver.calculate(problem, solution)
    if result not in (ruckig.Result.Working, ruckig.Result.Finished):
        raise ValueError(f"ruckig found no trajectory: {result}")
    count = int(np.ceil(solution.duration / tick_s - 1e-9))
    times = np.arange(count + 1) * tick_s
    states = [solution.at_time(float(t)) for t in times]
    return Trajectory(times, np.array([s[0] for s in states]), np.array([s[1] for s in states]))


class OnlineTracker:
    """Follows a moving joint target, one tick at a time, inside velocity, acceleration and jerk limits.

    Attributes:
        q: (J,) reference position after the last tick [rad].
        dq: (J,) reference velocity [rad/s].
        ddq: (J,) reference acceleration [rad/s^2].
    """

    def __init__(self, limits: JointLimits, tick_s: float = TICK_S, gain: float = 12.0) -> None:
        """Set up at rest at the origin of joint space; call :meth:`reset` before use.

        Args:
            limits: what the joints may do.
            tick_s: length of a tick [s].
            gain: how fast a gap to the target is closed [1/s].
        """
        self.limits = limits
        self.gain = gain
        self._otg = ruckig.Ruckig(limits.dofs, tick_s)
        self._input = _input(limits)
        self._output = ruckig.OutputParameter(limits.dofs)
        self._input.control_interface = ruckig.ControlInterface.Velocity
        # Every joint for itself: a far joint must not slow down the ones that are nearly there.
        self._input.synchronization = ruckig.Synchronization.No
        self.reset(np.zeros(limits.dofs))

    def reset(self, q: ArrayLike, dq: ArrayLike | None = None, ddq: ArrayLike | None = None) -> None:
        """Start anew from a state; velocity and acceleration are 0 unless given."""
        dofs = self.limits.dofs
        self.q = _state("q", q, dofs)
        self.dq = np.clip(_state("dq", dq, dofs), -self.limits.velocity, self.limits.velocity)
        self.ddq = np.clip(_state("ddq", ddq, dofs), -self.limits.acceleration, self.limits.acceleration)

    def step(
        self, target_q: ArrayLike, target_dq: ArrayLike | None = None, ahead: tuple[Array, Array] | None = None
    ) -> Array:
        """Advance one tick towards a target and return the new reference position, (J,) [rad].

        Targets outside the limits are approached as far as the limits allow.

        Args:
            target_q: (J,) where to be [rad].
            target_dq: (J,) how fast the target moves [rad/s]; None is at rest.
            ahead: lowest and highest position, (J,) each, that the target is known to take in the near future; the
                reference then never moves so fast that it could not stop there.

        Raises:
            WaypointsRefused: several targets were given at once.
            ValueError: a wrong shape, a NaN or an infinity; the state is then unchanged.
        """
        limits = self.limits
        goal = limits.clip(_state("target_q", target_q, limits.dofs))
        feed = _state("target_dq", target_dq, limits.dofs)
        # Aiming for position *and* velocity of a jittery target makes a time-optimal law wander off for seconds;
        # aiming for the velocity that closes the gap is stable. The root lets it brake in time for large gaps.
        gap = goal - self.q
        closing = np.sign(gap) * np.minimum(self.gain * np.abs(gap), np.sqrt(limits.acceleration * np.abs(gap)))
        soon = self.q + self.dq * (1.5 / self.gain)
        up = np.sqrt(limits.acceleration * np.maximum(limits.upper - soon, 0.0))
        down = np.sqrt(limits.acceleration * np.maximum(soon - limits.lower, 0.0))
        if ahead is not None:
            up = np.minimum(up, np.sqrt(2.0 * limits.acceleration * np.maximum(ahead[1] - self.q, 0.0)))
            down = np.minimum(down, np.sqrt(2.0 * limits.acceleration * np.maximum(self.q - ahead[0], 0.0)))
        speed = np.clip(feed + closing, -np.minimum(down, limits.velocity), np.minimum(up, limits.velocity))
        return self._update(speed)

    def brake(self) -> Array:
        """Advance one tick of the quickest stop and return the new reference position, (J,) [rad]."""
        return self._update(np.zeros(self.limits.dofs))

    def _update(self, speed: Array) -> Array:
        problem = self._input
        problem.current_position = self.q
        problem.current_velocity = self.dq
        problem.current_acceleration = self.ddq
        problem.target_velocity = speed
        result = self._otg.update(problem, self._output)
        if result not in (ruckig.Result.Working, ruckig.Result.Finished):
            raise ValueError(f"ruckig found no motion: {result}")
        self.q = np.array(self._output.new_position)
        self.dq = np.array(self._output.new_velocity)
        self.ddq = np.array(self._output.new_acceleration)
        return self.q


def time_path(path: ArrayLike, limits: JointLimits, *, smoothing_s: float = 0.06, tick_s: float = TICK_S) -> Trajectory:
    """Run along a smooth path from rest to rest, as fast as the limits allow, without leaving it.

    The speed profile comes from a forward and a backward pass over the path (velocity and acceleration limits of
    every joint); averaging it twice over `smoothing_s` bounds the jerk, and whatever limit that broke is repaired
    by slowing the whole motion down. The geometry never changes, so what was checked for collision stays checked.

    Args:
        path: (N, J) dense samples of a smooth path, N >= 2 [rad].
        limits: what the joints may do.
        smoothing_s: width of each averaging window [s].
        tick_s: sampling period of the result [s].

    Raises:
        MotionLimitError: the path leaves the position limits.
        ValueError: fewer than two samples, a NaN or an infinity.
    """
    points = np.asarray(path, dtype=np.float64)
    if points.ndim != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise ValueError(f"a path needs at least two rows of finite numbers, got shape {points.shape}")
    for row in (points.min(axis=0), points.max(axis=0)):
        _check_goal(row, np.zeros(limits.dofs), limits)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    points = points[np.concatenate([[True], steps > 1e-9])]
    if len(points) < 2:
        return Trajectory(np.zeros(1), points[:1], np.zeros_like(points[:1]))
    knots = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    curve = CubicSpline(knots, points)
    progress = _progress(curve, float(knots[-1]), limits, smoothing_s, tick_s / 4)
    # Slow down until every joint keeps every limit; the scaling is exact but for where the samples fall.
    stretch = 1.0
    while True:
        trajectory = _sample(curve, progress, tick_s / 4, stretch, tick_s)
        excess = _worst_ratio(trajectory, limits, tick_s)
        if excess <= 1.0:
            return trajectory
        stretch *= max(excess, 1.01)


def _progress(curve: CubicSpline, length: float, limits: JointLimits, smoothing_s: float, step_s: float) -> Array:
    """Arc length along the path at every `step_s`, starting and ending at rest."""
    count = int(np.clip(length / 0.01, 60, 400))
    s = np.linspace(0.0, length, count + 1)
    ds = length / count
    first = np.abs(curve(s, 1)) + 1e-9
    second = np.abs(curve(s, 2)) + 1e-9
    # Half of the acceleration may go into following the curve, the rest is left for changing speed.
    cap = np.minimum((limits.velocity / first).min(axis=1), np.sqrt(0.5 * limits.acceleration / second).min(axis=1))
    squares: Array = cap**2
    squares[0] = squares[-1] = 0.0
    # Acceleration that is surely available at every sample: what following the curve at full speed leaves.
    spare = ((limits.acceleration - second * squares[:, None]) / first).min(axis=1)
    for k in range(count):
        squares[k + 1] = min(squares[k + 1], squares[k] + 2.0 * spare[k] * ds)
    for k in range(count, 0, -1):
        squares[k - 1] = min(squares[k - 1], squares[k] + 2.0 * spare[k] * ds)
    speed = np.sqrt(squares)
    times = np.concatenate([[0.0], np.cumsum(2.0 * ds / (speed[1:] + speed[:-1]))])
    window = max(1, round(smoothing_s / step_s)) | 1
    pad = 2 * (window // 2)
    samples = np.arange(int(np.ceil(times[-1] / step_s)) + 1) * step_s
    values = np.interp(samples, times, s)
    # Between samples of constant acceleration the arc length is a parabola, which the averaging rounds off.
    values = np.concatenate([np.zeros(pad), values, np.full(pad, length)])
    for _ in range(2):
        values = uniform_filter1d(values, window, mode="nearest")
    return np.asarray(values)


def _sample(curve: CubicSpline, progress: Array, step_s: float, stretch: float, tick_s: float) -> Trajectory:
    duration = (len(progress) - 1) * step_s * stretch
    times = np.arange(int(np.ceil(duration / tick_s - 1e-9)) + 1) * tick_s
    clock = np.arange(len(progress)) * step_s * stretch
    spline = CubicSpline(clock, progress, bc_type="clamped")
    at = np.minimum(times, duration)
    s = np.clip(spline(at), 0.0, progress[-1])
    rate = np.where(times < duration, spline(at, 1), 0.0)
    return Trajectory(times, curve(s), curve(s, 1) * rate[:, None])


def _worst_ratio(trajectory: Trajectory, limits: JointLimits, tick_s: float) -> float:
    """How much slower the motion must become to keep all limits; at most 1 if it does already."""
    # The envelope sees differences of positions from tick to tick, so these are what must keep the limits.
    velocity = np.diff(trajectory.q, axis=0) / tick_s
    rest = np.zeros((1, velocity.shape[1]))
    acceleration = np.diff(np.concatenate([rest, velocity, rest]), axis=0) / tick_s
    jerk = np.diff(np.concatenate([rest, acceleration, rest]), axis=0) / tick_s
    speed = max(np.abs(velocity / limits.velocity).max(), np.abs(trajectory.dq / limits.velocity).max())
    return float(
        max(
            speed,
            np.sqrt(np.abs(acceleration / limits.acceleration).max()),
            np.cbrt(np.abs(jerk / limits.jerk).max()),
        )
    )
