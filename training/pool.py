"""The same work on many items, in this process or in several; results come in the order of the items from both."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, TypeVar

from hiervla.representations.errors import HiervlaError

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerError(HiervlaError, RuntimeError):
    """A process or cluster that played scenes is gone, or never was there.

    Attributes:
        problem: what happened.
        story: what was being played when that was noticed, or "".
        seed: of its scene, if it has one.
    """

    def __init__(
        self,
        problem: str,
        remedy: str,
        story: str = "",
        seed: int | None = None,
        *,
        doing: str = "collecting",
        kept: bool = True,
    ) -> None:
        self.problem = problem
        self.story = story
        self.seed = seed
        where = f" at '{story}'" if story else ""
        where += "" if seed is None else f" with scene seed {seed} or one near it"
        rest = " What was finished until then is kept." if story and kept else ""
        super().__init__(f"{doing} stopped{where}: {problem}.{rest} {remedy}.")


DIED = "a worker process died, killed perhaps for want of memory"


class Workers(Generic[Item, Result]):
    """Processes that do one kind of work; a context, and whatever ends it ends them.

    What the work needs, such as weights, is made once in each. With one worker there is no process but this one.
    """

    def __init__(
        self, make: Callable[[], Callable[[Item], Result]], number: int, lost: Callable[[Item], WorkerError]
    ) -> None:
        """Set up.

        Args:
            make: gives what is called with each item; it travels to the processes, as do items and results.
            number: of processes.
            lost: what to say when a process died at an item or one near it.

        Raises:
            HiervlaError: of `make`, which is tried here: in a process it would only be a worker that died.
        """
        self.number = number
        self._lost = lost
        self._work = make()
        self._pool: ProcessPoolExecutor | None = None
        if number > 1:
            context = multiprocessing.get_context("spawn")
            there, self._here = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(number, context, _begin, (make, there))

    def __enter__(self) -> Workers[Item, Result]:
        """See the class."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes: at once where something went wrong, or else after what they are at."""
        if self._pool is not None:
            if kind is not None:
                self._here.close()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._here.close()

    def each(self, items: Iterable[Item], ahead: int = 8) -> Iterator[tuple[Item, Result]]:
        """Items with their results, in order, as long as somebody asks.

        Args:
            items: maybe endless.
            ahead: how many items for each process are begun or waiting at a time.

        Raises:
            WorkerError: a process died.
        """
        if self._pool is None:
            yield from ((item, self._work(item)) for item in items)
            return
        left, under_way = iter(items), deque[tuple[Item, Future[Any]]]()
        while True:
            try:
                for item in islice(left, ahead * self.number - len(under_way)):
                    under_way.append((item, self._pool.submit(_do, item)))
                if not under_way:
                    return
                item, future = under_way.popleft()
                result: Result = future.result()
            except BrokenProcessPool as error:
                raise self._lost(item) from error
            yield item, result

    def until(self, items: Iterable[Item], wanted: int) -> Iterator[tuple[Item, Result]]:
        """Items with their results, in order, until so many results are not None; no item beyond is begun.

        The items that are taken are those that one process would take, however many there are.

        Raises:
            WorkerError: a process died.
        """
        left = iter(items)
        while wanted > 0 and (some := list(islice(left, wanted))):
            for item, result in self.each(some):
                wanted -= result is not None
                yield item, result


_WORK: list[Callable[[Any], Any]] = []
"""What a worker process does, made once; empty elsewhere."""


def _begin(make: Callable[[], Callable[[Any], Any]], parent: Connection) -> None:
    # Ctrl-C goes to the whole group of processes; the one that asks decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    # A core for each process: for what is not loaded yet, software rendering among it, and for torch if it is.
    for name in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    _WORK.append(make())
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _leave_with(parent: Connection) -> None:
    """End this process when the other end is closed, by the parent or by its death."""
    parent.poll(None)
    os._exit(1)


def _do(item: Any) -> Any:
    return _WORK[0](item)


__all__ = ["DIED", "WorkerError", "Workers"]
