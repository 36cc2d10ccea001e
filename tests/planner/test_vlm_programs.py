"""A model's program: what is asked, what is taken, what is sent back with the checker's words, and what it sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import jsonschema
import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.policies.base import make_policy
from hiervla.executor.presets import world_preset
from hiervla.executor.testing import KinematicWorld, ScriptedPlanner
from hiervla.planner.base import Objection, PlannerContext, Remembered
from hiervla.planner.kinds import EmitError, check_emit
from hiervla.planner.seeing import Seeing
from hiervla.planner.vlm import BackendError, VLMPlanner
from hiervla.planner.vlm.answers import AnswerError
from hiervla.planner.vlm.errors import UnreadableAnswerError
from hiervla.planner.vlm.programs import program_schema, read_program
from hiervla.planner.vlm.seeing import read_scene, scene_schema
from hiervla.representations import Observation, Plan
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from tests.planner.test_vlm_planner import Fake

SKILLS = SkillLibrary.load().signatures()
CONTEXT = PlannerContext(skills=SKILLS, seed=5)


def said(*lines: str) -> str:
    return json.dumps({"seen": ["red mug"], "answer": {"program": list(lines)}})


GOOD = said("for name in things('mug', on='table'):", "    if pick(name).succeeded:", "        throw_away(name)")
WRONG = said("pick(3)", "grasp('red mug')")
CALL = {"skill": "pick", "args": {"object": "red mug"}, "point": {"x": 500, "y": 500}}
PLAN = json.dumps({"seen": [], "answer": {"steps": [CALL]}})
CODE = 'Here it is:\n```python\nif see("red mug"):\n    pick("red mug")\n```\nDone.'


@pytest.fixture(scope="module")
def observation() -> Iterator[Observation]:
    yield KinematicWorld().observe()


def test_a_program_is_a_plan_without_steps(observation: Observation) -> None:
    backend = Fake(GOOD)
    plan = VLMPlanner(backend, programs=True).plan(observation, "throw the mugs away", CONTEXT)
    assert isinstance(plan, Plan) and plan.program is not None
    assert (plan.steps, plan.remaining) == ((), ())
    assert plan.program.source.splitlines()[2] == "        throw_away(name)"
    note = plan.program.provenance
    assert note is not None and note.raw_text == GOOD and note.attempts == 1
    ((message,), _, schema, _) = backend.asked[0]
    for skill in SKILLS:
        assert f"def {skill.name}(" in message.text
    assert "def things(" in message.text and "throw the mugs away" in message.text
    jsonschema.validate(json.loads(GOOD), schema)


def test_what_the_checker_says_is_sent_back_and_stays_on_record(observation: Observation) -> None:
    backend = Fake(WRONG, CODE)
    planner = VLMPlanner(backend, programs=True)
    plan = planner.plan(observation, "take the mug", CONTEXT)
    assert isinstance(plan, Plan) and plan.program is not None
    assert plan.program.source == 'if see("red mug"):\n    pick("red mug")\n'
    (rejected,) = planner.rejected
    assert rejected.raw_text == WRONG
    for words in ("line 1: Argument to function `pick` is incorrect", "line 2: Name `grasp` used when not defined"):
        assert words in rejected.problem and words in backend.asked[1][0][-1].text


def test_repairs_are_bounded(observation: Observation) -> None:
    planner = VLMPlanner(Fake(WRONG, WRONG, WRONG), programs=True)
    with pytest.raises(UnreadableAnswerError, match="no program that can be run in 3 attempts"):
        planner.plan(observation, "take the mug", CONTEXT)
    assert len(planner.rejected) == 3


def test_refusals() -> None:
    no = {"seen": [], "answer": {"refuse": "not_in_scene", "message": "There is no mug.", "missing": ["mug"]}}
    draft = read_program(json.dumps(no), SKILLS)
    assert draft.refuse is not None and draft.refuse.refuse == "not_in_scene"
    jsonschema.validate(no, program_schema())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pick the mug", "it is no JSON"),
        ('{"seen": [], "answer": {"steps": []}}', '"answer" must have "program"'),
        ('{"seen": [], "answer": {"program": []}}', "answer.program"),
        (said("pick('a'"), "line 2: unexpected EOF"),
        (said("import os", "os.system('true')"), "has no member `system`"),
        (said("assert False"), "AssertionError"),
        (said("if pick('a'):", "    pass"), "Boolean conversion is not supported"),
        ("```python\n" + "x = 1\n" * 5000 + "```", "20000 are allowed"),
    ],
)
def test_what_cannot_be_taken(text: str, problem: str) -> None:
    with pytest.raises(AnswerError, match="cannot be taken") as error:
        read_program(text, SKILLS)
    assert problem in error.value.problem


def test_the_schema_leaves_no_way_to_write_what_servers_differ_in() -> None:
    for line in ('pick("a")', "pick('a\\n')", "é"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(said(line)), program_schema())


def test_what_is_in_view(observation: Observation) -> None:
    things = {"things": [{"name": "Red mug", "kind": "mug", "where": "table"}]}
    jsonschema.validate({"things": [{"name": "red mug", "kind": "mug", "where": "table"}]}, scene_schema())
    planner = VLMPlanner(Fake("what?", json.dumps(things)))
    assert isinstance(planner, Seeing)
    (thing,) = planner.things(observation, CONTEXT)
    assert (thing.name, thing.where) == ("red mug", "table") and len(planner.rejected) == 1
    assert read_scene('{"things": [{"name": "can", "kind": "can", "where": "unknown"}]}')[0].where == ""
    with pytest.raises(BackendError, match="no list of what is in view"):
        VLMPlanner(Fake("a", "b", "c")).things(observation, CONTEXT)


def test_a_run_of_a_models_program_puts_its_looks_and_rejected_answers_on_record() -> None:
    """The table is empty and the point is on nothing: the program is told, and decides."""
    program = said("r = pick('red mug')", "if not r.succeeded:", "    give_up(r.outcome)")
    point = '{"point": {"x": 500, "y": 500}}'
    backend = Fake(WRONG, program, point, point)
    agent = Agent(world_preset("tabletop"), VLMPlanner(backend, programs=True), make_policy)
    events: list[ev.EventBase] = []
    result = agent.run("take the mug", world=KinematicWorld(), on_event=events.append)
    assert (result.outcome, result.message) == ("failed", "the program ended: not_found")
    assert [type(e).__name__ for e in events if isinstance(e, ev.PlanRejected | ev.GroundingFailed)] == [
        "PlanRejected",
        "GroundingFailed",
        "GroundingFailed",
    ]


def test_a_program_can_be_asked_for_as_a_kind(observation: Observation) -> None:
    backend = Fake(GOOD)
    planner = VLMPlanner(backend)
    check_emit("program", planner, planner.id, SKILLS)
    plan = planner.plan(observation, "throw the mugs away", replace(CONTEXT, emit="program"))
    assert isinstance(plan, Plan) and plan.program is not None
    agent = Agent(world_preset("tabletop"), ScriptedPlanner([]), make_policy)
    with pytest.raises(EmitError, match="cannot make this kind"):
        agent.run("throw the mugs away", world=KinematicWorld(), emit="program")


def test_the_model_is_told_what_was_said_what_is_hidden_and_what_was_wrong(observation: Observation) -> None:
    context = replace(
        CONTEXT,
        said=("no, the blue one",),
        unseen=(Remembered("green block", "drawer", 3.0),),
        objections=(Objection("{}", "step s2 is out of the arm's reach", 1),),
    )
    planner = VLMPlanner(backend := Fake(PLAN))
    assert isinstance(planner.plan(observation, "put the mug away", context), Plan)
    (question, answer, complaint), *_ = backend.asked[0]
    assert "green block (drawer)" in question.text
    assert question.text.index("put the mug away") < question.text.index("no, the blue one")
    assert (answer.role, answer.text) == ("assistant", "{}")
    assert "out of the arm's reach" in complaint.text
