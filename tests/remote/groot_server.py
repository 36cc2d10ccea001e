"""A GR00T server for tests, on loopback, written to Isaac-GR00T's protocol without our client or packing."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgpack
import numpy as np
import zmq

Reply = Callable[[dict[str, Any]], Any]
"""What ``get_action`` answers: something to pack, bytes to send as they are, a number to wait [s], None to go away."""


class ModalityConfig(dict[str, Any]):
    """Fields of one modality; packed as GR00T packs its class of that name."""


def plain(value: Any) -> Any:
    """Arrays and configs in the form of N1.6's ``MsgSerializer``."""
    if isinstance(value, np.ndarray):
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}
    raise TypeError(value)


def objects(value: dict[Any, Any]) -> Any:
    """Arrays from that form."""
    if "__ndarray_class__" in value:
        return np.load(io.BytesIO(value["as_npy"]), allow_pickle=False)
    return value


def config(
    version: Literal["n1.5", "n1.6"],
    video: list[str],
    state: list[str],
    action: list[str],
    rows: int = 16,
    frames: int = 1,
) -> dict[str, Any]:
    """A server's modality config, in the form that its generation sends."""
    flat = version == "n1.5"
    deltas = {"video": list(range(1 - frames, 1)), "state": [0], "action": list(range(rows)), "language": [0]}
    keys = {"video": video, "state": state, "action": action}
    told: dict[str, Any] = {}
    for name, indices in deltas.items():
        prefixed = [f"{name}.{key}" if flat else key for key in keys.get(name, [])]
        fields: dict[str, Any] = {
            "delta_indices": indices,
            "modality_keys": prefixed or ["annotation.human.action.task_description"],
        }
        if not flat:
            fields["action_configs"] = None
        told[name] = {"__ModalityConfig_class__": True, "as_json": json.dumps(fields) if flat else fields}
    return told


class GrootServer:
    """Answers at a free port; remembers what it was asked.

    Attributes:
        asked: requests, in order.
    """

    def __init__(self, modalities: Any, reply: Reply, token: str | None = None, *, resets: bool = True) -> None:
        self.modalities, self.reply, self.token, self.resets = modalities, reply, token, resets
        self.asked: list[dict[str, Any]] = []
        self._stopped = threading.Event()

    @property
    def actions_asked(self) -> list[dict[str, Any]]:
        return [r["data"] for r in self.asked if r.get("endpoint") == "get_action"]

    @contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        """Serve in a thread; ``host:port``."""
        context = zmq.Context()
        listening = context.socket(zmq.REP)
        listening.setsockopt(zmq.LINGER, 0)
        bound = (
            listening.bind_to_random_port("tcp://127.0.0.1") if port == 0 else listening.bind(f"tcp://127.0.0.1:{port}")
        )
        thread = threading.Thread(target=self._serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{bound if port == 0 else port}"
        finally:
            self._stopped.set()
            thread.join(5.0)
            context.destroy(linger=0)

    def _serve(self, listening: zmq.Socket[bytes]) -> None:
        try:
            while not self._stopped.is_set():
                if not listening.poll(20):
                    continue
                answer = self._answer(msgpack.unpackb(listening.recv(), object_hook=objects))
                if answer is None:
                    return
                if isinstance(answer, float):
                    self._stopped.wait(answer)
                    return
                listening.send(answer if isinstance(answer, bytes) else msgpack.packb(answer, default=plain))
        finally:
            listening.close(linger=0)

    def _answer(self, request: dict[str, Any]) -> Any:
        self.asked.append(request)
        if self.token is not None and request.get("api_token") != self.token:
            return {"error": "Unauthorized: Invalid API token"}
        endpoint = request.get("endpoint", "get_action")
        if endpoint == "ping":
            return {"status": "ok", "message": "Server is running"}
        if endpoint == "get_modality_config":
            return self.modalities
        if endpoint == "reset" and self.resets:
            return {}
        if endpoint == "kill":
            return None
        if endpoint == "get_action":
            return self.reply(request["data"])
        return {"error": f"Unknown endpoint: {endpoint}"}
