"""The LeRobot policy server: keys, sizes, normalisation and chunks with a stand-in, and its process from start to end.

``test_lerobot_real.py`` does the same with LeRobot itself, where an environment with it is named.
"""

from __future__ import annotations

import ast
import pickle
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from websockets.sync.client import connect

from hiervla.cli import main
from hiervla.executor.policies.remote.errors import PolicyAnswerError, PolicyProcessError, PolicyServerRefusedError
from hiervla.executor.policies.remote.lerobot import FOLDER, LeRobotProcess, spec_for
from hiervla.executor.policies.remote.lerobot_server.app import describe
from hiervla.executor.policies.remote.lerobot_server.policy import ServedError, ServedPolicy
from hiervla.executor.policies.remote.policy import load
from hiervla.executor.policies.remote.presets import parse_spec
from hiervla.executor.policies.remote.transport import Connection
from hiervla.executor.testing import KinematicWorld, step_at
from hiervla.representations import ConventionError
from tests.remote import lerobot_standin as standin

STEP = step_at("s1", "pick", (0.5, 0.0, 0.02), object="red mug").replace(text="pick up the red mug")
TOP = "observation.images.top"
STATE = np.linspace(-1.0, 1.0, 8, dtype=np.float32)


@pytest.fixture
def lerobot(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in standin.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the stand-in for LeRobot."""
    path = tmp_path_factory.mktemp("env") / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{standin.__file__}" "$@"\n')
    path.chmod(0o755)
    return path


def asked(**changes: Any) -> dict[str, Any]:
    picture = np.full((48, 64, 3), 51, dtype=np.uint8)
    return {TOP: picture, "observation.state": STATE, "prompt": "pick up the red mug", "seed": 3, "call": 1} | changes


def expected(seed: int, call: int, rows: int = 5) -> np.ndarray[Any, Any]:
    """The stand-in's chunk by hand."""
    torch.manual_seed(seed * 1_000_003 + call)
    start = (STATE - standin.STATE_MEAN) / standin.STATE_STD + 51 / 255 + float(torch.rand(1))
    return (start + np.arange(rows)[:, None]) * standin.ACTION_STD + standin.ACTION_MEAN


def settings(**changes: Any) -> dict[str, Any]:
    spec = spec_for("lerobot", {TOP: "front"}, 30.0)
    widths = {s.key: s.width for s in spec.states}
    return {"spec": spec.to_json(), "state_width": widths, "action_width": spec.actions.width} | changes


def test_what_runs_in_the_other_environment_imports_nothing_of_ours() -> None:
    files = sorted(FOLDER.glob("*.py"))
    assert {f.name for f in files} >= {"__init__.py", "__main__.py", "app.py", "packing.py", "policy.py"}
    allowed = set(sys.stdlib_module_names) | {"numpy", "msgpack", "websockets", "torch", "lerobot"}
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 10))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
            assert {n.partition(".")[0] for n in names} <= allowed, file.name


@pytest.mark.usefixtures("lerobot")
def test_a_chunk_is_normalised_thought_of_once_and_restored(tmp_path: Path) -> None:
    policy = ServedPolicy(standin.save(tmp_path))
    for seed, call in ((3, 1), (3, 2), (4, 1), (3, 1)):
        rows = policy.chunk(asked(seed=seed, call=call))
        assert rows.dtype == np.float32 and np.allclose(rows, expected(seed, call), atol=1e-6)
    assert policy._policy.thought == 4, "one thought a chunk, however many rows"
    assert policy.normalisation == {TOP: "IDENTITY", "observation.state": "MEAN_STD", "action": "MEAN_STD"}


@pytest.mark.usefixtures("lerobot")
def test_keys_are_those_that_a_robot_sends_and_empty_cameras_are_not_asked_for(tmp_path: Path) -> None:
    features = {**standin.FEATURES, "observation.images.empty_camera_0": ("VISUAL", (3, 48, 64))}
    policy = ServedPolicy(standin.save(tmp_path, features=features, rename={"observation.images.cam": TOP}))
    assert policy.images == {"observation.images.cam": (48, 64)}
    sent = asked()
    sent["observation.images.cam"] = sent.pop(TOP)
    assert np.allclose(policy.chunk(sent), expected(3, 1), atol=1e-6)


@pytest.mark.usefixtures("lerobot")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({TOP: None}, f"'{TOP}' is missing or no array; there are call, observation.images.top"),
        ({TOP: np.zeros((48, 64, 3))}, r"is float64 \(48, 64, 3\), where uint8 \(48, 64, 3\)"),
        ({TOP: np.zeros((64, 48, 3), np.uint8)}, r"is uint8 \(64, 48, 3\), where uint8 \(48, 64, 3\)"),
        ({"observation.state": np.zeros(7)}, r"is float64 \(7,\), where numbers \(8,\)"),
        ({"observation.state": np.full(8, np.nan)}, "is not finite"),
        ({"prompt": 3}, "'prompt' is a int; send text"),
        ({"seed": -1}, "whole numbers from 0"),
    ],
)
def test_requests_that_do_not_fit_are_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ServedError, match=told):
        ServedPolicy(standin.save(tmp_path)).chunk(asked(**changes))


@pytest.mark.usefixtures("lerobot")
@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"stats": False}, "no statistics of 'observation.state' to normalise it by MEAN_STD"),
        ({"temporal_ensemble_coeff": 0.01}, "averages over the chunks of every single step"),
        ({"n_action_steps": None}, "of the kind 'act' gives no chunks"),
        ({"features": {TOP: ("VISUAL", (3, 4, 4))}}, "it wants observation.images.top and gives action, where"),
        (
            {"features": {**standin.FEATURES, "observation.environment_state": ("ENV", (3,))}},
            "it wants observation.environment_state",
        ),
    ],
)
def test_policies_that_cannot_be_served_rightly_are_refused(tmp_path: Path, config: Any, told: str) -> None:
    with pytest.raises(ServedError, match=told):
        ServedPolicy(standin.save(tmp_path, **config))


@pytest.mark.usefixtures("lerobot")
def test_metadata_say_what_a_client_has_to_know(tmp_path: Path) -> None:
    policy = ServedPolicy(standin.save(tmp_path, n_action_steps=7))
    told = describe(policy, settings())
    assert (told["policy"], told["lerobot"], told["checked"]) == ("act", "0.0-standin", True)
    assert (told["state_dim"], told["action_dim"], told["chunk_rows"], told["rate_hz"]) == (8, 8, 7, 30.0)
    spec = parse_spec(told["spec"], "here")
    assert [(i.key, i.camera, i.height, i.width) for i in spec.images] == [(TOP, "front", 48, 64)]
    assert spec.actions.rows == 7 and spec.actions.space == "joint_position"
    with pytest.raises(
        ServedError, match=r"the images observation.images.top, where .* has observation.images.f.*--image"
    ):
        describe(policy, settings(spec=spec_for("lerobot").to_json()))
    with pytest.raises(ServedError, match="its state is observation.state of 8, where spec 'lerobot' has state of 7"):
        describe(policy, settings(state_width={"state": 7}))
    with pytest.raises(ServedError, match="its actions have 8 columns, where spec 'lerobot' has 7"):
        describe(policy, settings(action_width=7))


def test_specs_of_other_protocols_are_not_for_lerobot() -> None:
    with pytest.raises(ConventionError, match="'hiervla' is not for LeRobot's policies"):
        spec_for("hiervla")


@pytest.fixture(scope="module")
def served(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeRobotProcess]:
    source = standin.save(tmp_path_factory.mktemp("policy"))
    with LeRobotProcess(source, python, spec_for("lerobot", {TOP: "front"}), port=0) as process:
        yield process


def test_a_process_serves_it_to_any_client_of_the_protocol(served: LeRobotProcess) -> None:
    connection = Connection(served.url)
    assert connection.open()["server"] == "lerobot" and connection.metadata["chunk_rows"] == 5
    answer = connection.ask(asked())
    assert np.allclose(answer["actions"], expected(3, 1), atol=1e-6) and answer["server_timing"]["infer_ms"] >= 0.0
    with pytest.raises(PolicyServerRefusedError, match="'observation.state' is missing"):
        connection.ask({TOP: asked()[TOP]})
    connection.close()


def test_what_is_no_request_is_answered_in_words(served: LeRobotProcess) -> None:
    for data, told in (("hello", "it is text"), (b"\xc1", "it is no msgpack"), (pickle.dumps({"a": 1}), "no msgpack")):
        with connect(served.url, compression=None) as peer:
            peer.recv()
            peer.send(data)
            answer = peer.recv()
            assert isinstance(answer, str) and told in answer
    with urllib.request.urlopen(served.url.replace("ws:", "http:") + "/healthz", timeout=30.0) as reply:
        assert reply.read() == b"OK\n"


def test_hiervlas_client_takes_everything_from_the_servers_metadata(served: LeRobotProcess) -> None:
    policy = load(served.url)
    seen = KinematicWorld().observe()
    with pytest.raises(PolicyAnswerError, match="tilts the tool"):
        # The stand-in's numbers are no sensible joints; that they were read as joints is what counts.
        policy.reset(STEP, 3)
        policy.act(seen, STEP)
    policy.close()
    assert policy.id == f"openpi:lerobot/act@{served.url}"


def test_the_process_ends_with_the_one_that_started_it(python: Path, tmp_path: Path) -> None:
    source = standin.save(tmp_path)
    process = LeRobotProcess(source, python, spec_for("lerobot", {TOP: "front"}), port=0)
    inner = process._process
    assert inner.stdin is not None and inner.poll() is None
    inner.stdin.close()
    assert inner.wait(timeout=30.0) == 0
    with pytest.raises(PolicyProcessError, match="its process ended with code 0"):
        process.wait()
    process.close()


def test_what_keeps_it_from_being_served_is_one_paragraph(
    python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIERVLA_POLICY_KEY", raising=False)

    def told() -> str:
        return " ".join(capsys.readouterr().err.split())

    serve = ["serve", "policy", "--lerobot", standin.save(tmp_path), "--port", "0"]
    assert main(serve) == 1
    assert "no interpreter with lerobot is named" in told()
    assert main([*serve, "--python", str(tmp_path / "none")]) == 1
    assert "is no interpreter" in told()
    assert main([*serve, "--python", sys.executable]) == 1
    assert "this Python cannot import what it needs (No module named 'lerobot" in told()
    assert main([*serve, "--python", "false"]) == 1
    assert "ended with code 1 before it listened" in told()
    assert main([*serve, "--python", "echo"]) == 1
    assert "the process said '" in told()
    assert main([*serve, "--python", str(python), "--image", "front"]) == 1
    assert "'front' is no pair" in told()
    assert main([*serve, "--python", str(python), "--host", "0.0.0.0"]) == 1
    assert "any machine of the network" in told()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([*serve, "--python", str(python), "--image", f"{TOP}=front", "--port", port]) == 1
    assert "OSError: [Errno 98]" in told()
    assert main([*serve, "--python", str(python)]) == 1
    error = told()
    assert "it wants the images observation.images.top" in error and "--image KEY=CAMERA" in error
    assert "Traceback" not in error


def test_the_command_serves_until_it_is_interrupted(python: Path, tmp_path: Path) -> None:
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from hiervla.cli import main
sys.exit(main(sys.argv[1:]))
"""
    source = standin.save(tmp_path, type="vqbet", n_action_steps=3)
    arguments = ["serve", "policy", "--lerobot", source, "--python", str(python), "--image", f"{TOP}=front"]
    command = [sys.executable, "-c", code, *arguments, "--rate-hz", "30", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            lines = [process.stdout.readline() for _ in range(5)]
            assert lines[0].startswith("vqbet of lerobot 0.0-standin at ws://127.0.0.1:"), process.stderr.read()
            assert lines[1] == "sees observation.images.top 64x48; 3 rows at 30 Hz\n"
            assert "observation.state MEAN_STD" in lines[2] and "have not been tried here" in lines[3]
            assert "--policy openpi:ws://127.0.0.1:" in lines[4]
            began = time.monotonic()
            process.send_signal(2)
            assert process.wait(timeout=30) == 130 and time.monotonic() - began < 20.0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
