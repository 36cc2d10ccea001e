"""Whatever the weights say, the answer is valid: the grammar is made of the live skills and the slots in view."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hiervla.planner.embedded.generation import Generated, LanguageDecoder
from hiervla.planner.embedded.grammar import (
    REASONS,
    RELATION_TARGETS,
    PlanGrammar,
    grammar_tokenizer,
    parse_answer,
    plan_json,
    plan_schema,
    refusal_json,
)
from hiervla.planner.embedded.slots import SceneSlots, one_hot_slots
from hiervla.representations import Parameter, PlanError, SkillSignature
from tests.planner import tiny

ROOM = one_hot_slots(
    [
        ("top_shelf", "none", "none", 0.10, 0.33),
        ("mug", "red", "table", 0.40, 0.50),
        ("block", "blue", "table", 0.50, 0.60),
        ("plate", "white", "table", 0.60, 0.50),
        ("drawer", "none", "open", 0.68, 0.51),
    ]
)
SHAKE = SkillSignature(
    name="shake",
    params=(Parameter(name="thing", type="object", categories=("can",)), Parameter(name="times", type="number")),
    doc="shake a can",
)


def complaints(text: str, signatures: Sequence[SkillSignature], slots: SceneSlots, done: Sequence[int]) -> list[str]:
    """What is wrong with an answer; written without a look at the schema."""
    answer: dict[str, Any] = json.loads(text)
    if "refuse" in answer:
        wanted = {"refuse", "missing"} if answer["refuse"] == "not_in_scene" else {"refuse"}
        good = answer["refuse"] in REASONS and set(answer) == wanted
        return [] if good and answer.get("missing", "a").replace(" ", "").isalpha() else ["a bad refusal"]
    found = [] if answer["done"] == [f"h{k}" for k in done] else ["done is not what succeeded"]
    by_name = {s.name: s for s in signatures}
    for step in answer["remaining"]:
        signature = by_name.get(step["skill"])
        if signature is None:
            found.append("no such skill")
            continue
        if list(step) != ["skill", *(p.name for p in signature.params)]:
            found.append("wrong arguments")
        for p in signature.params:
            value = step.get(p.name, "")
            if p.type == "choice" and value not in p.choices:
                found.append("no such choice")
            if p.type in {"object", "location"} and value != "table":
                if value not in {f"o{i}" for i in range(len(slots))}:
                    found.append("no such slot")
                    continue
                kind = slots.category_of(int(value[1:]))
                fitting = p.categories or (kind,)
                if "relation" in step and p.type == "location":
                    fitting = RELATION_TARGETS.get(step["relation"], fitting)
                if kind not in fitting:
                    found.append("unfitting category")
    return found


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([{"skill": "fly", "object": "o1"}], "no such skill"),
        ([{"skill": "pick", "object": "o5"}], "no such slot"),
        ([{"skill": "pick", "object": "o0"}], "unfitting category"),
        ([{"skill": "open_drawer", "drawer": "o1"}], "unfitting category"),
        ([{"skill": "place", "object": "o1", "relation": "under", "target": "o0"}], "no such choice"),
        ([{"skill": "place", "object": "o2", "relation": "in", "target": "o3"}], "unfitting category"),
        ([{"skill": "pick", "object": "o1", "speed": "9"}], "wrong arguments"),
        ([{"skill": "pick"}], "wrong arguments"),
    ],
)
def test_the_grammar_stops_what_the_check_complains_about(steps: list[dict[str, str]], problem: str) -> None:
    text = plan_json([], steps)
    assert problem in complaints(text, tiny.signatures(), ROOM, [])
    with pytest.raises(PlanError):
        _feed(text, tiny.signatures(), ROOM)


@pytest.mark.parametrize(
    "text",
    [
        plan_json([], [{"skill": "pick", "object": "o1"}]),
        plan_json([], [{"skill": "place", "object": "o1", "relation": "on", "target": "o0"}]),
        plan_json([], [{"skill": "place", "object": "o1", "relation": "at", "target": "table"}]),
        plan_json([], [{"skill": "open_drawer", "drawer": "o4"}, {"skill": "pick", "object": "o2"}]),
        refusal_json("not_in_scene", "green mug"),
        *(refusal_json(r) for r in ("nothing_to_do", "cannot_do", "not_understood")),
    ],
)
def test_the_grammar_lets_good_answers_pass_and_they_parse(text: str) -> None:
    assert complaints(text, tiny.signatures(), ROOM, []) == []
    assert _feed(text, tiny.signatures(), ROOM).finished
    draft = parse_answer(text)
    assert (draft.refuse is None) == ("remaining" in text)


def test_done_is_what_succeeded_and_nothing_else() -> None:
    step = [{"skill": "pick", "object": "o1"}]
    assert _feed(plan_json([0, 2], step), tiny.signatures(), ROOM, done=(0, 2)).finished
    for claimed in ([], [0], [0, 1, 2], [2, 0]):
        assert complaints(plan_json(claimed, step), tiny.signatures(), ROOM, (0, 2))
        with pytest.raises(PlanError):
            _feed(plan_json(claimed, step), tiny.signatures(), ROOM, done=(0, 2))


def test_random_weights_write_only_valid_answers() -> None:
    rng = np.random.default_rng(5)
    plans = refusals = calls = 0
    for seed in range(240):
        if seed % 12 == 0:
            decoder = LanguageDecoder(tiny.language(seed), tiny.tokenizer())
        slots = tiny.scene(rng)
        history = ["pick red mug from table ok", "place red mug on top shelf failed"][: int(rng.integers(3))]
        done = [0] if history else []
        answer = _answer(decoder, slots, tiny.signatures(), history)
        if answer is None:
            continue  # it rambled
        assert complaints(answer.text, tiny.signatures(), slots, done) == [], answer.text
        plans += answer.draft.refuse is None
        refusals += answer.draft.refuse is not None
        calls += len(answer.draft.remaining)
        assert answer.draft.refuse is not None or answer.draft.done == tuple(done)
        if plans + refusals >= 160:
            break
    assert plans + refusals >= 150
    assert plans >= 15
    assert refusals >= 5
    assert calls >= 30


def test_a_skill_of_somebody_else_can_be_planned_where_it_fits() -> None:
    can = one_hot_slots([("block", "red", "table", 0.4, 0.5), ("can", "blue", "table", 0.6, 0.5)])
    assert complaints(plan_json([], [{"skill": "shake", "thing": "o0", "times": "3"}]), [SHAKE], can, [])
    texts = []
    for seed in range(6):
        answer = _answer(LanguageDecoder(tiny.talker(seed), tiny.tokenizer()), can, [SHAKE], [])
        if answer is not None:
            assert complaints(answer.text, [SHAKE], can, []) == []
            texts.append(answer.text)
    assert any('{"skill":"shake","thing":"o1","times":"' in t for t in texts), texts
    text = plan_json([], [{"skill": "shake", "thing": "o1", "times": "3"}])
    assert _feed(text, [*tiny.signatures(), SHAKE], can).finished
    with pytest.raises(PlanError):
        _feed(text, tiny.signatures(), can)
    with pytest.raises(PlanError):
        _feed(plan_json([], [{"skill": "shake", "thing": "o0", "times": "3"}]), [SHAKE], ROOM)


def test_an_empty_scene_leaves_nothing_but_refusals_and_empty_plans() -> None:
    decoder = LanguageDecoder(tiny.language(3), tiny.tokenizer())
    answer = _answer(decoder, one_hot_slots([]), tiny.signatures(), [])
    assert answer is None or answer.draft.remaining == ()
    with pytest.raises(PlanError):
        _feed(plan_json([], [{"skill": "pick", "object": "o0"}]), tiny.signatures(), one_hot_slots([]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "3",
        "{}",
        '{"done":[]}',
        '{"done":["hx"],"remaining":[]}',
        '{"done":[],"remaining":[{"object":"o1"}]}',
        '{"done":[],"remaining":["pick"]}',
        '{"done":[],"remaining":3}',
        '{"done":[3],"remaining":[]}',
        '{"refuse":"too_lazy"}',
    ],
)
def test_what_is_no_answer_is_a_plan_error(text: str) -> None:
    with pytest.raises(PlanError, match="answer|remaining"):
        parse_answer(text)


def _feed(text: str, signatures: Sequence[SkillSignature], slots: SceneSlots, done: Sequence[int] = ()) -> PlanGrammar:
    words = tiny.tokenizer()
    grammar = PlanGrammar(grammar_tokenizer(words), plan_schema(signatures, slots, done))
    for token in words.backend_tokenizer.encode(text).ids:
        allowed = bool(grammar.allowed()[token])
        try:
            grammar.accept(token)
        except PlanError:
            assert not allowed
            raise
        assert allowed
    return grammar


def _answer(
    decoder: LanguageDecoder, slots: SceneSlots, signatures: Sequence[SkillSignature], history: Sequence[str]
) -> Generated | None:
    """An answer, or None where the model found no end."""
    try:
        return decoder.answer(slots, "put the red mug on the top shelf", history, signatures, max_tokens=80)
    except PlanError as error:
        assert "longer than" in error.problem
        return None
