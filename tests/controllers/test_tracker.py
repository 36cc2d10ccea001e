from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics, motion_limits, tool_yaw
from hiervla.controllers.limits import TABLETOP_WORKSPACE
from hiervla.controllers.timing import TICK_S
from hiervla.controllers.tracker import ChunkTracker, TrackPhase
from hiervla.representations.actions import ActionChunk

HERE = np.array([0.35, 0.0, 0.42])


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics()


@pytest.fixture
def tracker() -> ChunkTracker:
    made = ChunkTracker()
    made.reset(panda.HOME_Q)
    return made


def _chunk(positions: Any, yaw: Any = 0.0, grip: Any = 1.0, at: float = 0.0, rate: float = 10.0) -> ActionChunk:
    positions = np.atleast_2d(np.asarray(positions, dtype=np.float64))
    count = len(positions)
    return ActionChunk(
        positions=positions,
        yaws=np.broadcast_to(np.asarray(yaw, dtype=np.float64), count).copy(),
        gripper=np.broadcast_to(np.asarray(grip, dtype=np.float64), count).copy(),
        rate_hz=rate,
        observed_at_s=at,
    )


def _line(goal: Any, count: int = 16, start: Any = HERE) -> Any:
    return np.asarray(start) + np.linspace(1 / count, 1.0, count)[:, None] * (np.asarray(goal) - start)


def _run(tracker: ChunkTracker, ticks: int, start: int = 0) -> Any:
    return np.array([tracker.step((start + k) * TICK_S).q for k in range(ticks)])


def _assert_smooth(q: Any) -> None:
    limits = motion_limits()
    velocity = np.diff(np.vstack([q]), axis=0) / TICK_S
    assert (np.abs(velocity) <= limits.velocity * 1.000001).all()
    assert (np.abs(np.diff(velocity, axis=0)) / TICK_S <= limits.acceleration * 1.000001).all()


def test_without_a_chunk_the_arm_holds(tracker: ChunkTracker) -> None:
    q = _run(tracker, 30)
    np.testing.assert_allclose(q, np.tile(panda.HOME_Q, (30, 1)), atol=1e-4)
    assert tracker.status.phase is TrackPhase.HOLDING


def test_a_chunk_is_followed_and_its_end_is_held(tracker: ChunkTracker, kinematics: Kinematics) -> None:
    goal = [0.45, 0.15, 0.25]
    assert tracker.accept(_chunk(_line(goal), yaw=np.linspace(0, 0.5, 16)), 0.0).usable
    q = _run(tracker, 40)
    assert tracker.status.phase == "tracking"
    q = np.vstack([q, _run(tracker, 80, start=40)])
    assert tracker.status.phase == "holding"
    pose = kinematics.forward(q[-1])
    np.testing.assert_allclose(pose[:3, 3], goal, atol=2e-3)
    assert tool_yaw(pose) == pytest.approx(0.5, abs=0.01)
    _assert_smooth(q)


def test_rows_are_due_one_period_after_the_observation(tracker: ChunkTracker, kinematics: Kinematics) -> None:
    goal = [0.45, 0.1, 0.35]
    tracker.accept(_chunk(_line(goal, 30), rate=10.0), 0.0)
    q = _run(tracker, 100)
    # After 2 s row 19 is due: two thirds of the way. The tracker is allowed a centimetre of lag.
    np.testing.assert_allclose(kinematics.forward(q[99])[:3, 3], _line(goal, 30)[19], atol=0.01)


def test_contradicting_chunks_never_make_the_arm_jump(tracker: ChunkTracker) -> None:
    rng = np.random.default_rng(0)
    q = [np.array(panda.HOME_Q)]
    for k in range(300):
        now = k * TICK_S
        if k % 9 == 0:
            goal = rng.uniform([0.3, -0.3, 0.05], [0.6, 0.3, 0.5])
            noise = rng.normal(0, 0.02, (16, 3))
            yaw = rng.uniform(-3, 3, 16)
            tracker.accept(_chunk(_line(goal) + noise, yaw, rng.uniform(0, 1, 16), at=now - 0.05), now)
        q.append(tracker.step(now).q)
    _assert_smooth(np.array(q))


def test_yaw_is_taken_modulo_pi(tracker: ChunkTracker, kinematics: Kinematics) -> None:
    yaws = 0.2 + np.pi * np.array([1, 1, -1, 2, 0, 3, 1, 0] * 2)
    tracker.accept(_chunk(np.tile(HERE, (16, 1)), yaws), 0.0)
    q = _run(tracker, 120)
    turned = [tool_yaw(kinematics.forward(row)) for row in q]
    assert max(turned) < 0.25
    assert turned[-1] == pytest.approx(0.2, abs=0.01)


def test_positions_outside_the_workspace_are_clamped_and_reported(
    tracker: ChunkTracker, kinematics: Kinematics
) -> None:
    accepted = tracker.accept(_chunk(_line([0.45, 0.0, -0.3], 20)), 0.0)
    assert accepted.clamped_rows > 0
    q = _run(tracker, 160)
    # The chunk dives at 0.36 m/s and is cut off at the table: a dead stop from speed, bar a centimetre.
    assert min(kinematics.forward(row)[2, 3] for row in q) > TABLETOP_WORKSPACE.low[2] - 0.01
    assert kinematics.forward(q[-1])[2, 3] == pytest.approx(TABLETOP_WORKSPACE.low[2], abs=2e-3)


def test_a_chunk_from_the_past_is_dropped(tracker: ChunkTracker) -> None:
    result = tracker.accept(_chunk(_line([0.5, 0.2, 0.2]), at=-5.0), 0.0)
    assert not result.usable and result.skipped_rows == 16 and result.staleness_s == 5.0
    np.testing.assert_allclose(_run(tracker, 20)[-1], panda.HOME_Q, atol=1e-4)


def test_late_chunks_skip_the_rows_that_are_due(tracker: ChunkTracker, kinematics: Kinematics) -> None:
    result = tracker.accept(_chunk(_line([0.45, 0.15, 0.25]), at=-0.45), 0.0)
    assert result.usable and result.skipped_rows == 4 and result.staleness_s == pytest.approx(0.45)
    q = _run(tracker, 110)
    np.testing.assert_allclose(kinematics.forward(q[-1])[:3, 3], [0.45, 0.15, 0.25], atol=2e-3)
    _assert_smooth(np.vstack([panda.HOME_Q, q]))


def test_an_unreachable_target_is_reported_and_left_again(tracker: ChunkTracker, kinematics: Kinematics) -> None:
    tracker.accept(_chunk(_line([0.8, 0.6, 0.5], 20)), 0.0)
    q = _run(tracker, 250)
    assert tracker.status.unreachable and tracker.status.lag_m > 0.02
    assert motion_limits().contain(q[-1], 1e-6)
    away = kinematics.forward(q[-1])[:3, 3]
    tracker.accept(_chunk(_line([0.45, 0.1, 0.3], 25, start=away), at=5.0), 5.0)
    q = _run(tracker, 200, start=250)
    assert not tracker.status.unreachable
    np.testing.assert_allclose(kinematics.forward(q[-1])[:3, 3], [0.45, 0.1, 0.3], atol=3e-3)


def test_brake_stops_and_forgets_the_chunk(tracker: ChunkTracker) -> None:
    tracker.accept(_chunk(_line([0.5, 0.3, 0.2], 10)), 0.0)
    q = _run(tracker, 20)
    assert np.abs(tracker.dq).max() > 0.1
    stop = np.array([tracker.brake((20 + k) * TICK_S).q for k in range(40)])
    assert np.abs(tracker.dq).max() == pytest.approx(0.0, abs=1e-9)
    _assert_smooth(np.vstack([q, stop]))
    hold = _run(tracker, 20, start=60)
    np.testing.assert_allclose(hold[-1], stop[-1], atol=2e-3)


def test_gripper_column_opens_and_closes_at_the_rated_speed(tracker: ChunkTracker) -> None:
    grip = np.array([1.0] * 4 + [0.0] * 12)
    tracker.accept(_chunk(np.tile(HERE, (16, 1)), 0.0, grip), 0.0)
    widths = np.array([tracker.step(k * TICK_S).gripper_width_m for k in range(100)])
    assert widths[10] == pytest.approx(0.08) and widths[-1] == pytest.approx(0.0)
    assert np.abs(np.diff(widths)).max() <= panda.GRIPPER_MAX_SPEED_M_S * TICK_S + 1e-12
