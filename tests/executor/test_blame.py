"""Blame on small records with a fault that is known: each test can fail, and a sound run has nothing to blame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.executor.activities import Parts, SkillVerifier
from hiervla.executor.blame import Blame, blame
from hiervla.executor.blame.contracts import chain_problem
from hiervla.executor.blame.trial import Witnesses
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.representations import Condition, JointCommand, Plan, Verdict
from hiervla.skills import Skill, SkillContext, SkillLibrary
from tests import records

PICK = step_at("s1", "pick", (0.5, 0.05, 0.05), object="red mug")
EMPTY, HOLDING = Condition(predicate="hand_empty"), Condition(predicate="holding", args=("red mug",))


class Liar(SkillVerifier):
    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        return Verdict(name="holding", value="no")


class Skewed(Body):
    def _send(self, command: JointCommand) -> None:
        super()._send(command.replace(q=np.array(command.q) * 0.97))


class Drifting(Body):
    sent = 0

    def _send(self, command: JointCommand) -> None:
        self.sent += 1
        q = np.array(command.q)
        q[0] += 0.1 * min(1.0, self.sent / 100)
        super()._send(command.replace(q=q))


def run(folder: Path, *, body: Any = Body, verifier: Any = None, shift: Any = None, grip: float | None = 0.03) -> Blame:
    config = LoopConfig(max_retries=0)
    manifest = records.manifest(planner="scripted", config=config.model_dump(mode="json"))
    planner = ScriptedPlanner([Plan(goal="g", steps=(PICK,), remaining=("s1",))])
    policy = LinePolicy(target_shift_m=shift)
    world: Any = KinematicWorld(grip)
    with RunRecorder.create(folder, manifest, durable=False) as recorder:
        parts = Parts(
            planner=planner, policy_for=lambda name: policy, recorder=recorder, verifier=verifier or SkillVerifier(),
            body=body(world, recorder, config, CancelToken(), seed=manifest.seed),
        )  # fmt: skip
        begin(manifest, parts)
        Orchestrator(parts, skills=SkillLibrary.load(), config=config, seed=manifest.seed).run("pick it")
    given = Witnesses(planner, lambda name: LinePolicy(), KinematicWorld(grip))
    return blame(RunRecord.open(folder), given, budget_s=0)


def test_a_sound_run_has_nothing_to_blame(tmp_path: Path) -> None:
    found = run(tmp_path / "run")
    assert (found.outcome, found.level) == ("nothing", None)


def test_a_check_that_lies_is_the_verifiers(tmp_path: Path) -> None:
    found = run(tmp_path / "run", verifier=Liar())
    assert (found.level, found.step) == ("verifier", "s1")
    assert "holding: yes" in found.evidence[0].expected


def test_chunks_that_the_policy_does_not_make_are_the_policys(tmp_path: Path) -> None:
    found = run(tmp_path / "run", shift=np.array([0.06, 0.0, 0.0]), grip=None)
    assert (found.level, found.step) == ("policy", "s1")
    assert "60 mm" in found.evidence[0].distance


def test_commands_that_no_chunk_asks_for_are_the_controllers(tmp_path: Path) -> None:
    found = run(tmp_path / "run", body=Skewed, grip=None)
    assert found.level == "controller"
    assert "safety envelope" in found.evidence[0].test


def test_commands_that_bend_away_slowly_are_the_controllers_too(tmp_path: Path) -> None:
    found = run(tmp_path / "run", body=Drifting, grip=None)
    assert (found.level, found.step) == ("controller", "s1")
    assert "at the tool" in found.evidence[0].distance


def test_a_plan_is_followed_in_symbols() -> None:
    pick = PICK.replace(preconditions=(EMPTY,), postconditions=(HOLDING,))
    place = PICK.replace(id="s2", preconditions=(HOLDING,), postconditions=(EMPTY,))
    sound = Plan(goal="g", steps=(pick, place), remaining=("s1", "s2"))
    assert chain_problem(sound, hand_full=False) is None
    short = Plan(goal="g", steps=(place,), remaining=("s2",))
    problem = chain_problem(short, hand_full=False)
    assert problem is not None
    assert problem[0].id == "s2"
    assert "the hand is empty" in problem[1]


def test_the_command_says_that_there_is_nothing_to_blame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "run")
    assert main(["blame", str(tmp_path / "run"), "--budget", "0"]) == 0
    assert "nothing to blame: the run succeeded" in capsys.readouterr().out
