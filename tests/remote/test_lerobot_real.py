"""LeRobot's real classes, behind our server, against the same networks asked by hand.

LeRobot pins other versions of torch and transformers, so it lives in an environment of its own, whose interpreter
``HIERVLA_LEROBOT_PYTHON`` names; see ``docs/policies-remote.md`` for how to make it. The policies are small, with
random weights, since nothing can be downloaded: ACT, Diffusion and SmolVLA by their configurations, pi0 with the
sizes that its class has built in made small.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.policies.remote.lerobot import LeRobotProcess, spec_for
from hiervla.executor.policies.remote.presets import parse_spec
from hiervla.executor.policies.remote.transport import Connection

PYTHON = os.environ.get("HIERVLA_LEROBOT_PYTHON")
KINDS = os.environ.get("HIERVLA_LEROBOT_KINDS", "act,diffusion,smolvla,pi0").split(",")
"""Which policies to try; pi0 needs lerobot 0.5 or later."""
PEER = Path(__file__).parent / "lerobot_peer.py"
ROWS = {"act": 12, "diffusion": 8, "smolvla": 6, "pi0": 6}
HEIGHT, WIDTH = 60, 80

pytestmark = pytest.mark.skipif(PYTHON is None, reason="HIERVLA_LEROBOT_PYTHON names no interpreter with lerobot")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("HIERVLA_LEROBOT_MADE")
    if kept:
        return Path(kept)
    folder = tmp_path_factory.mktemp("lerobot")
    command = [str(PYTHON), str(PEER), "make", str(folder), *KINDS]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_is_what_the_network_gives_normalised_by_hand(kind: str, made: Path, tmp_path: Path) -> None:
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{PYTHON}" "{PEER}" serve "$@"\n')
    wrapper.chmod(0o755)
    # Only pi0 needs help to be small.
    python = wrapper if kind == "pi0" else Path(str(PYTHON))
    ramp = np.linspace(0, 255, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    request: dict[str, Any] = {
        "observation.images.front": ramp,
        "observation.images.wrist": ramp[::-1].copy(),
        "observation.state": np.linspace(0.3, -0.7, 8, dtype=np.float32),
        "prompt": "pick up the red mug place it on shelf",
    }
    with LeRobotProcess(str(made / kind), python, spec_for("lerobot"), port=0) as process:
        told = process.ready
        connection = Connection(process.url, timeout_s=300.0)
        spec = parse_spec(connection.open()["spec"], kind)
        chunks = [connection.ask({**request, "seed": n, "call": 0})["actions"] for n in (3, 4, 3)]
        connection.close()
    assert (told["policy"], told["checked"], told["chunk_rows"]) == (kind, True, ROWS[kind])
    assert [(i.key.rpartition(".")[2], i.height, i.width) for i in spec.images] == [
        ("front", HEIGHT, WIDTH),
        ("wrist", HEIGHT, WIDTH),
    ]
    assert spec.actions.rows == ROWS[kind]
    mode = "MIN_MAX" if kind == "diffusion" else "MEAN_STD"
    assert told["normalisation"]["action"] == told["normalisation"]["observation.state"] == mode
    images = {"act": "MEAN_STD", "diffusion": "MEAN_STD"}.get(kind, "IDENTITY")
    assert told["normalisation"]["observation.images.front"] == images
    by_hand = np.load(made / kind / "expected.npz")
    for seed, chunk in zip((3, 4), chunks, strict=False):
        assert chunk.shape == (ROWS[kind], 8)
        assert np.allclose(chunk, by_hand[f"seed{seed}"], atol=2e-4), np.abs(chunk - by_hand[f"seed{seed}"]).max()
    assert np.array_equal(chunks[0], chunks[2]), "the seed decides"
    # ACT has nothing random left when it acts; the others sample.
    assert np.array_equal(chunks[0], chunks[1]) == (kind == "act")
