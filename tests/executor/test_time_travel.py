"""Decision replay, forks, live control and shadow replay, on records of runs with fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.body import CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import CorrectionError, Decision, Hooks, Say
from hiervla.executor.loop import Orchestrator
from hiervla.executor.presets import world_preset
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.physics_replay import replay
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.corrections import CorrectionFileError, parse_correction
from hiervla.executor.replay.cursor import difference
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.replay.fork import fork_point
from hiervla.executor.replay.shadow import shadow
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.representations import Plan, Refusal, SkillSignature, Step, UnknownNameError, Verdict
from hiervla.representations import events as ev
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary

HERE, THERE = (0.5, 0.05, 0.0), (0.45, -0.1, 0.0)


class Touch(Skill):
    """Succeeds at the attempt of the given number."""

    signature = SkillSignature(name="touch", doc="touch a spot")
    timeout_s = 3.0

    def __init__(self, succeeds_at: int = 0) -> None:
        self.succeeds_at = succeeds_at
        self.asked = 0

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def holds(self, context: SkillContext) -> Verdict | None:
        return Verdict(name="calm", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        self.asked += 1
        return Verdict(name="touched", value="yes" if self.asked > self.succeeds_at else "no")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def plan(*remaining: str, at: tuple[float, float, float] = HERE) -> Plan:
    return Plan(goal="touch", steps=tuple(step_at(i, "touch", at) for i in remaining), remaining=remaining)


def agent(answers: list[Plan | Refusal], succeeds_at: int = 0, config: LoopConfig | None = None) -> Agent:
    policy = LinePolicy()
    return Agent(
        world_preset("tabletop"),
        ScriptedPlanner(answers),
        lambda name: policy,
        skills=SkillLibrary([Touch(succeeds_at)]),
        config=config,
    )


def recorded(folder: Path, answers: list[Plan | Refusal] | None = None, **options: Any) -> tuple[RunResult, RunRecord]:
    """A run of two steps, the first of which needs two attempts, and its record."""
    run: dict[str, Any] = {k: options.pop(k) for k in ("control", "cancel", "on_event") if k in options}
    made = agent(answers or [plan("a", "b")], options.pop("succeeds_at", 1), **options)
    result = made.run("touch it", world=KinematicWorld(), record=folder, **run)
    assert result.record is not None
    return result, RunRecord.open(result.record)


def library(succeeds_at: int = 99) -> SkillLibrary:
    """Skills whose own checks would say something else: a replay that asks them is found out."""
    return SkillLibrary([Touch(succeeds_at)])


def test_a_replay_makes_the_same_decisions_without_asking_anybody(tmp_path: Path) -> None:
    _, record = recorded(tmp_path)
    found = replay_decisions(record, skills=library())
    assert found.identical and found.complete
    assert found.divergence is None
    steps = list(record.of(ev.StepFinished))
    assert [s.outcome for s in steps] == ["failed", "succeeded", "succeeded"]
    # All but the sealing line were compared, whatever kind they are.
    assert found.events == len(record) - 1
    assert found.decisions > 20


@pytest.mark.parametrize(
    ("setting", "before"),
    [({"max_retries": 0}, "step_finished"), ({"settle_ticks": 14}, "transit"), ({"chunk_rows": 7}, "chunk")],
)
def test_another_loop_is_found_at_the_first_event_that_differs(
    tmp_path: Path, setting: dict[str, Any], before: str
) -> None:
    _, record = recorded(tmp_path)
    found = replay_decisions(record, skills=library(), config=LoopConfig(**setting))
    assert found.divergence is not None and not found.identical
    # What follows the first of these events comes at another time.
    first = next(e for e in record if e.type == before)
    assert found.divergence.line == int(first.id[1:]) + 1
    assert (found.divergence.type, found.divergence.field) == ("observation", "time_s")
    assert str(found.divergence).startswith(f"line {found.divergence.line} (e{found.divergence.line}, observation, ")


def test_a_changed_line_of_the_orchestrator_is_found_at_its_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, record = recorded(tmp_path)

    def last_first(self: Orchestrator, instruction: str, reason: str, ask: Any = Orchestrator._ask) -> Any:
        answer = ask(self, instruction, reason)
        return answer.replace(remaining=answer.remaining[::-1]) if isinstance(answer, Plan) else answer

    monkeypatch.setattr(Orchestrator, "_ask", last_first)
    found = replay_decisions(record, skills=library())
    assert found.divergence is not None
    assert (found.divergence.type, found.divergence.expected, found.divergence.got) == (
        "snapshot",
        "before a",
        "before b",
    )


def test_the_record_of_a_killed_run_is_followed_to_where_it_ends(tmp_path: Path) -> None:
    result, record = recorded(tmp_path)
    assert result.record is not None
    events = result.record / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    for kept in (3, len(lines) // 2, len(lines) - 2):
        events.write_bytes(b"".join(lines[:kept]))
        found = replay_decisions(RunRecord.open(result.record), skills=library())
        assert found.identical and not found.complete, found.divergence


def test_a_cancelled_run_replays_to_its_cancellation(tmp_path: Path) -> None:
    token = CancelToken()

    def stop(event: Any) -> None:
        if event.type == "chunk":
            token.cancel()

    result, record = recorded(tmp_path, cancel=token, on_event=stop)
    assert result.outcome == "cancelled"
    found = replay_decisions(record, skills=library())
    assert found.identical and found.complete, found.divergence


def test_refusals_and_things_not_found_replay(tmp_path: Path) -> None:
    refusal = Refusal(reason="not_in_scene", message="I see no mug.", missing=("mug",))
    cases: list[list[Plan | Refusal]] = [[refusal], [plan("a"), refusal]]
    for number, answers in enumerate(cases):
        _, record = recorded(tmp_path / str(number), answers, succeeds_at=99)
        assert replay_decisions(record, skills=library()).identical


def follow(record: RunRecord, other: RunRecord) -> list[str]:
    """Where two records differ in anything but ids, which an event in between moves on."""
    aside = (ev.Forked, ev.RecordSealed)
    first, second = ([e for e in r if not isinstance(e, aside)] for r in (record, other))
    apart = [d for d in map(difference, first, second) if d is not None and d[0] not in {"id", "parent"}]
    return [str(d) for d in apart] + (["length"] if len(first) != len(second) else [])


@pytest.mark.parametrize("at", ["1", "2", "b"])
def test_an_unedited_fork_goes_on_as_its_parent_did(tmp_path: Path, at: str) -> None:
    result, record = recorded(tmp_path / "runs", succeeds_at=0)
    assert result.record is not None
    before = {p: p.read_bytes() for p in result.record.rglob("*") if p.is_file()}
    made = agent([plan("a", "b")])
    forked = made.fork(result.record, at, world=KinematicWorld(), record=tmp_path / "forks")
    assert forked.outcome == "succeeded" and forked.record is not None
    child = RunRecord.open(forked.record)
    assert follow(record, child) == []
    assert child.manifest.parent is not None and child.manifest.parent.run_id == record.manifest.run_id
    assert child.closed
    assert replay_decisions(child, skills=library()).identical
    assert replay(child, KinematicWorld()).agrees
    assert before == {p: p.read_bytes() for p in result.record.rglob("*") if p.is_file()}


def test_a_fork_with_another_point_goes_there_and_says_so(tmp_path: Path) -> None:
    result, record = recorded(tmp_path / "runs", succeeds_at=0)
    step = fork_point(record, "2").step
    assert step is not None
    elsewhere = step.replace(artifacts=step_at("b", "touch", THERE).artifacts)
    forked = agent([plan("a", "b")]).fork(record, "2", elsewhere, world=KinematicWorld(), record=tmp_path / "forks")
    assert forked.record is not None
    child = RunRecord.open(forked.record)
    (correction,) = child.of(ev.CorrectionGiven)
    assert correction.step == elsewhere and correction.author == "person"
    hover = [t for t in child.of(ev.TransitPlanned) if t.purpose == "approach"][-1]
    assert hover.target_position_w is not None
    assert hover.target_position_w[:2] == pytest.approx(THERE[:2])
    assert replay_decisions(child, skills=library()).identical


def test_a_fork_with_words_asks_the_planner_again(tmp_path: Path) -> None:
    _, record = recorded(tmp_path / "runs", succeeds_at=0)
    made = agent([plan("c", at=THERE)])
    forked = made.fork(record, "b", Say("no, the blue one"), world=KinematicWorld(), record=tmp_path / "forks")
    assert forked.record is not None
    planner = made.planner
    assert isinstance(planner, ScriptedPlanner)
    assert planner.asked[-1].said == ("no, the blue one",)
    child = RunRecord.open(forked.record)
    assert [s.step.id for s in child.of(ev.StepStarted)] == ["a", "c"]
    assert replay_decisions(child, skills=library()).identical


def test_what_cannot_be_forked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record = recorded(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown step '9' in record .*Known: 1, 2"):
        fork_point(record, "9")
    with pytest.raises(UnknownNameError, match=r"unknown attempt '3' in step 1"):
        fork_point(record, "1", attempt=3)
    with pytest.raises(UnknownNameError, match="unknown event 'e999'"):
        fork_point(record, "e999")
    second = fork_point(record, "1", attempt=2).started
    assert isinstance(second, ev.StepStarted) and second.attempt == 1
    first = next(record.of(ev.StepStarted))
    assert fork_point(record, f"e{int(first.id[1:]) + 2}").started.id == first.id
    made = agent([plan("a", "b")])
    monkeypatch.setattr(Orchestrator, "_hear", None)
    monkeypatch.setattr(LoopConfig, "model_validate_json", lambda text: LoopConfig(settle_ticks=3))
    with pytest.raises(ReplayError, match="do not come out as they were recorded"):
        made.fork(record, "2", world=KinematicWorld(), record=tmp_path / "forks")
    assert not (tmp_path / "forks").exists()


def test_corrections_are_read_strictly() -> None:
    step = plan("a").step("a")
    points = json.loads(step.artifacts[0].to_json())
    points["points"][0]["u"] = 3.0
    read = parse_correction(json.dumps(points), step)
    assert isinstance(read, Step)
    (artifact,) = read.artifacts
    assert artifact.kind == "keypoints" and artifact.points[0].u == 3.0
    # The old position belongs to the old pixel.
    assert artifact.points[0].position_w is None
    for text, problem in (
        ("{", "is not JSON"),
        ("{}", "holds no 'kind'"),
        ("[]", "is an empty list"),
        (json.dumps({**points, "points": [{"label": "x", "u": "left", "v": 0}]}), "(keypoints.points.0.u: "),
        (json.dumps({**points, "image": {**points["image"], "sha256": "1" * 64}}), "are points in another image"),
        (plan("a").replace(remaining=(), done=("a",)).to_json(), "nothing remaining"),
    ):
        with pytest.raises(CorrectionFileError) as told:
            parse_correction(text, step, "edit.json")
        assert problem in str(told.value) and "edit.json" in str(told.value)


def test_hooks_see_every_decision_and_what_they_change_is_on_record_and_replays(tmp_path: Path) -> None:
    hooks, seen = Hooks(), list[str]()

    for kind in ("plan", "step", "keypoints", "ready", "chunk", "done", "outcome"):

        @hooks.on(kind)
        def note(decision: Decision) -> None:
            seen.append(decision.kind)

    @hooks.on("done")
    def good_enough(decision: Decision) -> Verdict:
        assert isinstance(decision.value, Verdict)
        return decision.value.replace(value="yes")

    result, record = recorded(tmp_path, succeeds_at=99, control=hooks)
    assert result.outcome == "succeeded"
    assert set(seen) == {"plan", "step", "keypoints", "ready", "chunk", "done", "outcome"}
    assert [c.decision for c in record.of(ev.CorrectionGiven)] == ["done", "done"]
    assert replay_decisions(record, skills=library()).identical


def test_a_breakpoint_holds_the_arm_still_until_somebody_answers(tmp_path: Path) -> None:
    def ask(decision: Decision, hold: Callable[[], None]) -> Any:
        for _ in range(25):
            hold()
        return decision.value

    result, record = recorded(tmp_path, succeeds_at=0, control=Hooks(ask=ask, breaks=["keypoints"]))
    assert result.outcome == "succeeded"
    paused, resumed = list(record.of(ev.Paused)), list(record.of(ev.Resumed))
    assert [p.decision for p in paused] == ["keypoints", "keypoints"]
    assert [r.ticks for r in resumed] == [25, 25]
    held = [t for t in record.ticks() if paused[0].time_s <= t.command.time_s < resumed[0].time_s - 1e-9]
    assert len(held) == 25
    assert all((t.command.q == held[0].command.q).all() and not t.command.dq.any() for t in held)
    assert replay_decisions(record, skills=library()).identical


def test_words_end_the_step_and_the_planner_hears_them(tmp_path: Path) -> None:
    hooks = Hooks()

    def interject(event: Any) -> None:
        if event.type == "chunk" and event.index == 1:
            hooks.say("stop, the other one")

    answers: list[Plan | Refusal] = [plan("a", "b"), plan("c")]
    result, record = recorded(tmp_path, answers, succeeds_at=0, control=hooks, on_event=interject)
    outcomes = [(s.step_id, s.outcome) for s in record.of(ev.StepFinished)]
    assert outcomes[0] == ("a", "cancelled")
    assert outcomes[1][0] == "c"
    reasons = [p.reason for p in record.of(ev.PlanProposed)]
    assert "somebody said: stop, the other one" in reasons
    assert replay_decisions(record, skills=library()).identical


def test_an_answer_of_the_wrong_type_ends_the_run_safely_and_is_named(tmp_path: Path) -> None:
    hooks = Hooks()
    hooks.on("done")(lambda decision: plan("a"))
    result, record = recorded(tmp_path, control=hooks)
    assert result.outcome == "error"
    assert "a correction of the decision 'done' cannot be Plan" in result.message
    assert record.closed
    with pytest.raises(UnknownNameError, match="unknown kind of decision 'keypoint'.*Did you mean 'keypoints'"):
        Hooks(breaks=["keypoint"])
    assert issubclass(CorrectionError, ValueError)


def test_a_shadow_scores_a_part_and_changes_nothing(tmp_path: Path) -> None:
    _, record = recorded(tmp_path, succeeds_at=0)
    same = LinePolicy()
    report = shadow(record, skills=library(0), policy_for=lambda name: same, verifier=True, controller=True)
    assert report.replay.identical
    scores = {s.part: s for s in report.scores}
    assert {name: s.agreement for name, s in scores.items()} == {"policy": 1.0, "verifier": 1.0, "controller": 1.0}
    assert scores["controller"].asked > 10

    other = LinePolicy(target_shift_m=(0.0, 0.05, 0.0))  # type: ignore[arg-type]  # a tuple adds up as an array does
    planner = ScriptedPlanner([plan("z")])
    report = shadow(record, skills=library(99), policy_for=lambda name: other, planner=planner, verifier=True)
    assert report.replay.identical
    scores = {s.part: s for s in report.scores}
    assert scores["policy"].agreement < 0.5
    assert scores["policy"].summary()["row_mm"][1] == pytest.approx(50.0, abs=1.0)
    assert scores["planner"].disagreements[0].what == "plan"
    doubted = [d for d in scores["verifier"].disagreements if d.what.startswith("done")]
    assert len(doubted) == 2 and "touched: yes" in doubted[0].recorded and "touched: no" in doubted[0].live


def test_parts_of_a_live_run_are_the_skills_own_checks(tmp_path: Path) -> None:
    class Broken(Touch):
        def done(self, context: SkillContext) -> Verdict:
            raise ZeroDivisionError("of a stranger")

    policy = LinePolicy()
    made = Agent(
        world_preset("tabletop"), ScriptedPlanner([plan("a")]), lambda name: policy, skills=SkillLibrary([Broken()])
    )
    result = made.run("touch it", world=KinematicWorld(), record=tmp_path)
    assert result.outcome == "error"
    assert "skill 'touch', done: raised ZeroDivisionError (of a stranger)" in result.message
