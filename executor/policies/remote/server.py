"""Serves any of our policies over openpi's protocol: ``hiervla serve policy``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hiervla.executor.policies.base import Policy
from hiervla.executor.policies.remote.decode import RequestReader
from hiervla.executor.policies.remote.errors import RequestError, WireError
from hiervla.executor.policies.remote.lerobot_server.clients import KEY_VARIABLE, MAX_CLIENTS, Clients, say_goodbye
from hiervla.executor.policies.remote.presets import preset
from hiervla.executor.policies.remote.transport import LOOPBACK
from hiervla.executor.policies.remote.wire import MAX_MESSAGE_BYTES, pack, unpack
from hiervla.representations import ActionChunk, ConventionError, HiervlaError, MissingDependencyError, build_types

if TYPE_CHECKING:
    from websockets.sync.server import Server, ServerConnection

_log = logging.getLogger(__name__)


class PolicyServer:
    """A websocket server; every connection has a policy of its own, since policies remember their attempt.

    Use it as a context manager, or call :meth:`serve_forever`.
    """

    def __init__(
        self, make: Callable[[], Policy], *, host: str = "127.0.0.1", port: int = 8000, max_clients: int = MAX_CLIENTS
    ) -> None:
        """Make the first policy and listen.

        Args:
            make: gives a policy; called once here, so that unreadable weights are told at once.
            host: address to listen at. Other machines are let in with a key only.
            port: 0 takes a free one, see :attr:`port`.
            max_clients: connections at a time.

        Raises:
            ConventionError: it would listen to other machines without a key, or the address cannot be used.
            MissingDependencyError: websockets or msgpack is not installed.
            HiervlaError: what `make` raises.
        """
        try:
            from websockets.sync.server import serve
        except ImportError as error:
            raise MissingDependencyError("websockets", "a policy server", "pip install 'hiervla[remote]'") from error
        self._clients = Clients(max_clients)
        if host not in LOOPBACK and self._clients.key is None:
            raise ConventionError(
                "host",
                f"at '{host}' any machine of the network could use the policy",
                f"Set {KEY_VARIABLE} here and for the client, or listen at 127.0.0.1",
            )
        first = make()
        build_types()  # not while the first client waits
        self.policy_id = first.id
        self._make, self._spare = make, [first]
        self._lock, self._thinking = threading.Lock(), threading.Lock()
        try:
            self._server: Server = serve(
                self._talk,
                host,
                port,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                process_request=self._clients.admit,
                # A client of openpi's waits without answering pings while its robot moves.
                ping_interval=None,
            )
        except (OSError, OverflowError) as error:
            raise ConventionError("port", f"{host}:{port} cannot be used ({error})", "Name another one") from error
        self.host, self.port = host, int(self._server.socket.getsockname()[1])
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What a client on this machine connects to."""
        return f"ws://{self.host}:{self.port}"

    def serve_forever(self) -> None:
        """Answer until :meth:`close`."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening; open connections end with their next message."""
        self._server.shutdown()

    def __enter__(self) -> PolicyServer:
        """Answer in a thread."""
        self._thread = threading.Thread(target=self.serve_forever, name="policy-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _talk(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        with self._clients.connected():
            try:
                with self._lock:
                    policy = self._spare.pop() if self._spare else None
                session = _Session(policy or self._make())
                connection.send(pack(self.metadata()))
                while True:
                    data = connection.recv()
                    if isinstance(data, str):
                        raise WireError("it is text, where a packed request is expected")
                    message = unpack(data)
                    # One at a time: two networks on the same cores are slower than one after the other.
                    with self._thinking:
                        answer = session.answer(message)
                    connection.send(pack(answer))
            except ConnectionClosed:
                return
            except HiervlaError as error:
                _log.warning("policy server: %s", error)
                say_goodbye(connection, str(error))
            except Exception as error:
                say_goodbye(connection, f"the policy failed with {type(error).__name__}: {error}")
                raise

    def metadata(self) -> dict[str, Any]:
        """What a client is told first: who acts, and how its answers are to be read."""
        return {"server": "hiervla", "policy": self.policy_id, "spec": preset("hiervla").to_json()}


class _Session:
    """One client's policy and where it is in its attempt."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._reader = RequestReader()
        self._begun: str | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; see :mod:`hiervla.executor.policies.remote.decode`.

        Raises:
            HiervlaError: the request is malformed, or the policy refuses it.
        """
        observation = self._reader.observation(message)
        step = self._reader.step(message, observation)
        seed, call = (self._whole(message, key) for key in ("seed", "call"))
        task = f"{step.id} {step.skill} {seed or 0}"
        # Clients that count their calls say when an attempt begins; for the others it does with another step.
        if call == 0 or self._begun is None or (call is None and task != self._begun):
            self._policy.reset(step, seed or 0)
            self._begun = task
        began = time.perf_counter()
        chunk = self._policy.act(observation, step)
        infer_ms = 1000.0 * (time.perf_counter() - began)
        return {**rows(chunk), "policy": chunk.policy, "server_timing": {"infer_ms": infer_ms}}

    def _whole(self, message: dict[str, Any], key: str) -> int | None:
        value = message.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise RequestError(key, f"is {str(value)[:40]}", "Send a whole number from 0, or leave it out")
        return int(value)


def rows(chunk: ActionChunk) -> dict[str, Any]:
    """A chunk as preset ``hiervla`` has it: rows of x, y, z [m], yaw [rad], opening 0 to 1, and what goes with them."""
    answer: dict[str, Any] = {
        "actions": np.column_stack([chunk.positions, chunk.yaws, chunk.gripper]),
        "rate_hz": chunk.rate_hz,
    }
    if chunk.done_prob is not None:
        answer["done_prob"] = chunk.done_prob
    if chunk.progress is not None:
        answer["progress"] = chunk.progress
    return answer
