"""Policy servers for tests, on loopback, written to openpi's protocol without our client, server or packing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

Reply = Callable[[dict[str, Any]], Any]
"""What is answered to a message: a map, bytes or text to send as they are, None to hang up, a number to wait [s]."""


def plain(value: Any) -> Any:
    """Arrays in openpi's form."""
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    raise TypeError(value)


def arrays(value: dict[Any, Any]) -> Any:
    """Arrays from openpi's form."""
    if b"__ndarray__" in value:
        return np.ndarray(value[b"shape"], np.dtype(value[b"dtype"]), value[b"data"])
    return value


class FakeServer:
    """Answers with `reply`; remembers what it was asked.

    Attributes:
        asked: messages, in order.
        connections: how many were made.
        headers: of the last connection.
    """

    def __init__(self, reply: Reply, metadata: Any = None) -> None:
        self.reply = reply
        self.metadata = {"model": "fake"} if metadata is None else metadata
        self.asked: list[dict[str, Any]] = []
        self.connections = 0
        self.headers: dict[str, str] = {}
        self._stopped = threading.Event()
        self._open: set[ServerConnection] = set()

    def talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.connections += 1
        self.headers = dict(connection.request.headers.raw_items())
        self._open.add(connection)
        try:
            self._send(connection, self.metadata)
            while True:
                message = msgpack.unpackb(connection.recv(), object_hook=arrays)
                self.asked.append(message)
                answer = self.reply(message)
                if answer is None:
                    connection.socket.close()
                    return
                if isinstance(answer, float):
                    self._stopped.wait(answer)
                    return
                self._send(connection, answer)
        except ConnectionClosed:
            return
        finally:
            self._open.discard(connection)

    def _send(self, connection: ServerConnection, answer: Any) -> None:
        connection.send(answer if isinstance(answer, bytes | str) else msgpack.packb(answer, default=plain))

    @contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        """Serve in a thread; the address."""
        with serve(self.talk, "127.0.0.1", port, compression=None, max_size=None) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            finally:
                self._stopped.set()
                for connection in list(self._open):
                    connection.close()
                server.shutdown()
                thread.join(5.0)


def still(rows: int = 10) -> dict[str, Any]:
    """A DROID chunk that moves nothing and leaves the gripper open."""
    return {"actions": np.zeros((rows, 8), dtype=np.float32)}
