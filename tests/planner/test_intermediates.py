"""Every kind of intermediate, made from what the planner sees and grounded again: it means the same place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.planner.base import GroundingError, PlannerContext, StepRecord
from hiervla.planner.embedded.intermediates import KINDS
from hiervla.planner.embedded.planner import EmbeddedPlanner
from hiervla.planner.fields import RESOLUTION_M, value_map
from hiervla.planner.grounding import UngroundedError, image_ref, lift_point
from hiervla.planner.kinds import EmitError, check_chosen, check_emit, emitted_kind, kind_for
from hiervla.planner.reduction import point_of_box, point_of_map, region_of_map
from hiervla.planner.surface import Surface
from hiervla.planner.ways import check_way, draw_way, lift_way, way_to
from hiervla.representations import (
    AffordanceMap,
    Boxes,
    ConventionError,
    Keypoints,
    LanguageMotion,
    Observation,
    Plan,
    SkillSignature,
    Step,
    SubtaskList,
    UnknownNameError,
    ValueMap,
    Waypoint2D,
    Waypoint3D,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.artifacts import Box
from hiervla.representations.geometry import project
from hiervla.skills import SkillLibrary, target_point
from hiervla.skills.value_maps import peak_of
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld

LIBRARY = SkillLibrary.load()
SKILLS = LIBRARY.signatures()
ASK = "put the red mug on the white plate"


@pytest.fixture(scope="module")
def world() -> Iterator[TabletopWorld]:
    wishes = [("mug", "red", "table"), ("can", "green", "table"), ("plate", "white", "table")]
    scene = sample_scene(11, require=wishes, n_objects=3, spill=False, drawer_open=False, stacks=0)
    with TabletopWorld(scene) as built:
        yield built


@pytest.fixture(scope="module")
def seen(world: TabletopWorld) -> Observation:
    return world.observe(["front", "wrist"])


@pytest.fixture(scope="module")
def planner() -> EmbeddedPlanner:
    return EmbeddedPlanner()


def planned(planner: EmbeddedPlanner, seen: Observation, **context: Any) -> Plan:
    plan = planner.plan(seen, ASK, PlannerContext(skills=SKILLS, **context))
    assert isinstance(plan, Plan) and [s.skill for s in plan.steps] == ["pick", "place"]
    return plan


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_means_the_same_place(
    kind: Any, planner: EmbeddedPlanner, seen: Observation, world: TabletopWorld
) -> None:
    plan = planned(planner, seen, emit=kind)
    truth = GroundTruth(world)
    for step, name in zip(plan.steps, ("mug_0", "plate_0"), strict=True):
        assert {a.kind for a in step.artifacts} == {kind}
        if kind == "language_motion" and step.skill == "place":
            continue  # words go on from where the step before ends, which is not yet
        grounded = planner.ground(seen, step)
        assert np.linalg.norm(target_point(grounded)[:2] - truth.position(name)[:2]) < 0.05
        for artifact in grounded.artifacts:
            image = getattr(artifact, "image", None)
            assert image is None or image == image_ref(seen.frame("front"))
    assert (plan.scene[-1].kind == "subtasks") == (kind == "subtasks")


def test_a_kind_that_a_skill_does_not_take_becomes_a_keypoint(planner: EmbeddedPlanner, seen: Observation) -> None:
    plan = planner.plan(seen, "open the drawer", PlannerContext(skills=SKILLS, emit="waypoints_2d"))
    assert isinstance(plan, Plan) and [a.kind for a in plan.steps[0].artifacts] == ["keypoints"]


def test_subtasks_are_a_graph_and_found_when_their_turn_comes(planner: EmbeddedPlanner, seen: Observation) -> None:
    plan = planned(planner, seen, emit="subtasks")
    whole = plan.scene[-1]
    assert isinstance(whole, SubtaskList) and whole.depends_on == ((1, 0),)
    assert whole.subtasks == ("pick up the red mug from the table", "put the red mug on the white plate")
    fresh = planner.refresh(seen, plan, PlannerContext(skills=SKILLS, emit="subtasks"))
    assert fresh is not None and [a.kind for a in fresh.steps[0].artifacts] == ["subtasks"]
    assert [a.kind for a in planner.ground(seen, fresh.steps[0]).artifacts] == ["subtasks", "keypoints"]
    lost = plan.steps[0].replace(args={"object": "purple can"})
    with pytest.raises(GroundingError, match="no point"):
        planner.ground(seen, lost)


def test_a_correction_in_words_moves_the_point(planner: EmbeddedPlanner, seen: Observation) -> None:
    cut = StepRecord(planned(planner, seen).steps[0], "cancelled")
    plain = planner.ground(seen, planned(planner, seen, history=(cut,)).steps[0])
    told = planned(planner, seen, history=(cut,), said=("no, a bit to the left", "no, the red one"))
    assert [a.kind for a in told.steps[0].artifacts] == ["keypoints", "affordance_map"], "the last words are no motion"
    told = planned(planner, seen, history=(cut,), said=("move up a bit", "a lot to the left"))
    assert told.goal == ASK and isinstance(told.steps[0].artifacts[-1], LanguageMotion)
    shift = target_point(planner.ground(seen, told.steps[0])) - target_point(plain)
    assert shift == pytest.approx((0.0, 0.1, 0.02), abs=1e-9)
    for kind in ("waypoints_3d", "value_map", "constraints", "boxes"):
        other = planned(planner, seen, emit=kind, history=(cut,), said=("a lot to the left",))
        before = target_point(planner.ground(seen, planned(planner, seen, emit=kind, history=(cut,)).steps[0]))
        assert target_point(planner.ground(seen, other.steps[0])) - before == pytest.approx((0.0, 0.1, 0.0), abs=1e-6)
    again = planner.refresh(seen, told, PlannerContext(skills=SKILLS))
    assert again is not None and again.steps[0].artifacts[-1].kind == "language_motion"
    # Once the robot has gone on, the words are about nothing any more.
    later = planned(planner, seen, history=(cut, StepRecord(plain, "failed")), said=("a lot to the left",))
    assert all(a.kind != "language_motion" for s in later.steps for a in s.artifacts)


# Ways.


def test_the_surface_is_what_stands_there(world: TabletopWorld, seen: Observation) -> None:
    surface, truth = Surface(seen.frame("front"), seen.proprio), GroundTruth(world)
    for name in ("mug_0", "can_0"):
        spec = truth.spec(name)
        assert surface.height(truth.position(name)) == pytest.approx(spec.size[2], abs=0.015)
    hand = np.array(seen.proprio.ee_position)
    assert surface.height(hand, 0.03) < 0.15, "the arm itself is left out"
    mug, can = truth.position("mug_0"), truth.position("can_0")
    assert surface.ridge(mug, can, 0.03) >= max(surface.height(mug), surface.height(can)) - 1e-9


spots = st.tuples(st.floats(0.36, 0.64), st.floats(-0.25, 0.2))


@settings(max_examples=60, deadline=None)
@given(spots, spots, st.booleans())
def test_a_way_survives_being_drawn(
    seen: Observation, a: tuple[float, float], b: tuple[float, float], from_hand: bool
) -> None:
    """From the world into the image and back: exactly across the view, and near enough along it."""
    frame = seen.frame("front")
    surface = Surface(frame, seen.proprio)
    hand = np.array(seen.proprio.ee_position)
    start = hand if from_hand else np.array((*a, 0.0))
    spot = np.array((*b, 0.0))
    way = way_to(start, spot, "close", surface)
    drawn = draw_way(frame, way)
    assert drawn is not None

    def contact(u: float, v: float) -> tuple[float, float, float]:
        at = start if np.hypot(u - drawn[0].u, v - drawn[0].v) < 1e-6 else spot
        return float(at[0]), float(at[1]), float(at[2])

    lifted = lift_way(frame, Waypoints2D(image=image_ref(frame), points=drawn), hand, "close", contact)
    assert [p.gripper for p in lifted] == [p.gripper for p in way]
    moves_across = abs(spot[1] - start[1]) > 0.5 * abs(spot[0] - start[0]) and abs(spot[1] - start[1]) > 0.05
    for was, now in zip(way, lifted, strict=True):
        off = np.abs(np.array(was.position_w) - now.position_w).max()
        assert off < (0.012 if moves_across else 0.12)
        pixel, _ = project(frame, now.position_w)
        there, _ = project(frame, was.position_w)
        assert np.hypot(*(pixel - there)) < (1.0 if moves_across else 20.0)


def test_ways_go_over_what_stands_between(world: TabletopWorld, seen: Observation) -> None:
    frame, truth = seen.frame("front"), GroundTruth(world)
    surface = Surface(frame, seen.proprio)
    can = truth.position("can_0")
    a, b = can + (0.0, 0.15, 0.0), can - (0.0, 0.15, 0.0)
    way = way_to(a, b, "open", surface)
    top = truth.spec("can_0").size[2]
    assert max(p.position_w[2] for p in way) > top + 0.15
    check_way(way, surface)
    low = [Waypoint3D(position_w=(float(p[0]), float(p[1]), 0.03)) for p in (a, can, b)]
    with pytest.raises(ConventionError, match=r"waypoint 2: leads 0\.\d+ m below what is seen there"):
        check_way(low, surface)
    step = Step(id="s1", skill="place", args={"object": "x"}, artifacts=(Waypoints3D(points=tuple(low)),))
    with pytest.raises(GroundingError, match="below what is seen"):
        EmbeddedPlanner().ground(seen, step)
    out = step.replace(artifacts=(Waypoints3D(points=(Waypoint3D(position_w=(1.5, 0.0, 0.2)),)),))
    with pytest.raises(GroundingError, match="outside of the workspace"):
        EmbeddedPlanner().ground(seen, out)


def test_a_path_of_another_image_or_on_nothing_is_refused(planner: EmbeddedPlanner, seen: Observation) -> None:
    step = planned(planner, seen, emit="waypoints_2d").steps[0]
    path = step.artifacts[0]
    assert isinstance(path, Waypoints2D)
    other = path.replace(image=path.image.replace(sha256="1" * 64))
    with pytest.raises(GroundingError, match="waypoints 2d belongs to another image"):
        planner.ground(seen, step.replace(artifacts=(other,)))
    astray = path.replace(points=(*path.points[:1], Waypoint2D(u=128.0, v=2.0, gripper="close")))
    with pytest.raises(GroundingError, match="away from where 'red mug' was seen|no depth|outside of the workspace"):
        planner.ground(seen, step.replace(artifacts=(astray,)))


def test_a_path_without_tokens_acts_at_its_end(planner: EmbeddedPlanner, seen: Observation) -> None:
    step = planned(planner, seen, emit="waypoints_2d").steps[0]
    path = step.artifacts[0]
    assert isinstance(path, Waypoints2D)
    plain = path.replace(points=tuple(p.replace(gripper="keep") for p in path.points[:-1]))
    lifted = planner.ground(seen, step.replace(artifacts=(plain,))).artifacts[1]
    assert isinstance(lifted, Waypoints3D)
    assert [p.gripper for p in lifted.points] == ["keep"] * (len(lifted.points) - 1) + ["close"]


# Value maps.


@settings(max_examples=25, deadline=None)
@given(spots, spots)
def test_the_highest_place_is_the_target(seen: Observation, a: tuple[float, float], b: tuple[float, float]) -> None:
    surface = Surface(seen.frame("front"), seen.proprio)
    target = np.array((*b, 0.05))
    made = value_map("x", np.array((*a, 0.3)), target, surface)
    assert peak_of(made) == pytest.approx(tuple(target), abs=1e-6) and float(made.values.max()) <= 0.0


def test_things_repel(world: TabletopWorld, seen: Observation) -> None:
    surface, can = Surface(seen.frame("front"), seen.proprio), GroundTruth(world).position("can_0")
    made = value_map("x", can + (0.0, 0.2, 0.3), can + (0.0, -0.2, 0.02), surface)
    assert isinstance(made, ValueMap) and made.resolution_m == RESOLUTION_M
    i, j, k = np.floor((can + (0.0, 0.0, 0.04) - made.origin_w) / made.resolution_m).astype(int)
    height = int(0.35 / made.resolution_m)
    assert made.values[i, j, k] < made.values[i, j, height] - 0.5


# Reductions.


def test_a_box_is_reduced_to_what_stands_out_in_it(world: TabletopWorld, seen: Observation) -> None:
    frame = seen.frame("front")
    for name in ("mug_0", "can_0"):
        mask = GroundTruth(world).segmentation("front").mask(name)
        rows, columns = np.nonzero(mask)
        box = Box(
            label=name, u_min=float(columns.min()), v_min=float(rows.min()), u_max=float(columns.max() + 1),
            v_max=float(rows.max() + 1),
        )  # fmt: skip
        point = point_of_box(Boxes(image=image_ref(frame), boxes=(box,)), frame).points[0]
        assert mask[int(point.v), int(point.u)]
    flat = frame.replace(depth_m=None)
    middle = point_of_box(Boxes(image=image_ref(frame), boxes=(box,)), flat).points[0]
    assert (middle.u, middle.v) == ((box.u_min + box.u_max) / 2, (box.v_min + box.v_max) / 2)


def test_a_map_is_reduced_to_its_peak(planner: EmbeddedPlanner, seen: Observation) -> None:
    step = planned(planner, seen).steps[0]
    points, heat = step.artifacts[:2]
    assert isinstance(points, Keypoints) and isinstance(heat, AffordanceMap)
    point = point_of_map(heat).points[0]
    assert np.hypot(point.u - points.points[0].u, point.v - points.points[0].v) < 0.1, "the pointing head's own rule"
    region = region_of_map(heat, points.image)
    assert region.u_min <= point.u <= region.u_max and region.v_min <= point.v <= region.v_max
    corner = np.zeros((48, 64), np.float32)
    corner[0, 63] = 1.0
    edge = point_of_map(heat.replace(values=corner)).points[0]
    assert (edge.u, edge.v) == (254.0, 2.0) and edge.confidence == 1.0


# What can be asked for.


def test_kinds_that_cannot_be_had_are_told_before_anything_moves(planner: EmbeddedPlanner) -> None:
    assert emitted_kind("boxes") == "boxes"
    with pytest.raises(UnknownNameError, match="Did you mean 'waypoints_2d'"):
        emitted_kind("waypoint_2d")
    with pytest.raises(EmitError, match="planner 'x' cannot make this kind. Ask for one of: subtasks, keypoints") as e:
        check_emit("program", planner, "x", SKILLS)
    assert e.value.exit_code == 2 and "program" not in e.value.can
    plain = SkillSignature(name="wave", accepts=("keypoints",))
    with pytest.raises(EmitError, match="the installed skills do not take this kind. Ask for one of: keypoints"):
        check_emit("boxes", planner, "x", [plain])
    with pytest.raises(EmitError, match="the skills that this plan needs, 'wave', do not take this kind"):
        check_chosen("boxes", [plain])
    check_chosen("boxes", [plain, LIBRARY.get("pick").signature])
    check_chosen(None, [plain])
    assert kind_for(plain, "boxes", KINDS) == "keypoints"
    assert kind_for(SkillSignature(name="draw", accepts=("waypoints_2d",)), None, KINDS) == "waypoints_2d"


def test_lifting_needs_a_surface(seen: Observation) -> None:
    with pytest.raises(UngroundedError):
        frame = seen.frame("front")
        lift_point(frame.replace(depth_m=np.zeros_like(frame.require_depth())), 10.0, 10.0)
