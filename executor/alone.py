"""One run of an agent at a time, and what Ctrl-C means while it lasts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hiervla.executor.body import CancelToken


@contextmanager
def alone(busy: threading.Lock, token: CancelToken) -> Iterator[None]:
    """One run of an agent at a time; the first Ctrl-C stops it safely.

    Raises:
        RuntimeError: the agent is running already.
    """
    if not busy.acquire(blocking=False):
        raise RuntimeError("this agent is running already. Wait for it, or make a second agent")
    try:
        with _cancel_on_interrupt(token):
            yield
    finally:
        busy.release()


@contextmanager
def _cancel_on_interrupt(token: CancelToken) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def handler(number: int, frame: FrameType | None) -> None:
        token.cancel()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
