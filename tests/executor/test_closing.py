"""What is looked over before a run counts as succeeded, and how attempts and runs end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hiervla.controllers.errors import NoPath
from hiervla.executor.agent import Agent
from hiervla.executor.body import Body, EnvelopeStop
from hiervla.executor.closing import out_of_sight, unfinished
from hiervla.executor.config import LoopConfig
from hiervla.executor.presets import world_preset
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.planner.base import StepRecord
from hiervla.representations import (
    ImageRef,
    JointCommand,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Refusal,
    SkillSignature,
    Step,
    Verdict,
)
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary

AT = (0.5, 0.05, 0.0)


class Put(Skill):
    """Succeeds; whether that lasts is a list of answers, asked at the end of a run."""

    timeout_s = 3.0

    def __init__(
        self, lasting: list[Verdict] | None = None, name: str = "place", works: Callable[[], bool] = bool
    ) -> None:
        self.signature = SkillSignature(name=name, doc="put something down")
        self.lasting = lasting if lasting is not None else []
        self.works = works
        self.asked = 0

    def approach(self, context: SkillContext) -> Approach:
        return Approach(gripper_width_m=None)

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        self.asked += 1
        return Verdict(name="put", value="no" if self.works is not bool and not self.works() else "yes")

    def lasts(self, context: SkillContext) -> Verdict | None:
        assert context.after is not None
        return self.lasting.pop(0) if self.lasting else Verdict(name="stands", value="yes")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


class Asking(ScriptedPlanner):
    """A scripted planner that can tell whether anything is left to do."""

    looks_over = True


GONE = Verdict(name="stands", value="no", confidence=0.9)
DOUBTFUL = Verdict(name="stands", value="no", confidence=0.2)


def plan(done: tuple[str, ...], remaining: tuple[str, ...], thing: str = "red mug", scene: Any = ()) -> Plan:
    steps = tuple(step_at(i, "place", AT, object=thing, target="top shelf") for i in (*done, *remaining))
    return Plan(goal="put", steps=steps, done=done, remaining=remaining, scene=scene)


def run(planner: ScriptedPlanner, skill: Skill, **options: Any) -> tuple[RunResult, list[Any]]:
    events: list[Any] = []
    world = options.pop("world", None) or KinematicWorld()
    policy = LinePolicy()
    config = LoopConfig(**options)
    agent = Agent(world_preset("tabletop"), planner, lambda name: policy, skills=SkillLibrary([skill]), config=config)
    return agent.run("put it there", world=world, on_event=events.append), events


def lasting(events: list[Any]) -> list[str]:
    return [e.verdict.value for e in events if e.type == "verdict" and e.phase == "lasting"]


def test_an_effect_that_still_holds_is_asked_for_once_and_recorded() -> None:
    result, events = run(ScriptedPlanner([plan((), ("a",))]), Put())
    assert (result.outcome, result.message) == ("succeeded", "all 1 steps are done")
    assert lasting(events) == ["yes"]


def test_an_effect_that_is_gone_is_told_to_the_planner_and_made_good() -> None:
    planner = ScriptedPlanner([plan((), ("a",)), plan((), ("b",))])
    result, events = run(planner, Put([GONE]))
    assert result.outcome == "succeeded"
    assert [r.outcome for r in planner.asked[1].history] == ["failed"], "it is told as failed"
    assert [r.outcome for r in result.steps] == ["failed", "succeeded"]
    reasons = [e.reason for e in events if e.type == "plan_proposed"]
    assert reasons[1].startswith("looked over: 'place(red mug, top shelf)' was done and no longer holds (stands: no")


def test_an_effect_that_never_lasts_is_no_success() -> None:
    result, _ = run(ScriptedPlanner([plan((), ("a",))]), Put([GONE] * 9))
    assert result.outcome == "failed"
    assert "'place(red mug, top shelf)' was done and no longer holds (stands: no, 0.90)" in result.message


def test_a_doubtful_no_counts_for_nothing_and_neither_does_a_switched_off_check() -> None:
    assert run(ScriptedPlanner([plan((), ("a",))]), Put([DOUBTFUL]))[0].outcome == "succeeded"
    result, events = run(ScriptedPlanner([plan((), ("a",))]), Put([GONE]), end_checks=0)
    assert result.outcome == "succeeded"
    assert lasting(events) == []


def test_what_a_later_step_took_away_need_not_hold() -> None:
    pick = step_at("b", "pick", AT, object="red mug")
    first = plan((), ("a",))
    both = first.replace(steps=(*first.steps, pick), remaining=("a", "b"))
    world, policy = KinematicWorld(), LinePolicy()
    skills = SkillLibrary([Put([GONE]), Put(name="pick", lasting=[])])
    agent = Agent(world_preset("tabletop"), ScriptedPlanner([both]), lambda name: policy, skills=skills)
    result = agent.run("put it and take it", world=world)
    assert result.outcome == "succeeded"


def test_a_planner_that_can_tell_is_asked_what_is_left() -> None:
    planner = Asking([plan((), ("a",)), plan(("a",), ("b",), "blue mug"), plan(("a", "b"), (), "blue mug")])
    result, events = run(planner, Put())
    assert result.outcome == "succeeded"
    assert [r.step.id for r in result.steps] == ["a", "b"]
    reasons = [e.reason for e in events if e.type == "plan_proposed"]
    assert reasons == ["initial", "is anything left to do?", "is anything left to do?"]


def test_a_planner_that_never_comes_to_an_end_is_no_success() -> None:
    result, _ = run(Asking([plan((), ("a",))]), Put())
    assert result.outcome == "failed"
    assert result.message.endswith("there was more to do each of 2 times that it was looked over")


def test_a_planner_that_has_just_said_so_is_not_asked_again() -> None:
    planner = Asking([plan((), ("a",)), plan(("a",), ())])
    result, _ = run(planner, Put(), replan="every_step")
    assert result.outcome == "succeeded"
    assert len(planner.asked) == 2


def _one_failure(seen: str) -> list[Plan | Refusal]:
    """A plan whose step fails, then one that has dropped it; the planner sees `seen` in the end."""
    image = ImageRef(camera="front", sha256="0" * 64, width=64, height=64, time_s=0.0)
    scene = (Keypoints(image=image, points=(Keypoint(label=seen, u=3, v=3),)),)
    return [plan((), ("a",)), Plan(goal="put", steps=(), remaining=(), scene=scene)]


@pytest.mark.parametrize(
    ("seen", "outcome"), [("red mug (table)", "failed"), ("red mug (top shelf)", "succeeded"), ("x", "failed")]
)
def test_a_thing_that_was_never_brought_where_it_belongs_is_no_success(seen: str, outcome: str) -> None:
    skill = Put(works=lambda: False)
    result, _ = run(ScriptedPlanner(_one_failure(seen)), skill, repeats=0, replan="on_failure")
    assert result.outcome == outcome
    if outcome == "failed":
        assert result.message == "all 0 steps are done, but 'place(red mug, top shelf)' failed and was never made good"


def test_a_thing_is_unfinished_by_its_last_attempt() -> None:
    def record(thing: str, skill: str, outcome: Any) -> StepRecord:
        return StepRecord(Step(id="s", skill=skill, args={"object": thing}), outcome)

    failed, won = record("mug", "place", "failed"), record("mug", "throw_away", "succeeded")
    assert [s.args["object"] for s in unfinished([failed])] == ["mug"]
    assert unfinished([failed, won]) == []
    assert [s.skill for s in unfinished([won, failed])] == ["place"]
    assert unfinished([record("mug", "pick", "failed")]) == [], "a pick brings nothing anywhere"


def test_a_thing_that_could_not_be_picked_up_and_went_out_of_sight_is_not_forgotten() -> None:
    def record(thing: str, skill: str, outcome: Any) -> StepRecord:
        return StepRecord(step=step_at("a", skill, AT, object=thing), outcome=outcome)

    image = ImageRef(camera="front", sha256="0" * 64, width=64, height=48, time_s=0.0)

    def scene(*labels: str) -> tuple[Keypoints, ...]:
        points = tuple(Keypoint(label=x, u=5, v=5, confidence=0.9) for x in labels)
        return (Keypoints(image=image, points=points),)

    failed, other = record("green mug", "pick", "failed"), record("red mug", "place", "succeeded")
    gone = scene("red mug (top shelf)", "bin")
    assert [s.args["object"] for s in out_of_sight([failed, other], gone)] == ["green mug"]
    assert out_of_sight([failed], scene("green mug (table)")) == [], "it is there, and the planner wants nothing of it"
    assert out_of_sight([failed, record("green mug", "pick", "succeeded")], gone) == []
    assert out_of_sight([failed, record("green mug", "place", "failed")], gone) == [], "which is told as unfinished"
    assert out_of_sight([record("green mug", "pick", "cancelled")], gone) == []
    assert out_of_sight([failed], ()) == [], "who sees nothing does not know"


def test_a_run_does_not_claim_what_fell_out_of_sight() -> None:
    image = ImageRef(camera="front", sha256="0" * 64, width=64, height=48, time_s=0.0)
    scene = (Keypoints(image=image, points=(Keypoint(label="bin", u=5, v=5, confidence=0.9),)),)
    wanted = plan((), ("a",), "green mug").replace(steps=(step_at("a", "pick", AT, object="green mug"),))
    nothing = plan((), (), "green mug", scene)
    result, _ = run(Asking([wanted, nothing, nothing]), Put(name="pick", works=lambda: False), max_retries=1)
    assert result.outcome != "succeeded"
    assert "green mug" in result.message


# How attempts end.


class Slippery(KinematicWorld):
    """Holds something until the hand has gone beyond a place."""

    def step(self, command: JointCommand) -> None:
        super().step(command)
        if self.proprio().ee_position[1] > 0.12:
            self.grip_m = None


def held_at_start(world: KinematicWorld) -> KinematicWorld:
    proprio = world.proprio()
    world.step(JointCommand(q=proprio.q, dq=proprio.dq, gripper_width_m=0.0, time_s=0.0))
    assert world.proprio().gripper_effort_n > 2.0
    return world


def test_what_falls_on_the_way_is_lost_before_the_policy_acts() -> None:
    far = plan((), ("a",)).replace(steps=(step_at("a", "place", (0.45, 0.3, 0.0), object="red mug"),))
    world = held_at_start(Slippery(0.05))
    result, events = run(ScriptedPlanner([far]), Put(works=lambda: False), world=world, max_retries=0)
    assert result.steps[0].outcome == "lost_object"
    assert "what was held got lost on the way" in result.message
    assert not [e for e in events if e.type == "chunk"]
    said = [e.verdict for e in events if e.type == "verdict" and e.phase == "invariant"]
    assert [(v.name, v.value) for v in said] == [("holding", "no")]


def test_what_stays_in_the_hand_is_no_obstacle_to_the_policy() -> None:
    world = held_at_start(KinematicWorld(0.05))
    result, events = run(ScriptedPlanner([plan((), ("a",))]), Put(), world=world)
    assert result.outcome == "succeeded"
    assert [e.verdict.value for e in events if e.type == "verdict" and e.phase == "invariant"] == ["yes"]


def test_no_way_through_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    def approach(self: Body, *args: Any) -> None:
        raise NoPath("hover pose", "goal_in_collision", ("a box",))

    monkeypatch.setattr(Body, "approach", approach)
    result, _ = run(ScriptedPlanner([plan((), ("a",))]), Put(), max_retries=0)
    assert (result.outcome, result.steps[0].outcome) == ("gave_up", "blocked")


@pytest.mark.parametrize("outcome", ["envelope_stop", "cancelled"])
def test_an_attempt_that_is_broken_off_says_by_what(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    from hiervla.executor.body import RunCancelled

    def track(self: Body, *args: Any) -> None:
        raise RunCancelled if outcome == "cancelled" else EnvelopeStop("a joint is too fast")

    monkeypatch.setattr(Body, "track", track)
    result, _ = run(ScriptedPlanner([plan((), ("a",))]), Put())
    assert (result.outcome, result.steps[0].outcome) == (outcome, outcome)


def test_an_empty_hand_leaves_straight_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has let go of stands between the fingers: the first centimetres lead nowhere but up."""
    heights: list[tuple[float, float]] = []
    world = KinematicWorld()
    original = Body.home

    def home(self: Body, step_id: str) -> None:
        begin = len(world.commands)
        start = world.proprio().ee_position
        original(self, step_id)
        if start[2] < 0.2:
            from hiervla.controllers.kinematics import Kinematics

            tool = Kinematics()
            for command in world.commands[begin:]:
                at = tool.forward(command.q)[:3, 3]
                heights.append((float(at[2] - start[2]), float(np.hypot(*(at - start)[:2]))))

    monkeypatch.setattr(Body, "home", home)
    result, _ = run(ScriptedPlanner([plan((), ("a",))]), Put(), world=world)
    assert result.outcome == "succeeded"
    low = [aside for up, aside in heights if up < 0.065]
    assert low
    assert max(low) < 0.006
    assert max(aside for _, aside in heights) > 0.05, "and then it goes home"


def test_the_last_question_is_asked_of_a_new_picture() -> None:
    seen: list[Observation] = []

    class Looking(Asking):
        def plan(self, observation: Observation, instruction: str, context: Any) -> Plan | Refusal:
            seen.append(observation)
            return super().plan(observation, instruction, context)

    run(Looking([plan((), ("a",)), plan(("a",), ())]), Put())
    assert len(seen) == 2
    assert seen[1].time_s > seen[0].time_s, "the last question is asked of a new picture"
