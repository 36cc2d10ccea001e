"""The planner that ships: honest errors, honest refusals, and plans for easy scenes. No test needs an exact answer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from hiervla.planner.base import GroundingError, PlannerContext, StepRecord, make_planner
from hiervla.planner.embedded.planner import EmbeddedPlanner
from hiervla.representations import (
    AffordanceMap,
    CameraError,
    CheckpointError,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Refusal,
    Step,
    UnknownNameError,
)
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld
from tests import records
from tests.planner import tiny

INSTRUCTION = "put the red mug on the top shelf"
CONTEXT = PlannerContext(skills=tiny.signatures())
SEEDS = (3, 5, 8, 13)


@dataclass(frozen=True)
class Room:
    """What the camera shows, and for the judge alone: where the red mug is in the image, and all names."""

    observation: Observation
    mug: NDArray[np.bool_]
    names: frozenset[str]


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    """Scenes with a red mug on the table, and no other mug."""
    found = []
    for seed in SEEDS:
        scene = sample_scene(
            seed, n_objects=4, require=[("mug", "red", "table")], spill=False, drawer_open=False, stacks=0,
            shelf_prob=0.0, same_category=False,
        )  # fmt: skip
        with TabletopWorld(scene, cameras=("front",)) as world:
            mask = GroundTruth(world).segmentation("front").mask("mug_0")
            assert mask.sum() > 30
            names = frozenset(f"{o.colour} {o.category}" for o in scene.objects)
            found.append(Room(world.observe(), np.asarray(mask), names))
    return found


@pytest.fixture(scope="module")
def shipped() -> EmbeddedPlanner:
    return EmbeddedPlanner()


@pytest.fixture(scope="module")
def plans(shipped: EmbeddedPlanner, rooms: list[Room]) -> list[Plan | Refusal]:
    return [shipped.plan(r.observation, INSTRUCTION, CONTEXT) for r in rooms]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint that can be damaged."""
    folder = tmp_path / "my weights"
    tiny.planner(0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_easy_instructions_get_plans_that_begin_with_the_right_thing(
    plans: list[Plan | Refusal], rooms: list[Room]
) -> None:
    hits = 0
    for plan, room in zip(plans, rooms, strict=True):
        if not isinstance(plan, Plan) or not plan.steps:
            continue
        assert plan.goal == INSTRUCTION
        assert plan.remaining == tuple(s.id for s in plan.steps)
        first = plan.steps[0]
        point = keypoint(first)
        on_mug = near(room.mug, point.u, point.v)
        hits += first.skill == "pick" and first.args["object"] == "red mug" and on_mug
        assert not near(room.mug, point.u + 60, point.v - 60), "the check can fail"
    assert hits >= len(rooms) - 1


def test_a_plan_names_its_image_its_prompt_and_its_words(plans: list[Plan | Refusal], rooms: list[Room]) -> None:
    for plan, room in zip(plans, rooms, strict=True):
        assert plan.provenance is not None
        assert plan.provenance.model.startswith("hiervla-embedded@")
        assert plan.provenance.raw_text
        assert plan.provenance.prompt_sha256 is not None
        assert plan.provenance.latency_s is not None
        if not isinstance(plan, Plan):
            continue
        frame = room.observation.frame("front")
        artifacts = [*plan.scene, *(a for s in plan.steps for a in s.artifacts)]
        assert artifacts
        for artifact in artifacts:
            image = artifact.image  # type: ignore[union-attr]
            assert (image.camera, image.sha256, image.width, image.height) == ("front", frame.sha256, 256, 192)
        for step in plan.steps:
            for a in step.artifacts:
                if isinstance(a, AffordanceMap):
                    assert float(a.values.sum()) == pytest.approx(1.0, abs=1e-3)
    assert len({p.provenance.prompt_sha256 for p in plans if p.provenance}) == 1
    assert len({r.observation.frame("front").sha256 for r in rooms}) == len(rooms)


def test_the_prompt_hash_follows_the_words(
    shipped: EmbeddedPlanner, plans: list[Plan | Refusal], rooms: list[Room]
) -> None:
    other = shipped.plan(rooms[0].observation, "tidy up", CONTEXT)
    assert other.provenance is not None
    assert plans[0].provenance is not None
    assert other.provenance.prompt_sha256 != plans[0].provenance.prompt_sha256


def test_the_same_question_has_the_same_answer(
    shipped: EmbeddedPlanner, plans: list[Plan | Refusal], rooms: list[Room]
) -> None:
    again = shipped.plan(rooms[0].observation, INSTRUCTION, CONTEXT)
    assert timeless(again) == timeless(plans[0])
    assert timeless(plans[1]) != timeless(plans[0])


def test_what_is_not_there_is_named(shipped: EmbeddedPlanner, rooms: list[Room]) -> None:
    named = 0
    for room in rooms:
        absent = next(f"{c} can" for c in ("purple", "green", "blue", "yellow") if f"{c} can" not in room.names)
        answer = shipped.plan(room.observation, f"put the {absent} on the top shelf", CONTEXT)
        if isinstance(answer, Refusal) and answer.reason == "not_in_scene":
            assert answer.seen
            assert all(m in answer.message for m in answer.missing)
            named += any("can" in m for m in answer.missing)
    assert named >= len(rooms) - 1


def test_an_empty_instruction_is_declined_as_such(shipped: EmbeddedPlanner, rooms: list[Room]) -> None:
    for text in ("", "  \n\t "):
        answer = shipped.plan(rooms[0].observation, text, CONTEXT)
        assert isinstance(answer, Refusal)
        assert answer.reason == "empty_instruction"
        assert answer.seen
    spoken = shipped.plan(rooms[0].observation, "hello", CONTEXT)
    assert not (isinstance(spoken, Refusal) and spoken.reason == "empty_instruction")


@pytest.mark.parametrize("text", ["赤いマグカップ", "🤖" * 50, "put " * 200, '"}],"done":[', "<plan><eos> o3 h1"])
def test_strange_instructions_get_an_answer(shipped: EmbeddedPlanner, rooms: list[Room], text: str) -> None:
    answer = shipped.plan(rooms[0].observation, text, CONTEXT)
    assert isinstance(answer, Plan | Refusal)
    if isinstance(answer, Plan):
        assert {s.skill for s in answer.steps} <= {s.name for s in CONTEXT.skills}


def test_only_live_skills_are_planned(shipped: EmbeddedPlanner, rooms: list[Room]) -> None:
    few = PlannerContext(skills=tuple(s for s in CONTEXT.skills if s.name in {"open_drawer", "close_drawer"}))
    answer = shipped.plan(rooms[0].observation, INSTRUCTION, few)
    assert isinstance(answer, Refusal) or {s.skill for s in answer.steps} <= {"open_drawer", "close_drawer"}
    none = shipped.plan(rooms[0].observation, INSTRUCTION, PlannerContext())
    assert isinstance(none, Refusal)


def test_what_succeeded_is_done_in_the_next_plan(
    shipped: EmbeddedPlanner, plans: list[Plan | Refusal], rooms: list[Room]
) -> None:
    step = first_step(plans)
    for outcome, done in (("succeeded", 1), ("gave_up", 0)):
        history = (StepRecord(step, outcome, "table"),)  # type: ignore[arg-type]
        answer = shipped.plan(rooms[0].observation, INSTRUCTION, PlannerContext(history, CONTEXT.skills))
        if isinstance(answer, Plan):
            assert len(answer.done) == done
            assert [answer.step(d).skill for d in answer.done] == [step.skill] * done


def test_a_missing_camera_is_named(shipped: EmbeddedPlanner, rooms: list[Room]) -> None:
    seen = rooms[0].observation
    blind = seen.replace(frames=tuple(f.replace(name="wrist") for f in seen.frames))
    with pytest.raises(CameraError, match="'front'"):
        shipped.plan(blind, INSTRUCTION, CONTEXT)
    with pytest.raises(CameraError, match="'ceiling'"):
        EmbeddedPlanner(camera="ceiling").plan(seen, INSTRUCTION, CONTEXT)
    colour = seen.replace(frames=tuple(f.replace(depth_m=None) for f in seen.frames))
    assert shipped.plan(colour, INSTRUCTION, CONTEXT), "a plan needs no depth"


def test_a_step_is_grounded_on_its_thing_and_nowhere_else(
    shipped: EmbeddedPlanner, plans: list[Plan | Refusal], rooms: list[Room]
) -> None:
    grounded = 0
    for plan, room in zip(plans, rooms, strict=True):
        if not isinstance(plan, Plan) or not near(room.mug, keypoint(plan.steps[0]).u, keypoint(plan.steps[0]).v):
            continue
        step, seen = plan.steps[0], room.observation
        position = keypoint(shipped.ground(seen, step)).position_w
        assert position is not None
        assert 0.3 < position[0] < 0.7
        assert 0.005 < position[2] < 0.12
        for u, v, problem in ((250.0, 185.0, "away|outside|table"), (128.0, 2.0, "away|outside|depth|table")):
            with pytest.raises(GroundingError, match=problem) as caught:
                shipped.ground(seen, moved(step, u, v))
            assert caught.value.step == step.id
        grounded += 1
    assert grounded >= len(rooms) - 1


def test_a_keypoint_of_another_image_is_not_grounded(
    shipped: EmbeddedPlanner, plans: list[Plan | Refusal], rooms: list[Room]
) -> None:
    step, seen = first_step(plans), rooms[0].observation
    frame = seen.frames[0]
    other = seen.replace(frames=(frame.replace(rgb=np.flip(frame.rgb, 0).copy()),))
    with pytest.raises(GroundingError, match="another image"):
        shipped.ground(other, step)
    with pytest.raises(GroundingError, match="no point"):
        shipped.ground(seen, step.replace(artifacts=()))
    with pytest.raises(CameraError, match="depth"):
        shipped.ground(seen.replace(frames=(frame.replace(depth_m=None),)), step)


def test_a_point_in_a_hole_or_far_away_is_not_grounded(shipped: EmbeddedPlanner) -> None:
    seen = records.observation(0, cameras=("front",))
    frame = seen.frames[0]
    place = Step(
        id="s2", skill="place", args={"object": "red mug", "relation": "at", "target": "table"},
        artifacts=records.artifacts(frame, "table", 32.0, 24.0)[1:2],
    )  # fmt: skip
    assert keypoint(shipped.ground(seen, place)).position_w is not None
    depth = frame.require_depth().copy()
    depth[20:28, 28:36] = 0.0
    with pytest.raises(GroundingError, match="s2.*no depth"):
        shipped.ground(seen.replace(frames=(frame.replace(depth_m=depth),)), place)
    depth[20:28, 28:36] = 0.3
    with pytest.raises(GroundingError, match="outside of the workspace"):
        shipped.ground(seen.replace(frames=(frame.replace(depth_m=depth),)), place)


def test_a_whole_checkpoint_is_read(checkpoint: Path) -> None:
    planner = EmbeddedPlanner(checkpoint)
    answer = planner.plan(records.observation(0), INSTRUCTION, CONTEXT)
    assert isinstance(answer, Plan | Refusal)
    assert planner.id != EmbeddedPlanner().id
    assert EmbeddedPlanner(checkpoint).id == planner.id == make_planner(str(checkpoint)).id


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match="model.safetensors") as caught:
            EmbeddedPlanner(folder)
        assert str(folder) in str(caught.value)
    with pytest.raises(UnknownNameError, match="nowhere"):
        make_planner(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("left", [0, 5, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(checkpoint: Path, left: float) -> None:
    weights = checkpoint / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(CheckpointError) as caught:
        EmbeddedPlanner(checkpoint)
    assert str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("damage", ["shape", "missing", "unknown"])
def test_weights_that_do_not_fit_are_named(checkpoint: Path, damage: str) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    name = "language.norm.weight"
    if damage == "shape":
        weights[name] = torch.ones(7)
    elif damage == "missing":
        del weights[name]
    else:
        weights["language.soul"] = torch.ones(7)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        EmbeddedPlanner(checkpoint)
    assert str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_broken_file_beside_the_weights_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text("{")
    with pytest.raises(CheckpointError) as caught:
        EmbeddedPlanner(checkpoint)
    assert str(checkpoint) in str(caught.value)
    shutil.rmtree(checkpoint)
    with pytest.raises(CheckpointError):
        EmbeddedPlanner(checkpoint)


def keypoint(step: Step) -> Keypoint:
    """The step's first keypoint."""
    return next(a for a in step.artifacts if isinstance(a, Keypoints)).points[0]


def first_step(plans: list[Plan | Refusal]) -> Step:
    """A first step that some plan has, of the first room if there is one."""
    return next(p.steps[0] for p in plans if isinstance(p, Plan) and p.steps)


def moved(step: Step, u: float, v: float) -> Step:
    """The step with its keypoint elsewhere."""
    shifted = tuple(
        a.replace(points=tuple(p.replace(u=u, v=v) for p in a.points)) if isinstance(a, Keypoints) else a
        for a in step.artifacts
    )
    return step.replace(artifacts=shifted)


def near(mask: NDArray[np.bool_], u: float, v: float, reach: int = 2) -> bool:
    """Whether the pixel, or one within `reach`, belongs to the mask."""
    row, column = int(v), int(u)
    part = mask[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    return bool(part.any())


def timeless(answer: Plan | Refusal) -> str:
    """The answer without its latency."""
    assert answer.provenance is not None
    return answer.replace(provenance=answer.provenance.replace(latency_s=None)).to_json()
