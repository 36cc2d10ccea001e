"""Several processes train one network: as one would, whoever resumes, and only the first writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.cli import main
from hiervla.executor.policies.families import load_policy
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.training.demos import DemoWriter, Sample, load_demos
from hiervla.training.policy import Trainer
from hiervla.training.team import Team, TeamError, team
from tests.training.team_peer import checked, losses, settings

PEER = Path(__file__).with_name("team_peer.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    writer = DemoWriter({"seed": 0}, FeatureSpec(points=32))
    for e in range(8):
        goal, samples = rng.uniform(-0.03, 0.03, 3), []
        for k in range(6):
            ee = goal + (0.01, -0.02, 0.16 - 0.02 * k)
            points = np.zeros((32, 7), dtype=np.float32)
            points[:24, :3] = goal + rng.normal(0, 0.005, (24, 3))
            proprio = np.array([*ee, 0.0, 1.0, 0.08, 0.0, 0.02, ee[2] + 0.02, 0, 0, 0], dtype=np.float32)
            share = np.linspace(0, 1, 16)[:, None]
            rows = np.hstack([(1 - share) * ee + share * goal, 0 * share, 1 + 0 * share, 1 - share])
            samples.append(Sample(PolicyInput(points, 24, proprio), rows.astype(np.float32), k > 3, k / 6))
        writer.add("place" if e % 2 else "wipe", samples, e, words=f"move to the {('red', 'blue')[e % 2]} side")
    writer.write(folder / "a.npz")
    return folder


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    # Its own rendezvous on a free port, so that tests beside each other do not meet.
    start += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(
        [*start, *words], capture_output=True, text=True, timeout=240, env=environment, check=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def pair(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What two processes found, and their folder of checkpoints."""
    folder = tmp_path_factory.mktemp("pair")
    done = torchrun(str(PEER), str(data), str(folder))
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "found.json").read_text()), folder


def test_two_processes_learn_what_one_learns(pair: tuple[dict[str, Any], Path], data: Path, tmp_path: Path) -> None:
    two, one = pair[0], checked(data, tmp_path, Team())
    assert two["size"] == 2
    # Tokens are trained without noise: the curves are the same up to the order of sums.
    assert two["tokens"] + two["tokens after"] == pytest.approx(one["tokens"] + one["tokens after"], rel=2e-3)
    assert two["tokens"][-1] < two["tokens"][0]
    assert two["bf16"] == pytest.approx(one["bf16"], rel=2e-2) and two["bf16"] != two["tokens"]
    # Noise of flow is each process's own; what is learned from it is not.
    assert two["flow"] != one["flow"] and np.mean(two["flow"]) == pytest.approx(np.mean(one["flow"]), rel=0.25)
    assert two["words"] == pytest.approx(one["words"], rel=2e-3) and two["words"] != two["tokens"]
    for family in ("tokens", "bf16", "flow", "words"):
        assert two[f"{family} same weights"] and two[f"{family} resumed alike"], family
    assert two["own noise"]


def test_another_number_of_processes_goes_on_from_the_checkpoint(pair: tuple[dict[str, Any], Path], data: Path) -> None:
    two, folder = pair
    for name, options in (("tokens", {}), ("flow", {"family": "flow"})):
        alone = Trainer(load_demos([data]), settings(lr=1e-2, **options))
        alone.resume(folder / f"{name}.pt")
        assert alone.step == 3
        after = losses(alone, 1)
        if name == "tokens":
            assert after == pytest.approx(two["tokens after"], rel=2e-3)
        assert np.isfinite(after).all()


def test_the_command_under_torchrun_writes_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "policy", str(data), "--family", "tokens", "--batch", "8", "--steps", "2"]
    done = torchrun("-m", "hiervla.cli", *words, "-o", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("weights: ") == 1 and done.stdout.count("next: ") == 1
    facts = json.loads((tmp_path / "two" / "config.json").read_text())["training"]
    assert (facts["processes"], facts["done_steps"]) == (2, 2)
    assert main([*words, "-o", str(tmp_path / "one")]) == 0
    one, two = (load_policy(tmp_path / n).network.state_dict() for n in ("one", "two"))
    assert all(torch.allclose(one[k].float(), two[k].float(), atol=2e-5) for k in one)
    # One process goes on where two were.
    assert main([*words[:-1], "3", "-o", str(tmp_path / "two")]) == 0
    assert "(3 steps" in capsys.readouterr().out


def test_what_does_not_fit_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TeamError, match="a batch of 8 cannot be shared evenly by 3. Choose --batch 9"):
        Trainer(load_demos([data]), settings(), team=Team(0, 3))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TeamError, match=r"process 1 of 2 cannot meet the others .*torchrun"), team("cpu"):
        pass
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(TeamError, match="the variable RANK is 'one'"), team("cpu"):
        pass


def test_parts_make_the_whole() -> None:
    parts = [Team(r, 4).part(12) for r in range(4)]
    assert sorted(i for p in parts for i in range(12)[p]) == list(range(12))
    alone = torch.ones(3)
    Team().average([alone, None])
    assert (alone == 1).all() and Team().agree([1.5]) == [1.5]
