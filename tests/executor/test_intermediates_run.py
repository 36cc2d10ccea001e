"""Runs whose steps are said as each kind: the robot does it, the record shows it, and a replay decides the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.cli import main
from hiervla.executor.agent import Agent
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Hooks
from hiervla.executor.record.describe import describe
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.pictures import artifacts_of, step_pictures
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.corrections import parse_correction
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.result import RunResult
from hiervla.planner.kinds import EmitError
from hiervla.representations import Keypoints, Waypoints2D
from hiervla.representations import events as ev
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld

ASK = "pick up the red mug"
SCENE = sample_scene(
    11,
    require=[("mug", "red", "table"), ("can", "green", "table")],
    n_objects=2,
    spill=False,
    drawer_open=False,
    stacks=0,
)
POINTS = ("boxes", "affordance_map", "subtasks")
WAYS = ("waypoints_2d", "waypoints_3d", "language_motion", "value_map", "constraints")


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.set_num_threads(1)
    return Agent.from_preset("tabletop", config=LoopConfig(max_retries=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run(agent: Agent, folder: Path, **options: Any) -> tuple[RunResult, str | None]:
    with TabletopWorld(SCENE) as world:
        result = agent.run(ASK, scene=SCENE, world=world, record=folder, **options)
        return result, GroundTruth(world).held()


@pytest.fixture(scope="module", params=[*POINTS, *WAYS])
def made(request: pytest.FixtureRequest, agent: Agent, folder: Path) -> Iterator[tuple[str, RunResult, str | None]]:
    yield request.param, *run(agent, folder, emit=request.param)


def test_the_robot_does_it_and_a_replay_decides_the_same(made: tuple[str, RunResult, str | None]) -> None:
    kind, result, held = made
    assert result.succeeded and held == "mug_0"
    assert result.record is not None
    record = RunRecord.open(result.record)
    assert record.manifest.config["emit"] == kind
    replay = replay_decisions(record)
    assert replay.identical and replay.complete and replay.decisions > 5
    attempt = view_of(record).steps[0].attempts[0]
    acted_on = artifacts_of(record, attempt)
    assert acted_on[0].kind == kind
    assert {a.kind for a in acted_on} == {kind, *({"keypoints"} if kind in POINTS else ())} | (
        {"waypoints_3d"} if kind in ("waypoints_2d", "language_motion") else set()
    )
    assert all(describe(a) for a in acted_on)
    policies = {c.chunk.policy for c in record.of(ev.ChunkProposed)}
    assert policies == {"follow"} if kind in WAYS else all(p.startswith("flow") for p in policies)
    pictures, missing = step_pictures(record, attempt)
    assert pictures and not missing
    frame = pictures[0].frame
    plain = np.repeat(np.repeat(frame.rgb, 3, axis=0), 3, axis=1)
    assert (pictures[0].drawn() != plain).any(axis=2).mean() > 0.002, f"{kind} is seen in the picture"


def test_a_run_can_be_left_with_another_path(agent: Agent, folder: Path, tmp_path: Path) -> None:
    result, _ = run(agent, folder, emit="waypoints_2d")
    assert result.record is not None
    record = RunRecord.open(result.record)
    step = next(record.of(ev.StepStarted)).step
    path = step.artifacts[0]
    assert isinstance(path, Waypoints2D)
    values = json.loads(path.model_dump_json())
    # Somewhere else on the table, where nothing is.
    values["points"] = [{"u": 128.0, "v": 60.0}, {"u": 128.0, "v": 160.0, "gripper": "close"}]
    edited = parse_correction(json.dumps(values), step)
    fork = agent.fork(record, "1", edited, record=tmp_path)
    assert not fork.succeeded and fork.record is not None, "nothing can be picked up there"
    other = RunRecord.open(fork.record)
    failed = next(other.of(ev.GroundingFailed))
    assert "away from where 'red mug' was seen" in failed.problem
    assert replay_decisions(other).identical
    assert main(["diff", str(record.path), str(other.path)]) in (0, 1)
    assert main(["inspect", str(record.path), "--artifact", "waypoints_2d"]) == 0


def test_words_of_a_person_move_the_target(agent: Agent, folder: Path) -> None:
    hooks = Hooks()
    hooks.say("no, a tiny bit to the left")
    result, held = run(agent, folder, control=hooks)
    assert result.succeeded and held == "mug_0" and result.record is not None
    record = RunRecord.open(result.record)
    step = next(record.of(ev.StepStarted)).step
    assert [a.kind for a in step.artifacts] == ["keypoints", "affordance_map", "language_motion"]
    plain = agent.planner.ground
    grounded = next(record.of(ev.Grounded)).artifacts[0]
    assert isinstance(grounded, Keypoints) and grounded.points[0].position_w is not None
    observation = record.observation(next(e for e in record.of(ev.ObservationTaken) if e.purpose == "plan"))
    before = plain(observation, step.replace(artifacts=step.artifacts[:1])).artifacts[0]
    assert isinstance(before, Keypoints) and before.points[0].position_w is not None
    shift = np.array(grounded.points[0].position_w) - before.points[0].position_w
    assert shift == pytest.approx((0.0, 0.01, 0.0), abs=1e-6)
    assert replay_decisions(record).identical


def test_what_cannot_be_had_is_one_sentence(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EmitError, match="--emit program: planner 'hiervla-embedded"):
        agent.run(ASK, scene=SCENE, emit="program", record=tmp_path)
    assert not list(tmp_path.iterdir()), "nothing was begun"
    assert main(["run", ASK, "--emit", "boxs", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "boxs" in said and "Did you mean 'boxes'" in said and "Traceback" not in said
    result = agent.run("open the drawer", scene=SCENE, emit="value_map", seed=0)
    assert result.outcome == "error" and result.steps == ()
    assert "the skills that this plan needs, 'open_drawer', do not take this kind" in result.message
