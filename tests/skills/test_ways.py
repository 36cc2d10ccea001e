"""From intermediates that say the way to waypoints: words, value maps, constraints, and which policy a step gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hiervla.representations import (
    Constraint,
    Constraints,
    ConventionError,
    HiervlaError,
    ImageRef,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Step,
    ValueMap,
    Waypoint3D,
    Waypoints3D,
)
from hiervla.skills import MissingTargetError, SkillContext, SkillLibrary, target_point
from hiervla.skills.constraints import UnsolvableError, cost_m, solve
from hiervla.skills.language_motions import read_motion, say_motion, say_shift
from hiervla.skills.routes import FOLLOW, route_of
from hiervla.skills.samples import observation
from hiervla.skills.value_maps import climb, peak_of, voxel_of

LIBRARY = SkillLibrary.load()
IMAGE = ImageRef(camera="front", sha256="0" * 64, width=64, height=64, time_s=0.0)


# Words.


@pytest.mark.parametrize(
    ("words", "shift"),
    [
        ("move left a bit", (0.0, 0.02, 0.0)),
        ("No, a bit to the left!", (0.0, 0.02, 0.0)),
        ("a little further back", (-0.02, 0.0, 0.0)),
        ("move the arm forward 12 cm", (0.12, 0.0, 0.0)),
        ("go up by 0.1 m", (0.0, 0.0, 0.1)),
        ("shift right a lot, please", (0.0, -0.1, 0.0)),
        ("down", (0.0, 0.0, -0.05)),
        ("slightly down", (0.0, 0.0, -0.02)),
    ],
)
def test_motions_in_words(words: str, shift: tuple[float, float, float]) -> None:
    motion = read_motion(words)
    assert motion is not None and motion.translation_m == pytest.approx(shift) and motion.text == words.strip()


@pytest.mark.parametrize("words", ["", "no, the blue one", "put it on the left plate", "move", "move up 900 m", "5 cm"])
def test_other_words_are_no_motion(words: str) -> None:
    assert read_motion(words) is None


def test_the_gripper_in_words() -> None:
    motion = read_motion("close the gripper")
    assert motion is not None and motion.gripper == "close" and motion.translation_m is None


@given(st.tuples(*[st.floats(-0.6, 0.6)] * 3))
def test_a_displacement_survives_being_said(shift: tuple[float, float, float]) -> None:
    said = say_shift(shift)
    total = np.sum([m.translation_m or (0.0, 0.0, 0.0) for m in said], axis=0) if said else np.zeros(3)
    assert np.abs(total - shift).max() <= 0.00501
    again = [read_motion(m.text) for m in said]
    assert [m.translation_m for m in again if m is not None] == [m.translation_m for m in said]


@given(st.text(max_size=60) | st.from_regex(r"(move|go) (left|up) \d{0,9}(\.\d{0,9})? (cm|m)", fullmatch=True))
def test_any_words_are_a_motion_or_none(words: str) -> None:
    motion = read_motion(words)
    assert motion is None or motion.translation_m is None or np.isfinite(motion.translation_m).all()


def test_what_words_cannot_say() -> None:
    with pytest.raises(ConventionError, match="no direction"):
        say_motion("sideways", 0.1)
    with pytest.raises(ConventionError, match="less than the words"):
        say_motion("left", 0.004)


# Value maps.


def walled() -> ValueMap:
    """Drawn to one corner, with a wall across that leaves a gap at the top."""
    i, j, k = np.indices((15, 9, 8))
    values = -np.sqrt((i - 13.0) ** 2 + (j - 4.0) ** 2 + (k - 1.0) ** 2)
    values[7, :, :6] = -100.0
    return ValueMap(label="goal", origin_w=(0.1, -0.2, 0.0), resolution_m=0.02, values=values.astype(np.float32))


def test_climbing_goes_around_what_repels() -> None:
    value_map = walled()
    start = np.array((0.11, -0.11, 0.03))
    way = climb(value_map, start)
    assert way[-1] == pytest.approx(peak_of(value_map)) and peak_of(value_map) == pytest.approx((0.37, -0.11, 0.03))
    assert voxel_of(value_map, np.array(way[0])) == voxel_of(value_map, start)
    assert max(p[2] for p in way) > 0.12, "the gap is at the top"
    for a, b in zip(way[:-1], way[1:], strict=True):
        for share in np.linspace(0.0, 1.0, 40):
            voxel = voxel_of(value_map, np.array(a) + share * (np.array(b) - a))
            assert value_map.values[voxel] > -50.0, "no short cut leads through the wall"


def test_a_free_way_is_straight_and_a_start_outside_is_taken_in() -> None:
    i, j, k = np.indices((10, 10, 10))
    values = (-np.abs(i - 9) - np.abs(j - 9) - np.abs(k - 9)).astype(np.float32)
    value_map = ValueMap(label="goal", origin_w=(0.0, 0.0, 0.0), resolution_m=0.05, values=values)
    assert len(climb(value_map, np.array((0.0, 0.0, 0.0)))) == 2
    assert climb(value_map, np.array((-3.0, 0.0, 0.0)))[0] == pytest.approx((0.025, 0.025, 0.025))


def test_a_map_of_nothing_is_refused() -> None:
    empty = np.zeros((0, 2, 2), np.float32)
    value_map = ValueMap(label="x", origin_w=(0.0, 0.0, 0.0), resolution_m=0.1, values=empty)
    with pytest.raises(ConventionError, match="no voxels"):
        climb(value_map, np.zeros(3))


# Constraints.

MUG, CAN = (0.5, 0.0, 0.05), (0.42, 0.0, 0.25)


def relations(*more: Constraint, held: bool = False) -> Constraints:
    subject: Any = "held" if held else "end_effector"
    return Constraints(
        keypoints=(
            Keypoint(label="mug", u=1.0, v=1.0, position_w=MUG),
            Keypoint(label="can", u=2.0, v=1.0, position_w=CAN),
        ),
        constraints=(
            Constraint(stage=0, during="subgoal", relation="above", keypoint=0, distance_m=0.12, subject=subject),
            *more,
            Constraint(stage=1, during="subgoal", relation="at", keypoint=0, subject=subject),
            Constraint(stage=2, during="subgoal", relation="higher", keypoint=0, distance_m=0.1),
        ),
        grippers=("keep", "close"),
    )


HOME = np.array((0.35, 0.0, 0.42))


def test_constraints_become_a_way() -> None:
    way = solve(relations(), HOME)
    assert [p.gripper for p in way] == ["keep", "close", "keep"]
    assert way[0].position_w == pytest.approx((0.5, 0.0, 0.17), abs=0.005)
    assert way[1].position_w == pytest.approx(MUG, abs=0.005)
    assert way[2].position_w[2] >= MUG[2] + 0.1 - 0.005 and way[2].position_w[:2] == pytest.approx((0.5, 0.0), abs=0.01)


def test_what_is_held_is_what_is_placed() -> None:
    assert solve(relations(held=True), HOME, hang_m=0.06)[1].position_w == pytest.approx((0.5, 0.0, 0.11), abs=0.005)


def test_the_way_keeps_away() -> None:
    away = Constraint(stage=0, during="path", relation="apart", keypoint=1, distance_m=0.1)
    way = [HOME, *(np.array(p.position_w) for p in solve(relations(away), HOME))]
    straight = np.linspace(HOME, way[-3], 50)
    assert min(np.linalg.norm(p - CAN) for p in straight) < 0.05, "the straight line would lead into it"
    for a, b in zip(way[:-3], way[1:-2], strict=True):
        assert min(np.linalg.norm(p - CAN) for p in np.linspace(a, b, 30)) > 0.085


def test_what_cannot_be_is_told() -> None:
    both = (
        Constraint(stage=0, during="subgoal", relation="at", keypoint=1),
        Constraint(stage=0, during="subgoal", relation="higher", keypoint=0, distance_m=0.4),
    )
    with pytest.raises(UnsolvableError, match="stage 0 .* is off by .* Loosen it, or look again and replan") as caught:
        solve(relations(*both), HOME)
    assert caught.value.cost_m > caught.value.constraint.tolerance_m
    bare = relations().replace(keypoints=(Keypoint(label="mug", u=1.0, v=1.0), Keypoint(label="can", u=2.0, v=1.0)))
    with pytest.raises(HiervlaError, match="no place in the world"):
        solve(bare, HOME)


def test_costs_are_what_the_type_says() -> None:
    k = [np.zeros(3)]
    for relation, distance, place, cost in (
        ("at", 0.0, (0.3, 0.0, 0.4), 0.5),
        ("above", 0.4, (0.3, 0.0, 0.4), 0.3),
        ("higher", 0.5, (9.0, 0.0, 0.4), 0.1),
        ("higher", 0.3, (9.0, 0.0, 0.4), 0.0),
        ("apart", 0.6, (0.3, 0.0, 0.4), 0.1),
    ):
        c = Constraint(stage=0, during="path", relation=relation, keypoint=0, distance_m=distance)  # type: ignore[arg-type]  # drawn from the list above
        assert cost_m(c, np.array(place), k, 0.0) == pytest.approx(cost)


def test_relations_that_speak_of_nothing_are_refused() -> None:
    point = (Keypoint(label="mug", u=1.0, v=1.0),)
    goal = Constraint(stage=0, during="subgoal", relation="at", keypoint=0)
    for wrong in (
        {"keypoints": point, "constraints": (goal.replace(keypoint=1),)},
        {"keypoints": point, "constraints": (goal, goal.replace(stage=2))},
        {"keypoints": point, "constraints": (goal,), "grippers": ("close", "open")},
        {"keypoints": point, "constraints": ()},
    ):
        with pytest.raises(ValidationError):
            Constraints(**wrong)


# Steps.


def step(*artifacts: Any) -> Step:
    return Step(id="s1", skill="pick", args={"object": "red mug"}, artifacts=artifacts)


WAY = Waypoints3D(
    points=(
        Waypoint3D(position_w=(0.35, 0.0, 0.42), gripper="open"),
        Waypoint3D(position_w=MUG, gripper="close"),
        Waypoint3D(position_w=(0.5, 0.0, 0.2)),
    )
)


@pytest.mark.parametrize("artifact", [WAY, walled(), relations()], ids=lambda a: a.kind)
def test_a_step_that_says_the_way_is_followed(artifact: Any) -> None:
    seen = observation()
    said = step(artifact)
    assert LIBRARY.get("pick").runner(said) == FOLLOW
    route = route_of(said, seen)
    acting = [p for p in route if p.gripper == "close"]
    assert len(acting) == 1
    assert np.linalg.norm(np.array(acting[0].position_w) - target_point(said)) < 0.006, "that is where it acts"
    context = SkillContext(step=said, before=seen, proprio=seen.proprio)
    approach = LIBRARY.get("pick").approach(context)
    start = WAY.points[0].position_w if artifact is WAY else seen.proprio.ee_position
    assert approach.hover(context.target_w) == pytest.approx(start)


def test_a_step_that_points_is_the_learned_policys() -> None:
    point = Keypoints(image=IMAGE, points=(Keypoint(label="mug", u=1.0, v=1.0, position_w=MUG),))
    assert LIBRARY.get("pick").runner(step(WAY, point)) == "flow"
    assert LIBRARY.get("wipe").runner(step(WAY)) == "flow", "no way says how to wipe"
    seen = observation()
    approach = LIBRARY.get("pick").approach(SkillContext(step=step(point), before=seen, proprio=seen.proprio))
    assert approach.hover(np.array(MUG)) == pytest.approx((0.5, 0.0, 0.18))


def test_motions_in_words_start_from_the_tool() -> None:
    seen = observation()
    said = step(LanguageMotion(text="up", translation_m=(0.0, 0.0, 0.1)), LanguageMotion(text="grip", gripper="close"))
    here = seen.proprio.ee_position
    assert [p.position_w for p in route_of(said, seen)] == [pytest.approx(here + (0, 0, 0.1))] * 2
    odd = step(LanguageMotion(text="up", frame="end_effector", translation_m=(0.0, 0.0, 0.1)))
    with pytest.raises(ConventionError, match="end_effector"):
        route_of(odd, seen)
    with pytest.raises(MissingTargetError):
        route_of(step(), seen)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.floats(0.2, 0.7), st.floats(-0.4, 0.4), st.floats(0.0, 0.2)))
def test_any_reachable_keypoint_is_reached_by_constraints(place: tuple[float, float, float]) -> None:
    only = Constraints(
        keypoints=(Keypoint(label="spot", u=1.0, v=1.0, position_w=place),),
        constraints=(Constraint(stage=0, during="subgoal", relation="above", keypoint=0, distance_m=0.1),),
    )
    assert solve(only, HOME)[-1].position_w == pytest.approx((place[0], place[1], place[2] + 0.1), abs=0.005)
