"""One order of results from one process and from several, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from hiervla.training.pool import DIED, WorkerError, Workers


def halver() -> Callable[[int], int | None]:
    """Half of even numbers, and nothing for odd ones; the end of the process for 13."""
    return _half


def _half(number: int) -> int | None:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 * (number % 3))
    return None if number % 2 else number // 2


def threads() -> Callable[[int], int]:
    """How many threads torch would use."""
    import torch

    return partial(_threads, torch.get_num_threads)


def _threads(asked: Callable[[], int], _: int) -> int:
    return asked()


def lost(number: int) -> WorkerError:
    return WorkerError(DIED, "Look", "numbers", number, doing="halving")


def test_results_come_in_order_and_no_item_is_begun_for_nothing() -> None:
    drawn: list[list[int]] = []
    found = []
    for workers in (1, 2):
        seeds: list[int] = []
        with Workers(halver, workers, lost) as pool:
            found.append(list(pool.until((seeds.append(n) or n for n in count()), 4)))  # type: ignore[func-returns-value]  # append gives None
            found.append(list(pool.each(range(14, 40))))
        drawn.append(seeds)
    assert found[0] == [(n, _half(n)) for n in range(7)] and found[1] == [(n, _half(n)) for n in range(14, 40)]
    assert found[:2] == found[2:] and drawn == [list(range(7))] * 2


def test_a_process_that_dies_is_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkerError, match="halving stopped at 'numbers' with scene seed 1[0-9] or one near it: a work"):
        with Workers(halver, 2, lost) as pool:
            list(pool.each(range(13, 30)))


def test_every_process_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with Workers(threads, 2, lost) as pool:
        assert {found for _, found in pool.each(range(4))} == {1}


PARENT = """
import signal, sys, time
from hiervla.training.pool import WorkerError, Workers

# A shell's background job, such as a test run may be, has Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def make():
    return work

def work(n):
    print(n, flush=True)
    time.sleep(600.0)

if __name__ == "__main__":
    with Workers(make, 2, lambda n: WorkerError("it died", "Look")) as pool:
        list(pool.each(range(9)))
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_asked(kind: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        assert sorted(parent.stdout.readline() for _ in range(2)) == ["0\n", "1\n"]
        parent.send_signal(kind)
        # The pipe ends when the last process that holds it has.
        assert parent.stdout.read() == ""
        said = parent.stderr.read()
    assert ("KeyboardInterrupt" in said) == (kind == signal.SIGINT) and "Exception in thread" not in said
