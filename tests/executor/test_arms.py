"""Several arms with fakes: at the same time, one after the other where they share, waiting, and failing apart."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.controllers.fence import Fence
from hiervla.controllers.shape import ArmShape
from hiervla.executor.arms.agent import ArmsAgent
from hiervla.executor.arms.planning import ArmPlanner
from hiervla.executor.arms.records import broken_claim, replay_arms, replay_physics
from hiervla.executor.config import LoopConfig
from hiervla.executor.presets import SeveralArmsError, arms_preset, rebuild_world
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder
from hiervla.executor.record.verify import verify
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicArms, KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.planner.base import PlannerContext, PlannerFailedError
from hiervla.representations import (
    JointCommand,
    Keypoints,
    Observation,
    Plan,
    PlanError,
    Refusal,
    SkillSignature,
    Step,
    Verdict,
)
from hiervla.representations.events import PlannerFailed, PlanRefused, ResourcesClaimed, RunStarted
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary, Termination

NEAR = (0.5, -0.05, 0.0)
MIDDLE = (0.25, 0.45, 0.05)
ARMS = ("left", "right")
Told = list[tuple[str, Any]]


class Touch(Skill):
    """Touches a spot; never succeeds at the things that it is told to fail at."""

    signature = SkillSignature(name="touch", doc="touch a spot")
    timeout_s = 3.0
    naive_s = 1.0

    def __init__(self, fails_at: Sequence[str] = ()) -> None:
        self.fails_at = tuple(fails_at)

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        return Verdict(name="touched", value="no" if context.step.args["object"] in self.fails_at else "yes")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def touch(step_id: str, at: tuple[float, float, float] = NEAR, arm: str | None = None, **more: Any) -> Step:
    step = step_at(step_id, "touch", at, object=f"the {step_id}")
    (points,) = step.artifacts
    assert isinstance(points, Keypoints)
    # What every camera of the fake world sees: a record names no image that it does not hold.
    return step.replace(artifacts=(points.replace(image=points.image.replace(sha256=seen())),), arm=arm, **more)


@cache
def seen() -> str:
    return KinematicWorld().observe(["front"]).frames[0].sha256


def plan(*steps: Step) -> Plan:
    return Plan(goal="touch things", steps=steps, remaining=tuple(s.id for s in steps))


def run(
    given: Plan | dict[str, Plan | Refusal],
    *,
    skill: Skill | None = None,
    world: KinematicArms | None = None,
    record: Path | None = None,
    one_by_one: bool = False,
    instruction: str = "touch things",
    judge: Termination | None = None,
) -> tuple[RunResult, Told, KinematicArms]:
    """Run a plan for both arms, or each arm's planner's own one."""
    nothing = Refusal(reason="cannot_do", message="This planner only points.")
    answers = dict.fromkeys(ARMS, nothing) if isinstance(given, Plan) else given
    agent = ArmsAgent(
        arms_preset("tabletop-duo"),
        lambda arm: (ScriptedPlanner([answers[arm]]), lambda name: LinePolicy(chunks=1)),
        skills=SkillLibrary([skill or Touch()]),
        config=LoopConfig(max_retries=1, settle_ticks=3),
        judge=judge,
    )
    told: Told = []
    world = world or KinematicArms()
    result = agent.run(
        instruction,
        plan=given if isinstance(given, Plan) else None,
        world=world,
        on_arm=lambda arm, event: told.append((arm, event)),
        record=record,
        one_by_one=one_by_one,
    )
    return result, told, world


def spans(told: Told) -> dict[str, tuple[float, float]]:
    """When each step of the last attempt at it began and ended [s]."""
    found: dict[str, tuple[float, float]] = {}
    for _, event in told:
        if event.type == "step_started":
            found[event.step.id] = (event.time_s, np.inf)
        elif event.type == "step_finished":
            found[event.step_id] = (found[event.step_id][0], event.time_s)
    return found


class Judge:
    """Says yes, and notices who asks while somebody else is being answered."""

    name = "judge"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.overlaps = 0
        self._busy = threading.Lock()

    def __call__(self, context: SkillContext) -> Verdict:
        if not self._busy.acquire(blocking=False):
            self.overlaps += 1
            return Verdict(name=self.name, value="no")
        self.asked.append(context.step.id)
        time.sleep(0.05)
        self._busy.release()
        return Verdict(name=self.name, value="yes")


class Doubtful(Touch):
    """Cannot tell whether it worked."""

    def done(self, context: SkillContext) -> Verdict:
        return Verdict(name="touched", value="unsure", confidence=0.0)


def test_both_arms_ask_the_judge_where_they_are_in_doubt_one_at_a_time() -> None:
    judge = Judge()
    result, told, _ = run(FOUR, skill=Doubtful(), judge=judge)
    assert result.outcome == "succeeded" and judge.overlaps == 0
    assert sorted(judge.asked) == ["a", "b", "c", "d"]
    done = [e.verdict for _, e in told if e.type == "verdict" and e.phase == "done"]
    assert len(done) == 4 and all(v.value == "yes" for v in done)
    run(FOUR, judge=judge)
    assert len(judge.asked) == 4, "nobody is asked about what is sure"


def claims(told: Told, state: str) -> list[tuple[str, str]]:
    return [(arm, e.step_id) for arm, e in told if e.type == "resources" and e.state == state]


FOUR = plan(touch("a", arm="left"), touch("b", arm="left"), touch("c", arm="right"), touch("d", arm="right"))


def test_steps_that_share_nothing_run_at_the_same_time() -> None:
    together, told, _ = run(FOUR)
    in_turn, told_in_turn, _ = run(FOUR, one_by_one=True)
    assert together.outcome == in_turn.outcome == "succeeded", (together.message, in_turn.message)
    at = spans(told)
    assert at["a"][0] == at["c"][0]
    assert at["b"][0] < at["d"][1] and at["d"][0] < at["b"][1]
    assert not claims(told, "waiting")
    assert together.duration_s < 0.62 * in_turn.duration_s
    turns = sorted(spans(told_in_turn).values())
    assert all(end <= start for (_, end), (start, _) in zip(turns, turns[1:], strict=False))
    assert {s.step.id: s.step.arm for s in together.steps} == {"a": "left", "b": "left", "c": "right", "d": "right"}


def test_the_same_run_twice_is_the_same_to_the_last_event() -> None:
    two = plan(touch("a", MIDDLE, "left"), touch("b", MIDDLE, "right"))

    def facts(told: Told) -> list[str]:
        return [f"{arm} {e.type} {e.time_s:.3f} {e.id} {getattr(e, 'step_id', '')}" for arm, e in told]

    (_, one, first), (_, other, second) = run(two), run(two)
    assert facts(one) == facts(other)
    for arm in ARMS:
        for a, b in zip(first.views[arm].commands, second.views[arm].commands, strict=True):
            assert np.array_equal(a.q, b.q)


def test_the_shared_space_is_one_arms_at_a_time_and_the_other_stays_out() -> None:
    result, told, world = run(plan(touch("a", MIDDLE, "left"), touch("b", MIDDLE, "right")))
    assert result.outcome == "succeeded", result.message
    at = spans(told)
    assert at["a"][1] <= at["b"][0]
    assert claims(told, "waiting") == [("right", "b")]
    shape, inside = ArmShape(), []
    for left, right in zip(world.views["left"].commands, world.views["right"].commands, strict=False):
        reach = []
        for command in (left, right):
            shape.place(command.q)
            reach.append(shape.extent((0.0, 1.0, 0.0)))
        inside.append([r > 0.275 for r in reach])
        assert sum(reach) < 0.94 - 0.05, "the arms have to keep apart"
    assert any(left for left, _ in inside) and any(right for _, right in inside)
    assert not any(left and right for left, right in inside)


def test_an_arm_that_waits_for_another_ones_step_does_what_it_can_first() -> None:
    late = touch("c", arm="right", depends_on=("a", "b"))
    result, told, _ = run(plan(touch("a", arm="left"), touch("b", arm="left"), late, touch("d", arm="right")))
    assert result.outcome == "succeeded", result.message
    at = spans(told)
    assert at["d"][0] == at["a"][0]
    assert at["c"][0] >= at["b"][1]
    assert claims(told, "waiting") == [("right", "c")]
    (why,) = [e for _, e in told if e.type == "resources" and e.state == "waiting"]
    assert why.blocked_by == ("left has to 'touch the b' first",)


def test_a_failure_of_one_arm_stops_what_needs_it_and_nothing_else() -> None:
    steps = (
        touch("a", arm="left"), touch("b", arm="left"), touch("c", arm="right", depends_on=("a",)),
        touch("d", arm="right"), touch("e", arm="right"),
    )  # fmt: skip
    well, told_well, _ = run(plan(*steps))
    assert well.outcome == "succeeded"
    result, told, _ = run(plan(*steps), skill=Touch(fails_at=["the a"]))
    assert result.outcome == "gave_up"
    assert "left out: " not in result.message and "gave up on 'touch(the a)' after 2 attempts" in result.message
    outcomes = {(arm, r.step.id): r.outcome for arm in ARMS for r in result.arms[arm].steps}
    assert outcomes == {("left", "a"): "failed", ("right", "d"): "succeeded", ("right", "e"): "succeeded"}
    before, after = spans(told_well), spans(told)
    assert (after["d"], after["e"]) == (before["d"], before["e"]), "an independent step must not notice"
    assert claims(told, "dropped") == [("right", "c")]
    (dropped,) = [e for _, e in told if e.type == "resources" and e.state == "dropped"]
    assert dropped.blocked_by == ("left does not 'touch the a' any more",)


def test_a_retry_that_works_lets_the_dependent_step_go_on() -> None:
    class Second(Touch):
        tries = 0

        def done(self, context: SkillContext) -> Verdict:
            if context.step.args["object"] != "the a":
                return super().done(context)
            self.tries += 1
            return Verdict(name="touched", value="yes" if self.tries > 1 else "no")

    steps = (touch("a", arm="left"), touch("c", arm="right", depends_on=("a",)))
    result, told, _ = run(plan(*steps), skill=Second())
    assert result.outcome == "succeeded", result.message
    assert [r.outcome for r in result.arms["left"].steps] == ["failed", "succeeded"]
    at = spans(told)
    assert at["c"][0] >= at["a"][1]


def test_an_arm_that_is_stopped_in_the_shared_space_keeps_it() -> None:
    class Blocked(KinematicWorld):
        """Something holds the arm fast as soon as its hand is above the middle."""

        def step(self, command: JointCommand) -> None:
            now = self.proprio()
            stuck = now.ee_position[1] > 0.35
            held = command.replace(q=now.q, dq=np.zeros(7)) if stuck else command
            super().step(held)

    world = KinematicArms()
    world.views["left"] = Blocked()
    steps = (touch("a", MIDDLE, "left"), touch("b", MIDDLE, "right"), touch("c", NEAR, "right"))
    result, told, _ = run(plan(*steps), world=world)
    assert result.arms["left"].outcome == "envelope_stop"
    assert result.outcome == "envelope_stop"
    assert [(r.step.id, r.outcome) for r in result.arms["right"].steps] == [("c", "succeeded")]
    assert claims(told, "dropped") == [("right", "b")]
    assert ("left", "a") not in claims(told, "released")


def test_the_planners_answers_are_shared_out() -> None:
    result, told, _ = run({"left": plan(touch("s1")), "right": plan(touch("s1"), touch("s2"))})
    assert result.outcome == "succeeded", result.message
    assert result.plan is not None
    assert [(s.id, s.arm) for s in result.plan.steps] == [
        ("left.s1", "left"), ("right.s1", "right"), ("right.s2", "right"),
    ]  # fmt: skip
    assert set(spans(told)) == {"left.s1", "right.s1", "right.s2"}


def test_an_arm_whose_planner_finds_nothing_stands_still_and_the_other_works() -> None:
    no = Refusal(reason="not_in_scene", message="There is no mug.")
    result, told, world = run({"left": no, "right": plan(touch("s1"))})
    assert result.outcome == "succeeded", result.message
    assert set(result.arms) == {"right"}
    assert [e.outcome for arm, e in told if arm == "left" and e.type == "run_finished"] == ["nothing_to_do"]
    assert len({tuple(c.q) for c in world.views["left"].commands}) == 1
    refused, told, world = run({"left": no, "right": no})
    assert refused.outcome == "refused" and "No arm can do 'touch things'" in refused.message
    assert not world.views["left"].commands


def test_what_lies_on_the_other_arms_side_is_left_to_it() -> None:
    far = plan(touch("s1", (0.4, 0.75, 0.0)), touch("s2"))
    result, _, _ = run({"left": far, "right": plan(touch("s1"))})
    assert result.outcome == "succeeded", result.message
    assert result.plan is not None
    assert [s.id for s in result.plan.steps] == ["left.s2", "right.s1"]


def test_what_cannot_be_put_down_is_not_picked_up() -> None:
    pick = step_at("s1", "pick", NEAR, object="red mug")
    place = step_at("s2", "place", (0.4, 0.8, 0.0), object="red mug", target="top shelf").replace(depends_on=("s1",))
    again = step_at("s3", "pick", NEAR, object="red mug").replace(depends_on=("s1",))
    planner = ArmPlanner("left", ScriptedPlanner([plan(touch("s4"), pick, place, again)]), LIBRARY, only_near)
    seen = KinematicWorld().observe()
    answer = planner.plan(seen, "tidy up", PlannerContext())
    assert isinstance(answer, Plan)
    assert [(s.id, s.arm) for s in answer.steps] == [("s4", "left")]
    assert [r.problem for r in planner.rejected] == [
        "left to another arm: step s2 ('place(red mug, top shelf)') is out of the arm's reach: too far",
        "left to another arm: step s1 ('pick(red mug)') goes with step s2",
        "left to another arm: step s3 ('pick(red mug)') goes with step s1",
    ]
    alone = ArmPlanner("left", ScriptedPlanner([plan(pick, place)]), LIBRARY, only_near)
    refused = alone.plan(seen, "tidy up", PlannerContext())
    assert isinstance(refused, Refusal) and "not for the left arm" in refused.message


def only_near(hover: np.ndarray, yaw: float) -> str | None:
    return "too far" if hover[1] > 0.6 else None


class Pick(Touch):
    signature = SkillSignature(name="pick", doc="pick a thing up")


class Place(Touch):
    signature = SkillSignature(name="place", doc="put a thing down")


LIBRARY = SkillLibrary([Pick(), Place(), Touch()])


def test_a_given_plan_goes_where_it_can_be_done_and_says_where_it_cannot() -> None:
    result, _, _ = run(plan(touch("a"), touch("b"), touch("c"), touch("d", arm="right")))
    assert result.plan is not None
    assert [s.arm for s in result.plan.steps] == ["left", "right", "left", "right"]
    with pytest.raises(PlanError, match="there is no arm 'third'. Choose from left, right"):
        run(plan(touch("a", arm="third")))
    with pytest.raises(PlanError, match=r"no arm can 'touch\(the a\)'"):
        run(plan(touch("a", (0.4, 0.9, 0.0))))


def test_one_record_of_all_arms_is_whole_replays_and_can_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (touch("a", MIDDLE, "left"), touch("b", MIDDLE, "right"), touch("c", NEAR, "right", depends_on=("a",)))
    result, _, _ = run(plan(*steps), record=tmp_path, skill=Touch(fails_at=["the b"]))
    assert result.record is not None and result.outcome == "gave_up"
    record = RunRecord.open(result.record)
    assert record.manifest.arms == ARMS
    found = replay_arms(record, skills=SkillLibrary([Touch()]))
    assert found.identical, (found.sharing, found.claims, {a: r.divergence for a, r in found.arms.items()})
    assert all(r.complete and r.decisions > 5 for r in found.arms.values())
    assert found.arms["left"].robot_s == pytest.approx(result.arms["left"].duration_s, abs=0.1)
    assert main(["verify", str(result.record)]) == 0
    assert "whole: " in capsys.readouterr().out
    assert main(["inspect", str(result.record)]) == 0
    shown = capsys.readouterr().out
    for words in ("left: touch(the a)", "right: touch(the c)  after a", "right: step b waiting", "right arm"):
        assert words in shown, shown
    assert main(["inspect", str(result.record), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["arms"]["left"]["outcome"] == "succeeded" and values["plan"][2]["depends_on"] == ["a"]
    assert main(["report", str(result.record)]) == 0
    assert main(["inspect", str(result.record), "--step", "1"]) == 2
    assert "each arm's steps are in a record of its own" in capsys.readouterr().err
    with pytest.raises(ReplayError, match="its scene cannot be read"):
        replay_physics(record)
    for folder, words in ((result.record, "of a run of several arms"), (result.record / "left", "the left arm's part")):
        assert main(["fork", str(folder), "--at", "1"]) == 1
        assert words in " ".join(capsys.readouterr().err.split())
    part = result.record / "right" / "events.jsonl"
    part.write_bytes(part.read_bytes().replace(b"touched", b"teached", 1))
    assert main(["verify", str(result.record)]) == 1
    assert "right/events.jsonl" in capsys.readouterr().out


def test_a_planner_that_fails_before_anything_moved_is_a_typed_end(tmp_path: Path) -> None:
    class Dead(ScriptedPlanner):
        def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
            raise PlannerFailedError("dead", "the line is cut", "Mend it", passing=True)

    agent = ArmsAgent(
        arms_preset("tabletop-duo"),
        lambda arm: (Dead([]), lambda name: LinePolicy()),
        skills=SkillLibrary([Touch()]),
        config=LoopConfig(planner_wait_s=600.0),
    )
    world = KinematicArms()
    result = agent.run("touch things", world=world, record=tmp_path)
    assert result.outcome == "planner_failed" and "planner 'dead' gives no answer: the line is cut" in result.message
    assert not any(world.arm(arm).commands for arm in ARMS) and result.record is not None
    record = RunRecord.open(result.record)
    (failed,) = record.of(PlannerFailed)
    assert failed.then == "end" and record.finished is not None and record.finished.outcome == "planner_failed"
    assert verify(result.record).status == "whole"
    assert replay_arms(record, skills=SkillLibrary([Touch()])).identical


def test_a_replay_sees_another_sharing_out(tmp_path: Path) -> None:
    answers: dict[str, Plan | Refusal] = {"left": plan(touch("s1")), "right": plan(touch("s1"))}
    result, _, _ = run(answers, record=tmp_path)
    assert result.record is not None
    library = SkillLibrary([Touch()])
    assert replay_arms(RunRecord.open(result.record), skills=library).identical
    record = RunRecord.open(result.record)
    record.manifest = record.manifest.replace(world_config={**record.manifest.world_config, "arms": ["right", "left"]})
    changed = replay_arms(record, skills=library)
    assert changed.sharing is not None and changed.sharing.type == "plan_proposed"


def test_two_arms_with_one_space_are_noticed() -> None:
    recorder = MemoryRecorder()

    def tell(arm: str, state: str) -> None:
        recorder.emit(ResourcesClaimed, time_s=0.0, arm=arm, step_id="s1", state=state, resources=("space:bin",))

    class Fake:
        def of(self, kind: Any) -> list[Any]:
            return recorder.of(kind)

    tell("left", "granted")
    tell("left", "released")
    tell("right", "granted")
    assert broken_claim(Fake()) is None  # type: ignore[arg-type]  # as much of a record as is asked for
    tell("left", "granted")
    told = broken_claim(Fake())  # type: ignore[arg-type]  # as above
    assert told == "space:bin was granted for left in e4 while right had it since e3"
    assert not recorder.of(RunStarted)


def test_one_agent_and_one_record_say_that_there_are_several_arms() -> None:
    from hiervla import Agent

    with pytest.raises(SeveralArmsError, match="ArmsAgent.from_preset"):
        Agent.from_preset("tabletop-duo")
    with pytest.raises(SeveralArmsError):
        rebuild_world("tabletop-duo", {})


def test_a_fence_has_a_horizontal_normal_and_opens_outwards() -> None:
    with pytest.raises(ValueError, match="horizontal unit vector"):
        Fence("bin", (0.0, 0.0, 1.0), 0.2, 0.4)
    with pytest.raises(ValueError, match="cannot open"):
        Fence("bin", (0.0, 1.0, 0.0), 0.4, 0.2)


def test_from_the_shell_the_shipped_parts_say_what_no_arm_can_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["run", "put the purple plate in the drawer", "--world", "tabletop-duo", "--seed", "1", "-q"]
    assert main([*asked, "--record", str(tmp_path)]) == 1
    assert "refused: No arm can do 'put the purple plate in the drawer'" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    record = RunRecord.open(folder)
    assert replay_arms(record).identical
    assert len(list(record.of(PlanRefused))) == 3, "each arm's answer, and the one of all"
    assert main([*asked, "--emit", "boxes", "--record", str(tmp_path)]) == 2
    assert "--emit: world 'tabletop-duo' has several arms" in " ".join(capsys.readouterr().err.split())
