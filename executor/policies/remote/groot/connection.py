"""A connection to a GR00T server: ZeroMQ, one packed request, one packed answer.

As in Isaac-GR00T's ``gr00t/eval/service.py`` and ``gr00t/policy/server_client.py``: a REQ socket sends
``{"endpoint": name, "data": map, "api_token": text}``, the last two where there is something to say; the server's REP
socket answers with what the endpoint gives, ``{"error": text}``, or the bytes ``ERROR``. A REQ socket that got no
answer cannot be used again, and an answer that comes too late must not be taken for the next one: after every failure
the socket is closed.
"""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Unpack

from hiervla.executor.policies.remote.errors import (
    PolicyAnswerError,
    PolicyServerRefusedError,
    WireError,
)
from hiervla.executor.policies.remote.groot.wire import pack, unpack
from hiervla.executor.policies.remote.lerobot_server.clients import KEY_VARIABLE
from hiervla.executor.policies.remote.reconnecting import BrokenError, Reconnecting, Waiting, last_line
from hiervla.executor.policies.remote.wire import MAX_MESSAGE_BYTES
from hiervla.representations import ConventionError, MissingDependencyError

if TYPE_CHECKING:
    import zmq

_CHECK: Final = "See that it is a GR00T server of N1.5 or later"
_POLL_MS: Final = 50
_WHEN: Final = "while it was to answer"


class GrootConnection(Reconnecting["_Link"]):
    """Asks one server; connects by itself, and again when the connection breaks.

    Not for several threads at once.
    """

    connect_s = 2.0

    def __init__(self, address: str, **waiting: Unpack[Waiting]) -> None:
        """Set up; nothing is sent before :meth:`call`.

        Args:
            address: ``host:port``, with or without ``tcp://``.
            waiting: see :class:`~hiervla.executor.policies.remote.reconnecting.Waiting`.

        Raises:
            ConventionError: the address is none.
        """
        host, colon, port = address.removeprefix("tcp://").rstrip("/").rpartition(":")
        good = bool(colon and host) and not set(host) & set("/@*? ") and port.isdecimal() and 0 < int(port) < 65536
        if not good:
            raise ConventionError("GR00T server", f"'{address}' is no address", "Write groot:HOST:PORT")
        super().__init__(f"tcp://{host}:{port}", **waiting)

    def call(self, endpoint: str, data: dict[str, Any] | None = None) -> Any:
        """What an endpoint answers; a connection that broke is made anew once and the request sent again.

        Args:
            endpoint: ``ping``, ``get_modality_config``, ``get_action``, ``reset``; ``kill`` ends the server.
            data: what it wants to know, None for endpoints that want nothing.

        Raises:
            PolicyServerUnreachableError: nobody listens there after all tries, or a fresh connection broke.
            PolicyServerTimeoutError: no answer came in time.
            PolicyServerRefusedError: the server answered with an error.
            PolicyAnswerError: what it answered is not GR00T's protocol.
            WireError: the request cannot be packed.
            MissingDependencyError: pyzmq or msgpack is not installed.
        """
        request: dict[str, Any] = {"endpoint": endpoint}
        if data is not None:
            request["data"] = data
        key = os.environ.get(KEY_VARIABLE)
        if key:
            request["api_token"] = key
        packed = pack(request)
        return self._read(self._twice(lambda: self._exchange(packed)))

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _exchange(self, packed: bytes) -> bytes:
        link = self._linked()
        if not link.send(packed):
            raise BrokenError(_WHEN)
        end = time.monotonic() + self._timeout_s
        while time.monotonic() < end:
            answer = link.wait(_POLL_MS)
            if answer is not None:
                return answer
        self.close()
        raise self._late()

    def _connect(self) -> _Link:
        link = _Link(self.url, self._connect_s)
        if not link.connected:
            link.close()
            raise ConnectionError
        return link

    def _read(self, answer: bytes) -> Any:
        try:
            if answer == b"ERROR":
                raise PolicyServerRefusedError(self.url, "it answered with an error without words", "Look into its log")
            message = unpack(answer)
            if isinstance(message, dict) and "error" in message:
                said = last_line(str(message["error"]))
                remedy = f"Put its key into {KEY_VARIABLE}" if said.startswith("Unauthorized") else "Look into its log"
                raise PolicyServerRefusedError(self.url, f"it answered with an error: {said}", remedy)
        except WireError as error:
            self.close()
            raise PolicyAnswerError(self.url, f"its message cannot be read: {error.problem}", _CHECK) from error
        except PolicyServerRefusedError:
            self.close()
            raise
        return message


class _Link:
    """A REQ socket with an eye on whether the other side is there."""

    def __init__(self, url: str, connect_s: float) -> None:
        try:
            import zmq
        except ImportError as error:
            raise MissingDependencyError("pyzmq", "a GR00T server", "pip install 'hiervla[groot]'") from error
        self._zmq = zmq
        context = zmq.Context()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        # A peer that sends more is cut off by ZeroMQ itself, before the message is put together.
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._events = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._end = weakref.finalize(self, _dispose, context, self._socket)
        try:
            self._socket.connect(url)
        except zmq.ZMQError as error:
            self._end()
            raise ConventionError(
                "GR00T server", f"'{url}' is no address ({error})", "Write groot:HOST:PORT"
            ) from error
        end = time.monotonic() + connect_s
        self.connected = False
        while not self.connected and time.monotonic() < end:
            self.connected = bool(self._events.poll(_POLL_MS)) and self._event() == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def send(self, packed: bytes) -> bool:
        """Whether it went out; not if the other side has gone meanwhile."""
        while self._events.poll(0):
            if self._event() == self._zmq.EVENT_DISCONNECTED:
                return False
        self._socket.send(packed)
        return True

    def wait(self, milliseconds: int) -> bytes | None:
        """An answer, or None when none came in that time.

        Raises:
            BrokenError: the other side went away.
        """
        if self._socket.poll(milliseconds):
            return bytes(self._socket.recv())
        while self._events.poll(0):
            # What was answered before the end is still in the socket's queue.
            if self._event() == self._zmq.EVENT_DISCONNECTED and not self._socket.poll(0):
                raise BrokenError(_WHEN)
        return None

    def close(self) -> None:
        """Close the sockets."""
        self._end()

    def _event(self) -> int:
        from zmq.utils.monitor import recv_monitor_message

        return int(recv_monitor_message(self._events)["event"])


def _dispose(context: zmq.Context[Any], socket: zmq.Socket[bytes]) -> None:
    socket.disable_monitor()
    socket.close(linger=0)
    context.destroy(linger=0)
