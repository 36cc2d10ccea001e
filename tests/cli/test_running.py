"""`hiervla run` and `hiervla demo`, with a real agent loop on fakes: progress, results, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hiervla.cli import main
from hiervla.cli.live import hints
from hiervla.executor.agent import Agent
from hiervla.executor.presets import WorldPreset
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.verify import verify
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner
from hiervla.planner.base import PlannerContext, PlannerFailedError, StepRecord
from hiervla.representations import ImageRef, Keypoint, Keypoints, Observation, Plan, Refusal, Step
from hiervla.representations import events as ev


class Picker(ScriptedPlanner):
    """Plans one pick, and finds nothing left to do once that has succeeded."""

    rejected: tuple[Any, ...] = ()

    def __init__(self) -> None:
        super().__init__([])

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        if not instruction.strip():
            return Refusal(reason="empty_instruction", message="I was not told what to do.")
        if any(r.outcome == "succeeded" for r in context.history):
            return Refusal(reason="nothing_to_do", message="nothing is left to do")
        front = observation.frame("front")
        ref = ImageRef(camera="front", sha256=front.sha256, width=64, height=64, time_s=front.time_s)
        point = Keypoint(label="red mug", u=32.0, v=32.0, position_w=(0.5, 0.0, 0.05))
        artifacts = (Keypoints(image=ref, points=(point,)),)
        step = Step(id="s1", skill="pick", args={"object": "red mug"}, artifacts=artifacts)
        return Plan(goal=instruction, steps=(step,), remaining=("s1",))


@pytest.fixture(autouse=True)
def fake_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Agents are made of fakes; the loop, the controllers and the record are the real ones."""

    def from_preset(world: str = "tabletop", **_: Any) -> Agent:
        preset = WorldPreset("kinematic", "", lambda seed: None, lambda scene: KinematicWorld(0.03))  # type: ignore[arg-type, return-value]
        return Agent(preset, Picker(), lambda name: LinePolicy(), policy_id="line")

    monkeypatch.setattr(Agent, "from_preset", staticmethod(from_preset))
    monkeypatch.chdir(tmp_path)


def test_run_tells_progress_result_and_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "pick up the red mug", "--seed", "3"]) == 0
    said = capsys.readouterr()
    assert "asked: 'pick up the red mug'" in said.err
    assert "step s1: pick(red mug)" in said.err
    assert "succeeded" in said.out
    (folder,) = Path("runs").iterdir()
    assert f"record: {folder}" in said.out
    assert folder.name.endswith("-pick-up-the-red-mug-s3")
    assert verify(folder).status == "whole"


def test_run_quietly_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "pick up the red mug", "--json", "--quiet", "--record", "elsewhere"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    values = json.loads(said.out)
    assert (values["outcome"], values["steps"]) == (
        "succeeded",
        [{"step": "pick(red mug)", "skill": "pick", "outcome": "succeeded"}],
    )
    assert RunRecord.open(values["record"]).closed
    assert Path(values["record"]).parent == Path("elsewhere")


def test_a_refusal_is_status_1_and_polite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", " ", "--quiet"]) == 1
    assert "refused: I was not told what to do." in capsys.readouterr().out


def test_two_runs_in_the_same_second_have_two_records() -> None:
    for _ in range(2):
        assert main(["run", "pick", "--quiet"]) == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_a_record_begins_with_the_physical_state() -> None:
    assert main(["run", "pick", "--quiet"]) == 0
    (folder,) = Path("runs").iterdir()
    snapshots = list(RunRecord.open(folder).of(ev.SnapshotTaken))
    assert [(s.label, s.ticks) for s in snapshots][0] == ("start", 0)


def test_ctrl_c_stops_safely_closes_the_record_and_is_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = KinematicWorld.step

    def interrupted(self: KinematicWorld, command: Any) -> None:
        step(self, command)
        if len(self.commands) == 60:
            assert threading.current_thread() is threading.main_thread()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(KinematicWorld, "step", interrupted)
    assert main(["run", "pick up the red mug", "--quiet"]) == 130
    assert "cancelled" in capsys.readouterr().out
    (folder,) = Path("runs").iterdir()
    assert verify(folder).status == "whole"
    finished = RunRecord.open(folder).finished
    assert finished is not None
    assert finished.outcome == "cancelled"
    last = list(RunRecord.open(folder).ticks())[-1]
    assert float(abs(last.command.dq).max()) < 1e-6, "the arm is at rest"


def test_demo_ends_with_a_table_and_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--quiet"]) == 0
    said = capsys.readouterr().out
    for part in ("clear the dining table", "put the red mug on the top shelf", "throw the", "records:", "next:"):
        assert part in said
    folders = sorted(Path("runs").iterdir())
    assert len(folders) == 3
    assert all(str(f) in said for f in folders)
    assert "hiervla replay" in said


def test_a_demo_that_is_interrupted_stops(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step = KinematicWorld.step

    def interrupted(self: KinematicWorld, command: Any) -> None:
        step(self, command)
        if len(self.commands) == 30:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(KinematicWorld, "step", interrupted)
    assert main(["demo", "--quiet"]) == 130
    assert len(list(Path("runs").iterdir())) == 1


def test_what_can_be_done_about_a_refusal_is_said(tmp_path: Path) -> None:
    refusal = Refusal(reason="ambiguous", message="Which?", candidates=("the red mug", "the blue mug"))
    step = StepRecord(step=Step(id="s4", skill="pick", args={"object": "red mug"}), outcome="succeeded")
    result = RunResult("take it", "refused", "Which?", None, (), tmp_path / "a run", 1.0, refusal)
    (hint,) = hints(result)
    assert hint.startswith("say it otherwise: hiervla run WORDS; with --ask")
    (hint,) = hints(replace(result, outcome="failed", steps=(step,)))
    assert hint.endswith("a run' --at s4 --say 'the red mug'") and "hiervla fork '" in hint
    assert hints(replace(result, refusal=Refusal(reason="cannot_do", message="no"))) == []
    (hint,) = hints(replace(result, outcome="planner_failed", refusal=None))
    assert hint.startswith("go on from there: hiervla resume '") and hint.endswith("--planner NAME")


def test_a_failing_planner_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def dead(self: Picker, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        raise PlannerFailedError("dead", "the line is cut", "Mend it")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Picker, "plan", dead)
        assert main(["run", "pick up the red mug"]) == 1
    said = capsys.readouterr()
    assert "s  planner 'dead' gives no answer (the line is cut): the run ends here\n" in said.err
    assert "planner failed: planner 'dead' gives no answer: the line is cut. Mend it.\n" in said.out
    (hint,) = [line for line in said.out.splitlines() if line.startswith("go on from there: hiervla resume ")]
    assert main(["inspect", hint.split()[6]]) == 0
    assert "planner 'dead' gives no answer (the line is cut): the run ends here" in capsys.readouterr().out
