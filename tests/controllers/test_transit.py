from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.collision import Box, CollisionModel, HeldObject, Obstacles, densify
from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.controllers.kinematics import Kinematics, motion_limits, pose_error, tool_yaw, topdown_pose
from hiervla.controllers.limits import Array
from hiervla.controllers.timing import TICK_S
from hiervla.controllers.transit import Transit, TransitMethod, TransitPlanner, round_corners

HOME = np.array(panda.HOME_Q)
# From the left of it to the right of it, low down, the arm has to go over.
RIDGE = Box("ridge", (0.48, 0.0, 0.1), (0.2, 0.02, 0.1))


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics()


@pytest.fixture(scope="module")
def planner() -> TransitPlanner:
    return TransitPlanner()


def _assert_good(transit: Transit, start: Array, obstacles: Obstacles, held: HeldObject | None = None) -> None:
    """Independent of the planner: its own collision model, finer steps, less margin."""
    motion, limits = transit.trajectory, motion_limits()
    np.testing.assert_allclose(motion.q[0], start, atol=1e-9)
    np.testing.assert_allclose(motion.q[-1], transit.goal_q, atol=1e-6)
    rest = np.zeros((1, 7))
    velocity = np.concatenate([rest, np.diff(motion.q, axis=0) / TICK_S, rest])
    assert (np.abs(velocity) <= limits.velocity * 1.000001).all()
    assert (np.abs(np.diff(velocity, axis=0)) / TICK_S <= limits.acceleration * 1.000001).all()
    model = CollisionModel(margin_m=0.5 * transit.margin_m)
    model.set_scene(obstacles)
    model.set_held(held)
    if not transit.escaped:
        assert all(model.free(q) for q in densify(motion.q, 0.01))


def test_free_space_is_crossed_straight(planner: TransitPlanner, kinematics: Kinematics) -> None:
    transit = planner.to_hover(HOME, [0.5, -0.2, 0.15], 0.4, Obstacles())
    assert transit.method is TransitMethod.STRAIGHT and not transit.escaped
    _assert_good(transit, HOME, Obstacles())
    pose = kinematics.forward(transit.goal_q)
    assert pose_error(pose, topdown_pose([0.5, -0.2, 0.15], tool_yaw(pose)))[0] < 1e-3
    assert np.sin(tool_yaw(pose) - 0.4) == pytest.approx(0.0, abs=6e-3)


def test_half_a_metre_is_not_slow(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start = kinematics.solve_topdown([0.45, -0.25, 0.2], 0.0, HOME)
    transit = planner.to_hover(start, [0.45, 0.25, 0.2], 0.0, Obstacles())
    assert transit.trajectory.duration_s < 2.0
    assert planner.to_hover(start, [0.45, 0.25, 0.2], 0.0, Obstacles(), speed=0.5).trajectory.duration_s > 1.5


def test_a_ridge_is_crossed_above(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start = kinematics.solve_topdown([0.48, -0.2, 0.1], 0.0, HOME)
    obstacles = Obstacles(furniture=(RIDGE,))
    transit = planner.to_hover(start, [0.48, 0.2, 0.1], 0.0, obstacles)
    assert transit.method is TransitMethod.OVER
    _assert_good(transit, start, obstacles)
    assert max(kinematics.forward(q)[2, 3] for q in transit.trajectory.q) > 0.2


def _maze(kinematics: Kinematics) -> tuple[Array, Obstacles]:
    """A wall with a lid: straight is blocked, and so is up, over and down."""
    start = kinematics.solve_topdown([0.48, -0.22, 0.12], 0.0, HOME)
    wall = Box("wall", (0.55, 0.0, 0.25), (0.15, 0.02, 0.25))
    lid = Box("lid", (0.60, -0.22, 0.62), (0.12, 0.15, 0.02))
    return start, Obstacles(furniture=(wall, lid))


def test_a_wall_is_gone_round_by_search(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start, obstacles = _maze(kinematics)
    transit = planner.to_hover(start, [0.48, 0.22, 0.12], 0.0, obstacles)
    assert transit.method is TransitMethod.SEARCH
    _assert_good(transit, start, obstacles)


def test_equal_questions_get_equal_answers(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start, obstacles = _maze(kinematics)
    first = planner.to_hover(start, [0.48, 0.22, 0.12], 0.0, obstacles)
    planner.to_hover(HOME, [0.4, 0.1, 0.2], 1.0, Obstacles())
    again = planner.to_hover(start, [0.48, 0.22, 0.12], 0.0, obstacles)
    other = TransitPlanner().to_hover(start, [0.48, 0.22, 0.12], 0.0, obstacles)
    assert np.array_equal(first.trajectory.q, again.trajectory.q)
    assert np.array_equal(first.trajectory.q, other.trajectory.q)


def test_random_clutter_is_never_touched(planner: TransitPlanner, kinematics: Kinematics) -> None:
    rng = np.random.default_rng(11)
    q, done = HOME, 0
    for _ in range(40):
        places = rng.uniform([0.34, -0.26], [0.66, 0.26], (6, 2))
        boxes = tuple(Box(f"thing {k}", (x, y, 0.05), (0.03, 0.03, 0.05)) for k, (x, y) in enumerate(places.tolist()))
        obstacles = Obstacles(boxes=boxes)
        held = HeldObject((0.025, 0.025, 0.04), 0.02) if rng.random() < 0.5 else None
        goal = rng.uniform([0.35, -0.35, 0.12], [0.58, 0.35, 0.3])
        try:
            transit = planner.to_hover(q, goal, float(rng.uniform(-1.5, 1.5)), obstacles, held=held)
        except NoPath:
            continue
        done += 1
        _assert_good(transit, q, obstacles, held)
        q = np.array(transit.goal_q)
    assert done > 20


def test_a_goal_inside_something_is_named(planner: TransitPlanner) -> None:
    obstacles = Obstacles(boxes=(Box("big crate", (0.5, 0.0, 0.1), (0.1, 0.1, 0.1)),))
    with pytest.raises(NoPath, match=r"hover pose \(0.500.*the goal itself touches big crate.*higher") as caught:
        planner.to_hover(HOME, [0.5, 0.0, 0.1], 0.0, obstacles)
    assert caught.value.reason == "goal_in_collision" and caught.value.blocked_by == ("big crate",)


def test_a_hover_may_rise_where_it_touches(planner: TransitPlanner, kinematics: Kinematics) -> None:
    obstacles = Obstacles(boxes=(Box("crate", (0.5, 0.0, 0.08), (0.1, 0.1, 0.08)),))
    transit = planner.to_hover(HOME, [0.5, 0.0, 0.13], 0.0, obstacles, may_rise_m=0.12)
    assert 0.16 < kinematics.forward(transit.goal_q)[2, 3] < 0.23
    _assert_good(transit, HOME, obstacles)
    with pytest.raises(NoPath, match="touches crate"):
        planner.to_hover(HOME, [0.5, 0.0, 0.08], 0.0, obstacles, may_rise_m=0.04)


def test_a_start_that_cannot_be_freed_is_named(planner: TransitPlanner) -> None:
    cage = Box("cage", (0.35, 0.0, 0.55), (0.2, 0.2, 0.2))
    with pytest.raises(NoPath, match="already touches cage, and no retreat upwards frees it") as caught:
        planner.to_joints(HOME, HOME + 0.3, Obstacles(boxes=(cage,)))
    assert caught.value.reason == "start_in_collision"


def test_no_way_at_all_gives_up_within_its_budget(kinematics: Kinematics) -> None:
    walls = [Box(f"wall {s}", (0.48, 0.11 * s, 0.3), (0.35, 0.01, 0.3)) for s in (-1, 1)]
    walls += [Box("back", (0.22, 0.0, 0.15), (0.01, 0.12, 0.15)), Box("front", (0.82, 0.0, 0.3), (0.01, 0.12, 0.3))]
    walls += [Box("roof", (0.48, 0.0, 0.34), (0.02, 0.02, 0.005))]
    goal = kinematics.solve_topdown([0.48, 0.35, 0.1], 0.0, HOME)
    shelf = Box("slab", (0.48, 0.35, 0.22), (0.3, 0.2, 0.02))
    planner = TransitPlanner(search_checks=400)
    with pytest.raises(NoPath) as caught:
        planner.to_joints(HOME, goal, Obstacles(furniture=(*walls, shelf)))
    assert caught.value.reason in {"gave_up", "goal_in_collision"}


def test_unreachable_is_something_else(planner: TransitPlanner) -> None:
    with pytest.raises(UnreachablePose):
        planner.to_hover(HOME, [1.2, 0.0, 0.3], 0.0, Obstacles())
    with pytest.raises(ValueError, match="outside the limits"):
        planner.to_joints(HOME, HOME + 5.0, Obstacles())


def test_arm_between_things_first_retreats_upwards(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start = kinematics.solve_topdown([0.45, 0.1, 0.05], 0.0, HOME)
    mug = Box("mug", (0.45, 0.1, 0.04), (0.03, 0.03, 0.04))
    transit = planner.to_joints(start, HOME, Obstacles(boxes=(mug,)))
    assert transit.escaped
    _assert_good(transit, start, Obstacles())
    heights = np.array([kinematics.forward(q)[2, 3] for q in transit.trajectory.q])
    aside = np.array([np.hypot(*(kinematics.forward(q)[:2, 3] - [0.45, 0.1])) for q in transit.trajectory.q])
    assert heights.min() > 0.045
    assert aside[heights < 0.09].max() < 0.03


def test_a_held_object_changes_the_way(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start = kinematics.solve_topdown([0.48, -0.2, 0.16], 0.0, HOME)
    low = Obstacles(furniture=(Box("low ridge", (0.48, 0.0, 0.05), (0.2, 0.02, 0.05)),))
    free = planner.to_hover(start, [0.48, 0.2, 0.16], 0.0, low)
    held = HeldObject((0.02, 0.02, 0.06), 0.05)
    loaded = planner.to_hover(start, [0.48, 0.2, 0.16], 0.0, low, held=held)
    assert free.method is TransitMethod.STRAIGHT
    assert loaded.method is not TransitMethod.STRAIGHT
    _assert_good(loaded, start, low, held)


def test_a_moving_arm_is_stopped_first(planner: TransitPlanner) -> None:
    speed = np.array([0.8, 0.2, 0.0, -0.3, 0.0, 0.2, 0.0])
    transit = planner.to_joints(HOME, HOME, Obstacles(), dq=speed)
    first = np.diff(transit.trajectory.q, axis=0)[0] / TICK_S
    assert np.abs(first - speed).max() <= (motion_limits().acceleration * TICK_S).max()
    np.testing.assert_allclose(transit.trajectory.q[-1], HOME, atol=1e-6)


def test_nothing_to_do(planner: TransitPlanner) -> None:
    transit = planner.to_joints(HOME, HOME, Obstacles())
    assert transit.method is TransitMethod.NOTHING and transit.trajectory.ticks == 0


def test_rounded_corners_stay_near_and_turn_gently() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    curve = round_corners(corners, 0.3)
    np.testing.assert_allclose(curve[[0, -1]], corners[[0, -1]])
    steps = np.diff(curve, axis=0)
    steps = steps[np.linalg.norm(steps, axis=1) > 1e-9]
    turns = np.abs(np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))))
    assert turns.max() < 0.35
    assert np.linalg.norm(curve - [1.0, 0.0], axis=1).min() < 0.3


def test_rising_is_a_straight_line_up(planner: TransitPlanner, kinematics: Kinematics) -> None:
    start = kinematics.solve(topdown_pose([0.45, 0.1, 0.12], 0.3), panda.HOME_Q)
    motion = planner.rise(start, 0.07)
    assert motion is not None
    tools = np.array([kinematics.forward(q)[:3, 3] for q in motion.q])
    assert np.hypot(*(tools - tools[0])[:, :2].T).max() < 0.003
    assert tools[-1, 2] - tools[0, 2] == pytest.approx(0.07, abs=0.004)
    assert (np.diff(tools[:, 2]) > -1e-4).all()
    assert np.abs(motion.dq[-1]).max() < 1e-6
    assert (np.abs(motion.dq) <= planner.limits.velocity + 1e-6).all()


def test_a_moving_arm_stops_before_it_rises_and_one_at_its_limit_does_not(
    planner: TransitPlanner, kinematics: Kinematics
) -> None:
    start = kinematics.solve(topdown_pose([0.45, 0.1, 0.12], 0.0), panda.HOME_Q)
    moving = planner.rise(start, 0.07, dq=np.full(7, 0.2))
    still = planner.rise(start, 0.07)
    assert moving is not None
    assert still is not None
    assert moving.duration_s > still.duration_s
    high = kinematics.solve(topdown_pose([0.45, 0.0, 0.5], 0.0), panda.HOME_Q)
    assert planner.rise(high, 0.6) is None, "nobody reaches 1.1 m up from there with the hand pointing down"
