"""The orchestrator with fakes: every branch of plan, check, act, verify, retry, replan, refuse, stop."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.kinematics import panda_limits
from hiervla.executor.agent import Agent
from hiervla.executor.arms.agent import ArmsAgent
from hiervla.executor.body import CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.presets import world_preset
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.representations import Event, JointCommand, Plan, Refusal, SkillSignature, Step, Verdict
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary

TABLE = (0.5, 0.05, 0.0)


class Touch(Skill):
    """Succeeds at the attempt of the given number."""

    signature = SkillSignature(name="touch", doc="touch a spot")
    timeout_s = 3.0
    naive_s = 1.0

    def __init__(self, succeeds_at: int = 0, ready: bool = True) -> None:
        self.succeeds_at = succeeds_at
        self.is_ready = ready
        self.asked = 0

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes" if self.is_ready else "no")

    def done(self, context: SkillContext) -> Verdict:
        self.asked += 1
        return Verdict(name="touched", value="yes" if self.asked > self.succeeds_at else "no")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def plan(done: tuple[str, ...], remaining: tuple[str, ...], **step: Any) -> Plan:
    steps = tuple(step_at(i, "touch", TABLE, **step) for i in (*done, *remaining))
    return Plan(goal="touch", steps=steps, done=done, remaining=remaining)


def run(
    answers: list[Plan | Refusal],
    *,
    skill: Skill | None = None,
    policy: Any = None,
    config: LoopConfig | None = None,
    world: KinematicWorld | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: CancelToken | None = None,
) -> tuple[RunResult, list[Any], KinematicWorld]:
    events: list[Any] = []

    def take(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    policy = policy or LinePolicy()
    agent = Agent(
        world_preset("tabletop"),
        ScriptedPlanner(answers),
        lambda name: policy,
        skills=SkillLibrary([skill or Touch()]),
        config=config,
    )
    world = world or KinematicWorld()
    return agent.run("touch it", world=world, on_event=take, cancel=cancel), events, world


def kinds(events: list[Any]) -> list[str]:
    return [e.type for e in events]


def test_two_steps_to_success() -> None:
    result, events, _ = run([plan((), ("a", "b")), plan(("a",), ("b",)), plan(("a", "b"), ())])
    assert result.outcome == "succeeded", result.message
    assert [(r.step.id, r.outcome) for r in result.steps] == [("a", "succeeded"), ("b", "succeeded")]
    assert kinds(events)[0] == "run_started"
    assert kinds(events)[-1] == "run_finished"
    assert events[-1].done == ("a", "b")
    for wanted in ("observation", "plan_proposed", "snapshot", "grounded", "transit", "chunk", "verdict"):
        assert wanted in kinds(events)


def test_every_event_of_an_attempt_hangs_below_its_step() -> None:
    _, events, _ = run([plan((), ("a",)), plan(("a",), ())])
    started = next(e for e in events if e.type == "step_started")
    for event in events:
        if event.type in {"grounded", "chunk", "verdict", "step_finished"}:
            assert event.parent == started.id


def test_a_failed_step_is_tried_again_and_the_planner_hears_of_it() -> None:
    skill = Touch(succeeds_at=1)
    planner_answers: list[Plan | Refusal] = [plan((), ("a",)), plan((), ("a",)), plan(("a",), ())]
    result, events, _ = run(planner_answers, skill=skill, config=LoopConfig(replan="every_step"))
    assert result.outcome == "succeeded"
    assert [r.outcome for r in result.steps] == ["failed", "succeeded"]
    reasons = [e.reason for e in events if e.type == "plan_proposed"]
    assert reasons == ["initial", "after a: failed", "after a: succeeded"]


def test_gives_up_after_the_retries_and_names_the_step() -> None:
    result, _, world = run([plan((), ("a",))], skill=Touch(succeeds_at=99), config=LoopConfig(max_retries=2))
    assert result.outcome == "gave_up"
    assert len(result.steps) == 3
    assert "gave up on 'touch()' after 3 attempts: touched: no" in result.message
    np.testing.assert_allclose(world.commands[-1].q, panda.HOME_Q, atol=1e-6)


def test_gives_up_after_too_many_steps() -> None:
    result, _, _ = run([plan((), ("a",))], config=LoopConfig(max_steps=4, replan="every_step"))
    assert result.outcome == "gave_up"
    assert "after 4 attempts" in result.message


def test_a_step_that_is_not_ready_moves_nothing() -> None:
    result, events, _ = run([plan((), ("a",))], skill=Touch(ready=False), config=LoopConfig(max_retries=0))
    assert result.steps[0].outcome == "precondition_failed"
    started = next(i for i, e in enumerate(events) if e.type == "step_started")
    finished = next(i for i, e in enumerate(events) if e.type == "step_finished")
    assert "transit" not in kinds(events[started:finished])


def test_a_policy_without_an_end_times_out() -> None:
    skill = Touch(succeeds_at=99)
    result, _, _ = run([plan((), ("a",))], skill=skill, policy=LinePolicy(chunks=99), config=LoopConfig(max_retries=0))
    assert result.steps[0].outcome == "timed_out"


def test_an_unreachable_target_is_an_outcome_and_not_a_crash() -> None:
    far = Plan(goal="g", steps=(step_at("a", "touch", (1.6, 0.0, 0.0)),), remaining=("a",))
    result, _, _ = run([far], config=LoopConfig(max_retries=0, screen=False))
    assert result.outcome == "gave_up"
    assert result.steps[0].outcome == "unreachable"
    assert "1.600" in result.message


def test_a_step_without_keypoint_ends_the_run_with_one_clear_error() -> None:
    bare = Plan(goal="g", steps=(Step(id="a", skill="touch"),), remaining=("a",))
    result, events, _ = run([bare])
    assert result.outcome == "error"
    assert "step a (touch): the policy needs a keypoints artifact" in result.message
    assert kinds(events)[-1] == "run_finished"


def test_an_unknown_skill_in_a_plan_is_named() -> None:
    strange = Plan(goal="g", steps=(step_at("a", "toch", TABLE),), remaining=("a",))
    result, _, _ = run([strange])
    assert result.outcome == "error"
    assert "unknown skill 'toch' in step a of the plan. Did you mean 'touch'?" in result.message


def test_a_refusal_is_polite_and_typed() -> None:
    no = Refusal(reason="not_in_scene", message="there is no blue mug; I see a red one", missing=("blue mug",))
    result, events, _ = run([no])
    assert result.outcome == "refused"
    assert result.message == no.message
    assert next(e for e in events if e.type == "plan_refused").refusal == no


def test_nothing_to_do_is_success_only_after_something_was_done() -> None:
    nothing = Refusal(reason="nothing_to_do", message="the table is clear already")
    assert run([nothing])[0].outcome == "nothing_to_do"
    every = LoopConfig(replan="every_step")
    assert run([plan((), ("a",)), nothing], config=every)[0].outcome == "succeeded"


def test_the_naive_loop_plans_once_and_checks_nothing() -> None:
    result, events, _ = run([plan((), ("a", "b"))], skill=Touch(succeeds_at=99, ready=False), config=LoopConfig.naive())
    assert result.outcome == "succeeded"
    assert kinds(events).count("plan_proposed") == 1
    assert not [e for e in events if e.type == "verdict" and e.phase != "during"]


def reasons(events: list[Any]) -> list[str]:
    return [e.reason for e in events if e.type == "plan_proposed"]


def test_a_plan_that_goes_well_is_followed_and_pointed_at_anew() -> None:
    result, events, _ = run([plan((), ("a", "b"))])
    assert result.outcome == "succeeded"
    assert reasons(events) == ["initial", "followed after a: succeeded"]
    followed = [e.plan for e in events if e.type == "plan_proposed"][1]
    assert (followed.done, followed.remaining) == (("a",), ("b",))


def test_a_failed_step_is_repeated_before_a_new_plan_is_asked_for() -> None:
    result, events, _ = run([plan((), ("a",)), plan((), ("a",))], skill=Touch(succeeds_at=2))
    assert result.outcome == "succeeded"
    assert reasons(events) == ["initial", "followed after a: failed", "after a: failed"]


def test_a_step_whose_things_are_out_of_view_asks_for_a_new_plan() -> None:
    class Blind(ScriptedPlanner):
        def refresh(self, observation: Any, plan: Any, context: Any) -> None:
            return None

    events: list[Any] = []
    agent = Agent(
        world_preset("tabletop"),
        Blind([plan((), ("a", "b")), plan(("a",), ("b",))]),
        lambda name: LinePolicy(),
        skills=SkillLibrary([Touch()]),
    )
    assert agent.run("touch it", world=KinematicWorld(), on_event=events.append).outcome == "succeeded"
    assert reasons(events) == ["initial", "after a: succeeded, and what comes next is not in view"]


def test_cancelling_in_motion_brings_the_arm_to_rest_within_limits() -> None:
    token = CancelToken()

    world = KinematicWorld()
    original = world.step

    def step(command: JointCommand) -> None:
        original(command)
        if np.abs(command.dq).max() > 0.3:
            token.cancel()

    world.step = step  # type: ignore[method-assign]
    result, events, world = run([plan((), ("a",))], world=world, cancel=token)
    assert result.outcome == "cancelled"
    assert kinds(events)[-1] == "run_finished"
    assert np.abs(world.commands[-1].dq).max() < 1e-6
    velocity = np.diff([c.q for c in world.commands], axis=0) / 0.02
    limits = panda_limits()
    assert (np.abs(velocity) <= limits.velocity + 1e-6).all()
    assert (np.abs(np.diff(velocity, axis=0)) / 0.02 <= limits.acceleration * 1.01).all()


def test_a_subscriber_that_fails_is_noted_and_steers_nothing() -> None:
    def fail(event: Any) -> None:
        raise ValueError("my plot broke")

    result, _, _ = run([plan((), ("a",)), plan(("a",), ())], on_event=fail)
    assert result.outcome == "succeeded"


def test_a_policy_that_breaks_closes_the_run_before_the_error_goes_on() -> None:
    class Broken(LinePolicy):
        def act(self, observation: Any, step: Any) -> Any:
            raise ZeroDivisionError("a defect of the policy")

    seen: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        run([plan((), ("a",))], policy=Broken(), on_event=seen.append)
    assert seen[-1].type == "run_finished"
    assert seen[-1].outcome == "error"
    assert "a defect of the policy" in seen[-1].message


def test_an_agent_runs_one_task_at_a_time() -> None:
    agent = Agent(world_preset("tabletop"), ScriptedPlanner([plan(("a",), ())]), lambda name: LinePolicy())
    assert agent._busy.acquire(blocking=False)
    with pytest.raises(RuntimeError, match="running already"):
        agent.run("x", world=KinematicWorld())


def test_the_same_seed_gives_the_same_commands() -> None:
    answers = [plan((), ("a", "b")), plan(("a",), ("b",)), plan(("a", "b"), ())]
    first, second = run(list(answers))[2], run(list(answers))[2]
    assert len(first.commands) == len(second.commands)
    for a, b in zip(first.commands, second.commands, strict=True):
        assert a == b


async def _arun(agent: Agent, world: KinematicWorld) -> RunResult:
    return await agent.arun("touch it", world=world)


def test_the_async_variant_gives_the_same_result() -> None:
    import asyncio

    agent = Agent(
        world_preset("tabletop"),
        ScriptedPlanner([plan((), ("a",)), plan(("a",), ())]),
        lambda name: LinePolicy(),
        skills=SkillLibrary([Touch()]),
    )
    assert asyncio.run(_arun(agent, KinematicWorld())).outcome == "succeeded"


def test_cancelling_the_task_stops_the_run_safely_and_the_signature_is_that_of_run() -> None:
    import asyncio

    world, began = KinematicWorld(), threading.Event()
    agent = Agent(
        world_preset("tabletop"),
        ScriptedPlanner([plan((), ("a",))]),
        lambda name: LinePolicy(),
        skills=SkillLibrary([Touch(succeeds_at=999)]),
        config=LoopConfig(max_retries=999, max_steps=999),
    )
    last: list[Event] = []

    def take(event: Event) -> None:
        last[:] = [event]
        began.set()

    async def cancelled() -> None:
        task = asyncio.create_task(agent.arun("touch it", world=world, on_event=take))
        await asyncio.to_thread(began.wait)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert last[0].type == "run_finished" and last[0].outcome == "cancelled"
    assert not world.proprio().dq.any()
    assert inspect.signature(Agent.arun) == inspect.signature(Agent.run)
    assert inspect.signature(ArmsAgent.arun) == inspect.signature(ArmsAgent.run)
