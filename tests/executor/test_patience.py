"""What a run does while its planner gives no answer: hold, ask again, ask another one, or end where it can go on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.body import CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Say
from hiervla.executor.presets import WorldPreset
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.physics_replay import replay
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.verify import verify
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.replay.fork import fork_point
from hiervla.executor.replay.shadow import shadow
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, Touch, step_at
from hiervla.planner.base import PlannerContext, PlannerFailedError, RejectedAttempt
from hiervla.planner.vlm.planner import VLMPlanner
from hiervla.planner.vlm.server import ServerBackend
from hiervla.planner.wrapping import PlannerWrapper
from hiervla.representations import Observation, Parameter, Plan, Refusal, SkillSignature, Step
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from tests.planner.servers import Reply, Scripted, streamed

HERE = (0.5, 0.05, 0.0)
QUICK = LoopConfig(planner_retries=2, planner_wait_s=0.04, settle_ticks=2)


class Quick(Touch):
    """Also where nothing is checked."""

    naive_s = 1.0


def steps(*names: str) -> Plan:
    return Plan(goal="touch", steps=tuple(step_at(n, "touch", HERE) for n in names), remaining=names)


class Moody(ScriptedPlanner):
    """Fails at the questions of these numbers, counted over plans and refreshes from 0."""

    def __init__(self, fails: Iterable[int], *, passing: bool = True, name: str = "moody") -> None:
        super().__init__([steps("a", "b")])
        self.fails, self.passing, self.name, self.count = frozenset(fails), passing, name, -1

    @property
    def id(self) -> str:  # type: ignore[override]  # a name for each
        return self.name

    def _maybe(self) -> None:
        self.count += 1
        self.rejected = ()
        if self.count in self.fails:
            self.rejected = (RejectedAttempt("gibberish", "no JSON"),)
            raise PlannerFailedError(self.name, "the line is dead", "Mend it", passing=self.passing)

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        self._maybe()
        return super().plan(observation, instruction, context)

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        self._maybe()
        return super().refresh(observation, plan, context)


def agent(planner: Any, fallback: Any = None, config: LoopConfig = QUICK) -> Agent:
    preset = WorldPreset("kinematic", "", lambda seed: None, lambda scene: KinematicWorld())  # type: ignore[arg-type, return-value]
    policy = LinePolicy()
    return Agent(preset, planner, lambda name: policy, skills=SkillLibrary([Quick()]), config=config, fallback=fallback)


Ran = tuple[RunResult, RunRecord, KinematicWorld]


def run(folder: Path, planner: Any, fallback: Any = None, **options: Any) -> Ran:
    world = KinematicWorld()
    result = agent(planner, fallback, options.pop("config", QUICK)).run("touch", world=world, record=folder, **options)
    assert result.record is not None
    return result, RunRecord.open(result.record), world


def replays(record: RunRecord) -> bool:
    found = replay_decisions(record, skills=SkillLibrary([Quick()]))
    assert found.identical and found.complete, found.divergence
    return True


def test_a_planner_that_fails_for_a_moment_is_waited_for_with_the_arm_at_rest(tmp_path: Path) -> None:
    began = time.monotonic()
    result, record, world = run(tmp_path, PlannerWrapper(Moody([1, 2])))
    assert result.outcome == "succeeded" and time.monotonic() - began > 0.12
    first, second = record.of(ev.PlannerFailed)
    assert (first.then, first.wait_s, second.then, second.wait_s) == ("again", 0.04, "again", 0.08)
    assert first.planner == "moody" and first.problem == "the line is dead" and first.told is not None
    # 2 ticks, then 4; before each new look the arm settles for 2 more.
    assert second.time_s - first.time_s == pytest.approx(0.04 + 2 * 0.02)
    still = [c for c in world.commands if first.time_s <= c.time_s < second.time_s + 0.08]
    assert len(still) == 2 + 2 + 4 and all((c.q == still[0].q).all() and not c.dq.any() for c in still)
    held = (
        "planner 'moody' gives no answer (the line is dead): the arm is held still for 0.04 s, then it is asked again"
    )
    assert str(first) == held
    # What it said before it failed is on record, once for each time; it looked again before each time.
    assert [r.raw_text for r in record.of(ev.PlanRejected)] == ["gibberish", "gibberish"]
    assert [s.step.id for s in record.of(ev.StepStarted)] == ["a", "b"]
    assert replays(record)
    assert replay(record, KinematicWorld()).agrees


def test_a_planner_that_never_answers_ends_the_run_where_it_can_be_resumed(tmp_path: Path) -> None:
    result, record, world = run(tmp_path / "runs", Moody(range(1, 99)))
    assert result.outcome == "planner_failed"
    said = "planner 'moody' gives no answer: the line is dead. Mend it."
    assert result.message == f"{said} It was asked 3 times, and the arm held still for 0.12 s meanwhile."
    assert [e.then for e in record.of(ev.PlannerFailed)] == ["again", "again", "end"]
    assert np.abs(world.proprio().dq).max() == 0.0
    assert record.finished is not None and record.finished.remaining == ("b",)
    assert replays(record)

    resumed = agent(Moody([])).resume(result.record, world=KinematicWorld(), record=tmp_path / "more")  # type: ignore[arg-type]
    assert resumed.outcome == "succeeded" and resumed.record is not None
    child = RunRecord.open(resumed.record)
    # Nothing is done twice: step a was done before, and the new planner is asked for what is left.
    assert [s.step.id for s in child.of(ev.StepStarted)][:1] == ["a"]
    forked = next(child.of(ev.Forked))
    assert forked.time_s == pytest.approx(list(record.of(ev.PlannerFailed))[-1].time_s)
    assert sum(s.step.id == "a" for s in child.of(ev.StepStarted)) == 1
    assert [e.then for e in child.of(ev.PlannerFailed)] == ["again", "again"]
    assert replays(child)
    assert replay(child, KinematicWorld()).agrees


def test_before_the_first_plan_nobody_waits_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    began = time.monotonic()
    slow = QUICK.replace(planner_wait_s=60.0)
    result, record, _ = run(tmp_path / "runs", Moody([0]), config=slow)
    assert result.outcome == "planner_failed" and "It was asked" not in result.message
    assert time.monotonic() - began < 30.0
    assert not list(record.of(ev.StepStarted)) and replays(record)
    resumed = agent(Moody([])).resume(record, world=KinematicWorld(), record=tmp_path / "more")
    assert resumed.outcome == "succeeded" and resumed.record is not None
    assert replays(RunRecord.open(resumed.record))


def test_where_a_planner_is_lost_there_is_no_decision_to_correct(tmp_path: Path) -> None:
    result, record, _ = run(tmp_path / "runs", Moody(range(1, 99)))
    lost = list(record.of(ev.PlannerFailed))[-1]
    assert fork_point(record, lost.id).step is None
    with pytest.raises(ReplayError, match=r"no decision to correct\. Go on from there with `hiervla resume`"):
        agent(Moody([])).fork(record, lost.id, Say("no"), world=KinematicWorld(), record=tmp_path / "more")
    assert not (tmp_path / "more").exists()
    assert fork_point(record, "1").step == step_at("a", "touch", HERE)


def test_another_planner_takes_over_to_the_end(tmp_path: Path) -> None:
    spare = Moody([], name="spare")
    result, record, _ = run(tmp_path, PlannerWrapper(Moody(range(1, 99))), PlannerWrapper(spare))
    assert result.outcome == "succeeded"
    assert [(e.then, e.other) for e in record.of(ev.PlannerFailed)] == [("again", "")] * 2 + [("other", "spare")]
    assert spare.count >= 0
    assert replays(record)


def test_what_does_not_pass_goes_to_the_other_planner_at_once_and_both_may_fail(tmp_path: Path) -> None:
    broken, spare = Moody(range(99), passing=False), Moody([1, 2, 3], name="spare")
    result, record, _ = run(tmp_path, broken, spare)
    assert [(e.planner, e.then) for e in record.of(ev.PlannerFailed)] == [
        ("moody", "other"),
        ("spare", "again"),
        ("spare", "again"),
        ("spare", "end"),
    ]
    assert result.outcome == "planner_failed" and "planner 'spare'" in result.message
    assert replays(record)


def test_a_wait_can_be_cancelled(tmp_path: Path) -> None:
    token = CancelToken()
    config = QUICK.replace(planner_wait_s=60.0)

    def stop(event: Any) -> None:
        if isinstance(event, ev.PlannerFailed):
            threading.Timer(0.1, token.cancel).start()

    began = time.monotonic()
    result, record, _ = run(tmp_path, Moody([1]), config=config, cancel=token, on_event=stop)
    assert result.outcome == "cancelled" and time.monotonic() - began < 30.0
    assert replays(record)


def test_a_failure_while_pointing_fails_the_attempt_and_not_the_run(tmp_path: Path) -> None:
    class Blind(Moody):
        grounded = 0

        def ground(self, observation: Observation, step: Step) -> Step:
            self.grounded += 1
            # The first two are asked by the checks before the first motion, which let pass what they cannot know.
            if self.grounded in (1, 3):
                raise PlannerFailedError("moody", "the line is dead", "Mend it", passing=True)
            return step

    result, record, _ = run(tmp_path, Blind([]))
    assert result.outcome == "succeeded"
    assert [r.outcome for r in result.steps][:2] == ["not_found", "succeeded"]
    assert replays(record)


class TouchThing(Quick):
    """Touches what it is told to."""

    signature = SkillSignature(name="touch", doc="touch a thing", params=(Parameter(name="object", type="object"),))


@pytest.mark.parametrize("dead", ["gone", "errors", "hangs", "nonsense"])
def test_a_server_that_dies_in_the_middle_of_a_task(tmp_path: Path, dead: str) -> None:
    call = {"skill": "touch", "args": {"object": "spot"}, "point": {"x": 500, "y": 500}}
    answer = json.dumps({"seen": ["spot"], "answer": {"steps": [call, call]}})
    bad = {
        "errors": Reply("out of memory", 500, "text/plain"),
        "hangs": Reply([20.0]),
        "nonsense": Reply(streamed("lorem ipsum")),
        "gone": Reply("", 503),
    }[dead]
    with ExitStack() as running:
        server = running.enter_context(Scripted(Reply(streamed(answer)), bad))

        def kill(event: Any) -> None:
            if dead == "gone" and isinstance(event, ev.StepFinished):
                running.close()

        backend = ServerBackend(
            "tiny", server.url, retries=1, backoff_s=0.01, timeout_s=2.0 if dead == "hangs" else 30.0
        )
        made = agent(VLMPlanner(backend, repairs=1), config=QUICK.replace(replan="every_step", planner_retries=1))
        made.skills = SkillLibrary([TouchThing()])
        world = KinematicWorld()
        result = made.run("touch", world=world, record=tmp_path, on_event=kill)
    assert result.outcome == "planner_failed", result.message
    assert result.message.startswith(f"planner 'openai:tiny@{server.url}' gives no answer: ")
    problem = {
        "errors": "the server answers 500: out of memory. Look at the server's log. It was asked 2 times",
        "hangs": "Give it more time (timeout_s), or use a smaller or faster model. It was asked 2 times",
        "nonsense": "no plan that can be read in 2 attempts. Use a larger model, or one that is served with",
        "gone": "no connection to",
    }[dead]
    assert problem in result.message
    assert [r.outcome for r in result.steps] == ["succeeded"]
    assert np.abs(world.proprio().dq).max() == 0.0
    assert result.record is not None
    record = RunRecord.open(result.record)
    assert [r.raw_text for r in record.of(ev.PlanRejected)] == (["lorem ipsum"] * 2 if dead == "nonsense" else [])
    assert verify(record.path).status == "whole"
    assert replays(record)


class RunsOn(KinematicWorld):
    """A robot: its time goes on while somebody thinks."""

    runs_on = True


class Slow(ScriptedPlanner):
    """Thinks for a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__([steps("a")])
        self.seconds, self.done = seconds, threading.Event()

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        self.done.wait(self.seconds)
        return super().plan(observation, instruction, context)


def test_a_robot_whose_time_goes_on_is_held_while_the_planner_thinks(tmp_path: Path) -> None:
    world = RunsOn()
    result = agent(Slow(0.3)).run("touch", world=world, record=tmp_path)
    assert result.outcome == "succeeded" and result.record is not None
    record = RunRecord.open(result.record)
    paused, resumed = next(record.of(ev.Paused)), next(record.of(ev.Resumed))
    assert paused.decision == resumed.decision == "plan" and 5 <= resumed.ticks <= 15
    still = [c for c in world.commands if paused.time_s <= c.time_s < resumed.time_s]
    assert len(still) == resumed.ticks and all((c.q == still[0].q).all() and not c.dq.any() for c in still)
    assert resumed.time_s == pytest.approx(paused.time_s + resumed.ticks * 0.02)
    assert next(record.of(ev.PlanProposed)).time_s == pytest.approx(resumed.time_s)
    assert replays(record)
    assert replay(record, KinematicWorld()).agrees
    shadowed = shadow(record, controller=True, skills=SkillLibrary([Quick()]))
    assert shadowed.replay.identical and not shadowed.scores[0].disagreements


def test_a_simulated_world_stands_still_while_the_planner_thinks(tmp_path: Path) -> None:
    _, record, _ = run(tmp_path, Slow(0.1))
    assert not list(record.of(ev.Paused))


def test_a_planner_that_hangs_does_not_keep_a_cancelled_robot_waiting(tmp_path: Path) -> None:
    token, planner = CancelToken(), Slow(120.0)
    threading.Timer(0.5, token.cancel).start()
    began = time.monotonic()
    result = agent(planner).run("touch", world=RunsOn(), record=tmp_path, cancel=token)
    planner.done.set()
    assert result.outcome == "cancelled" and time.monotonic() - began < 60.0
    assert result.record is not None
    assert replays(RunRecord.open(result.record))


def test_what_goes_wrong_while_the_robot_is_held_is_told_as_always(tmp_path: Path) -> None:
    result = agent(Moody([0])).run("touch", world=RunsOn(), record=tmp_path)
    assert result.outcome == "planner_failed" and result.record is not None
    assert replays(RunRecord.open(result.record))


def test_a_live_planner_that_fails_in_a_shadow_disagrees_and_changes_nothing(tmp_path: Path) -> None:
    _, record, _ = run(tmp_path, Moody([]))
    report = shadow(record, planner=Moody(range(99)), skills=SkillLibrary([Quick()]))
    assert report.replay.identical and report.replay.complete
    (score,) = report.scores
    assert {d.live for d in score.disagreements} == {"no answer: the line is dead"}
    # A record with failures can be judged, too: what was rejected before them is not lost.
    _, failed, _ = run(tmp_path / "failed", Moody([1, 2]))
    again = shadow(failed, planner=Moody([]), skills=SkillLibrary([Quick()]))
    assert again.replay.identical and again.replay.complete
