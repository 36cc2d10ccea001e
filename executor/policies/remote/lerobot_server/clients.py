"""Who may come in: clients with the key, and so many at a time. hiervla's own policy server asks the same."""

from __future__ import annotations

import hmac
import http
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.http11 import Request, Response
    from websockets.sync.server import ServerConnection

KEY_VARIABLE = "HIERVLA_POLICY_KEY"
"""Environment variable that a key is taken from, by client and server; there is no other way in."""
MAX_CLIENTS = 8


class Clients:
    """The clients of a server.

    Attributes:
        key: what a client has to know; None where everybody may come in.
    """

    def __init__(self, most: int = MAX_CLIENTS) -> None:
        self.key = os.environ.get(KEY_VARIABLE) or None
        self._most = most
        self._connected, self._lock = 0, threading.Lock()

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """A refusal, or None for those who may come in; what looks after the server may ask whether it is well."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self.key is not None:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Api-Key {self.key}".encode()):
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, f"the key of {KEY_VARIABLE} is needed\n")
        if self._connected >= self._most:
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, f"{self._most} clients are connected already\n"
            )
        return None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count a client while the block runs."""
        with self._lock:
            self._connected += 1
        try:
            yield
        finally:
            with self._lock:
                self._connected -= 1


def say_goodbye(connection: ServerConnection, text: str) -> None:
    """Tell an error in words and close, as openpi's server does: what follows an error has no defined state."""
    from websockets.exceptions import ConnectionClosed

    try:
        connection.send(text)
        connection.close(code=1011, reason="the error was sent in the message before")
    except ConnectionClosed:
        return
