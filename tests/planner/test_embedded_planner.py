"""The shipped planner on rendered scenes: it plans, points, refuses and grounds; and it says so when it cannot load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hiervla.planner.base import GroundingError, Planner, PlannerContext, StepRecord
from hiervla.planner.embedded.planner import WEIGHTS, EmbeddedPlanner
from hiervla.planner.grounding import image_ref
from hiervla.representations import (
    AffordanceMap,
    Boxes,
    CameraError,
    CheckpointError,
    ImageRef,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Refusal,
    Step,
)
from hiervla.skills.registry import SkillLibrary
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld

SKILLS = SkillLibrary.load().signatures()


@pytest.fixture(scope="module")
def planner() -> EmbeddedPlanner:
    return EmbeddedPlanner()


@pytest.fixture(scope="module")
def world() -> Iterator[TabletopWorld]:
    wishes = [("mug", "red", "table"), ("block", "blue", "table"), ("plate", "white", "table")]
    scene = sample_scene(11, require=wishes, n_objects=3, spill=False, drawer_open=False, stacks=0)
    with TabletopWorld(scene) as built:
        yield built


@pytest.fixture(scope="module")
def observation(world: TabletopWorld) -> Observation:
    return world.observe(["front"])


def ask(planner: EmbeddedPlanner, observation: Observation, text: str, *history: StepRecord) -> Plan | Refusal:
    return planner.plan(observation, text, PlannerContext(history=history, skills=SKILLS))


def test_is_a_planner(planner: EmbeddedPlanner) -> None:
    assert isinstance(planner, Planner)
    assert planner.id.startswith("hiervla-embedded@")


def test_plan_with_points(planner: EmbeddedPlanner, observation: Observation, world: TabletopWorld) -> None:
    plan = ask(planner, observation, "put the red mug on the top shelf")
    assert isinstance(plan, Plan)
    assert [s.skill for s in plan.steps] == ["pick", "place"]
    assert plan.remaining == ("s1", "s2") and plan.done == ()
    pick, place = plan.steps
    assert pick.args["object"] == "red mug" and pick.args["source"] == "table"
    assert place.args == {"object": "red mug", "relation": "on", "target": "top shelf"}
    assert place.depends_on == ("s1",)
    frame = observation.frame("front")
    for step in plan.steps:
        points, heat = step.artifacts
        assert isinstance(points, Keypoints) and isinstance(heat, AffordanceMap)
        assert points.image == image_ref(frame) == heat.image
        assert heat.values.shape == (48, 64)
    mask = GroundTruth(world).segmentation("front").mask("mug_0")
    points = pick.artifacts[0]
    assert isinstance(points, Keypoints)
    assert mask[int(points.points[0].v), int(points.points[0].u)]
    assert plan.provenance is not None and plan.provenance.raw_text
    boxes = plan.scene[0]
    assert isinstance(boxes, Boxes)
    assert {"red mug", "blue block", "white plate", "bin", "top shelf"} <= {b.label for b in boxes.boxes}


def test_same_question_same_answer(planner: EmbeddedPlanner, observation: Observation) -> None:
    first, second = (ask(planner, observation, "put the blue block on the white plate") for _ in range(2))
    assert isinstance(first, Plan) and isinstance(second, Plan)
    assert first.steps == second.steps


def test_done_steps_are_told_again(planner: EmbeddedPlanner, observation: Observation) -> None:
    plan = ask(planner, observation, "put the blue block on the white plate")
    assert isinstance(plan, Plan)
    failed = StepRecord(plan.steps[0], "lost_object", "table")
    again = ask(planner, observation, "put the blue block on the white plate", failed)
    assert isinstance(again, Plan)
    assert again.done == () and again.steps[0].skill == "pick"
    drawer = Step(id="s1", skill="open_drawer", args={"drawer": "drawer"}, text="open the drawer")
    opened = StepRecord(drawer, "succeeded")
    plan = ask(planner, observation, "open the drawer and put the red mug on the top shelf", opened)
    assert isinstance(plan, Plan)
    assert plan.done == ("s1",) and plan.steps[0].skill == "open_drawer" and plan.steps[0].artifacts == ()


def test_refuses_what_is_not_there_and_says_what_is(planner: EmbeddedPlanner, observation: Observation) -> None:
    answer = ask(planner, observation, "put the green mug on the top shelf")
    assert isinstance(answer, Refusal)
    assert answer.reason == "not_in_scene"
    assert answer.missing == ("green mug",)
    assert answer.message == "There is no green mug; I see a red mug."


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_instruction(planner: EmbeddedPlanner, observation: Observation, text: str) -> None:
    answer = ask(planner, observation, text)
    assert isinstance(answer, Refusal)
    assert answer.reason == "empty_instruction"
    assert "red mug" in answer.seen


def test_only_skills_that_exist_are_planned(planner: EmbeddedPlanner, observation: Observation) -> None:
    few = tuple(s for s in SKILLS if s.name in ("open_drawer", "close_drawer"))
    answer = planner.plan(observation, "put the red mug on the top shelf", PlannerContext(skills=few))
    skills = {s.skill for s in answer.steps} if isinstance(answer, Plan) else set()
    assert skills <= {"open_drawer", "close_drawer"}


def test_grounding(planner: EmbeddedPlanner, observation: Observation, world: TabletopWorld) -> None:
    plan = ask(planner, observation, "throw the red mug away and open the drawer")
    assert isinstance(plan, Plan)
    truth = GroundTruth(world)
    grounded = {s.skill: planner.ground(observation, s) for s in plan.steps}
    positions = {}
    for skill, step in grounded.items():
        keypoints = step.artifacts[0]
        assert isinstance(keypoints, Keypoints) and keypoints.points[0].position_w is not None
        positions[skill] = np.array(keypoints.points[0].position_w)
    furniture = truth.scene.furniture
    assert np.linalg.norm(positions["pick"][:2] - truth.position("mug_0")[:2]) < 0.06
    assert positions["pick"][2] > 0.01
    assert np.abs(positions["throw_away"][:2] - furniture.bin_xy).max() < 0.04
    assert positions["throw_away"][2] < 0.03
    if "open_drawer" in positions:
        assert np.abs(positions["open_drawer"] - furniture.handle(0.0)).max() < 0.03


def pointing_at(image: ImageRef, u: float, v: float) -> Step:
    keypoints = Keypoints(image=image, points=(Keypoint(label="red mug", u=u, v=v),))
    return Step(id="s1", skill="pick", args={"object": "red mug"}, artifacts=(keypoints,))


def test_hallucinated_points_are_not_grounded(planner: EmbeddedPlanner, observation: Observation) -> None:
    image = image_ref(observation.frame("front"))
    with pytest.raises(GroundingError, match="px away from where 'red mug' was seen"):
        planner.ground(observation, pointing_at(image, 128.0, 180.0))
    with pytest.raises(GroundingError, match="another image"):
        planner.ground(observation, pointing_at(image.replace(sha256="0" * 64), 128.0, 100.0))
    with pytest.raises(GroundingError, match="no point"):
        planner.ground(observation, Step(id="s1", skill="pick", args={"object": "red mug"}))


def test_cameras(planner: EmbeddedPlanner, observation: Observation) -> None:
    frame = observation.frame("front")
    flat = observation.replace(frames=(frame.replace(depth_m=None),))
    plan = ask(planner, flat, "put the red mug on the top shelf")
    assert isinstance(plan, Plan)
    with pytest.raises(CameraError, match="depth"):
        planner.ground(flat, plan.steps[0])
    with pytest.raises(CameraError, match="front"):
        ask(planner, observation.replace(frames=(frame.replace(name="side"),)), "put the red mug on the top shelf")


def test_unreadable_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        EmbeddedPlanner(tmp_path)
    for file in WEIGHTS.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nonsense" * 20)
    with pytest.raises(CheckpointError, match="hiervla train planner"):
        EmbeddedPlanner(tmp_path)
