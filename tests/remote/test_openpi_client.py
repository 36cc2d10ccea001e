"""Against the real ``openpi-client``, in both directions.

It pins numpy below 2, so it lives in an environment of its own, whose interpreter ``HIERVLA_OPENPI_PYTHON`` names:
``python -m venv openpi && openpi/bin/pip install openpi-client typing_extensions`` (which 0.1.2 forgets to ask for).
Without one, what remains of the check is in ``test_wire.py``: bytes that openpi-client wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hiervla.executor.policies.remote.encode import full_request
from hiervla.executor.policies.remote.policy import load
from hiervla.executor.policies.remote.server import PolicyServer
from hiervla.executor.policies.remote.wire import pack
from hiervla.executor.testing import KinematicWorld, LinePolicy, step_at

PYTHON = os.environ.get("HIERVLA_OPENPI_PYTHON")
PEER = Path(__file__).parent / "openpi_peer.py"
STEP = step_at("s1", "pick", (0.5, 0.0, 0.02), object="red mug").replace(text="pick up the red mug")

pytestmark = pytest.mark.skipif(PYTHON is None, reason="HIERVLA_OPENPI_PYTHON names no interpreter with openpi-client")


def bare() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def test_their_client_is_served_by_our_server() -> None:
    seen = KinematicWorld().observe()
    with PolicyServer(LinePolicy, port=0) as server:
        asked = pack(full_request(seen, STEP, 0, 0))
        done = subprocess.run(
            [PYTHON or sys.executable, str(PEER), "client", server.url],
            input=asked, capture_output=True, env=bare(), timeout=120, check=True,
        )  # fmt: skip
    told = json.loads(done.stdout)
    own = LinePolicy()
    own.reset(STEP, 0)
    chunk = own.act(seen, STEP)
    want = np.column_stack([chunk.positions, chunk.yaws, chunk.gripper])
    assert (told["policy"], told["shape"], told["dtype"], told["timed"]) == ("line", [16, 5], "float64", True)
    assert np.array_equal(told["actions"], want)
    assert "'observation/joint_position': is missing" in told["refused"]


def test_our_client_is_served_by_a_server_with_their_packing() -> None:
    seen = KinematicWorld().observe()
    with subprocess.Popen(
        [PYTHON or sys.executable, str(PEER), "server"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=bare()
    ) as peer:
        try:
            assert peer.stdout is not None and peer.stderr is not None
            policy = load(f"ws://127.0.0.1:{int(peer.stdout.readline())}?preset=droid")
            chunk = policy.act(seen, STEP)
            told = json.loads(peer.stderr.readline())
            policy.close()
        finally:
            peer.kill()
    assert told["prompt"] == "pick up the red mug"
    assert told["observation/exterior_image_1_left"] == [[224, 224, 3], "uint8"]
    assert told["observation/joint_position"] == [[7], "float32"]
    assert chunk.horizon == 10 and chunk.rate_hz == 15.0 and (chunk.gripper == 1.0).all()
    turned = seen.proprio.q.astype(np.float32).sum() / 100.0 * 0.2
    angle = np.arctan2(chunk.positions[0, 1], chunk.positions[0, 0])
    assert angle == pytest.approx(turned, abs=1e-5), "the first joint turned by a fifth of what was sent"
