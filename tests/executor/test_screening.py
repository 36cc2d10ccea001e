"""Whole plans before the first motion: what they need, where the arm gets to, how often they may come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Answer, Decision
from hiervla.executor.presets import world_preset
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.result import RunResult
from hiervla.executor.screening import broken_chain
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, Touch, step_at
from hiervla.representations import Condition, Plan, Refusal, Step
from hiervla.skills import Belief, SkillLibrary

NEAR, FAR = (0.5, 0.05, 0.0), (1.6, 0.0, 0.0)


def plan(*steps: Step) -> Plan:
    return Plan(goal="touch", steps=steps, remaining=tuple(s.id for s in steps))


def at(step_id: str, position: tuple[float, float, float], *needed: Condition, **changes: Any) -> Step:
    return step_at(step_id, "touch", position).replace(preconditions=needed, **changes)


def run(
    answers: list[Plan | Refusal], config: LoopConfig | None = None, **options: Any
) -> tuple[RunResult, list[Any], ScriptedPlanner, KinematicWorld]:
    planner, policy, events, world = ScriptedPlanner(answers), LinePolicy(), list[Any](), KinematicWorld()
    skills = SkillLibrary([Touch()])
    agent = Agent(world_preset("tabletop"), planner, lambda name: policy, skills=skills, config=config)
    return agent.run("touch it", world=world, on_event=events.append, **options), events, planner, world


HOLDING = Condition(predicate="holding", args=("red mug",))
EMPTY = Condition(predicate="hand_empty")


def test_a_plan_out_of_reach_comes_back_until_the_repairs_are_used_up() -> None:
    result, events, planner, world = run([plan(at("a", NEAR), at("b", FAR))])
    assert result.outcome == "refused"
    assert "None of 3 plans passed the checks" in result.message
    assert "step b" in result.message and "1.60" in result.message
    rejected = [e for e in events if e.type == "plan_rejected"]
    assert len(rejected) == 3
    assert all(e.plan is not None and e.step == 1 for e in rejected)
    assert not any(e.type == "transit" and e.purpose == "approach" for e in events), "nothing has moved towards it"
    assert [len(c.objections) for c in planner.asked] == [0, 1, 2]
    assert "out of the arm's reach" in planner.asked[-1].objections[-1].problem


def test_a_repaired_plan_is_carried_out_and_the_bad_one_stays_on_record(tmp_path: Path) -> None:
    result, events, _, _ = run([plan(at("a", FAR)), plan(at("a", NEAR))], record=tmp_path)
    assert result.outcome == "succeeded", result.message
    assert [e.type for e in events if e.type.startswith("plan_")][:2] == ["plan_rejected", "plan_proposed"]
    assert result.record is not None
    record = RunRecord.open(result.record)
    found = replay_decisions(record, skills=SkillLibrary([Touch()]))
    assert found.identical and found.complete, found.divergence
    fewer = replay_decisions(record, skills=SkillLibrary([Touch()]), config=LoopConfig(screen=False))
    assert fewer.divergence is not None, "a loop that checks nothing is another loop"


def test_a_plan_whose_later_step_finds_its_hand_empty_is_told_so() -> None:
    bad = plan(at("a", NEAR), at("b", NEAR, HOLDING))
    good = plan(at("a", NEAR, EMPTY, postconditions=(HOLDING,)), at("b", NEAR, HOLDING))
    result, events, planner, _ = run([bad, good])
    assert result.outcome == "succeeded", result.message
    told = planner.asked[1].objections[0]
    assert told.step == 1
    assert told.problem == "step b ('touch()') needs holding(red mug), but the hand is empty after a"
    assert [e.type for e in events].count("plan_rejected") == 1


def test_the_naive_loop_checks_nothing() -> None:
    result, events, _, _ = run([plan(at("a", NEAR, HOLDING))], LoopConfig.naive())
    assert result.outcome == "succeeded"
    assert not any(e.type == "plan_rejected" for e in events)


def test_without_screening_an_unreachable_step_is_an_outcome() -> None:
    result, _, _, _ = run([plan(at("a", FAR))], LoopConfig(screen=False, max_retries=0))
    assert result.outcome == "gave_up"
    assert result.steps[0].outcome == "unreachable"


SPONGE = Condition(predicate="holding", args=("sponge",))
OPEN = Condition(predicate="open", args=("drawer",))


@pytest.mark.parametrize(
    ("held", "steps", "wrong"),
    [
        (None, [((EMPTY,), (HOLDING,)), ((HOLDING,), (EMPTY,))], None),
        (None, [((HOLDING,), ())], 0),
        ("red mug", [((HOLDING,), (EMPTY,)), ((HOLDING,), ())], 1),
        ("red mug", [((EMPTY,), ())], 0),
        ("orange sponge", [((SPONGE,), ())], None),
        ("blue block", [((SPONGE,), ())], 0),
        # Nobody knows whether the drawer is open, until a step says so.
        (None, [((OPEN,), ())], None),
        (None, [((), (OPEN,)), ((OPEN,), (OPEN.replace(holds=False),)), ((OPEN,), ())], 2),
        (None, [((), (OPEN,)), ((OPEN.replace(holds=False),), ())], 1),
    ],
)
def test_chains_of_conditions(
    held: str | None, steps: list[tuple[tuple[Condition, ...], tuple[Condition, ...]]], wrong: int | None
) -> None:
    chain = [
        Step(id=f"s{k}", skill="touch", preconditions=before, postconditions=after)
        for k, (before, after) in enumerate(steps)
    ]
    found = broken_chain(chain, KinematicWorld().observe(), Belief(held))
    assert (found[0] if found else None) == wrong


def test_a_grip_that_nobody_remembers_rules_nothing_out() -> None:
    world = KinematicWorld(grip_m=0.03)
    world._state[14:] = (0.03, 20.0)
    chain = [Step(id="s0", skill="touch", preconditions=(HOLDING,))]
    assert broken_chain(chain, world.observe(), Belief()) is None


class Dawdle:
    """Holds the robot before the first step."""

    author = "tester"

    def __init__(self, ticks: int) -> None:
        self.ticks = ticks

    def review(self, decision: Decision, hold: Any) -> Answer:
        if decision.kind == "step":
            for _ in range(self.ticks):
                hold()
            self.ticks = 0
        return decision.value


def test_what_was_pointed_at_too_long_ago_is_pointed_at_anew(tmp_path: Path) -> None:
    config = LoopConfig(stale_after_s=2.0)
    result, events, _, _ = run([plan(at("a", NEAR))], config, control=Dawdle(200), record=tmp_path)
    assert result.outcome == "succeeded", result.message
    kinds = [e.type for e in events]
    aged = kinds.index("artifacts_aged")
    assert events[aged].age_s > 2.0
    assert kinds[aged + 1 :].index("observation") < kinds[aged + 1 :].index("step_started")
    assert "a was pointed at too long ago" in next(e for e in events[aged:] if e.type == "plan_proposed").reason
    assert result.record is not None
    again = replay_decisions(RunRecord.open(result.record), skills=SkillLibrary([Touch()]))
    assert again.identical and again.complete, again.divergence
    _, prompt, _, _ = run([plan(at("a", NEAR))], config, control=Dawdle(10))
    assert "artifacts_aged" not in [e.type for e in prompt]
