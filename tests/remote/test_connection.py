"""Client and server over a real socket: what they say, and what each does when the other misbehaves."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgpack
import numpy as np
import pytest

from hiervla.executor.policies import create, unfit
from hiervla.executor.policies.remote.errors import (
    PolicyAnswerError,
    PolicyServerRefusedError,
    PolicyServerTimeoutError,
    PolicyServerUnreachableError,
    RemotePolicyError,
)
from hiervla.executor.policies.remote.lerobot_server.clients import KEY_VARIABLE
from hiervla.executor.policies.remote.policy import load, split_address
from hiervla.executor.policies.remote.server import PolicyServer
from hiervla.executor.policies.remote.transport import Connection
from hiervla.executor.testing import KinematicWorld, LinePolicy, step_at
from hiervla.representations import ActionChunk, ConventionError, Observation, Step, UnknownNameError
from tests.remote.servers import FakeServer, still

STEP = step_at("s1", "pick", (0.5, 0.0, 0.02), object="red mug").replace(text="pick up the red mug")


def seen() -> Observation:
    return KinematicWorld().observe()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Seeded(LinePolicy):
    """A line whose gripper shows the seed and the number of the chunk, and which may fail."""

    id = "seeded"

    def __init__(self) -> None:
        super().__init__()
        self.seed = 0

    def reset(self, step: Step, seed: int) -> None:
        if step.skill == "juggle":
            raise UnknownNameError("skill", step.skill, ["pick"], "policy seeded")
        super().reset(step, seed)
        self.seed = seed

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        if step.skill == "explode":
            raise ZeroDivisionError("by a defect")
        chunk = super().act(observation, step)
        return chunk.replace(gripper=np.full(16, self.seed / 10 + self._made / 100), progress=0.25)


def test_our_client_and_our_server_give_what_the_policy_gives() -> None:
    own = Seeded()
    with PolicyServer(Seeded, port=0) as server:
        policy = create(f"openpi:{server.url}")
        assert policy.id == f"openpi:hiervla/seeded@{server.url}"
        for seed in (3, 4):
            policy.reset(STEP, seed)
            own.reset(STEP, seed)
            for _ in range(2):
                got, want = policy.act(seen(), STEP), own.act(seen(), STEP)
                assert got.replace(policy="seeded") == want


def test_two_clients_do_not_share_an_attempt() -> None:
    with PolicyServer(Seeded, port=0) as server:
        one, two = load(server.url), load(server.url)
        one.reset(STEP, 1)
        two.reset(STEP, 2)
        grips = [p.act(seen(), STEP).gripper[0] for p in (one, two, one, two)]
        assert grips == pytest.approx([0.11, 0.21, 0.12, 0.22])


def test_a_client_that_knows_only_the_protocol_needs_skill_and_target() -> None:
    with PolicyServer(Seeded, port=0) as server:
        connection = Connection(server.url)
        metadata = connection.open()
        assert metadata["server"] == "hiervla" and metadata["policy"] == "seeded"
        frame = seen().frames[0]
        request: dict[str, Any] = {
            "skill": "pick",
            "target_w": np.array([0.5, 0.0, 0.02]),
            "observation/joint_position": seen().proprio.q,
            "observation/gripper_width_m": 0.08,
            "observation/front/rgb": frame.rgb,
            "observation/front/K": frame.K,
            "observation/front/T_world_camera": frame.T_world_camera,
        }
        first, second = connection.ask(request), connection.ask(request)
        assert first["actions"].shape == (16, 5) and first["rate_hz"] == 10.0
        assert np.allclose(first["actions"][-1, :3], [0.5, 0.0, 0.07])
        assert second["actions"][0, 4] == pytest.approx(0.02), "the same step goes on, it does not begin anew"
        for missing, told in (
            ("observation/joint_position", "'observation/joint_position': is missing"),
            ("observation/front/K", "'observation/front/K': is missing"),
            ("skill", "neither a step nor a skill"),
            ("target_w", "'target_w': is missing"),
        ):
            with pytest.raises(PolicyServerRefusedError, match=told):
                connection.ask({k: v for k, v in request.items() if k != missing})
        with pytest.raises(PolicyServerRefusedError, match="has dtype float64"):
            connection.ask({**request, "observation/front/rgb": frame.rgb / 255.0})
        assert connection.ask(request)["actions"].shape == (16, 5), "it serves on after errors"
        connection.close()


def test_what_the_policy_refuses_and_what_breaks_in_it_is_told_to_the_client() -> None:
    with PolicyServer(Seeded, port=0) as server:
        policy = load(server.url)
        with pytest.raises(PolicyServerRefusedError, match="unknown skill 'juggle'"):
            policy.act(seen(), STEP.replace(skill="juggle"))
        with pytest.raises(PolicyServerRefusedError, match="ZeroDivisionError: by a defect"):
            policy.act(seen(), STEP.replace(skill="explode"))
        assert policy.act(seen(), STEP).horizon == 16


def test_text_and_rubbish_are_answered_in_words() -> None:
    from websockets.sync.client import connect

    with PolicyServer(Seeded, port=0) as server:
        for sent in ("hello", b"\xc1", msgpack.packb({"a": {b"__ndarray__": True, b"dtype": "|O"}})):
            with connect(server.url) as client:
                client.recv()
                client.send(sent)
                told = client.recv()
                assert isinstance(told, str) and "message of a policy server or client" in told


def test_healthz_and_too_many_clients() -> None:
    with PolicyServer(Seeded, port=0, max_clients=1) as server:
        with urllib.request.urlopen(server.url.replace("ws:", "http:") + "/healthz", timeout=5.0) as answer:
            assert (answer.status, answer.read()) == (200, b"OK\n")
        one = load(server.url)
        with pytest.raises(PolicyServerRefusedError, match="HTTP 503"):
            load(server.url)
        one.close()


def test_keys_come_from_the_environment_and_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConventionError, match=f"any machine of the network.*{KEY_VARIABLE}"):
        PolicyServer(Seeded, host="0.0.0.0", port=0)
    monkeypatch.setenv(KEY_VARIABLE, "sesame")
    with PolicyServer(Seeded, port=0) as server:
        load(server.url).close()
        monkeypatch.setenv(KEY_VARIABLE, "wrong")
        with pytest.raises(PolicyServerRefusedError, match=f"HTTP 401.*{KEY_VARIABLE}") as caught:
            load(server.url)
        assert "wrong" not in str(caught.value)
    with pytest.raises(ConventionError, match="would go on record"):
        Connection("ws://me:secret@127.0.0.1:1")


def test_a_taken_port_is_told() -> None:
    with PolicyServer(Seeded, port=0) as server, pytest.raises(ConventionError, match=f"127.0.0.1:{server.port}"):
        PolicyServer(Seeded, port=server.port)


def test_an_absent_server_is_tried_with_growing_waits_and_then_named() -> None:
    waits: list[float] = []
    url = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(PolicyServerUnreachableError, match="cannot be reached.*tried 4 times. Start it") as caught:
        load(f"{url}?preset=droid", sleep=waits.append)
    assert waits == [0.5, 1.0, 2.0] and caught.value.server == url


def test_a_server_that_comes_up_meanwhile_is_found() -> None:
    fake, port = FakeServer(lambda message: still()), free_port()
    with contextlib.ExitStack() as later:
        policy = load(f"ws://127.0.0.1:{port}?preset=droid", sleep=lambda s: later.enter_context(fake.running(port)))
        assert policy.act(seen(), STEP).horizon == 10
        policy.close()


def test_a_connection_that_broke_is_made_again_and_the_message_sent_again() -> None:
    replies: list[Any] = [still(), None, still(4)]
    fake = FakeServer(lambda message: replies.pop(0))
    with fake.running() as url:
        policy = load(f"{url}?preset=droid", sleep=lambda s: None)
        assert policy.act(seen(), STEP).horizon == 10
        assert policy.act(seen(), STEP).horizon == 4
        assert fake.connections == 2 and len(fake.asked) == 3
        replies.extend([None, None])
        with pytest.raises(PolicyServerUnreachableError, match="the connection broke"):
            policy.act(seen(), STEP)


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (
            "Traceback (most recent call last):\n  ...\nKeyError: 'x'\n",
            PolicyServerRefusedError,
            "error: KeyError: 'x'",
        ),
        (b"\x80\x04K\x01.", PolicyAnswerError, "cannot be read"),
        (
            {"actions": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [0]}},
            PolicyAnswerError,
            "only num",
        ),
        ({"actions": np.full((10, 8), np.nan)}, PolicyAnswerError, "has nan"),
        ({"actions": np.zeros((10, 6))}, PolicyAnswerError, r"shape \(10, 6\)"),
        ({"nothing": 1}, PolicyAnswerError, "has no 'actions'"),
        (30.0, PolicyServerTimeoutError, "no answer within 0.3 s"),
    ],
)
def test_bad_answers_are_one_clear_error(reply: Any, kind: type[RemotePolicyError], told: str) -> None:
    fake = FakeServer(lambda message: reply)
    with fake.running() as url:
        policy = load(f"{url}?preset=droid&timeout_s=0.3")
        with pytest.raises(kind, match=told) as caught:
            policy.act(seen(), STEP)
        assert url in str(caught.value) and "\n" not in str(caught.value)
        fake.reply = lambda message: still()
        assert policy.act(seen(), STEP).horizon == 10, "the next chunk is not the late answer to the one before"


def test_a_server_of_another_kind_is_told_apart() -> None:
    with pytest.raises(ConventionError, match="does not say what its numbers mean.*preset= .droid"):
        with FakeServer(lambda message: still()).running() as url:
            load(url)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(PolicyAnswerError, match="speaks no websocket.*openpi's protocol"):
            load(f"ws://127.0.0.1:{web.server_port}", retries=0)
        web.shutdown()
        thread.join(5.0)
    for metadata in (b"\x93", "who are you?"):
        with FakeServer(lambda message: still(), metadata).running() as url, pytest.raises(RemotePolicyError):
            load(url)


def test_a_silent_server_is_not_waited_for_forever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        began = time.monotonic()
        with pytest.raises(PolicyServerUnreachableError, match="timed out"):
            load(f"ws://127.0.0.1:{listening.getsockname()[1]}", retries=0, connect_s=0.3)
        assert time.monotonic() - began < 5.0


def test_addresses_are_read_strictly(tmp_path: Any) -> None:
    assert split_address("ws://h:1/p?preset=droid") == ("ws://h:1/p", {"preset": "droid"})
    for address, told in (
        ("http://h:1", "is no address"),
        ("ws://h:99999", "is no address"),
        ("h:8000", "is no address"),
        ("ws://h:1?timeout_s=never", "no number of seconds"),
        ("ws://h:1?preset=droid&spec=x", "both preset and spec"),
        (f"ws://h:1?spec={tmp_path}/none.json", "cannot be read"),
    ):
        with pytest.raises(ConventionError, match=told):
            load(address)
    for address in ("ws://h:1?presett=droid", "ws://h:1?preset=doid"):
        with pytest.raises(UnknownNameError, match="Did you mean"):
            load(address)
    assert unfit("openpi:ws://h:1", "pick") is None
    assert unfit("opennpi:ws://h:1", "pick") is not None
