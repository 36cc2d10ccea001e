"""Demonstration files, augmentation and training, on made-up data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.executor.policies.flow import FlowPolicy
from hiervla.representations import CheckpointError
from hiervla.training.augment import augment
from hiervla.training.demos import DemoError, DemoWriter, Sample, load_demos
from hiervla.training.policy import Trainer, TrainSpec, train_policy

SPEC = FeatureSpec(points=64)


def write_shard(path: Path, episodes: int = 12, seed: int = 0, spec: FeatureSpec = SPEC) -> None:
    """Reaching for a red cluster of points: simple enough to be learnt in seconds."""
    rng = np.random.default_rng(seed)
    writer = DemoWriter({"seed": seed}, spec)
    for e in range(episodes):
        samples = []
        for _ in range(10):
            goal = rng.uniform(-0.05, 0.05, 3)
            points = np.zeros((spec.points, 7), dtype=np.float32)
            points[:40, :3] = goal + rng.normal(0, 0.005, (40, 3))
            points[:40, 3] = 0.4
            ee = rng.uniform(-0.05, 0.05, 3)
            proprio = np.array([*ee, 0.0, 1.0, 0.08, 0.0, 0.02, ee[2] + 0.02, 0, 0, 0], dtype=np.float32)
            share = np.linspace(0, 1, 16)[:, None]
            rows = np.concatenate(
                [(1 - share) * ee + share * goal, 0 * share, 1 + 0 * share, 1 - share], axis=1
            ).astype(np.float32)
            samples.append(Sample(PolicyInput(points, 40, proprio), rows, bool(np.linalg.norm(ee - goal) < 0.05), 0.5))
        writer.add(SKILLS[e % 2], samples, seed * 1000 + e)
    writer.write(path)


def test_shards_round_trip(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.npz", seed=1)
    write_shard(tmp_path / "b.npz", seed=2)
    demos = load_demos([tmp_path])
    assert len(demos) == 240 and demos.features == SPEC
    assert [h["recipe"]["seed"] for h in demos.headers] == [1, 2]
    assert set(demos.skill) == {0, 1}
    assert len(np.unique(demos.episode)) == 24


@pytest.mark.parametrize("case", ["nowhere", "empty", "broken", "mixed"])
def test_bad_shards_are_named(tmp_path: Path, case: str) -> None:
    path = tmp_path
    if case == "nowhere":
        path = tmp_path / "nowhere"
    elif case == "broken":
        (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 half a file")
    elif case == "mixed":
        write_shard(tmp_path / "a.npz", 2)
        write_shard(tmp_path / "b.npz", 2, spec=FeatureSpec(points=64, voxel_m=0.01))
    with pytest.raises(DemoError, match="demonstrations"):
        load_demos([path])


def test_augmentation_turns_points_tool_and_actions_together(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.npz")
    demos = load_demos([tmp_path])
    rows = np.arange(40)
    plain = augment(demos, rows, None, 64)
    turned = augment(demos, rows, np.random.default_rng(0), 64)

    def reach(batch: tuple[np.ndarray, ...]) -> np.ndarray:
        """Distance from the tool to the last row, and its height: no rotation or shift may change it."""
        gap = batch[4][:, -1, :3] - batch[2][:, :3]
        return np.stack([np.hypot(gap[:, 0], gap[:, 1]), gap[:, 2]], axis=1)

    assert np.abs(reach(plain) - reach(turned)).max() < 0.005
    assert np.abs(plain[4][:, -1, :2] - turned[4][:, -1, :2]).max() > 0.01
    # The label still points at the middle of the cloud.
    middle = (turned[0][..., :3] * turned[1][..., None]).sum(1) / turned[1].sum(1)[:, None]
    assert np.abs(middle - turned[4][:, -1, :3]).max() < 0.01


def test_augmentation_leaves_skills_with_a_fixed_direction_alone(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.npz")
    demos = load_demos([tmp_path])
    demos.skill[:] = SKILLS.index("open_drawer")
    rows = np.arange(20)
    assert np.array_equal(augment(demos, rows, None, 64)[4], augment(demos, rows, np.random.default_rng(0), 64)[4])


def test_training_learns_resumes_and_writes_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "data" / "a.npz", episodes=40)
    spec = TrainSpec(steps=30, batch=32, points=48, held_out=0.1)
    told: list[dict[str, float]] = []
    report = train_policy([tmp_path / "data"], tmp_path / "w", spec, work=tmp_path / "work", on_progress=told.append)
    assert report.steps == 30 and told[-1]["step"] == 30
    longer = TrainSpec(steps=90, batch=32, points=48, held_out=0.1)
    again = train_policy([tmp_path / "data"], tmp_path / "w", longer, work=tmp_path / "work")
    assert again.steps == 90
    assert again.metrics["position_mm"] < report.metrics["position_mm"]
    assert FlowPolicy.load(tmp_path / "w").features == SPEC
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", None)  # what is finished is not trained again
        finished = train_policy([tmp_path / "data"], tmp_path / "w", longer, work=tmp_path / "work")
    assert (finished.steps, finished.metrics) == (90, again.metrics)
    other = TrainSpec(steps=90, batch=16, points=48)
    with pytest.raises(CheckpointError, match="other data or hyperparameters"):
        train_policy([tmp_path / "data"], tmp_path / "w", other, work=tmp_path / "work")


def test_resuming_is_the_same_as_not_stopping(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.npz")
    demos, spec = load_demos([tmp_path]), TrainSpec(batch=8, points=48, held_out=0.0)
    through = Trainer(demos, spec)
    for _ in range(4):
        through.train_step(0.5)
    stopped = Trainer(demos, spec)
    for _ in range(2):
        stopped.train_step(0.5)
    stopped.save(tmp_path / "c.pt")
    resumed = Trainer(demos, spec)
    resumed.resume(tmp_path / "c.pt")
    for _ in range(2):
        resumed.train_step(0.5)
    for a, b in zip(through.network.parameters(), resumed.network.parameters(), strict=True):
        assert (a == b).all()
