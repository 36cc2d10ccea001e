"""`hiervla train policy`: every family by one command, and mistakes in one paragraph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.executor.policies.families import load_policy
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.training.demos import DemoWriter, Sample


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    rng, writer = np.random.default_rng(0), DemoWriter({"seed": 0}, FeatureSpec(points=64))
    for e in range(6):
        samples = []
        for k in range(6):
            points = rng.normal(0, 0.02, (64, 7)).astype(np.float32)
            rows = np.cumsum(rng.normal(0, 0.003, (16, 6)), axis=0).astype(np.float32)
            samples.append(Sample(PolicyInput(points, 64, rng.random(12).astype(np.float32)), rows, k == 5, k / 6))
        writer.add("pick" if e % 2 else "wipe", samples, e, words="take the red cup" if e % 2 else "wipe it up")
    writer.write(tmp_path / "demos" / "a.npz")
    return tmp_path / "demos"


def test_a_family_is_trained_resumed_and_loaded(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = demos.parent / "w"
    words = ["train", "policy", str(demos), "-o", str(out), "--family", "fast", "--batch", "4", "--precision", "bf16"]
    assert main([*words, "--steps", "2", "--drop-point", "0.2"]) == 0
    assert "(2 steps, 36 samples" in capsys.readouterr().out
    assert main([*words, "--steps", "3", "--drop-point", "0.2"]) == 0
    assert f"--policy {out}" in capsys.readouterr().out
    policy = load_policy(out)
    assert policy.network.family == "fast" and policy.without_point == "hover"
    assert main([*words, "--steps", "4"]) == 1, "another --drop-point is another training"
    said = " ".join(capsys.readouterr().err.split())
    assert "belongs to other data or hyperparameters. Delete it to start afresh" in said and "Traceback" not in said


def test_a_policy_that_reads_is_trained_from_one_that_does_not(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, out = demos.parent / "plain", demos.parent / "reads"
    train = ["train", "policy", str(demos), "--family", "act", "--batch", "4"]
    assert main([*train, "-o", str(plain), "--steps", "1"]) == 0
    reads = [*train, "-o", str(out), "--words", "--drop-words", "0.2", "--drop-point", "0.1", "--init", str(plain)]
    assert main([*reads, "--steps", "2"]) == 0 and main([*reads, "--steps", "3"]) == 0
    assert load_policy(plain).network.spec.words == 0 and load_policy(out).network.spec.words > 0
    facts = json.loads((out / "config.json").read_text())["training"]
    assert (facts["words"], facts["drop_words"], facts["done_steps"]) == (True, 0.2, 3)
    capsys.readouterr()
    frozen = ["--words", "--freeze-encoder", "--init", str(plain), "-o", str(demos.parent / "frozen")]
    assert main([*train, *frozen]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "keeps the encoder from learning to read --words. Leave one of them out" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--family", "acts"], "hiervla: unknown policy family 'acts'. Did you mean 'act'?"),
        (["--precision", "fp16"], "--precision fp16 needs a GPU. On a CPU use bf16 or fp32."),
        (["--episodes", "7"], "are 6, and 7 are wanted. Collect more with another --seed."),
        (["--freeze-encoder"], "--freeze-encoder leaves a random encoder as it is. Give --init as well."),
    ],
)
def test_mistakes_are_one_paragraph(
    words: list[str], says: str, demos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "policy", str(demos), "-o", str(demos.parent / "w"), *words]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert says in said and "Traceback" not in said
