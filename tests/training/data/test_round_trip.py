"""From the simulator to LeRobot and back into training, by the commands of `docs/data.md`: nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.training.augment import augment, into_frames
from hiervla.training.demos import load_demos
from hiervla.training.multiply.sources import read_sources
from tests.training.moments import saved_moment


def test_tabletop_to_lerobot_to_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved_moment(Path("states"), 5)
    from_state = ["--from-states", "states", "--workers", "1"]
    assert main(["collect", "-o", "demos", "--skill", "close_drawer", "--episodes", "2", *from_state]) == 0
    assert main(["export", "demos", "--to", "lerobot", "-o", "set"]) == 0
    capsys.readouterr()
    assert main(["data", "info", "set", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["episodes"], found["fps"], found["skipped"]) == ("lerobot-v3", 2, 5.0, [])

    before, after = load_demos(["demos"]), load_demos(["set"])
    assert len(before) > 20 and before.headers == after.headers and before.features == after.features
    assert before.worded and before.words.dtype == after.words.dtype and before.words.tolist() == after.words.tolist()
    for demos in (before, after):
        into_frames(demos)
    for draw in (None, 7):
        # What the network is given, changed at random as in training.
        batches = [
            augment(d, np.arange(0, len(d), 3), None if draw is None else np.random.default_rng(draw), 64)
            for d in (before, after)
        ]
        for one, two in zip(*batches, strict=True):
            assert one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()

    for source in ("demos", "set"):
        words = ["train", "policy", source, "-o", f"policy-{source}", "--steps", "3", "--batch", "8", "--seed", "1"]
        assert main([*words, "--words"]) == 0
    weights = [(tmp_path / f"policy-{source}" / "model.safetensors").read_bytes() for source in ("demos", "set")]
    assert weights[0] == weights[1]
    # The headers travel along, so what was imported can be multiplied as well.
    assert read_sources(["set"]).counts() == read_sources(["demos"]).counts() == {"close_drawer": 2}
