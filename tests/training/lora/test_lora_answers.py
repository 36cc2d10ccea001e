"""Writing answers is the inverse of reading them, for any skills and any plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.planner.base import PlannerContext
from hiervla.planner.grounding import image_ref
from hiervla.planner.vlm import Generation, Message, Sampling, VLMPlanner
from hiervla.planner.vlm.answers import (
    SCALE,
    Call,
    Draft,
    Missing,
    Point,
    Refuse,
    answer_schema,
    has_point,
    read_answer,
    read_point,
)
from hiervla.representations import Observation, Parameter, Plan, Program, SkillSignature
from hiervla.skills import SkillLibrary
from hiervla.training.lora.answers import (
    NOTHING_TO_DO,
    UnwritableError,
    named,
    plan_draft,
    scaled,
    write_answer,
    write_point,
)
from tests import records

ODD = SkillSignature(
    name="press",
    params=(
        Parameter(name="object", type="object"),
        Parameter(name="force", type="number"),
        Parameter(name="note", type="text"),
    ),
    accepts=("keypoints",),
)
WAIT = SkillSignature(name="wait", params=(Parameter(name="seconds", type="number"),), accepts=())
SKILLS = (*SkillLibrary.load().signatures(), ODD, WAIT)
SCHEMA = answer_schema(SKILLS)

names = st.from_regex(r"[a-z0-9][a-z0-9 '_-]{0,20}", fullmatch=True).map(str.strip).filter(bool)
sentences = st.from_regex(r"[ !#-\[\]-~]{1,60}", fullmatch=True)
points = st.builds(Point, x=st.integers(0, SCALE), y=st.integers(0, SCALE))
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(str)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    skill = draw(st.sampled_from(SKILLS))
    args: dict[str, str] = {}
    for p in skill.params:
        if p.type in ("object", "location"):
            args[p.name] = draw(names)
        elif p.type == "choice":
            args[p.name] = draw(st.sampled_from(p.choices))
        else:
            args[p.name] = draw(numbers if p.type == "number" else sentences)
    return Call(skill.name, args, draw(points) if has_point(skill) else None)


seen_names = st.lists(names, max_size=6).map(tuple)
plans = st.builds(Draft, seen_names, st.lists(calls(), min_size=1, max_size=6).map(tuple))
reasons = st.sampled_from(("nothing_to_do", "cannot_do", "not_understood"))
refusals = st.builds(
    lambda seen, no: Draft(seen, refuse=no),
    seen_names,
    st.builds(Refuse, refuse=reasons, message=sentences)
    | st.builds(
        Missing,
        refuse=st.just("not_in_scene"),
        message=sentences,
        missing=st.lists(names, min_size=1, max_size=4).map(tuple),
    ),
)


@given(plans | refusals)
@settings(max_examples=150, deadline=None)
def test_reading_gives_back_what_was_written(draft: Draft) -> None:
    text = write_answer(draft, SKILLS)
    assert read_answer(text, SKILLS) == draft
    jsonschema.validate(json.loads(text), SCHEMA)
    assert text == json.dumps(json.loads(text), separators=(",", ":")), "compact, as the grammar has it"


@given(points | st.none())
def test_points_too(point: Point | None) -> None:
    assert read_point(write_point(point)) == point


class Says:
    """A backend with one answer."""

    id = "says@1"

    def __init__(self, text: str) -> None:
        self.text = text

    def generate(
        self, messages: Sequence[Message], images: Sequence[Any], schema: Mapping[str, Any] | None, sampling: Sampling
    ) -> Generation:
        return Generation(self.text, self.id, 0.0, "grammar")


@given(plans, st.integers(1, 4000), st.integers(1, 4000))
@settings(max_examples=60, deadline=None)
def test_the_planners_own_plan_is_written_as_it_was_said(draft: Draft, width: int, height: int) -> None:
    """Through pixels of an image of any size, and back."""
    look = records.observation(0)
    frame = look.frame("front")
    planner = VLMPlanner(Says(write_answer(draft, SKILLS)))
    plan = planner.plan(look, "do it", PlannerContext(skills=SKILLS))
    assert isinstance(plan, Plan)
    assert plan_draft(plan, image_ref(frame), SKILLS) == draft
    for call in draft.calls:
        if call.point is not None:
            u, v = call.point.x / SCALE * width, call.point.y / SCALE * height
            assert scaled(u, v, width, height) == call.point


def plan_of(observation: Observation, **changes: str) -> Plan:
    step = records.PICK.replace(
        artifacts=records.artifacts(observation.frame("front"), "red mug"),
        args={"object": "Red mug (on the table)", "source": "table"},
    )
    return Plan(goal="hold it", steps=(step.replace(**changes),), remaining=("s1",))


def test_arguments_that_only_one_planner_knows_are_left_out() -> None:
    look = records.observation(0)
    draft = plan_draft(plan_of(look), image_ref(look.frame("front")), SKILLS, seen=["Red mug (held)", "Top shelf"])
    assert draft.seen == ("red mug", "top shelf")
    assert draft.calls[0].args == {"object": "red mug"}


def test_what_could_not_have_been_said_is_not_written() -> None:
    look, later = records.observation(0), records.observation(9)
    image = image_ref(look.frame("front"))
    with pytest.raises(UnwritableError, match="no point in the image that the planner saw"):
        plan_draft(plan_of(later), image, SKILLS)
    with pytest.raises(UnwritableError, match="not installed"):
        plan_draft(plan_of(look, skill="juggle"), image, SKILLS)
    with pytest.raises(UnwritableError, match="lacks its relation"):
        plan_draft(plan_of(look, skill="place"), image, SKILLS)
    with pytest.raises(UnwritableError, match="force is no number"):
        write_answer(
            Draft((), (Call("press", {"object": "a", "force": "much", "note": "b"}, Point(x=1, y=1)),)), SKILLS
        )
    with pytest.raises(UnwritableError, match="arguments|args|object"):
        write_answer(Draft((), (Call("pick", {"object": '"'}, Point(x=1, y=1)),)), SKILLS)
    with pytest.raises(UnwritableError, match="a program is no list of steps"):
        plan_draft(plan_of(look).replace(program=Program(source="pick('red mug')")), image, SKILLS)
    done = plan_of(look).replace(done=("s1",), remaining=())
    assert plan_draft(done, image, SKILLS).refuse == NOTHING_TO_DO


def test_names() -> None:
    assert named(["RED Mug (on table)", "", "no\nname", "a" * 60]) == ("red mug",)
    assert scaled(64.0, 0.0, 64, 48) == Point(x=SCALE, y=0)
    assert np.isclose(scaled(31.9, 24.0, 64, 48).x, 498)
