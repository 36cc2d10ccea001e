"""Terminations: each says yes and no, they compose by three-valued logic, and every leaf is in the evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hiervla.representations import ConventionError, Verdict
from hiervla.skills import (
    DoneHead,
    Geometric,
    ProgressHead,
    Skill,
    SkillContext,
    SkillLibrary,
    Termination,
    Timer,
    after,
    all_of,
    any_of,
    majority,
)
from hiervla.skills.samples import observation, sample_step
from hiervla.skills.termination import Combined, parts_of

PICK = SkillLibrary.load().get("pick")
SEEN = observation()
CONTEXT = SkillContext(step=sample_step(PICK), before=SEEN, proprio=SEEN.proprio)


def at(elapsed_s: float = 0.0, **heads: Any) -> SkillContext:
    return replace(CONTEXT, elapsed_s=elapsed_s, **heads)


def says(value: Any, confidence: float = 1.0, name: str = "says") -> Termination:
    return Geometric(lambda context: Verdict(name=name, value=value, confidence=confidence))


def test_a_timer_is_a_limit() -> None:
    assert [Timer(4.0)(at(t)).value for t in (0.0, 3.99, 4.0, 5.0)] == ["no", "no", "yes", "yes"]
    assert Timer(4.0)(at(1.0)).evidence == {"elapsed_s": 1.0, "limit_s": 4.0}


def test_the_heads_are_asked_from_their_minimum_time_on_and_unsure_where_there_are_none() -> None:
    head = DoneHead(0.6, min_s=1.0)
    assert [head(at(t, done_prob=p)).value for t, p in ((2.0, 0.59), (2.0, 0.6), (0.5, 0.9))] == ["no", "yes", "no"]
    assert head(at(2.0)).value == "unsure"
    assert head(at(2.0, done_prob=0.7, progress=0.4)).evidence == {
        "done_prob": 0.7, "progress": 0.4, "threshold": 0.6, "elapsed_s": 2.0,
    }  # fmt: skip
    progress = ProgressHead(0.9)
    assert [progress(at(2.0, progress=p)).value for p in (0.89, 0.9, None)] == ["no", "yes", "unsure"]
    assert head(at(2.0, done_prob=0.61)).confidence < head(at(2.0, done_prob=0.9)).confidence


def test_a_predicate_answers_with_a_verdict_or_a_bool() -> None:
    def low(context: SkillContext) -> bool:
        return bool(context.proprio.ee_position[2] < 0.1)

    assert Geometric(low)(at()) == Verdict(name="low", value="no")
    assert Geometric(low)(replace(at(), proprio=observation(tool_w=(0.5, 0.0, 0.05)).proprio)).yes
    assert says("unsure", 0.3)(at()).confidence == 0.3
    assert str(Geometric(low)) == "low"


def test_after_lets_its_part_count_later_and_alone_is_a_duration() -> None:
    late = after(2.0, DoneHead(0.5))
    assert late(at(1.0, done_prob=0.9)).value == "no"
    assert late(at(1.0, done_prob=0.9)).evidence["done_head"] == "yes", "its answer is on record all the same"
    assert late(at(2.0, done_prob=0.9)).yes
    assert late(at(2.0)).value == "unsure"
    assert [after(2.0)(at(t)).value for t in (1.0, 2.0)] == ["no", "yes"]


@pytest.mark.parametrize(
    ("combine", "answers", "value"),
    [
        (any_of, "nny", "yes"), (any_of, "nuy", "yes"), (any_of, "nnu", "unsure"), (any_of, "nnn", "no"),
        (all_of, "yyy", "yes"), (all_of, "yuy", "unsure"), (all_of, "yun", "no"), (all_of, "n", "no"),
        (majority, "yyn", "yes"), (majority, "ynn", "no"), (majority, "yun", "unsure"), (majority, "yn", "no"),
        (majority, "uuy", "unsure"), (majority, "unn", "no"),
    ],
)  # fmt: skip
def test_combinations_follow_three_valued_logic(combine: Any, answers: str, value: str) -> None:
    words = {"y": "yes", "n": "no", "u": "unsure"}
    assert combine(*(says(words[a]) for a in answers))(at()).value == value


def test_confidence_is_that_of_the_parts_which_decide() -> None:
    sure, shaky = says("yes", 0.9), says("yes", 0.2)
    assert any_of(sure, shaky)(at()).confidence == 0.9
    assert all_of(sure, shaky)(at()).confidence == 0.2
    assert any_of(says("no", 0.9), says("no", 0.2))(at()).confidence == 0.2
    assert all_of(sure, says("no", 0.3))(at()).confidence == 0.3
    assert majority(sure, shaky, says("no", 1.0))(at()).confidence == pytest.approx(0.55)
    assert any_of(says("no"), says("unsure", 0.8))(at()).confidence == 0.0


def test_the_evidence_names_every_leaf_at_any_depth_and_tells_namesakes_apart() -> None:
    tree = any_of(all_of(DoneHead(0.5), after(1.0, ProgressHead(0.9))), Timer(9.0), Timer(5.0))
    evidence = tree(at(2.0, done_prob=0.7, progress=0.95)).evidence
    assert {k: v for k, v in evidence.items() if v in ("yes", "no", "unsure")} == {
        "all(done_head, after(progress_head))": "yes", "done_head": "yes", "after(progress_head)": "yes",
        "progress_head": "yes", "timer": "no", "timer#2": "no",
    }  # fmt: skip
    assert (evidence["done_head.done_prob"], evidence["progress_head.progress"]) == (0.7, 0.95)
    assert (evidence["timer.limit_s"], evidence["timer#2.limit_s"]) == (9.0, 5.0)
    assert evidence["after.from_s"] == 1.0
    assert Verdict.from_json(tree(at(2.0, done_prob=0.7)).to_json()) == tree(at(2.0, done_prob=0.7))


def test_what_ended_a_skill_decides_between_success_and_time_out() -> None:
    tree = any_of(all_of(DoneHead(0.5), says("yes", name="near")), Timer(3.0))
    ended: list[tuple[dict[str, Any], str]] = [
        ({"elapsed_s": 1.0, "done_prob": 0.9}, "succeeded"),
        ({"elapsed_s": 4.0, "done_prob": 0.1}, "succeeded"),  # `near` says yes as well
        ({"elapsed_s": 4.0, "done_prob": 0.9}, "succeeded"),
    ]
    for heads, outcome in ended:
        assert PICK.ended(tree(at(**heads))) == outcome
    default: Skill = PICK
    assert default.ended(default.termination(at(99.0, done_prob=0.1))) == "timed_out"
    assert default.ended(any_of(Timer(1.0), Timer(2.0))(at(3.0))) == "timed_out"
    assert default.ended(Timer(1.0)(at(3.0))) == "timed_out"
    assert default.ended(after(1.0)(at(3.0))) == "succeeded", "a duration that was meant is no time-out"
    assert default.ended(says("yes")(at())) == "succeeded"


def test_a_termination_can_be_read_and_taken_apart() -> None:
    tree = any_of(DoneHead(0.5, min_s=0.6), after(2.0, ProgressHead()), Timer(9.0))
    assert str(tree) == "any(done_head(0.5, from 0.6 s), after(2 s, progress_head(0.95)), timer(9 s))"
    assert [type(p).__name__ for p in parts_of(tree)] == ["Combined", "DoneHead", "After", "ProgressHead", "Timer"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (any_of, "any_of: has no parts. Give it at least one termination"),
        (lambda: Combined("all", ()), "all_of: has no parts"),
        (majority, "majority: has no parts"),
        (lambda: Timer(0.0), "Timer.seconds: 0 s is not positive"),
        (lambda: Timer(float("nan")), "Timer.seconds: nan s is not positive"),
        (lambda: after(-1.0), "After.seconds: -1 s"),
        (lambda: DoneHead(0.0), r"DoneHead.threshold: 0 is not in \(0, 1\]"),
        (lambda: ProgressHead(1.5), "ProgressHead.threshold: 1.5"),
        (lambda: DoneHead(0.5, min_s=-0.1), "DoneHead.min_s: -0.1 s is negative"),
    ],
)
def test_what_would_stop_always_or_never_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConventionError, match=message):
        make()
