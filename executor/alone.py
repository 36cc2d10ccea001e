"""One run of an agent at a time, what Ctrl-C means while it lasts, and the same for asyncio."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, Concatenate, ParamSpec, TypeVar

from hiervla.executor.body import CancelToken

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def awaited(run: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """An agent's ``run`` for asyncio: in a thread; cancelling the task stops the arms safely and closes the record.

    Args:
        run: a method that takes a :class:`CancelToken` as ``cancel``.
    """

    @wraps(run)
    async def arun(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        given = options.get("cancel")
        token = given if isinstance(given, CancelToken) else CancelToken()
        options["cancel"] = token
        # Asked of the agent: a subclass may run otherwise.
        work = asyncio.create_task(asyncio.to_thread(getattr(self, run.__name__), *args, **options))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            token.cancel()
            await work
            raise

    arun.__name__ = "arun"
    arun.__qualname__ = f"{run.__qualname__.rpartition('.')[0]}.arun"
    arun.__doc__ = f"Like :meth:`run`, in a thread; cancelling the task stops safely.\n\n{run.__doc__ or ''}"
    return arun


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
