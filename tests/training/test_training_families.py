"""Training of every family: it learns, resumes to the bit, shares an encoder, tries itself out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.families import FAMILIES, load_policy
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.representations import CheckpointError, UnknownNameError
from hiervla.training import policy as training
from hiervla.training.augment import augment, off_the_point
from hiervla.training.demos import DemoError, DemoWriter, Sample, load_demos
from hiervla.training.policy import Evaluation, Trainer, TrainingError, TrainSpec, train_policy

TINY = FeatureSpec(points=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reaching for a cluster of points from a hover above it, forty episodes of two skills."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    writer = DemoWriter({"seed": 0}, TINY)
    for e in range(40):
        samples = []
        goal = rng.uniform(-0.03, 0.03, 3)
        for k in range(8):
            ee = goal + (0.01, -0.02, 0.16 - 0.02 * k)
            points = np.zeros((TINY.points, 7), dtype=np.float32)
            points[:40, :3] = goal + rng.normal(0, 0.005, (40, 3))
            proprio = np.array([*ee, 0.0, 1.0, 0.08, 0.0, 0.02, ee[2] + 0.02, 0, 0, 0], dtype=np.float32)
            share = np.linspace(0, 1, 16)[:, None]
            rows = np.concatenate([(1 - share) * ee + share * goal, 0 * share, 1 + 0 * share, 1 - share], axis=1)
            samples.append(Sample(PolicyInput(points, 40, proprio), rows.astype(np.float32), k > 5, k / 8))
        writer.add(SKILLS[1 + e % 2], samples, e)
    writer.write(folder / "a.npz")
    return folder


def settings(family: str = "act", steps: int = 20, **options: object) -> TrainSpec:
    return TrainSpec(family=family, steps=steps, batch=16, points=48, held_out=0.1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_by_the_same_call(family: str, data: Path, tmp_path: Path) -> None:
    # The warm-up takes 300 steps, and a test has no time for them.
    trainer = Trainer(load_demos([data]), settings(family, lr=1e-2))
    losses = [trainer.train_step(0.3) for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:3])
    report = train_policy([data], tmp_path, settings(family, steps=2))
    assert set(report.metrics) >= {"position_mm", "gripper_accuracy", "done_accuracy", "position_mm/place"}
    policy = load_policy(tmp_path)
    assert policy.network.family == family and policy.id == f"{family}-1"
    facts = json.loads((tmp_path / "config.json").read_text())["training"]
    assert (facts["family"], facts["done_steps"], facts["episodes"]) == (family, 2, 40)


@pytest.mark.parametrize("family", ["act", "diffusion", "fast"])
def test_every_kind_of_head_resumes_as_if_nothing_had_happened(family: str, data: Path, tmp_path: Path) -> None:
    demos = load_demos([data])
    through = Trainer(demos, settings(family))
    for _ in range(4):
        through.train_step(0.5)
    stopped = Trainer(demos, settings(family))
    for _ in range(2):
        stopped.train_step(0.5)
    stopped.save(tmp_path / "c.pt")
    torch.rand(3)
    resumed = Trainer(demos, settings(family))
    resumed.resume(tmp_path / "c.pt")
    for _ in range(2):
        resumed.train_step(0.5)
    for a, b in zip(through.network.parameters(), resumed.network.parameters(), strict=True):
        assert (a == b).all()


def test_a_head_trains_on_the_encoder_of_another_family(data: Path, tmp_path: Path) -> None:
    train_policy([data], tmp_path / "flow", settings("flow", steps=3))
    frozen = settings("act", steps=5, freeze_encoder=True, copies=2)
    bank = tmp_path / "bank.npz"
    train_policy([data], tmp_path / "act", frozen, init=tmp_path / "flow", bank=bank)
    given, made = load_policy(tmp_path / "flow").network, load_policy(tmp_path / "act").network
    for a, b in zip(given.shared(), made.shared(), strict=True):
        assert (a == b).all()
    assert made.spec == given.spec
    began = bank.stat().st_mtime_ns
    other = settings("diffusion", steps=5, freeze_encoder=True, copies=2)
    train_policy([data], tmp_path / "diffusion", other, init=tmp_path / "flow", bank=bank)
    assert bank.stat().st_mtime_ns == began, "families share what was encoded"
    wrong = settings("act", steps=5, freeze_encoder=True, copies=3)
    with pytest.raises(CheckpointError, match="another encoder, other data or another recipe"):
        train_policy([data], tmp_path / "x", wrong, init=tmp_path / "flow", bank=bank)
    bank.write_bytes(bank.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train_policy([data], tmp_path / "x", other, init=tmp_path / "flow", bank=bank)


def test_weights_of_the_same_family_are_taken_whole_unless_told(data: Path, tmp_path: Path) -> None:
    train_policy([data], tmp_path / "w", settings("act", steps=2))
    demos, old = load_demos([data]), load_policy(tmp_path / "w").network
    whole = Trainer(demos, settings("act"), init=tmp_path / "w").network
    part = Trainer(demos, settings("act"), init=tmp_path / "w", encoder_only=True).network
    assert (whole.state_dict()["chunk_out.weight"] == old.state_dict()["chunk_out.weight"]).all()
    assert not (part.state_dict()["chunk_out.weight"] == old.state_dict()["chunk_out.weight"]).all()
    assert (part.state_dict()["point_in.weight"] == old.state_dict()["point_in.weight"]).all()


@pytest.mark.parametrize(
    ("options", "device", "says"),
    [
        ({"precision": "fp16"}, "cpu", "fp16 needs a GPU"),
        ({"precision": "fp8"}, "cpu", "Choose fp32, bf16 or fp16"),
        ({"freeze_encoder": True}, "cpu", "Give --init as well"),
        ({}, "abacus", "--device abacus cannot be used"),
    ],
)
def test_settings_that_do_not_go_together(options: dict[str, Any], device: str, says: str, data: Path) -> None:
    with pytest.raises(TrainingError, match=says):
        Trainer(load_demos([data]), settings(**options), device)


def test_an_unknown_family_is_named(data: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'flow'"):
        Trainer(load_demos([data]), settings("flo"))


def test_bf16_trains_and_keeps_fp32_weights(data: Path) -> None:
    trainer = Trainer(load_demos([data]), settings("flow", precision="bf16"))
    plain = Trainer(load_demos([data]), settings("flow"))
    losses = [t.train_step(0.0) for t in (trainer, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1) and losses[0] != losses[1]
    assert all(p.dtype == torch.float32 for p in trainer.network.parameters())


def test_a_hidden_point_is_where_the_tool_was_at_the_start(data: Path) -> None:
    demos = load_demos([data])
    off = off_the_point(demos)
    goal = demos.actions[:, -1, :3]
    hover = np.where(demos.skill == SKILLS.index("place"), 0.16, 0.13)
    assert np.allclose(off, goal + np.stack([0.01 + 0 * hover, -0.02 + 0 * hover, 0.16 - hover], axis=1), atol=1e-6)
    rows = np.arange(8)
    moved, plain = augment(demos, rows, None, 64, off[rows]), augment(demos, rows, None, 64)
    assert np.allclose(moved[4][..., :3] + off[rows, None], plain[4][..., :3], atol=1e-6)
    assert np.allclose(moved[0][:, :40, :3] + off[rows, None], plain[0][:, :40, :3], atol=1e-6)


def test_training_without_points_makes_a_policy_that_does_without(data: Path, tmp_path: Path) -> None:
    train_policy([data], tmp_path / "with", settings("act", steps=2))
    train_policy([data], tmp_path / "without", settings("act", steps=2, drop_point=0.3))
    assert load_policy(tmp_path / "with").without_point == "refuse"
    assert load_policy(tmp_path / "without").without_point == "hover"


def test_trials_in_the_loop_are_reported_and_change_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, int]] = []

    class Outcome:
        success = True

    def trial(policy: object, skill: str, seed: int) -> Outcome:
        torch.rand(5)
        tried.append((skill, seed))
        return Outcome()

    monkeypatch.setattr(training, "run_trial", trial)
    told: list[dict[str, float]] = []
    asked = Evaluation(every=2, trials=2, skills=("place",))
    report = train_policy([data], tmp_path / "a", settings(steps=5), evaluation=asked, on_progress=told.append)
    assert [e["step"] for e in report.evaluations] == [2, 4]
    assert report.evaluations[0]["success/place"] == 1.0 and {"success", "step"} <= set(told[0])
    assert tried[:2] == [("place", 200_001), ("place", 200_003)], "held-out seeds, the same every time"
    train_policy([data], tmp_path / "b", settings(steps=5))
    a, b = (load_policy(tmp_path / n).network for n in ("a", "b"))
    assert all((p == q).all() for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_trial_in_the_loop_is_a_real_one(data: Path, tmp_path: Path) -> None:
    """Two steps of training do not place anything, and the trial says so."""
    train_policy([data], tmp_path / "a", settings(steps=2))
    assert training.success(load_policy(tmp_path / "a"), "place", 1) == 0


def test_a_part_of_the_demonstrations_holds_every_skill_and_nests(data: Path) -> None:
    demos = load_demos([data])
    few, more = demos.some(10, 3), demos.some(20, 3)
    assert len(np.unique(few.episode)) == 10 and np.bincount(few.skill)[1:].min() >= 4 * 8
    assert set(few.episode) <= set(more.episode)
    with pytest.raises(DemoError, match="40, and 41 are wanted"):
        demos.some(41, 3)
