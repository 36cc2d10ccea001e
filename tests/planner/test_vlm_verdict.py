"""A model judges a step from pictures; whatever it writes, a verdict comes of it and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hiervla.planner.names import PlannerNameError, judge_of_name
from hiervla.planner.vlm.backend import Generation, Message, Sampling
from hiervla.planner.vlm.errors import ServerUnreachableError
from hiervla.planner.vlm.verdict import SCHEMA, ModelVerdict
from hiervla.representations import CameraError, CameraFrame, ConventionError, Observation, UnknownNameError
from hiervla.skills import Belief, SkillContext
from tests import records
from tests.planner.servers import Reply, Scripted, streamed


def says(done: str, why: str = "so it looks.") -> str:
    return json.dumps({"done": done, "why": why})


class Fake:
    """Gives the answers that it was given, and raises those that are errors."""

    id = "fake@1"

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, list[Any], Any, Sampling]] = []

    def generate(
        self, messages: Sequence[Message], images: Sequence[Any], schema: Mapping[str, Any] | None, sampling: Sampling
    ) -> Generation:
        self.asked.append((messages[0].text, list(images), schema, sampling))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Generation(answer, self.id, 0.01, "none")


def seen(number: int) -> Observation:
    frames: tuple[CameraFrame, ...] = (records.frame(number),)
    return records.observation(0).replace(frames=frames)


@pytest.fixture
def context() -> SkillContext:
    from tests.skills.test_define import step_of

    step = step_of("place").replace(text="put the red mug on the plate")
    return SkillContext(
        step=step, before=seen(0), proprio=records.proprio(0), belief=Belief(held="red mug"), after=seen(1)
    )


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_its_word_is_the_verdict(context: SkillContext, answer: str) -> None:
    backend = Fake(f"```json\n{says(answer, 'the mug stands there.')}\n```")
    verdict = ModelVerdict(backend)(context)
    assert (verdict.name, verdict.value, verdict.confidence) == ("model", answer, 1.0)
    assert verdict.evidence == {"asked": "fake@1", "answers": 1, "why": "the mug stands there."}
    ((text, images, schema, sampling),) = backend.asked
    assert "put the red mug on the plate" in text and "held red mug" in text and "mm apart" in text
    assert [np.array_equal(i, o.frame("front").rgb) for i, o in zip(images, (seen(0), seen(1)), strict=True)] == [
        True
    ] * 2
    assert schema == SCHEMA and schema["additionalProperties"] is False
    assert sampling.temperature == 0.0


def test_while_a_skill_runs_it_sees_the_latest_picture(context: SkillContext) -> None:
    backend = Fake(says("no"), says("no"))
    ModelVerdict(backend)(replace(context, after=None, now=seen(2)))
    assert np.array_equal(backend.asked[0][1][1], seen(2).frame("front").rgb)
    ModelVerdict(backend)(replace(context, after=None))
    assert len(backend.asked[1][1]) == 1 and "The image shows the scene." in backend.asked[1][0]


def test_several_votes_are_counted(context: SkillContext) -> None:
    backend = Fake(says("yes"), says("no", "it lies beside."), says("yes", "it stands."))
    verdict = ModelVerdict(backend, votes=3)(context)
    assert verdict.yes and verdict.confidence == pytest.approx(2 / 3)
    assert verdict.evidence["why"] == "so it looks."
    assert [s.seed for *_, s in backend.asked] == [0, 1, 2] and backend.asked[0][3].temperature > 0.0
    for answers in ((says("yes"), says("no")), (says("unsure"), says("unsure")), (says("yes"), "no idea")):
        assert ModelVerdict(Fake(*answers), votes=2)(context).value == "unsure"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("The mug is on the plate.", "no JSON"),
        ("[1]", "no JSON object"),
        (says("perhaps"), "input should be 'yes', 'no' or 'unsure'"),
        ('{"done": "yes"}', "why"),
        (ServerUnreachableError("openai:tiny@http://localhost:1/v1", "nobody listens there", "Start it"), "localhost"),
    ],
)
def test_no_answer_is_no_verdict_and_no_end_of_the_run(
    context: SkillContext, answer: str | Exception, problem: str
) -> None:
    verdict = ModelVerdict(Fake(answer))(context)
    assert (verdict.value, verdict.confidence) == ("unsure", 0.0)
    assert verdict.evidence["answers"] == 0 and problem in str(verdict.evidence["problem"])


def test_what_cannot_be_asked_is_named(context: SkillContext) -> None:
    with pytest.raises(ConventionError, match="ModelVerdict.votes"):
        ModelVerdict(Fake(), votes=0)
    with pytest.raises(CameraError, match="'top'"):
        ModelVerdict(Fake(says("yes")), camera="top")(context)
    for name, error in (
        ("openai:", PlannerNameError),
        ("embedded", UnknownNameError),
        ("transformers:", UnknownNameError),
    ):
        with pytest.raises(error, match="judge|no model"):
            judge_of_name(name)


def test_by_name_over_a_server(context: SkillContext) -> None:
    with Scripted(Reply(streamed(says("yes", "it stands there.")))) as server:
        verdict = judge_of_name(f"openai:tiny@{server.url}")(context)
        assert (verdict.value, verdict.evidence["why"]) == ("yes", "it stands there.")
        assert len([p for p in server.bodies[0]["messages"][0]["content"] if p["type"] == "image_url"]) == 2
