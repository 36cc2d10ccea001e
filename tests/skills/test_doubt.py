"""A second opinion is asked for in doubt, and only then."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pytest

from hiervla.executor.calibration import code_of
from hiervla.executor.second_opinion import SecondOpinion
from hiervla.executor.testing import LinePolicy, run_skill
from hiervla.representations import ActionChunk, ConventionError, Observation, Step, Verdict
from hiervla.skills import (
    Belief,
    DoneHead,
    Geometric,
    InDoubt,
    Recovery,
    SkillContext,
    SkillLibrary,
    Termination,
    Thing,
    Timer,
    Waypoint,
    any_of,
    in_doubt,
    skill,
)
from hiervla.skills.termination import parts_of
from tests.skills.test_define import context, step_of


@dataclass
class Says:
    """Answers what it was given, and counts."""

    value: Literal["yes", "no", "unsure"]
    confidence: float = 1.0
    name: str = "says"
    asked: list[SkillContext] = field(default_factory=list)

    def __call__(self, context: SkillContext) -> Verdict:
        self.asked.append(context)
        return Verdict(name=self.name, value=self.value, confidence=self.confidence, evidence={"width_m": 0.02})


NOW = context(step_of("pick"), belief=Belief())


@pytest.mark.parametrize("value", ["yes", "no"])
def test_nobody_else_is_asked_where_the_first_is_sure(value: Literal["yes", "no"]) -> None:
    model = Says("no")
    assert in_doubt(Says(value, 0.3), model)(NOW) == Says(value, 0.3)(NOW)
    assert model.asked == []


@pytest.mark.parametrize(("first", "confidence"), [("unsure", 1.0), ("unsure", 0.0), ("yes", 0.29), ("no", 0.0)])
def test_the_second_decides_in_doubt(first: Literal["yes", "no", "unsure"], confidence: float) -> None:
    for said in ("yes", "no"):
        model = Says(said, 0.6, name="model")
        verdict = in_doubt(Says(first, confidence, name="fingers"), model)(NOW)
        assert (verdict.name, verdict.value, verdict.confidence) == ("in_doubt(fingers, model)", said, 0.6)
        assert verdict.evidence == {
            "fingers": first,
            "fingers.width_m": 0.02,
            "model": said,
            "model.width_m": 0.02,
        }
        assert model.asked == [NOW]


def test_the_first_stands_where_the_second_does_not_know_either() -> None:
    verdict = in_doubt(Says("yes", 0.1), Says("unsure", 0.0, name="model"))(NOW)
    assert (verdict.value, verdict.confidence) == ("yes", 0.1)
    assert verdict.evidence["model"] == "unsure"


def test_a_limit_of_zero_doubts_only_the_unsure() -> None:
    model = Says("no")
    assert in_doubt(Says("yes", 0.0), model, 0.0)(NOW).yes and not model.asked
    assert in_doubt(Says("unsure", 0.0), model, 0.0)(NOW).value == "no"
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConventionError, match="InDoubt.below"):
            InDoubt(Says("yes"), model, wrong)
        with pytest.raises(ConventionError, match="SecondOpinion.below"):
            SecondOpinion(model, wrong)


def test_it_is_a_part_like_all_others() -> None:
    model = Says("yes")
    whole: Termination = any_of(in_doubt(DoneHead(0.7), model), Timer(9.0))
    found = list(parts_of(whole))
    assert DoneHead(0.7) in found and any(p is model for p in found) and Timer(9.0) in found
    assert code_of(whole, {"done_head": 0.4}).startswith("any_of(in_doubt(DoneHead(0.4), ")
    # How a step ended is read from the leaves.
    pick = SkillLibrary.load().get("pick", place="a test")
    late = replace(NOW, elapsed_s=10.0)
    assert pick.ended(whole(late)) == "succeeded"
    assert pick.ended(any_of(in_doubt(DoneHead(0.7), Says("no")), Timer(9.0))(late)) == "timed_out"


@pytest.mark.parametrize(
    ("confidence", "said", "outcome"), [(0.2, "yes", "succeeded"), (0.2, "no", "failed"), (0.9, "yes", "failed")]
)
def test_a_judge_is_asked_by_the_loop_whether_a_step_worked(
    confidence: float, said: Literal["yes", "no"], outcome: str
) -> None:
    @skill(done=lambda c: Verdict(name="nodded", value="no", confidence=confidence))
    def nod(context: SkillContext) -> list[Waypoint]:
        """Nod."""
        return []

    judge = Says(said, name="model")
    result, events, _ = run_skill(nod, (0.5, 0.05, 0.02), None, judge)
    assert result.steps[0].outcome == outcome
    (verdict,) = [e.verdict for e in events if e.type == "verdict" and e.phase == "done"]
    assert verdict.name == ("nodded" if confidence > 0.5 else "in_doubt(nodded, model)")
    assert len(judge.asked) == (0 if confidence > 0.5 else 1)
    assert all(c.after is not None for c in judge.asked)


def test_a_termination_sees_the_latest_picture() -> None:
    seen: list[float] = []

    def look(context: SkillContext) -> bool:
        assert context.now is not None and context.after is None
        seen.append(context.now.time_s)
        return len(seen) == 2

    @skill(termination=Geometric(look))
    def nod(context: SkillContext) -> list[Waypoint]:
        """Nod."""
        return []

    result, _, _ = run_skill(nod)
    assert result.outcome == "succeeded" and len(seen) == 2 and seen[0] < seen[1]


def test_a_policy_may_give_up() -> None:
    class Shy(LinePolicy):
        """Gives up at the second look."""

        def act(self, observation: Observation, step: Step) -> ActionChunk:
            chunk = super().act(observation, step)
            self.looks = getattr(self, "looks", 0) + 1
            return chunk.replace(done_prob=0.0, gave_up="it is glued to the table" if self.looks == 2 else None)

    @skill(policy=Shy, recovery=Recovery(retreat_m=0.05))
    def tug(context: SkillContext, object: Annotated[str, Thing()]) -> None:
        """Tug at something."""

    result, events, _ = run_skill(tug, object="red block")
    assert (result.outcome, result.steps[0].outcome) == ("gave_up", "gave_up")
    finished = next(e for e in events if e.type == "step_finished")
    assert "it is glued to the table" in finished.reason
    chunks = [e.chunk for e in events if e.type == "chunk"]
    assert [c.gave_up is not None for c in chunks[:2]] == [False, True]
    assert chunks[-1].policy == "tug-recovery"
