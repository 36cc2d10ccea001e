from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ruckig

from hiervla.controllers import panda
from hiervla.controllers.collision import densify
from hiervla.controllers.errors import MotionLimitError, WaypointsRefused
from hiervla.controllers.kinematics import motion_limits, panda_limits
from hiervla.controllers.limits import JointLimits
from hiervla.controllers.timing import TICK_S, OnlineTracker, Trajectory, state_to_state, stop_from, time_path
from hiervla.controllers.transit import round_corners

HOME = np.array(panda.HOME_Q)


def _postures(rng: np.random.Generator, count: int, limits: JointLimits) -> Any:
    return rng.uniform(limits.lower, limits.upper, (count, limits.dofs))


def _assert_within(q: Any, limits: JointLimits, *, from_rest: bool = True) -> None:
    velocity = np.diff(q, axis=0) / TICK_S
    rest = np.zeros((1, limits.dofs))
    padded = np.concatenate([rest, velocity, rest]) if from_rest else velocity
    acceleration = np.diff(padded, axis=0) / TICK_S
    jerk = np.diff(acceleration, axis=0) / TICK_S
    assert (np.abs(velocity) <= limits.velocity * 1.000001).all()
    assert (np.abs(acceleration) <= limits.acceleration * 1.000001).all()
    assert (np.abs(jerk) <= limits.jerk * 1.000001).all()


def test_state_to_state_keeps_limits_and_arrives() -> None:
    rng, limits = np.random.default_rng(0), motion_limits()
    for start, goal in zip(_postures(rng, 20, limits), _postures(rng, 20, limits), strict=True):
        motion = state_to_state(start, goal, limits)
        np.testing.assert_allclose(motion.q[0], start)
        np.testing.assert_allclose(motion.q[-1], goal, atol=1e-9)
        np.testing.assert_allclose(motion.dq[-1], 0.0, atol=1e-9)
        velocity = np.diff(motion.q, axis=0) / TICK_S
        assert (np.abs(velocity) <= limits.velocity * 1.000001).all()
        assert (np.abs(np.diff(velocity, axis=0)) / TICK_S <= limits.acceleration * 1.000001).all()
        along = (motion.q - start) @ (goal - start) / np.dot(goal - start, goal - start)
        np.testing.assert_allclose(motion.q, start + along[:, None] * (goal - start), atol=0.08)


def test_half_a_metre_takes_about_a_second_and_a_half() -> None:
    motion = state_to_state(HOME, HOME + [1.0, 0.3, 0.0, 0.2, 0.0, 0.1, 0.3], motion_limits())
    assert 0.6 < motion.duration_s < 2.0


def test_commands_cover_the_motion_tick_by_tick() -> None:
    motion = state_to_state(HOME, HOME + 0.2, motion_limits())
    commands = list(motion.commands(0.05, start_s=3.0))
    assert len(commands) == motion.ticks
    assert commands[0].time_s == 3.0 and commands[1].time_s == pytest.approx(3.02)
    np.testing.assert_allclose(commands[-1].q, motion.q[-1])


def test_intermediate_waypoints_cannot_reach_the_remote_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    waypoints = [HOME, HOME + 0.1, HOME + 0.2]
    with pytest.raises(WaypointsRefused, match="3 intermediate waypoints.*remote server"):
        state_to_state(HOME, waypoints, motion_limits())
    tracker = OnlineTracker(motion_limits())
    with pytest.raises(WaypointsRefused):
        tracker.step(waypoints)
    # Even who reaches behind the curtain finds the door closed.
    with pytest.raises(WaypointsRefused):
        tracker._input.intermediate_positions = waypoints
    calls: list[Any] = []

    class Spy(ruckig.Ruckig):  # type: ignore[misc]
        def calculate(self, problem: Any, *rest: Any) -> Any:
            calls.append(list(ruckig.InputParameter.intermediate_positions.__get__(problem)))
            return super().calculate(problem, *rest)

    monkeypatch.setattr("hiervla.controllers.timing.ruckig.Ruckig", Spy)
    state_to_state(HOME, HOME + 0.1, motion_limits())
    assert calls == [[]]


def test_goal_outside_the_limits_is_named() -> None:
    goal = HOME.copy()
    goal[3] = 0.5
    with pytest.raises(MotionLimitError, match="goal position of joint 4 is 0.5, but the limit is -0.0"):
        state_to_state(HOME, goal, motion_limits())
    with pytest.raises(MotionLimitError, match="goal velocity of joint 1"):
        state_to_state(HOME, HOME, motion_limits(), goal_dq=[9, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="7 finite numbers"):
        state_to_state(HOME, HOME * np.nan, motion_limits())


def test_stop_is_quick_and_within_limits() -> None:
    limits = panda_limits()
    speed = np.array([1.0, -1.5, 0.5, 1.0, -2.0, 2.0, 0.0])
    motion = stop_from(HOME, speed, limits)
    np.testing.assert_allclose(motion.dq[-1], 0.0, atol=1e-9)
    assert motion.duration_s < 0.3
    assert (np.abs(np.diff(motion.dq, axis=0)) / TICK_S <= limits.acceleration * 1.000001).all()


def test_online_tracking_never_breaks_a_limit() -> None:
    rng, limits = np.random.default_rng(1), motion_limits()
    tracker = OnlineTracker(limits)
    tracker.reset(HOME)
    history = [HOME]
    for k in range(1500):
        if k % int(rng.integers(1, 30)) == 0:
            target, speed = _postures(rng, 1, panda_limits())[0], rng.normal(0, 3, 7)
        history.append(tracker.step(target, speed).copy() if k % 97 else tracker.brake().copy())
    _assert_within(np.array(history), limits, from_rest=False)
    assert all(panda_limits().contain(q) for q in history)


def test_online_tracking_arrives_without_overshoot() -> None:
    tracker = OnlineTracker(motion_limits())
    tracker.reset(HOME)
    goal = HOME + 0.5
    path = np.array([tracker.step(goal).copy() for _ in range(150)])
    np.testing.assert_allclose(path[-1], goal, atol=1e-3)
    assert (path <= goal + 0.01).all()


def test_online_tracking_survives_jitter() -> None:
    # A time-optimal law on noisy position and velocity targets wandered off by radians.
    rng, tracker = np.random.default_rng(2), OnlineTracker(motion_limits())
    tracker.reset(HOME)
    for _ in range(300):
        tracker.step(HOME + rng.normal(0, 0.01, 7), rng.normal(0, 0.3, 7))
        assert np.abs(tracker.q - HOME).max() < 0.1


def test_online_tracking_refuses_nan_and_stays() -> None:
    tracker = OnlineTracker(motion_limits())
    tracker.reset(HOME)
    with pytest.raises(ValueError, match="finite"):
        tracker.step(HOME * np.nan)
    assert np.array_equal(tracker.q, HOME)


def test_timed_paths_keep_limits_and_geometry() -> None:
    rng, limits = np.random.default_rng(4), motion_limits()
    for _ in range(15):
        corners = np.concatenate([HOME[None], np.clip(HOME + rng.normal(0, 0.4, (3, 7)), limits.lower, limits.upper)])
        path = round_corners(corners, 0.2)
        motion = time_path(path, limits)
        _assert_within(motion.q, limits)
        np.testing.assert_allclose(motion.q[0], corners[0], atol=1e-9)
        np.testing.assert_allclose(motion.q[-1], corners[-1], atol=1e-6)
        dense = densify(path, 0.002)
        assert max(np.linalg.norm(dense - q, axis=1).min() for q in motion.q) < 0.005


def test_timed_path_refuses_what_it_cannot_do() -> None:
    with pytest.raises(MotionLimitError, match="joint 1"):
        time_path(np.stack([HOME, HOME + [5.0, 0, 0, 0, 0, 0, 0]]), motion_limits())
    with pytest.raises(ValueError, match="two rows"):
        time_path(HOME[None], motion_limits())
    still = time_path(np.stack([HOME, HOME]), motion_limits())
    assert still.ticks == 0


def test_trajectories_join_and_check_their_shapes() -> None:
    there = state_to_state(HOME, HOME + 0.1, motion_limits())
    back = state_to_state(HOME + 0.1, HOME, motion_limits())
    both = there.then(back)
    assert both.ticks == there.ticks + back.ticks
    assert both.duration_s == pytest.approx(there.duration_s + back.duration_s)
    with pytest.raises(ValueError, match="disagree"):
        Trajectory(np.zeros(3), np.zeros((2, 7)), np.zeros((2, 7)))
