"""Families of models in the planner: asked in their own form, read by their adapter, on the image that they saw."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hiervla.planner.adapters import ImageSize, adapter_names, get_adapter, smart_resize
from hiervla.planner.base import GroundingError, PlannerContext, make_planner
from hiervla.planner.grounding import image_ref
from hiervla.planner.names import PlannerNameError
from hiervla.planner.vlm import BackendError, FamilyPoints, Generation, KindStrategy, Message, Sampling, VLMPlanner
from hiervla.planner.vlm.families import family_of
from hiervla.planner.vlm.local import TransformersBackend
from hiervla.planner.vlm.server import ServerBackend
from hiervla.representations import (
    Boxes,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Refusal,
    Step,
    UnknownNameError,
    Waypoint2D,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.artifacts import Box
from hiervla.skills import SkillLibrary
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld
from tests.planner import families
from tests.planner.servers import Reply, Scripted, streamed

SKILLS = SkillLibrary.load().signatures()
PICK = {"skill": "pick", "args": {"object": "red mug"}}
PLAN = json.dumps({"seen": ["red mug"], "answer": {"steps": [PICK]}})
STEP = Step(id="s1", skill="pick", args={"object": "red mug"}, text="pick up the red mug")


@pytest.fixture(scope="module")
def scene() -> tuple[Observation, tuple[float, float], np.ndarray[Any, Any]]:
    """What the camera sees, the middle of the mug in its image, and where the mug is."""
    wishes = [("mug", "red", "table"), ("block", "blue", "table")]
    with TabletopWorld(sample_scene(11, require=wishes, n_objects=2, spill=False, stacks=0)) as world:
        truth = GroundTruth(world)
        rows, columns = np.nonzero(truth.segmentation("front").mask("mug_0"))
        middle = float(columns.mean() + 0.5), float(rows.mean() + 0.5)
        return world.observe(["front"]), middle, truth.position("mug_0")


class Fake:
    """A backend that gives these answers; with `size` it knows what its image processor makes of images."""

    id = "fake@1"

    def __init__(self, *answers: str, size: tuple[int, int] | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[Message], np.ndarray[Any, Any], Any]] = []
        if size is not None:
            self.sent_size = lambda image: size

    def generate(
        self, messages: Sequence[Message], images: Sequence[Any], schema: Mapping[str, Any] | None, sampling: Sampling
    ) -> Generation:
        self.asked.append((list(messages), images[0], schema))
        return Generation(self.answers.pop(0), self.id, 0.01, "none")


def planner_with(family: str, *answers: str, **options: Any) -> tuple[VLMPlanner, Fake]:
    backend = Fake(*answers, **options)
    return VLMPlanner(backend, points=FamilyPoints(backend, get_adapter(family))), backend


POINTING = [name for name in adapter_names() if name != "moka"]


@pytest.mark.parametrize("family", POINTING)
def test_every_family_finds_the_thing_that_it_points_at(
    family: str, scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]]
) -> None:
    """Its own text, written by its own adapter for the size that was really sent, comes back to the very pixel."""
    observation, (u, v), mug_w = scene
    frame, adapter = observation.frame("front"), get_adapter(family)
    image = image_ref(frame)
    sent = ImageSize(364, 280) if adapter.convention.relative_to == "sent" else None
    meant: Any = Keypoints(image=image, points=(Keypoint(label="red mug", u=u, v=v),))
    if "keypoints" not in adapter.kinds:
        meant = Waypoints2D(image=image, points=(Waypoint2D(u=128.0, v=35.0), Waypoint2D(u=u, v=v)))
    text = adapter.render(meant, sent=sent)
    size = (sent.width, sent.height) if sent else (frame.width, frame.height)
    planner, backend = planner_with(family, PLAN, text, size=size)
    plan = planner.plan(observation, "pick up the mug", PlannerContext(skills=SKILLS))
    assert isinstance(plan, Plan) and planner.rejected == ()
    points = plan.steps[0].artifacts[0]
    assert isinstance(points, Keypoints) and points.image == image and points.points[0].label == "red mug"
    step_px = {"robobrain-2.0": 1.0, "qwen2.5-vl": 1.0, "hamster": 2.0, "molmoact": 1.0}.get(family, 0.7)
    assert np.hypot(points.points[0].u - u, points.points[0].v - v) < step_px
    note = points.provenance
    assert note is not None and note.raw_text == text and note.sampling["family"] == family
    (question,), shown, schema = backend.asked[1]
    assert schema is None and shown is frame.rgb
    assert "pick up the red mug" in question.text and adapter.instructions(adapter.kinds[0]) in question.text
    grounded = planner.ground(observation, plan.steps[0]).artifacts[0]
    assert isinstance(grounded, Keypoints) and grounded.points[0].position_w is not None
    assert np.hypot(*(np.array(grounded.points[0].position_w) - mug_w)[:2]) < 0.06


def test_an_answer_for_another_size_is_noticed(
    scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]],
) -> None:
    observation, (u, v), _ = scene
    image = image_ref(observation.frame("front"))
    meant = Keypoints(image=image, points=(Keypoint(label="red mug", u=u, v=v),))
    big = get_adapter("qwen2.5-vl").render(meant, sent=ImageSize(1092, 840))
    planner, _ = planner_with("qwen2.5-vl", PLAN, big, big, big, size=(364, 280))
    plan = planner.plan(observation, "pick up the mug", PlannerContext(skills=SKILLS))
    assert isinstance(plan, Plan) and plan.steps[0].artifacts == ()
    assert len(planner.rejected) == 3 and "outside of the sent image" in planner.rejected[0].problem
    with pytest.raises(GroundingError, match="no point"):
        planner.ground(observation, plan.steps[0])


def test_malformed_text_is_kept_told_and_asked_for_again(
    scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]],
) -> None:
    observation, (u, v), _ = scene
    image = image_ref(observation.frame("front"))
    good = get_adapter("qwen3-vl").render(Keypoints(image=image, points=(Keypoint(label="mug", u=u, v=v),)))
    gemini = '[{"point": [376, 508], "label": "mug"}]'
    planner, backend = planner_with("qwen3-vl", PLAN, "I see a mug.", gemini, good)
    plan = planner.plan(observation, "pick up the mug", PlannerContext(skills=SKILLS))
    assert isinstance(plan, Plan)
    assert [r.raw_text for r in planner.rejected] == ["I see a mug.", gemini]
    assert "no JSON list" in planner.rejected[0].problem and "Gemini's" in planner.rejected[1].problem
    points = plan.steps[0].artifacts[0]
    assert points.provenance is not None and points.provenance.attempts == 3
    turns = backend.asked[-1][0]
    assert [m.role for m in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[1].text == "I see a mug." and "axes are in another order" in turns[4].text
    # Nothing there is an answer and no mistake; then there is nothing to follow the plan with.
    planner, _ = planner_with("qwen3-vl", "[]")
    assert planner.refresh(observation, plan, PlannerContext(skills=SKILLS)) is None and planner.rejected == ()


def test_the_kind_that_is_wanted_is_asked_for_where_the_family_writes_it(
    scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]],
) -> None:
    observation, (u, v), mug_w = scene
    image, adapter = image_ref(observation.frame("front")), get_adapter("gemini-robotics-er")
    box = Boxes(image=image, boxes=(Box(label="mug", u_min=u - 8, v_min=v - 10, u_max=u + 8, v_max=v + 10),))
    planner, backend = planner_with("gemini-robotics-er", PLAN, adapter.render(box))
    assert isinstance(planner.points, KindStrategy) and {"boxes", "waypoints_2d", "value_map"} < set(planner.kinds)
    plan = planner.plan(observation, "a", PlannerContext(skills=SKILLS, emit="boxes"))
    assert isinstance(plan, Plan) and [a.kind for a in plan.steps[0].artifacts] == ["boxes"]
    assert adapter.instructions("boxes") in backend.asked[1][0][0].text
    grounded = planner.ground(observation, plan.steps[0])
    assert [a.kind for a in grounded.artifacts] == ["boxes", "keypoints"]
    path = Waypoints2D(
        image=image,
        points=(Waypoint2D(u=129.6, v=34.7), Waypoint2D(u=u, v=v - 30), Waypoint2D(u=u, v=v, gripper="close")),
    )
    planner, _ = planner_with("gemini-robotics-er", PLAN, adapter.render(path))
    plan = planner.plan(observation, "a", PlannerContext(skills=SKILLS, emit="waypoints_2d"))
    assert isinstance(plan, Plan)
    drawn, lifted = planner.ground(observation, plan.steps[0]).artifacts
    assert isinstance(drawn, Waypoints2D) and isinstance(lifted, Waypoints3D)
    hand = observation.proprio.ee_position
    assert np.linalg.norm(np.array(lifted.points[0].position_w) - hand) < 1e-6, "a path from the hand begins there"
    assert np.hypot(*(np.array(lifted.points[2].position_w) - mug_w)[:2]) < 0.06
    # A family that writes points only: depth and the arm's state make the rest of a kind.
    meant = Keypoints(image=image, points=(Keypoint(label="mug", u=u, v=v),))
    planner, _ = planner_with("molmo", PLAN, get_adapter("molmo").render(meant))
    assert "boxes" not in planner.kinds
    plan = planner.plan(observation, "a", PlannerContext(skills=SKILLS, emit="waypoints_3d"))
    assert isinstance(plan, Plan) and [a.kind for a in plan.steps[0].artifacts] == ["waypoints_3d"]
    with pytest.raises(UnknownNameError, match="boxes"):
        FamilyPoints(Fake(), get_adapter("molmo")).find_kind(observation.frame("front"), STEP, "boxes")


def test_text_only_is_found_when_its_turn_comes(
    scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]],
) -> None:
    observation, (u, v), _ = scene
    image = image_ref(observation.frame("front"))
    text = get_adapter("molmo2").render(Keypoints(image=image, points=(Keypoint(label="mug", u=u, v=v),)))
    planner, backend = planner_with("molmo2", PLAN, text)
    plan = planner.plan(observation, "a", PlannerContext(skills=SKILLS, emit="subtasks"))
    assert isinstance(plan, Plan) and [a.kind for a in plan.steps[0].artifacts] == ["subtasks"]
    assert [a.kind for a in plan.scene] == ["subtasks"] and len(backend.asked) == 1
    fresh = planner.refresh(observation, plan, PlannerContext(skills=SKILLS, emit="subtasks"))
    assert fresh is not None and len(backend.asked) == 1
    assert [a.kind for a in planner.ground(observation, fresh.steps[0]).artifacts] == ["subtasks", "keypoints"]


@pytest.mark.parametrize(
    ("name", "model_type", "family"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", "qwen2.5-vl"),
        ("my-tune", "qwen2_5_vl", "qwen2.5-vl"),
        ("BAAI/RoboBrain2.0-7B", "qwen2_5_vl", "robobrain-2.0"),
        ("qwen3-vl-8b", "", "qwen3-vl"),
        ("allenai/MolmoAct-7B-D", "", "molmoact"),
        ("allenai/Molmo2-8B", "", "molmo2"),
        ("Molmo-7B-D-0924", "", "molmo"),
        ("gemini-robotics-er-1.5-preview", "", "gemini-robotics-er"),
        ("SmolVLM-Instruct", "idefics3", None),
        ("molmo/llava", "llava", None),
    ],
)
def test_families_that_are_certain(name: str, model_type: str, family: str | None) -> None:
    assert family_of(name, model_type) == family


@pytest.mark.parametrize("family", list(families.POINTING))
def test_checkpoints_with_random_weights(
    family: str, tmp_path: Path, scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]]
) -> None:
    """The family follows from config.json, the size from the processor; whatever it mumbles is rejected by name."""
    torch.set_num_threads(1)
    observation, _, _ = scene
    frame = observation.frame("front")
    folder = families.make(family, tmp_path / "tiny")
    sampling = Sampling(max_tokens=24, temperature=1.0)
    planner = make_planner(f"transformers:{folder}", device="cpu", sampling=sampling, repairs=1)
    assert isinstance(planner, VLMPlanner) and isinstance(planner.points, FamilyPoints)
    assert planner.points.adapter.family == family
    backend = planner.backend
    assert isinstance(backend, TransformersBackend)
    inputs = backend._inputs([Message("user", "?")], [frame.rgb])
    _, rows, columns = inputs["image_grid_thw"][0].tolist()
    patch = 14 if family == "qwen2.5-vl" else 16
    assert backend.sent_size(frame.rgb) == (columns * patch, rows * patch) != (frame.width, frame.height)
    assert planner.points.find(frame, STEP) == () and len(planner.points.rejected) == 2
    assert all(r.raw_text and r.problem for r in planner.points.rejected)
    again = make_planner(f"{folder}?points=answer", device="cpu")
    assert isinstance(again, VLMPlanner) and again.points is None
    other = make_planner(f"transformers:{folder}?points=molmo", device="cpu")
    assert isinstance(other, VLMPlanner) and isinstance(other.points, FamilyPoints)
    assert other.points.adapter.family == "molmo"


def test_a_processor_that_crops_is_refused(
    tmp_path: Path, scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]]
) -> None:
    torch.set_num_threads(1)
    frame = scene[0].frame("front")
    planner = make_planner(f"{families.make('llava', tmp_path / 'llava')}?points=robopoint", device="cpu")
    assert isinstance(planner, VLMPlanner) and isinstance(planner.points, FamilyPoints)
    with pytest.raises(BackendError, match="crops images of 256 x 192 px"):
        planner.points.find(frame, STEP)


def test_a_server_is_sent_the_size_that_its_family_counts_in(
    scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]],
) -> None:
    observation, (u, v), _ = scene
    frame = observation.frame("front")
    meant = Keypoints(image=image_ref(frame), points=(Keypoint(label="red mug", u=u, v=v),))
    size = smart_resize(frame.width, frame.height)
    text = get_adapter("qwen2.5-vl").render(meant, sent=size)
    with Scripted(Reply(streamed(PLAN)), Reply(streamed(text))) as server:
        planner = make_planner(f"openai:Qwen2.5-VL-7B@{server.url}", timeout_s=5.0)
        plan = planner.plan(observation, "pick up the mug", PlannerContext(skills=SKILLS))
    assert isinstance(plan, Plan)
    points = plan.steps[0].artifacts[0]
    assert isinstance(points, Keypoints) and np.hypot(points.points[0].u - u, points.points[0].v - v) < 1.0
    assert "response_format" in server.bodies[0] and "response_format" not in server.bodies[1]
    url = server.bodies[1]["messages"][0]["content"][0]["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))
    assert picture.size == (size.width, size.height) == (252, 196)


def test_names_of_families() -> None:
    backend = make_planner("openai:m@http://127.0.0.1:9/v1?points=Molmo")
    assert isinstance(backend, VLMPlanner) and isinstance(backend.points, FamilyPoints)
    assert isinstance(backend.backend, ServerBackend) and backend.backend.base_url == "http://127.0.0.1:9/v1"
    plain = make_planner("openai:m@http://127.0.0.1:9/v1")
    assert isinstance(plain, VLMPlanner) and plain.points is None
    with pytest.raises(PlannerNameError, match="'malmo' is no pointing family"):
        make_planner("openai:m@http://127.0.0.1:9/v1?points=malmo")
    with pytest.raises(PlannerNameError, match="points by itself"):
        make_planner("embedded?points=molmo")


def test_a_plan_that_is_refused_asks_for_no_point(
    scene: tuple[Observation, tuple[float, float], np.ndarray[Any, Any]],
) -> None:
    no = {"refuse": "cannot_do", "message": "I cannot fly."}
    planner, backend = planner_with("qwen3-vl", json.dumps({"seen": [], "answer": no}))
    assert isinstance(planner.plan(scene[0], "fly", PlannerContext(skills=SKILLS)), Refusal)
    assert len(backend.asked) == 1
