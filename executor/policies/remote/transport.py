"""A connection to a policy server over openpi's protocol: a websocket, one packed message each way.

The server speaks first, with its metadata; from then on every binary message is answered by one. A text message instead
is an error of the server's, in words. There is no reset and no numbering, so that an answer which comes too late would
be taken for the next one: after a timeout the connection is closed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Unpack
from urllib.parse import urlsplit

from hiervla.executor.policies.remote.errors import (
    PolicyAnswerError,
    PolicyServerRefusedError,
    PolicyServerTimeoutError,
    WireError,
)
from hiervla.executor.policies.remote.lerobot_server.clients import KEY_VARIABLE
from hiervla.executor.policies.remote.reconnecting import BrokenError, Reconnecting, Waiting, last_line, shortened
from hiervla.executor.policies.remote.wire import MAX_MESSAGE_BYTES, pack, unpack
from hiervla.representations import ConventionError, MissingDependencyError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Connection(Reconnecting["ClientConnection"]):
    """Asks one server; connects by itself, and again when the connection breaks.

    Not for several threads at once.
    """

    def __init__(self, url: str, **waiting: Unpack[Waiting]) -> None:
        """Set up; nothing is sent before :meth:`open` or :meth:`ask`.

        Args:
            url: ``ws://host:port`` or ``wss://``.
            waiting: see :class:`~hiervla.executor.policies.remote.reconnecting.Waiting`.

        Raises:
            ConventionError: the address is none, or carries a password.
        """
        parts = urlsplit(url)
        try:
            bad = parts.scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0
        except ValueError:
            bad = True
        if parts.username or parts.password:
            problem = "it carries a user name or password, which would go on record"
            raise ConventionError("policy server", problem, f"Put a key into {KEY_VARIABLE}")
        if bad:
            raise ConventionError("policy server", f"'{url}' is no address", "Write ws://host:port or wss://host:port")
        super().__init__(url.rstrip("/"), **waiting)
        self.metadata: dict[str, Any] = {}
        self._loopback = parts.hostname in LOOPBACK
        self._held = contextlib.ExitStack()

    def open(self) -> dict[str, Any]:
        """Connect if that has not been done, and return the server's metadata.

        Raises:
            PolicyServerUnreachableError: nobody listens there, after all tries.
            PolicyServerRefusedError: the server did not let us in.
            PolicyServerTimeoutError: it took the connection and said nothing.
            PolicyAnswerError: what it said is not openpi's protocol.
            MissingDependencyError: websockets or msgpack is not installed.
        """
        if self._link is not None:
            return self.metadata
        self._linked()
        try:
            self.metadata = self._receive()
        except BrokenError as error:
            self.close()
            raise self._broken(error) from error
        except BaseException:
            self.close()
            raise
        return self.metadata

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and return the answer; a connection that broke is made anew once and the message sent again.

        Raises:
            RemotePolicyError: as in :meth:`open`, and when the server answers with an error or not in time.
            WireError: the message cannot be packed.
        """
        data = pack(message)
        return self._twice(lambda: self._exchange(data))

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._link = None
        with contextlib.suppress(OSError):
            self._held.close()

    def _exchange(self, data: bytes) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        self.open()
        try:
            self._linked().send(data)
            return self._receive()
        except ConnectionClosed as error:
            raise BrokenError(f"({shortened(str(error))})") from error
        except (PolicyServerTimeoutError, PolicyServerRefusedError, PolicyAnswerError):
            self.close()
            raise

    def _receive(self) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            data = self._linked().recv(timeout=self._timeout_s)
        except TimeoutError as error:
            raise self._late() from error
        except ConnectionClosed as error:
            why = f"({shortened(str(error))})"
            if error.rcvd is None or error.rcvd.code in (1000, 1001, 1011, 1012):
                raise BrokenError(why) from error
            raise PolicyAnswerError(self.url, f"it ended the connection {why}", _CHECK) from error
        if isinstance(data, str):
            raise PolicyServerRefusedError(
                self.url, f"it answered with an error: {last_line(data)}", "Look into its log"
            )
        try:
            return unpack(data)
        except WireError as error:
            raise PolicyAnswerError(self.url, f"its message cannot be read: {error.problem}", _CHECK) from error

    def _connect(self) -> ClientConnection:
        try:
            from websockets.exceptions import InvalidHandshake, InvalidStatus
            from websockets.sync.client import connect
        except ImportError as error:
            raise MissingDependencyError("websockets", "a policy server", "pip install 'hiervla[remote]'") from error
        key = os.environ.get(KEY_VARIABLE)
        try:
            connecting = connect(
                self.url,
                additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=self._connect_s,
                close_timeout=1.0,
                # openpi's server answers no ping while it computes, which may take minutes the first time.
                ping_interval=None,
                # A proxy cannot reach our own loopback.
                proxy=None if self._loopback else True,
            )
            return self._held.enter_context(connecting)
        except InvalidStatus as error:
            status = error.response.status_code
            remedy = f"Put its key into {KEY_VARIABLE}" if status in (401, 403) else _CHECK
            raise PolicyServerRefusedError(self.url, f"it refused the connection (HTTP {status})", remedy) from error
        except InvalidHandshake as error:
            raise PolicyAnswerError(self.url, f"it speaks no websocket ({shortened(str(error))})", _CHECK) from error


_CHECK = "See that it is a server of openpi's protocol"
