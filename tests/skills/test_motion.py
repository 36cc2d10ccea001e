"""Scripted motions in time, and what a recovery asks for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hiervla.representations import ConventionError, Observation, Step, Waypoint3D
from hiervla.skills import MotionPolicy, Recovery, Waypoint
from hiervla.skills.motion import RATE_HZ, Path
from hiervla.skills.samples import observation

START = (0.4, 0.0, 0.2)
STEP = Step(id="s1", skill="trace")


def seen(time_s: float = 0.0, **changes: Any) -> Observation:
    return observation(**{"tool_w": START, "time_s": time_s, **changes})


def samples(path: Path, dt: float = 0.02) -> np.ndarray[Any, Any]:
    return np.array([path.at(t)[0] for t in np.arange(0.0, path.duration_s + 0.2, dt)])


def test_it_reaches_every_waypoint_at_rest_and_keeps_to_its_speed() -> None:
    goals = [(0.5, 0.1, 0.2), (0.5, 0.1, 0.05)]
    path = Path(seen(), [Waypoint(goals[0], speed_m_s=0.3), Waypoint(goals[1], speed_m_s=0.1)])
    rows = samples(path)
    speed = np.linalg.norm(np.diff(rows, axis=0), axis=1) / 0.02
    np.testing.assert_allclose(rows[0], START)
    np.testing.assert_allclose(rows[-1], goals[1])
    assert min(np.linalg.norm(rows - goals[0], axis=1)) < 1e-3
    corner = 1.875 * math.hypot(0.1, 0.1) / 0.3
    first = np.arange(len(speed)) * 0.02 < corner - 0.02
    assert 0.25 < speed[first].max() <= 0.301
    assert 0.08 < speed[~first].max() <= 0.101
    assert speed[[0, -1]].max() < 0.01
    assert np.abs(np.diff(speed)).max() / 0.02 < 1.5, "no jump in speed anywhere"


def test_yaw_turns_the_shorter_way_and_the_grip_is_kept_unless_told() -> None:
    path = Path(seen(width_m=0.04), [Waypoint(START, yaw=math.radians(100)), Waypoint(START, opening=1.0, dwell_s=0.5)])
    assert path.at(path.duration_s)[1] == pytest.approx(math.radians(-80))
    assert path.at(0.0)[2] == pytest.approx(0.5), "half open, and nothing is held"
    assert path.at(path.duration_s)[2] == 1.0
    holding = Path(seen(width_m=0.04, effort_n=20.0), [Waypoint((0.5, 0.0, 0.2))])
    assert holding.at(0.3)[2] == 0.0, "what is held stays squeezed"


def test_a_planner_waypoint_gives_yaw_and_grip() -> None:
    turn = math.radians(30)
    # Tool z down and turned about world z: Rz(30 degrees) @ Rx(180 degrees).
    quaternion = (0.0, math.cos(turn / 2), math.sin(turn / 2), 0.0)
    made = Waypoint.of(Waypoint3D(position_w=(0.5, 0.0, 0.1), quaternion_wxyz=quaternion, gripper="close"))
    assert made.yaw == pytest.approx(turn)
    assert (made.opening, made.dwell_s > 0.0) == (0.0, True)
    assert Waypoint.of(Waypoint3D(position_w=(0.5, 0.0, 0.1))) == Waypoint((0.5, 0.0, 0.1))


def test_chunks_overlap_without_a_seam_and_the_end_is_told() -> None:
    policy = MotionPolicy("trace", lambda observation, step: [Waypoint((0.5, 0.1, 0.1))])
    policy.reset(STEP, 0)
    early, late = policy.act(seen(10.0), STEP), policy.act(seen(10.3), STEP)
    np.testing.assert_allclose(early.positions[3:], late.positions[:-3])
    assert (early.done_prob, early.policy, early.rate_hz) == (0.0, "trace", RATE_HZ)
    assert 0.0 < float(late.progress or 0.0) < 1.0
    end = policy.act(seen(20.0), STEP)
    assert (end.done_prob, end.progress) == (1.0, 1.0)
    np.testing.assert_allclose(end.positions, np.tile((0.5, 0.1, 0.1), (16, 1)))


def test_waypoints_are_chosen_anew_in_each_attempt() -> None:
    policy = MotionPolicy("trace", lambda observation, step: [Waypoint(tuple(observation.proprio.ee_position + 0.1))])
    goals = []
    for tool in (START, (0.5, 0.1, 0.1)):
        policy.reset(STEP, 0)
        policy.act(seen(0.0, tool_w=tool), STEP)
        goals.append(policy.act(seen(9.0, tool_w=(0.9, 0.9, 0.9)), STEP).positions[-1])
    np.testing.assert_allclose(goals, [np.add(START, 0.1), np.add((0.5, 0.1, 0.1), 0.1)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_w": (0.5, 0.0, math.nan)}, "Waypoint.position_w: .* are not three finite numbers"),
        ({"position_w": (0.5, 0.0)}, "Waypoint.position_w"),
        ({"yaw": math.inf}, "Waypoint.yaw: inf is not finite"),
        ({"opening": 1.2}, "Waypoint.opening: 1.2 is not in 0 to 1"),
        ({"speed_m_s": 0.0}, "Waypoint.speed_m_s"),
        ({"speed_m_s": 3.0}, "Waypoint.speed_m_s: 3.0 is not in"),
        ({"dwell_s": -1.0}, "Waypoint.dwell_s"),
    ],
)
def test_a_bad_waypoint_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConventionError, match=message):
        Waypoint(**{"position_w": (0.5, 0.0, 0.1), **fields})


def test_a_recovery_is_a_short_motion_from_where_the_tool_is() -> None:
    assert Recovery().waypoints(seen()) == ()
    up = Recovery(retreat_m=0.08).waypoints(seen())
    np.testing.assert_allclose([w.position_w for w in up], [(0.4, 0.0, 0.28)])
    let_go = Recovery(retreat_m=0.08, open_gripper=True).waypoints(seen(width_m=0.03, effort_n=20.0))
    path = Path(seen(width_m=0.03, effort_n=20.0), let_go)
    assert path.at(0.1)[2] == 1.0
    assert path.at(path.duration_s)[0][2] == pytest.approx(0.28)
    assert Recovery(retries=2).retries == 2
    bad: list[dict[str, Any]] = [{"retreat_m": -0.1}, {"retreat_m": 0.5}, {"retries": -1}]
    for fields in bad:
        with pytest.raises(ConventionError, match="Recovery"):
            Recovery(**fields)
