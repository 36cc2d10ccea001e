"""Instructions of several requests: taken apart, looked ahead, planned one by one, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.planner.embedded.foresight import after_steps
from hiervla.planner.embedded.generation import LanguageDecoder
from hiervla.planner.embedded.language import PlannerLanguage
from hiervla.planner.embedded.requests import best_parting
from hiervla.planner.embedded.slots import one_hot_slots
from hiervla.planner.embedded.tokenizer import normalise, prompt_text
from hiervla.training.tasks.examples import example_of
from hiervla.training.tasks.goals import check_plan
from hiervla.training.tasks.mentions import mark, mark_request, read_marks
from hiervla.training.tasks.tasks import sample_task
from tests.planner import tiny

SLOTS = one_hot_slots(
    [
        ("top_shelf", "none", "none", 0.10, 0.33),
        ("block", "red", "table", 0.30, 0.60),
        ("bowl", "white", "table", 0.45, 0.60),
        ("mug", "red", "table", 0.60, 0.50),
        ("spill", "none", "none", 0.65, 0.70),
        ("drawer", "none", "open", 0.77, 0.51),
        ("bin", "none", "none", 0.90, 0.50),
    ]
)


def states(steps: list[dict[str, str]]) -> dict[str, str]:
    slots, kept = after_steps(SLOTS, steps)
    assert list(slots.uv[:, 0]) == sorted(slots.uv[:, 0]), "slots stay in order from left to right"
    assert [slots.category_of(i) for i in range(len(slots))] == [SLOTS.category_of(k) for k in kept]
    return {slots.name(i): slots.source(i) for i in range(len(slots))}


def test_steps_are_followed_in_symbols() -> None:
    place = {"skill": "place", "object": "o1", "relation": "in", "target": "o2"}
    assert states([])["red block"] == "table"
    assert states([place])["red block"] == "white bowl"
    assert states([{**place, "target": "o0", "relation": "on"}])["red block"] == "top shelf"
    assert states([{**place, "target": "table", "relation": "at"}])["red block"] == "table"
    assert states([{"skill": "pick", "object": "o3"}])["red mug"] == "gripper"
    assert "red mug" not in states([{"skill": "throw_away", "object": "o3"}])
    assert "spill" not in states([{"skill": "wipe", "surface": "o4"}])
    inside = {**place, "target": "o5"}
    assert states([inside])["red block"] == "drawer"
    assert "red block" not in states([inside, {"skill": "close_drawer", "drawer": "o5"}]), "nobody sees into it"
    assert len(states([{"skill": "hum", "tune": "o1"}])) == len(SLOTS)


class Parted(PlannerLanguage):
    """Random weights; which token belongs to which request is handed to it."""

    marks: Sequence[int] = ()

    def requests_of(self, slots: Any, prompt: torch.Tensor, prompt_mask: torch.Tensor) -> torch.Tensor:
        scores = torch.full((1, len(self.marks), 4), -5.0)
        scores[0, torch.arange(len(self.marks)), torch.tensor(self.marks)] = -0.1
        return scores


def parted(instruction: str, owners: dict[str, int]) -> LanguageDecoder:
    """A decoder that takes the instruction apart at these stretches of its words."""
    words = tiny.tokenizer()
    text = prompt_text(instruction)
    marks = []
    for _, b in words.backend_tokenizer.encode(text).offsets:
        owner = 0
        for stretch, k in owners.items():
            start = text.index(normalise(stretch))
            if start < b <= start + len(stretch):
                owner = k
        marks.append(owner)
    torch.manual_seed(0)
    model = Parted(tiny.language_config(max_requests=3)).eval()
    model.marks = marks
    return LanguageDecoder(model, words)


def test_requests_come_in_the_order_in_which_they_are_to_be_done() -> None:
    text = "Open the drawer, but first grab  the red mug."
    decoder = parted(text, {"open the drawer": 2, "grab the red mug": 1})
    assert decoder.requests(SLOTS, text) == ("grab the red mug", "open the drawer")


@pytest.mark.parametrize("owners", [{}, {"open the drawer": 1}, {"the drawer": 1}])
def test_what_is_one_request_stays_whole(owners: dict[str, int]) -> None:
    text = "open the drawer now"
    assert parted(text, owners).requests(SLOTS, text) == (text,)


def spans_of(labels: str, doubt: float = 0.0) -> list[str]:
    """Stretches that are found where each letter is the likeliest label of its token, with a doubt about all."""
    scores = np.full((len(labels), 4), np.log(0.02), np.float32)
    for t, c in enumerate(labels):
        scores[t, int(c)] = np.log(0.94 - doubt)
    return [labels[a:b] for a, b in best_parting(scores)]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("0111102222", ["1111", "2222"]),
        ("222200111", ["111", "2222"]),
        ("011102220333", ["111", "222", "333"]),
        ("333011102220", ["111", "222", "333"]),
        # One odd token does not tear a request apart, and the majority says whose turn is first.
        ("0111211022222", ["111211", "22222"]),
        ("0222122011111", ["11111", "222122"]),
        # Nobody knows whose turn is first: then what stands first.
        ("1212101212", ["12121", "1212"]),
        ("1", ["1"]),
        ("0000", ["0"]),
    ],
)
def test_the_likeliest_parting_is_found(labels: str, found: list[str]) -> None:
    assert spans_of(labels) == found


def test_a_model_that_never_learned_it_takes_nothing_apart() -> None:
    decoder = LanguageDecoder(tiny.language(0), tiny.tokenizer())
    assert decoder.requests(SLOTS, "do this and do that") == ("do this and do that",)


def test_the_second_request_is_planned_for_what_the_first_leaves_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "throw the red block away and grab the red mug"
    decoder = parted(text, {"throw the red block away": 1, "grab the red mug": 2})
    asked: list[tuple[list[str], str]] = []
    answers = iter(['{"done":[],"remaining":[{"skill":"pick","object":"o1"},{"skill":"throw_away","object":"o1"}]}',
                    '{"done":[],"remaining":[{"skill":"pick","object":"o2"}]}'])  # fmt: skip

    def decode(slots: Any, instruction: str, *rest: Any) -> Any:
        from hiervla.planner.embedded.generation import Generated
        from hiervla.planner.embedded.grammar import parse_answer

        asked.append((slots.names(), instruction))
        said = next(answers)
        draft = parse_answer(said)
        where = [{"object": k} for k in range(len(draft.remaining))]
        return Generated(draft, said, [7] * 3, torch.zeros(3, 32), where, -1.0)

    monkeypatch.setattr(decoder, "_decode", decode)
    answer = decoder.answer(SLOTS, text, [], tiny.signatures())
    assert [a[1] for a in asked] == ["throw the red block away", "then grab the red mug"]
    assert "red block" in asked[0][0] and "red block" not in asked[1][0]
    # The mug was the third slot without the block; in the picture it is the fourth.
    assert [dict(c) for c in answer.draft.remaining] == [
        {"skill": "pick", "object": "o1"}, {"skill": "throw_away", "object": "o1"}, {"skill": "pick", "object": "o3"},
    ]  # fmt: skip
    assert answer.requests == ("throw the red block away", "grab the red mug")
    assert answer.argument_tokens == [{"object": 0}, {"object": 1}, {"object": 3}]
    assert answer.hidden.shape == (6, 32)


def test_marks_of_requests_and_of_things_are_read_off_together() -> None:
    thing = mark("the mug", ["mug_0"])
    said = read_marks(f"{mark_request('open it', 1)}, but first {mark_request('take ' + thing, 0)}")
    assert said.text == "open it, but first take the mug"
    assert [said.text[a:b] for a, b in said.requests] == ["take the mug", "open it"]
    assert [(said.text[m.start : m.end], m.ids) for m in said.mentions] == [("the mug", ("mug_0",))]


@pytest.mark.parametrize(("family", "least"), [("multi", 40), ("stack", 6)])
def test_parts_one_after_the_other_reach_the_goal_of_the_whole(family: str, least: int) -> None:
    from hiervla.training.tasks.camera import columns_of
    from hiervla.training.tasks.domain import facts, run
    from hiervla.training.tasks.expert import expert_plan
    from hiervla.training.tasks.goals import goal_satisfied

    rng = np.random.default_rng(4)
    several = 0
    for _ in range(150 if family == "stack" else 60):
        task = sample_task(rng, family, "train" if rng.random() < 0.5 else "test")
        if len(task.parts) < 2:
            continue
        several += 1
        scene, steps = task.scene, []
        for part in task.parts:
            assert part.goal is not None
            if goal_satisfied(facts(scene), part.goal):
                continue
            plan = expert_plan(scene, part.goal, columns_of(scene, task.camera))
            steps += plan
            scene = run(scene, plan)
        assert task.goal is not None
        check = check_plan(task.scene, steps, task.goal)
        assert check.ok, (task.instruction, check.message)
    assert several >= least


def test_examples_of_parts_ask_for_one_request_alone() -> None:
    rng = np.random.default_rng(8)
    seen = set()
    for _ in range(120):
        task = sample_task(rng, "multi")
        example = example_of(rng, task, middle=bool(rng.random() < 0.5))
        if example is None or example.part is None:
            continue
        seen.add(example.part)
        start, end = example.span
        assert example.words == task.instruction[start:end]
        assert example.text == (example.words if example.part == 0 else f"then {example.words}")
        assert example.goal == task.parts[example.part].goal
        assert example.goal is not None
        assert check_plan(example.scene, example.plan, example.goal).ok
    assert {0, 1} <= seen
