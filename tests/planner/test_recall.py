"""Things out of sight: remembered by the executor, planned for by the planner."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hiervla.executor.memory import Memory
from hiervla.planner.base import Remembered
from hiervla.planner.embedded.generation import Generated
from hiervla.planner.embedded.grammar import PlanDraft, parse_answer
from hiervla.planner.embedded.recall import hidden_thing, plan_for_hidden
from hiervla.planner.embedded.slots import SceneSlots, one_hot_slots
from hiervla.planner.embedded.wording import refusal_message
from hiervla.representations import Box, Boxes, Condition, ImageRef, Plan, Refusal, Step
from tests.planner import tiny

IMAGE = ImageRef(camera="front", sha256="0" * 64, width=64, height=48, time_s=0.0)


def seen(*names: str) -> Plan:
    boxes = Boxes(image=IMAGE, boxes=tuple(Box(label=n, u_min=1, v_min=1, u_max=9, v_max=9) for n in names))
    return Plan(goal="g", steps=(), remaining=(), scene=(boxes,))


def put(thing: str, relation: str, place: str) -> Step:
    after = (Condition(predicate=relation, args=(thing, place)), Condition(predicate="hand_empty"))
    return Step(id="s1", skill="place", args={"object": thing}, postconditions=after)


def test_what_is_put_away_is_remembered_where_it_is() -> None:
    memory = Memory()
    assert memory.unseen() == ()
    memory.saw(seen("red mug", "blue block", "drawer"), 1.0)
    assert memory.unseen() == (), "all of it is in view"
    memory.did(put("blue block", "in", "drawer"))
    memory.saw(seen("red mug", "drawer"), 7.0)
    assert memory.unseen() == (Remembered("blue block", "drawer", 1.0),)
    memory.saw(seen("drawer"), 9.0)
    assert [r.name for r in memory.unseen()] == ["red mug", "blue block"], "the one seen last comes first"
    memory.saw(seen("red mug", "blue block", "drawer"), 12.0)
    assert memory.unseen() == ()


def test_a_refusal_says_what_is_in_view_too() -> None:
    memory = Memory()
    memory.saw(seen("red mug", "can"), 1.0)
    memory.saw(Refusal(reason="not_in_scene", message="no", seen=("can",)), 2.0)
    assert [r.name for r in memory.unseen()] == ["red mug"]
    memory.saw(Refusal(reason="not_understood", message="no"), 3.0)
    assert [r.name for r in memory.unseen()] == ["red mug"], "an answer that says nothing of the scene changes nothing"


HIDDEN = Remembered("blue block", "drawer", 4.0)


@pytest.mark.parametrize(("missing", "found"), [("blue block", True), ("block", True), ("red block", False)])
def test_what_is_missing_is_looked_up_by_name_or_kind(missing: str, found: bool) -> None:
    assert (hidden_thing(missing, [Remembered("red mug", "", 1.0), HIDDEN]) == HIDDEN) is found


def test_the_refusal_tells_where_the_thing_was_last() -> None:
    draft = PlanDraft(refuse="not_in_scene", missing="blue block")
    said = refusal_message(draft, ["red block", "drawer"], HIDDEN)
    assert said == "There is no blue block in view; it was last in the drawer. I see a red block."
    lost = refusal_message(draft, ["red block"], Remembered("blue block", "", 4.0))
    assert "I last saw it at 4 s" in lost


class Decoder:
    """Answers with what it is handed, and keeps what it was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[SceneSlots] = []

    def answer(self, slots: SceneSlots, *rest: Any) -> Generated:
        self.asked.append(slots)
        draft = parse_answer(self.text)
        return Generated(draft, self.text, [7], torch.zeros(1, 8), [{"object": 0} for _ in draft.remaining], -1.0)


def slots(drawer: str = "closed") -> SceneSlots:
    return one_hot_slots(
        [
            ("top_shelf", "none", "none", 0.1, 0.3),
            ("mug", "red", "table", 0.5, 0.5),
            ("drawer", "none", drawer, 0.8, 0.5),
            ("bin", "none", "none", 0.9, 0.5),
        ]
    )


def test_the_drawer_is_opened_for_what_lies_in_it() -> None:
    decoder = Decoder(
        '{"done":[],"remaining":[{"skill":"pick","object":"o3"},'
        '{"skill":"place","object":"o3","relation":"on","target":"o0"}]}'
    )
    found = plan_for_hidden(decoder, slots(), HIDDEN, "put the blue block up", [], tiny.signatures())  # type: ignore[arg-type]  # a stand-in
    assert found is not None
    answer, known = found
    asked = decoder.asked[0]
    assert [asked.name(i) for i in range(len(asked))].count("blue block") == 1
    assert asked.state_of([asked.category_of(i) for i in range(len(asked))].index("drawer")) == "open"
    assert answer.draft.remaining[0] == {"skill": "open_drawer", "drawer": "o2"}
    # o3 of the slots to come, where the block stands beside the drawer, is the one that was added at the end.
    assert known.name(4) == "blue block"
    assert answer.draft.remaining[1] == {"skill": "pick", "object": "o4"}
    assert len(answer.argument_tokens) == len(answer.draft.remaining) == 3
    assert parse_answer(answer.text).remaining == answer.draft.remaining


@pytest.mark.parametrize("case", ["open", "elsewhere", "refused", "no skill"])
def test_what_cannot_be_had_by_opening_the_drawer_stays_refused(case: str) -> None:
    refusal = '{"refuse":"cannot_do"}'
    plan = '{"done":[],"remaining":[{"skill":"pick","object":"o3"}]}'
    hidden = Remembered("blue block", "bin", 4.0) if case == "elsewhere" else HIDDEN
    skills = [s for s in tiny.signatures() if case != "no skill" or s.name != "open_drawer"]
    decoder = Decoder(refusal if case == "refused" else plan)
    view = slots("open" if case == "open" else "closed")
    assert plan_for_hidden(decoder, view, hidden, "put it up", [], skills) is None  # type: ignore[arg-type]  # a stand-in
