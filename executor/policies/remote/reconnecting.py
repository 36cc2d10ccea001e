"""What connections to policy servers have in common: patience while connecting, a fresh start when one breaks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, Generic, TypedDict, TypeVar, Unpack

from hiervla.executor.policies.remote.errors import PolicyServerTimeoutError, PolicyServerUnreachableError

L = TypeVar("L")
A = TypeVar("A")
_SHOWN_CHARACTERS: Final = 300


class Waiting(TypedDict, total=False):
    """How long a connection waits for what.

    Attributes:
        timeout_s: how long an answer may take; 30 by default [s].
        connect_s: how long making a connection may take, each time [s].
        retries: how often connecting is tried again, with growing waits; 3 by default.
        backoff_s: the first of these waits; it doubles each time; 0.5 by default [s].
        sleep: waits that long; tests put in their own.
    """

    timeout_s: float
    connect_s: float
    retries: int
    backoff_s: float
    sleep: Callable[[float], None]


class BrokenError(Exception):
    """The other side went away; the text goes on where "the connection broke" ends."""


class Reconnecting(ABC, Generic[L]):
    """Connects by itself, and again when the connection breaks. Not for several threads at once.

    Attributes:
        url: address of the server.
        connect_s: how long making a connection may take where nothing else is said [s].
    """

    connect_s: ClassVar[float] = 5.0

    def __init__(self, url: str, **waiting: Unpack[Waiting]) -> None:
        self.url = url
        self._timeout_s = waiting.get("timeout_s", 30.0)
        self._connect_s = waiting.get("connect_s", self.connect_s)
        self._retries, self._backoff_s = waiting.get("retries", 3), waiting.get("backoff_s", 0.5)
        self._sleep = waiting.get("sleep", time.sleep)
        self._link: L | None = None

    @abstractmethod
    def close(self) -> None:
        """Close the connection; may be called twice."""

    @abstractmethod
    def _connect(self) -> L:
        """A connection.

        Raises:
            OSError: nobody listens there, now.
        """

    def _linked(self) -> L:
        """The connection, made if there is none.

        Raises:
            PolicyServerUnreachableError: nobody listens there, after all tries.
        """
        attempt = 0
        while self._link is None:
            try:
                self._link = self._connect()
            except OSError as error:
                attempt += 1
                if attempt > self._retries:
                    why = f" ({shortened(str(error))})" if str(error) else ""
                    problem = f"it cannot be reached{why}, tried {attempt} times"
                    raise PolicyServerUnreachableError(self.url, problem, "Start it, or correct the address") from error
                self._sleep(self._backoff_s * 2.0 ** (attempt - 1))
        return self._link

    def _twice(self, exchange: Callable[[], A]) -> A:
        """What an exchange gives; it is repeated once, over a fresh connection, where one from before broke.

        Raises:
            PolicyServerUnreachableError: the connection broke, and it was a fresh one.
        """
        fresh = self._link is None
        while True:
            try:
                return exchange()
            except BrokenError as error:
                self.close()
                if fresh:
                    raise self._broken(error) from error
                fresh = True

    def _broken(self, error: BrokenError) -> PolicyServerUnreachableError:
        return PolicyServerUnreachableError(self.url, f"the connection broke {error}", "Look into its log")

    def _late(self) -> PolicyServerTimeoutError:
        remedy = "Give it more time (?timeout_s=), or a faster machine"
        return PolicyServerTimeoutError(self.url, f"no answer within {self._timeout_s:g} s", remedy)


def last_line(text: str) -> str:
    """What a server says about an error: of a traceback that is the last line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "nothing")[:_SHOWN_CHARACTERS].rstrip(".")


def shortened(text: str) -> str:
    """The text on one line, for a sentence of ours."""
    return " ".join(text.split())[:_SHOWN_CHARACTERS].rstrip(".")
