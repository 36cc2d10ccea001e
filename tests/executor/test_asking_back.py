"""A planner that asks back, in the real loop: who answers, what is on record, and that a replay repeats it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hiervla.cli.breaking import TerminalControl
from hiervla.cli.terminal import no_words
from hiervla.executor.agent import Agent
from hiervla.executor.control import MOST_QUESTIONS, Hooks, meant
from hiervla.executor.presets import WorldPreset
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.planner.base import PlannerContext
from hiervla.representations import Observation, Plan, Refusal
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from tests.executor.test_patience import QUICK, Quick

CANDIDATES = ("the red block", "the blue block")


class Unsure(ScriptedPlanner):
    """Asks which block is meant until it is told, where it may; else it takes one."""

    def __init__(self, refusal: Refusal | None = None) -> None:
        super().__init__([])
        self.refusal = refusal

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        self.asked.append(context)
        if context.said and context.said[-1] in CANDIDATES or not context.may_ask:
            step = step_at("a", "touch", (0.5, 0.05, 0.0), object=context.said[-1] if context.said else "red block")
            return Plan(goal=instruction, steps=(step,), remaining=("a",))
        return self.refusal or Refusal(
            reason="ambiguous", message="Which block?", words="the block", candidates=CANDIDATES
        )


def run(folder: Path, planner: ScriptedPlanner, control: Any = None, **config: Any) -> tuple[RunResult, RunRecord]:
    preset = WorldPreset("kinematic", "", lambda seed: None, lambda scene: KinematicWorld())  # type: ignore[arg-type, return-value]
    skills, settings = SkillLibrary([Quick()]), QUICK.replace(**config)
    agent = Agent(preset, planner, lambda name: LinePolicy(), skills=skills, config=settings)
    result = agent.run("touch the block", world=KinematicWorld(), record=folder, control=control)
    assert result.record is not None
    record = RunRecord.open(result.record)
    found = replay_decisions(record, skills=SkillLibrary([Quick()]))
    assert found.identical and found.complete, found.divergence
    return result, record


def answering(*answers: str | None) -> tuple[Hooks, list[Refusal]]:
    hooks, asked, left = Hooks(author="a friend"), [], list(answers)

    @hooks.answer
    def which(refusal: Refusal, hold: Callable[[], None]) -> str | None:
        asked.append(refusal)
        hold()
        return left.pop(0) if left else "something else"

    return hooks, asked


@pytest.mark.parametrize("answer", ["2", "blue", "the blue one", " The blue block. "])
def test_an_answer_is_a_correction_and_the_run_goes_on_with_it(tmp_path: Path, answer: str) -> None:
    hooks, asked = answering(answer)
    result, record = run(tmp_path, Unsure(), hooks)
    assert result.outcome == "succeeded" and result.refusal is None
    assert [r.candidates for r in asked] == [CANDIDATES]
    (refused,) = record.of(ev.PlanRefused)
    assert refused.refusal.words == "the block" and refused.told is not None and refused.told["may_ask"] == "yes"
    (correction,) = record.of(ev.CorrectionGiven)
    assert (correction.decision, correction.author, correction.text) == ("plan", "a friend", "the blue block")
    (held,) = record.of(ev.Resumed)
    assert held.ticks == 1
    assert result.steps[0].step.args == {"object": "the blue block"}


def test_no_answer_lets_the_refusal_stand_and_it_is_typed(tmp_path: Path) -> None:
    hooks, asked = answering(None)
    result, _ = run(tmp_path, Unsure(), hooks)
    assert result.outcome == "refused" and len(asked) == 1
    assert result.refusal is not None and result.refusal.reason == "ambiguous" and not result.refusal.judged
    assert result.refusal.candidates == CANDIDATES and no_words(result.refusal) == "ambiguous"


def test_questions_are_bounded(tmp_path: Path) -> None:
    hooks, asked = answering()
    result, record = run(tmp_path, Unsure(), hooks)
    assert result.outcome == "refused" and len(asked) == MOST_QUESTIONS
    assert len(list(record.of(ev.CorrectionGiven))) == MOST_QUESTIONS


def test_what_was_judged_is_not_asked_back(tmp_path: Path) -> None:
    hooks, asked = answering("the blue block")
    result, _ = run(tmp_path, Unsure(Refusal(reason="cannot_do", message="It would break.")), hooks)
    assert result.outcome == "refused" and not asked
    assert result.refusal is not None and result.refusal.judged
    assert no_words(result.refusal) == "refused (cannot do)"


def test_where_nobody_is_there_the_planner_takes_one_unless_it_shall_say_so(tmp_path: Path) -> None:
    planner = Unsure()
    result, _ = run(tmp_path / "quiet", planner, Hooks())
    assert result.outcome == "succeeded" and not planner.asked[0].may_ask
    result, _ = run(tmp_path / "told", Unsure(), ask=True)
    assert result.outcome == "refused" and result.refusal is not None and result.refusal.reason == "ambiguous"


def test_the_terminal_shows_the_candidates_and_takes_a_number(tmp_path: Path) -> None:
    shown = io.StringIO()
    control = TerminalControl(Console(file=shown, width=100), (), answers=True, lines=io.StringIO("2\n"))
    result, record = run(tmp_path, Unsure(), control)
    assert result.outcome == "succeeded"
    said = shown.getvalue()
    assert "the planner asks: Which block?" in said and "  1  the red block\n  2  the blue block\n" in said
    (correction,) = record.of(ev.CorrectionGiven)
    assert (correction.author, correction.text) == ("person at the terminal", "the blue block")


def test_at_the_end_of_the_input_the_refusal_stands(tmp_path: Path) -> None:
    control = TerminalControl(Console(file=io.StringIO()), (), answers=True, lines=io.StringIO(""))
    result, record = run(tmp_path, Unsure(), control)
    assert result.outcome == "refused" and not list(record.of(ev.CorrectionGiven))


def test_words_that_fit_several_candidates_or_none_are_passed_on_as_they_are() -> None:
    refusal = Refusal(reason="ambiguous", message="Which?", candidates=CANDIDATES)
    for words in ("block", "the one", "put the mug away", "3", "0"):
        assert meant(refusal, words) == words
    assert meant(refusal.replace(candidates=()), "red") == "red"
    assert meant(refusal, "yes") == "yes" and meant(refusal.replace(candidates=CANDIDATES[:1]), "Yes.") == CANDIDATES[0]
