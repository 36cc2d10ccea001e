"""The planner around a model: what is asked, what is taken, what is sent back, and what a point has to stand on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.planner.base import GroundingError, Planner, PlannerContext, StepRecord, make_planner
from hiervla.planner.grounding import image_ref
from hiervla.planner.names import PlannerNameError
from hiervla.planner.vlm import Generation, Message, PointStrategy, Sampling, VLMPlanner
from hiervla.planner.vlm.answers import AnswerError, answer_schema, read_answer
from hiervla.planner.vlm.errors import UnreadableAnswerError
from hiervla.representations import (
    Artifact,
    CameraError,
    CameraFrame,
    Keypoint,
    Keypoints,
    Observation,
    Parameter,
    Plan,
    Refusal,
    SkillSignature,
    Step,
    UnknownNameError,
)
from hiervla.skills import SkillLibrary
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.specs import BIN_HEIGHT
from hiervla.worlds.tabletop.world import TabletopWorld

SKILLS = SkillLibrary.load().signatures()
CONTEXT = PlannerContext(skills=SKILLS, seed=5)


def call(skill: str, x: int, y: int, **args: str) -> dict[str, Any]:
    return {"skill": skill, "args": args, "point": {"x": x, "y": y}}


def plan_text(*steps: Mapping[str, Any]) -> str:
    return json.dumps({"seen": ["red mug"], "answer": {"steps": list(steps)}})


MUG = plan_text(
    call("pick", 500, 400, object="Red mug"),
    call("place", 100, 250, object="red mug", relation="on", target="top shelf"),
)


class Fake:
    """A backend that gives these answers, in order."""

    id = "fake@1"

    def __init__(self, *answers: str, complete: bool = True) -> None:
        self.answers, self.complete = list(answers), complete
        self.asked: list[tuple[list[Message], list[np.ndarray[Any, Any]], Any, Sampling]] = []

    def generate(
        self, messages: Sequence[Message], images: Sequence[Any], schema: Mapping[str, Any] | None, sampling: Sampling
    ) -> Generation:
        self.asked.append((list(messages), list(images), schema, sampling))
        return Generation(self.answers.pop(0), self.id, 0.01, "none", complete=self.complete, tokens=9)


@pytest.fixture(scope="module")
def world() -> Iterator[TabletopWorld]:
    wishes = [("mug", "red", "table"), ("block", "blue", "table"), ("plate", "white", "table")]
    scene = sample_scene(11, require=wishes, n_objects=3, spill=False, drawer_open=False, stacks=0)
    with TabletopWorld(scene) as built:
        yield built


@pytest.fixture(scope="module")
def observation(world: TabletopWorld) -> Observation:
    return world.observe(["front"])


def test_a_plan(observation: Observation) -> None:
    backend = Fake(MUG)
    planner = VLMPlanner(backend)
    assert isinstance(planner, Planner) and planner.id == "fake@1"
    plan = planner.plan(observation, "put the red mug on the top shelf", CONTEXT)
    assert isinstance(plan, Plan)
    pick, place = plan.steps
    assert (pick.skill, pick.args, pick.text) == ("pick", {"object": "red mug"}, "pick up the red mug")
    assert place.args == {"object": "red mug", "relation": "on", "target": "top shelf"}
    assert place.depends_on == ("s1",) and plan.remaining == ("s1", "s2")
    frame = observation.frame("front")
    points = pick.artifacts[0]
    assert isinstance(points, Keypoints) and points.image == image_ref(frame)
    assert (points.points[0].u, points.points[0].v) == (0.5 * frame.width, 0.4 * frame.height)
    note = plan.provenance
    assert note is not None and note.raw_text == MUG and note.attempts == 1 and note.latency_s is not None
    assert note.sampling["seed"] == 5 and note.sampling["constrained"] == "none" and note.sampling["tokens"] == 9
    ((message,), (image,), schema, _) = backend.asked[0]
    assert "put the red mug on the top shelf" in message.text and image is frame.rgb
    assert schema == answer_schema(SKILLS)
    for skill in SKILLS:
        assert f"- {skill.name}(" in message.text and skill.doc in message.text


def test_the_prompt_hash_is_of_all_that_matters(observation: Observation) -> None:
    def hashed(text: str, context: PlannerContext = CONTEXT, seen: Observation = observation) -> str:
        note = VLMPlanner(Fake(MUG)).plan(seen, text, context).provenance
        assert note is not None and note.prompt_sha256 is not None
        return note.prompt_sha256

    frame = observation.frame("front")
    other = observation.replace(frames=(frame.replace(rgb=255 - frame.rgb),))
    hashes = [hashed("a"), hashed("b"), hashed("a", PlannerContext(skills=SKILLS[:2])), hashed("a", seen=other)]
    assert len(set(hashes)) == 4 and hashed("a") == hashes[0]


def test_what_was_tried_is_told_and_what_succeeded_is_done(observation: Observation) -> None:
    drawer = Step(id="s7", skill="open_drawer", args={"drawer": "drawer"}, text="open the drawer")
    history = (StepRecord(drawer, "succeeded"), StepRecord(drawer.replace(id="s8", text="open it"), "lost_object"))
    backend = Fake(MUG)
    plan = VLMPlanner(backend).plan(observation, "go on", PlannerContext(history, SKILLS))
    assert isinstance(plan, Plan)
    assert plan.done == ("s1",) and plan.remaining == ("s2", "s3") and plan.steps[0].skill == "open_drawer"
    text = backend.asked[0][0][0].text
    assert "1. open the drawer: succeeded" in text and "2. open it: lost object" in text


def test_a_refusal(observation: Observation) -> None:
    no = {"refuse": "not_in_scene", "message": "There is no green mug.", "missing": ["green mug"]}
    answer = VLMPlanner(Fake(json.dumps({"seen": ["red mug"], "answer": no}))).plan(observation, "a", CONTEXT)
    assert isinstance(answer, Refusal) and answer.reason == "not_in_scene"
    assert answer.missing == ("green mug",) and answer.seen == ("red mug",) and answer.provenance is not None


def test_a_model_may_ask_back_only_where_somebody_can_answer(observation: Observation) -> None:
    which = {"refuse": "ambiguous", "message": "Which mug do you mean?", "candidates": ["red mug", "blue mug"]}
    text = json.dumps({"seen": ["red mug", "blue mug"], "answer": which})
    asking = PlannerContext(skills=SKILLS, may_ask=True)
    backend = Fake(text)
    answer = VLMPlanner(backend).plan(observation, "take the mug", asking)
    assert isinstance(answer, Refusal) and answer.reason == "ambiguous" and answer.message == "Which mug do you mean?"
    assert answer.candidates == ("the red mug", "the blue mug")
    ((message,), _, schema, _) = backend.asked[0]
    assert '"ambiguous"' in message.text
    jsonschema.validate(json.loads(text), schema)
    quiet = Fake(text, MUG)
    planner = VLMPlanner(quiet)
    assert isinstance(planner.plan(observation, "take the mug", CONTEXT), Plan)
    ((message,), _, schema, _) = quiet.asked[0]
    assert "ambiguous" not in message.text and not jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))
    assert "nobody can be asked" in planner.rejected[0].problem


def test_nothing_is_asked_without_an_instruction(observation: Observation) -> None:
    answer = VLMPlanner(Fake()).plan(observation, " \n", CONTEXT)
    assert isinstance(answer, Refusal) and answer.reason == "empty_instruction"


def test_an_answer_that_cannot_be_taken_is_told_why_and_asked_for_again(observation: Observation) -> None:
    backend = Fake("Sure! First", plan_text(call("fly", 1, 1)), MUG)
    planner = VLMPlanner(backend)
    plan = planner.plan(observation, "a", CONTEXT)
    assert isinstance(plan, Plan) and plan.provenance is not None and plan.provenance.attempts == 3
    assert [r.raw_text for r in planner.rejected] == ["Sure! First", plan_text(call("fly", 1, 1))]
    assert "no JSON" in planner.rejected[0].problem and "'fly'" in planner.rejected[1].problem
    turns = backend.asked[2][0]
    assert [m.role for m in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[1].text == "Sure! First" and "'fly'" in turns[4].text and "'pick'" in turns[4].text


def test_repairs_are_bounded_and_everything_is_on_record(observation: Observation) -> None:
    planner = VLMPlanner(Fake(*["no"] * 9), repairs=1)
    with pytest.raises(UnreadableAnswerError, match=r"'fake@1' gives no answer: .* 2 attempts\. Use") as told:
        planner.plan(observation, "a", CONTEXT)
    assert len(planner.rejected) == 2 and not told.value.passing
    cut = VLMPlanner(Fake(MUG, complete=False), repairs=0)
    with pytest.raises(UnreadableAnswerError, match="in 1 attempt"):
        cut.plan(observation, "a", CONTEXT)
    assert "cut off after 1536 tokens" in cut.rejected[0].problem


def test_following_a_plan_asks_for_the_next_point_only(observation: Observation) -> None:
    backend = Fake(MUG, "nonsense", '{"point": {"x": 250, "y": 500}}', '{"point": null}')
    planner = VLMPlanner(backend)
    plan = planner.plan(observation, "a", CONTEXT)
    assert isinstance(plan, Plan)
    fresh = planner.refresh(observation, plan, CONTEXT)
    assert fresh is not None and len(planner.rejected) == 1
    points = fresh.steps[0].artifacts[0]
    assert isinstance(points, Keypoints) and points.points[0].u == 0.25 * points.image.width
    assert fresh.steps[1].artifacts == () and [s.id for s in fresh.steps] == ["s1", "s2"]
    assert "pick up the red mug" in backend.asked[1][0][0].text
    assert planner.refresh(observation, plan, CONTEXT) is None
    assert planner.refresh(observation, plan, PlannerContext(skills=SKILLS[2:3])) is None


def test_points_may_come_from_elsewhere(observation: Observation) -> None:
    class Middle:
        def find(self, frame: CameraFrame, step: Step) -> Sequence[Artifact]:
            point = Keypoint(label=step.skill, u=frame.width / 2, v=frame.height / 2)
            return (Keypoints(image=image_ref(frame), points=(point,)),)

    bare = {"skill": "pick", "args": {"object": "red mug"}}
    backend = Fake(plan_text(bare))
    planner = VLMPlanner(backend, points=Middle())
    assert isinstance(planner.points, PointStrategy)
    plan = planner.plan(observation, "a", CONTEXT)
    assert isinstance(plan, Plan) and plan.steps[0].artifacts[0].kind == "keypoints"
    assert '"x"' not in json.dumps(backend.asked[0][2]) and '"x"' not in backend.asked[0][0][0].text
    fresh = planner.refresh(observation, plan, CONTEXT)
    assert fresh is not None and fresh.steps[0].artifacts


# grounding ------------------------------------------------------------------------------------------------------


def pointing(frame: CameraFrame, skill: str, u: float, v: float, **args: str) -> Step:
    points = Keypoints(image=image_ref(frame), points=(Keypoint(label="thing", u=u, v=v),))
    return Step(id="s1", skill=skill, args=args, artifacts=(points,))


def lifted(planner: VLMPlanner, observation: Observation, step: Step) -> np.ndarray[Any, Any]:
    points = planner.ground(observation, step).artifacts[0]
    assert isinstance(points, Keypoints) and points.points[0].position_w is not None
    return np.array(points.points[0].position_w)


def middle(world: TabletopWorld, name: str) -> tuple[float, float]:
    rows, columns = np.nonzero(GroundTruth(world).segmentation("front").mask(name))
    return float(columns.mean() + 0.5), float(rows.mean() + 0.5)


def test_points_on_things_are_lifted(observation: Observation, world: TabletopWorld) -> None:
    planner, frame, truth = VLMPlanner(Fake()), observation.frame("front"), GroundTruth(world)
    for name in ("mug_0", "block_0"):
        where = lifted(planner, observation, pointing(frame, "pick", *middle(world, name), object="thing"))
        assert np.linalg.norm(where[:2] - truth.position(name)[:2]) < 0.06
    x, y = truth.scene.furniture.bin_xy
    mouth = np.linalg.inv(frame.T_world_camera) @ (x, y, BIN_HEIGHT, 1.0)
    u, v, _ = frame.K @ (mouth[:3] / mouth[2])
    where = lifted(planner, observation, pointing(frame, "throw_away", u, v, object="thing"))
    assert np.abs(where[:2] - (x, y)).max() < 0.05 and where[2] < 0.04


def test_points_on_nothing_are_not(observation: Observation, world: TabletopWorld) -> None:
    planner, frame = VLMPlanner(Fake()), observation.frame("front")
    depth = np.array(frame.require_depth())
    u, v = middle(world, "mug_0")
    depth[int(v) - 4 : int(v) + 5, int(u) - 4 : int(u) + 5] = 0.0
    hole = observation.replace(frames=(frame.replace(depth_m=depth),))
    for step, seen, problem in (
        (pointing(frame, "pick", u, v), hole, "no depth"),
        (pointing(frame, "pick", 128.0, 180.0), observation, "bare surface"),
        (pointing(frame, "throw_away", 128.0, 180.0), observation, "flat"),
        (pointing(frame.replace(rgb=255 - frame.rgb), "pick", u, v), observation, "another image"),
        (Step(id="s1", skill="pick"), observation, "no point"),
    ):
        with pytest.raises(GroundingError, match=problem):
            planner.ground(seen, step)
    with pytest.raises(CameraError, match="depth"):
        planner.ground(observation.replace(frames=(frame.replace(depth_m=None),)), pointing(frame, "pick", u, v))


# the validator ----------------------------------------------------------------------------------------------------

ODD = SkillSignature(
    name="odd",
    params=(
        Parameter(name="copy", type="choice", choices=("left", "right")),
        Parameter(name="json", type="number"),
        Parameter(name="schema", type="text"),
    ),
)


def test_parameters_of_every_type_and_any_name() -> None:
    step = {"skill": "odd", "args": {"copy": "left", "json": 0.25, "schema": "as you like"}}
    text = json.dumps({"seen": [], "answer": {"steps": [step]}})
    assert read_answer(text, [ODD]).calls[0].args == {"copy": "left", "json": "0.25", "schema": "as you like"}
    for wrong in ({"copy": "up"}, {"json": 1e9}, {"json": "1"}, {"schema": ""}, {"more": "x"}):
        bad = json.dumps({"seen": [], "answer": {"steps": [step | {"args": step["args"] | wrong}]}})  # type: ignore[operator]  # a dict
        with pytest.raises(AnswerError):
            read_answer(bad, [ODD])


def walk(schema: Mapping[str, Any], draw: Callable[..., Any]) -> Any:
    """A random value of a schema."""
    if "anyOf" in schema:
        return walk(draw(st.sampled_from(schema["anyOf"])), draw)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    match schema["type"]:
        case "object":
            return {name: walk(part, draw) for name, part in schema["properties"].items()}
        case "array":
            count = draw(st.integers(schema.get("minItems", 0), min(schema["maxItems"], 4)))
            return [walk(schema["items"], draw) for _ in range(count)]
        case "integer":
            return draw(st.integers(schema["minimum"], schema["maximum"]))
        case "number":
            return draw(st.floats(schema["minimum"], schema["maximum"]))
        case "string":
            return draw(st.from_regex(schema["pattern"], fullmatch=True))
        case _:
            return None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_all_of_the_schema_is_taken_and_nothing_besides(data: st.DataObject) -> None:
    signatures = (*SKILLS, ODD)
    value = walk(answer_schema(signatures), data.draw)
    draft = read_answer(json.dumps(value), signatures)
    assert len(draft.calls) == len(value["answer"].get("steps", []))
    # One change anywhere, and it is refused.
    spots = list(_spots(value))
    holder, key = data.draw(st.sampled_from(spots))
    kept = holder[key]
    for wrong in (object, {"x": kept}, [kept, kept], -1, -(10**9), 10**9, "\u2603", None, True):
        if wrong == -1 and isinstance(kept, float):
            continue  # a number of a skill may well be -1; a coordinate, which is whole, may not
        if wrong is object:
            del holder[key]
        else:
            holder[key] = wrong
        with pytest.raises(AnswerError):
            read_answer(json.dumps(value), signatures)
        holder[key] = kept


def _spots(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(part, list):
                yield value, key
            yield from _spots(part)
    elif isinstance(value, list):
        for part in value:
            yield from _spots(part)


RUBBISH = st.recursive(
    st.none() | st.floats() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["seen", "answer", "steps", "refuse"]), x),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | RUBBISH.map(json.dumps))
def test_rubbish_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(AnswerError):
        read_answer(text, SKILLS)


# names ------------------------------------------------------------------------------------------------------------


def test_planners_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = make_planner("openai:@cf/vl@http://127.0.0.1:9/v1", camera="wrist", timeout_s=3.0)
    assert isinstance(planner, VLMPlanner) and planner.camera == "wrist"
    assert planner.id == "openai:@cf/vl@http://127.0.0.1:9/v1"
    monkeypatch.delenv("HIERVLA_BASE_URL", raising=False)
    for name, problem in (
        ("openai:m", "names no server.*HIERVLA_BASE_URL"),
        ("openai:", "no model"),
        ("transformers:", "no checkpoint"),
    ):
        with pytest.raises(PlannerNameError, match=problem) as caught:
            make_planner(name)
        assert caught.value.exit_code == 2
    monkeypatch.setenv("HIERVLA_BASE_URL", "https://example.org/v1")
    assert make_planner("openai:m").id == "openai:m@https://example.org/v1"
    for name, near in (("embeded", "embedded"), ("openia:m", "openai:"), ("transformer:x", "transformers:")):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
            make_planner(name)


def test_folders_are_told_apart_by_their_model_type(tmp_path: Any) -> None:
    from hiervla.planner.embedded.planner import WEIGHTS, EmbeddedPlanner
    from tests.planner import families

    assert isinstance(make_planner(str(WEIGHTS)), EmbeddedPlanner)
    folder = families.make("llava", tmp_path / "llava")
    planners = [make_planner(str(folder), device="cpu"), make_planner(f"transformers:{folder}", device="cpu")]
    assert all(isinstance(p, VLMPlanner) for p in planners) and planners[0].id == planners[1].id
