"""The vocabulary is frozen, strict, closed, versioned, and survives JSON bit for bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from hiervla.representations import (
    ARTIFACT_ADAPTER,
    SCHEMA_TYPES,
    ActionChunk,
    AffordanceMap,
    Box,
    Boxes,
    CameraError,
    CameraFrame,
    Constraint,
    Constraints,
    ImageRef,
    JointCommand,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Observation,
    Plan,
    Program,
    Proprioception,
    Step,
    SubtaskList,
    UnknownNameError,
    ValueMap,
    Waypoint2D,
    Waypoint3D,
    Waypoints2D,
    Waypoints3D,
    json_schemas,
)

IMAGE = ImageRef(camera="front", sha256="0" * 64, width=256, height=192, time_s=0.0)


def frame(**changes: Any) -> CameraFrame:
    fields: dict[str, Any] = {
        "name": "front",
        "rgb": np.zeros((4, 6, 3), np.uint8),
        "depth_m": np.ones((4, 6), np.float32),
        "K": np.array([[5.0, 0, 3], [0, 5, 2], [0, 0, 1]]),
        "T_world_camera": np.eye(4),
        "time_s": 0.5,
    }
    return CameraFrame(**{**fields, **changes})


def proprio() -> Proprioception:
    return Proprioception(q=np.zeros(7), dq=np.zeros(7), T_world_ee=np.eye(4), gripper_width_m=0.08, time_s=0.0)


ARTIFACTS: list[Any] = [
    SubtaskList(subtasks=("open", "take"), depends_on=((1, 0),)),
    Keypoints(image=IMAGE, points=(Keypoint(label="mug", u=3.5, v=4.0, position_w=(0.4, 0.0, 0.05)),)),
    Boxes(image=IMAGE, boxes=(Box(label="mug", u_min=1, v_min=2, u_max=3, v_max=4),)),
    AffordanceMap(image=IMAGE, label="mug", values=np.full((2, 2), 0.25, np.float32)),
    Waypoints2D(image=IMAGE, points=(Waypoint2D(u=1, v=1, gripper="close"),)),
    Waypoints3D(points=(Waypoint3D(position_w=(0.4, 0, 0.1), quaternion_wxyz=(1.0, 0, 0, 0)),)),
    LanguageMotion(text="a bit to the left", translation_m=(0, 0.02, 0)),
    ValueMap(label="near", origin_w=(0, 0, 0), resolution_m=0.1, values=np.zeros((2, 2, 2), np.float32)),
    Constraints(
        keypoints=(Keypoint(label="spout", u=1, v=1),),
        constraints=(Constraint(stage=0, during="subgoal", relation="above", keypoint=0, distance_m=0.1),),
    ),
    Program(source="pick('red mug')"),
]


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda a: a.kind)
def test_artifacts_survive_json(artifact: Any) -> None:
    again = ARTIFACT_ADAPTER.validate_json(artifact.to_json())
    assert again == artifact
    assert type(again) is type(artifact)
    assert json.loads(artifact.to_json())["version"] == 1


def test_union_is_complete_and_knows_every_kind() -> None:
    assert {a.kind for a in ARTIFACTS} == {
        "subtasks", "keypoints", "boxes", "affordance_map", "waypoints_2d", "waypoints_3d", "language_motion",
        "value_map", "constraints", "program",
    }  # fmt: skip
    with pytest.raises(ValidationError, match="kind"):
        ARTIFACT_ADAPTER.validate_json('{"kind": "telepathy"}')


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda a: a.kind)
def test_artifacts_refuse_unknown_fields_other_versions_and_changes(artifact: Any) -> None:
    fields = json.loads(artifact.to_json())
    with pytest.raises(ValidationError, match="extra_forbidden|Extra inputs"):
        ARTIFACT_ADAPTER.validate_json(json.dumps({**fields, "surprise": 1}))
    with pytest.raises(ValidationError, match="version"):
        ARTIFACT_ADAPTER.validate_json(json.dumps({**fields, "version": 2}))
    with pytest.raises(ValidationError, match="frozen"):
        artifact.version = 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Keypoints(image=IMAGE, points=(Keypoint(label="mug", u=300.0, v=4.0),)), "outside image"),
        (lambda: Keypoints(image=IMAGE, points=(Keypoint(label="mug", u=float("nan"), v=4.0),)), "finite"),
        (lambda: Boxes(image=IMAGE, boxes=(Box(label="b", u_min=5, v_min=2, u_max=3, v_max=4),)), "swapped"),
        (lambda: AffordanceMap(image=IMAGE, label="m", values=np.ones((2, 2), np.float32)), "sum is not 1"),
        (lambda: Waypoint3D(position_w=(0, 0, 0), quaternion_wxyz=(1.0, 1.0, 0, 0)), "unit quaternion"),
        (lambda: SubtaskList(subtasks=("a",), depends_on=((0, 0),)), "dependency"),
        (lambda: frame(depth_m=np.ones((3, 6), np.float32)), "depth_m is"),
        (lambda: frame(rgb=np.zeros((4, 6), np.uint8)), "shape is"),
        (lambda: frame(rgb=np.zeros((4, 6, 3), np.float32)), "dtype is"),
        (lambda: frame(T_world_camera=np.diag([1.0, 1, -1, 1])), "rigid"),
        (lambda: frame(K=np.zeros((3, 3))), "focal"),
        (lambda: Observation(frames=(frame(), frame()), proprio=proprio(), time_s=0.0), "same camera name"),
        (lambda: JointCommand(q=np.zeros(7), dq=np.zeros(6), gripper_width_m=0.0, time_s=0.0), "dq is"),
        (
            lambda: ActionChunk(
                positions=np.zeros((4, 3)), yaws=np.zeros(3), gripper=np.zeros(4), rate_hz=10, observed_at_s=0.0
            ),
            "same, non-zero horizon",
        ),
        (
            lambda: ActionChunk(
                positions=np.full((1, 3), np.nan), yaws=np.zeros(1), gripper=np.zeros(1), rate_hz=10, observed_at_s=0.0
            ),
            "NaN",
        ),
    ],
)
def test_broken_values_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make()


def test_arrays_are_read_only_and_detached_from_the_callers() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    taken = frame(rgb=pixels)
    pixels[:] = 7
    assert taken.rgb.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        taken.rgb[0, 0, 0] = 1


def test_frames_are_content_addressed() -> None:
    assert frame().sha256 == frame(time_s=9.0).sha256
    assert frame().sha256 != frame(rgb=np.ones((4, 6, 3), np.uint8)).sha256


def test_observation_survives_json_and_names_a_missing_camera() -> None:
    observation = Observation(frames=(frame(),), proprio=proprio(), time_s=0.5)
    assert Observation.from_json(observation.to_json()) == observation
    with pytest.raises(CameraError, match=r"camera 'wrist': is not in this observation, which has \['front'\]"):
        observation.frame("wrist")
    with pytest.raises(CameraError, match="gives no depth"):
        frame(depth_m=None).require_depth()


def test_an_encoded_array_that_lies_about_its_size_is_refused() -> None:
    fields = json.loads(frame().to_json())
    fields["K"]["shape"] = [3, 4]
    with pytest.raises(ValidationError, match="encoded array holds"):
        CameraFrame.from_json(json.dumps(fields))
    fields["K"] = {"dtype": "float64", "shape": [99999, 99999], "zlib_base64": ""}
    with pytest.raises(ValidationError, match="unusable dtype or size"):
        CameraFrame.from_json(json.dumps(fields))


def steps(*names: str) -> tuple[Step, ...]:
    return tuple(Step(id=n, skill="pick", args={"object": "red mug"}) for n in names)


def test_a_plan_parts_its_steps_and_has_no_circle() -> None:
    plan = Plan(goal="g", steps=steps("a", "b"), done=("a",), remaining=("b",))
    assert plan.step("b").skill == "pick"
    with pytest.raises(ValidationError, match="do not part the steps"):
        Plan(goal="g", steps=steps("a", "b"), done=("a",), remaining=())
    with pytest.raises(ValidationError, match="same id"):
        Plan(goal="g", steps=steps("a", "a"), remaining=("a", "a"))
    a, b = steps("a", "b")
    with pytest.raises(ValidationError, match="circle"):
        circle = (a.replace(depends_on=("b",)), b.replace(depends_on=("a",)))
        Plan(goal="g", steps=circle, remaining=("a", "b"))
    with pytest.raises(ValidationError, match="ordered before"):
        Plan(goal="g", steps=(a.replace(depends_on=("b",)), b), remaining=("a", "b"))
    with pytest.raises(ValidationError, match="not in the plan"):
        Plan(goal="g", steps=(a.replace(depends_on=("z",)),), remaining=("a",))


def test_replace_validates() -> None:
    plan = Plan(goal="g", steps=steps("a"), remaining=("a",))
    with pytest.raises(ValidationError):
        plan.replace(remaining=("b",))


@pytest.mark.parametrize("name", SCHEMA_TYPES)
def test_schemas_are_exported_and_described(name: str) -> None:
    schema = json_schemas(name)[name]
    assert schema == TypeAdapter(SCHEMA_TYPES[name]).json_schema(mode="serialization")
    assert json.dumps(schema)


def test_unknown_schema_is_named_with_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="unknown schema 'artefact'. Did you mean 'artifact'"):
        json_schemas("artefact")
