"""The part of the network that is told of advantages: without effect until it learned, and older weights lack it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.executor.policies.flow import DEFAULT_WEIGHTS, FlowPolicy
from hiervla.executor.policies.network import NEGATIVE, POSITIVE, UNADVISED, FlowNet, NetworkSpec
from hiervla.representations import CheckpointError
from hiervla.training.improve.experience import gather
from hiervla.training.improve.learning import AdvantageTrainer, Lessons, lessons, with_advantage
from hiervla.training.trainer import TrainSpec
from tests.training.improve import tiny


def test_a_folder_from_before_has_no_such_part_and_writes_none(tmp_path: Path) -> None:
    tiny.weights(tmp_path)
    assert "advantage" not in json.loads((tmp_path / "config.json").read_text())["network"]
    assert not FlowPolicy.load(tmp_path).network.spec.advantage
    known = json.loads((DEFAULT_WEIGHTS / "config.json").read_text())["network"]
    assert NetworkSpec.from_json(known).to_json() == known


def test_a_network_that_gets_the_part_acts_to_the_bit_as_before() -> None:
    old = tiny.network()
    new = with_advantage(old)
    assert isinstance(new, FlowNet) and new.spec.advantage and with_advantage(new) is new
    context, noise = torch.randn(3, 24), torch.randn(3, 16, 6)
    for told in (UNADVISED, NEGATIVE, POSITIVE):
        advised = new.advised(context, torch.tensor([told] * 3))
        assert torch.equal(new.sample(advised, noise, 5), old.sample(context, noise, 5))
    assert torch.equal(old.advised(context, torch.tensor([POSITIVE] * 3)), context)


def test_a_network_with_the_part_is_kept_with_it(tmp_path: Path) -> None:
    made = with_advantage(tiny.network())
    assert isinstance(made, FlowNet)
    torch.nn.init.normal_(made.advantage.weight)
    FlowPolicy(made, tiny.FEATURES, version="tiny-1-g1", guidance=1.5).save(tmp_path)
    read = FlowPolicy.load(tmp_path)
    assert read.guidance == 1.5
    assert torch.equal(read.network.advantage.weight, made.advantage.weight)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"advantages": True}, "advantages"), ({"advantage": "yes"}, "'yes'"), ({"width": None}, "width")],
)
def test_an_unknown_missing_or_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    file = tiny.weights(tmp_path) / "config.json"
    config = json.loads(file.read_text())
    config["network"] = {k: v for k, v in (config["network"] | change).items() if v is not None}
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=named):
        FlowPolicy.load(tmp_path)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_learns_both_ways_and_does_as_it_is_told(tmp_path: Path, frozen: bool) -> None:
    # The same observation, left in the good examples and right in the poor ones.
    rows = gather([tiny.trail(n, (1, 0)[n % 2], (0.03, -0.03)[n % 2]) for n in range(16)], tiny.FEATURES)
    rows.demos.proprio[:] = rows.demos.proprio[0]
    rows.demos.actions[..., 2] = 0.1
    told = rows.outcome.astype(np.int8)
    spec = TrainSpec(steps=1, batch=16, points=16, lr=2e-2, ema=0.9, freeze_encoder=frozen, copies=2, held_out=0.0)
    trainer = AdvantageTrainer(lessons(None, rows, told, 0.5), spec, tiny.weights(tmp_path))
    for _ in range(120):
        trainer.train_step(0.2)
    policy = trainer.policy("tiny-1-g1")
    assert isinstance(policy, FlowPolicy)
    inputs = tiny.sample(0.0, 0.1, np.random.default_rng(5)).inputs
    seen = policy.network.encode(
        torch.from_numpy(inputs.points)[None], torch.ones(1, 32, dtype=torch.bool),
        torch.from_numpy(inputs.proprio)[None], torch.tensor([1]),
    ).detach()  # fmt: skip
    left, right = (
        float(policy.network.guess(policy.advised(seen, advantage=a))[0, :, 0].detach().mean())
        for a in (POSITIVE, NEGATIVE)
    )
    assert left > 0.01 and right < -0.01
    # What acts is told to be good, and guidance leads farther away from what all examples do on average.
    policy.noise = 0.0
    acted = policy.infer(inputs, 1)[0][:, 0].mean()
    policy.guidance = 2.0
    assert policy.infer(inputs, 1)[0][:, 0].mean() > acted > 0.01


def test_demonstrations_are_good_examples_and_keep_their_share() -> None:
    rows = tiny.experience()
    data: Lessons = lessons(rows.demos, rows, np.zeros(len(rows), dtype=np.int8), share=0.25)
    n = len(rows)
    assert (data.told[:n] == POSITIVE).all() and (data.told[n:] == NEGATIVE).all()
    assert data.weights[n:].sum() == pytest.approx(0.25) and data.weights.sum() == pytest.approx(1.0)
