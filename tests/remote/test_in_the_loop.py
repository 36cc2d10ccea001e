"""A server's policy in the real loop: recorded, replayed without the server, and ended safely when the server dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.agent import Agent, policies
from hiervla.executor.config import LoopConfig
from hiervla.executor.policies.base import Policy
from hiervla.executor.policies.remote.groot.policy import load as load_groot
from hiervla.executor.policies.remote.policy import load
from hiervla.executor.policies.remote.server import PolicyServer
from hiervla.executor.presets import world_preset
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.representations import Plan, SkillSignature, Verdict
from hiervla.representations import events as ev
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary
from tests.remote.groot_server import GrootServer
from tests.remote.groot_server import config as groot_config
from tests.remote.servers import FakeServer, still


class Reach(Skill):
    """Goes somewhere with the policy that ``--policy`` names, and is content."""

    signature = SkillSignature(name="reach", doc="reach a spot")
    timeout_s = 3.0

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def holds(self, context: SkillContext) -> Verdict | None:
        return None

    def done(self, context: SkillContext) -> Verdict:
        return Verdict(name="there", value="yes")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def run(policy: str, folder: Path, **policy_options: Any) -> tuple[RunResult, RunRecord, KinematicWorld]:
    plan = Plan(goal="reach", steps=(step_at("s1", "reach", (0.5, 0.05, 0.1)),), remaining=("s1",))
    named = policies(policy)

    def policy_for(name: str) -> Policy:
        if not policy_options:
            return named(name)
        scheme, _, address = policy.partition(":")
        return (load_groot if scheme == "groot" else load)(address, **policy_options)

    agent = Agent(
        world_preset("tabletop"),
        ScriptedPlanner([plan]),
        policy_for,
        skills=SkillLibrary([Reach()]),
        config=LoopConfig(replan="never", max_retries=0),
        policy_id=policy,
    )
    world = KinematicWorld()
    result = agent.run("reach it", world=world, record=folder)
    assert result.record is not None
    return result, RunRecord.open(result.record), world


def test_a_served_policy_acts_like_the_same_policy_here_and_replays_without_its_server(tmp_path: Path) -> None:
    with PolicyServer(LinePolicy, port=0) as server:
        result, record, _ = run(f"openpi:{server.url}", tmp_path / "far")
    assert result.outcome == "succeeded", result.message
    chunks = list(record.of(ev.ChunkProposed))
    assert chunks and all(c.chunk.policy == f"openpi:hiervla/line@{server.url}" for c in chunks)
    assert all(0.0 < c.wall_latency_s < 30.0 for c in chunks)
    # The server is gone by now.
    replay = replay_decisions(record, skills=SkillLibrary([Reach()]))
    assert replay.identical and replay.decisions > len(chunks)

    plan = Plan(goal="reach", steps=(step_at("s1", "reach", (0.5, 0.05, 0.1)),), remaining=("s1",))
    near = Agent(
        world_preset("tabletop"),
        ScriptedPlanner([plan]),
        lambda name: LinePolicy(),
        skills=SkillLibrary([Reach()]),
        config=LoopConfig(replan="never", max_retries=0),
    ).run("reach it", world=KinematicWorld(), record=tmp_path / "near")
    assert near.record is not None
    here = list(RunRecord.open(near.record).of(ev.ChunkProposed))
    assert len(here) == len(chunks)
    for a, b in zip(chunks, here, strict=True):
        assert np.array_equal(a.chunk.positions, b.chunk.positions) and a.chunk.done_prob == b.chunk.done_prob


def test_a_server_that_dies_ends_the_run_with_one_error_and_the_arm_at_rest(tmp_path: Path) -> None:
    def reply(message: dict[str, Any]) -> Any:
        rows = still()
        rows["actions"][:, 0] = 0.3
        return rows if len(fake.asked) < 3 else None

    fake = FakeServer(reply)
    with fake.running() as url:
        options = {"retries": 0, "sleep": lambda s: None}
        result, record, world = run(f"openpi:{url}?preset=droid", tmp_path, **options)
    assert result.outcome == "error"
    assert result.message.startswith(f"policy server '{url}': the connection broke") and "\n" not in result.message
    assert len(list(record.of(ev.ChunkProposed))) == 2
    moved = np.array([c.q for c in world.commands])
    assert np.ptp(moved[:, 0]) > 0.05, "it was moving when the server died"
    assert np.abs(world.commands[-1].dq).max() < 1e-3, "the arm ends at rest"
    assert record.finished is not None and record.finished.outcome == "error"
    assert replay_decisions(record, skills=SkillLibrary([Reach()])).identical


def test_an_answer_that_is_not_a_number_moves_nothing(tmp_path: Path) -> None:
    fake = FakeServer(lambda message: {"actions": np.full((10, 8), np.nan)})
    with fake.running() as url:
        result, record, world = run(f"openpi:{url}?preset=droid", tmp_path)
    assert result.outcome == "error" and "has nan" in result.message
    assert not list(record.of(ev.ChunkProposed))
    assert all(np.isfinite(c.q).all() for c in world.commands)


def test_a_groot_server_acts_in_the_loop_and_its_death_ends_the_run_at_rest(tmp_path: Path) -> None:
    keys = ["joint_position", "gripper_position"]
    modalities = groot_config("n1.6", ["exterior_image_1_left", "wrist_image_left"], keys, keys)

    def reply(data: dict[str, Any]) -> Any:
        arm = np.repeat(data["observation"]["state"]["joint_position"], 16, axis=1)
        arm[..., 0] += 0.02 * np.arange(1, 17)
        actions = {"joint_position": arm, "gripper_position": np.zeros((1, 16, 1), np.float32)}
        return [actions, {}] if len(server.actions_asked) < 3 else None

    server = GrootServer(modalities, reply)
    with server.running() as at:
        options: dict[str, Any] = {"retries": 0, "connect_s": 0.5, "sleep": lambda s: None}
        result, record, world = run(f"groot:{at}?preset=droid", tmp_path, **options)
    assert result.outcome == "error"
    assert result.message.startswith(f"policy server 'tcp://{at}': ") and "\n" not in result.message
    chunks = list(record.of(ev.ChunkProposed))
    assert len(chunks) == 2 and all(c.chunk.policy == f"groot:droid/n1.6@tcp://{at}" for c in chunks)
    moved = np.array([c.q for c in world.commands])
    assert np.ptp(moved[:, 0]) > 0.05, "it was moving when the server died"
    assert np.abs(world.commands[-1].dq).max() < 1e-3, "the arm ends at rest"
    assert replay_decisions(record, skills=SkillLibrary([Reach()])).identical
