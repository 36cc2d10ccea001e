"""A record of 36,000 control steps, twelve minutes of robot time, and what it takes to look at it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.replay.cursor import ASIDE
from hiervla.representations import Event, Proprioception
from hiervla.representations.events import RunFinished, RunStarted

STEPS: Final = 36_000
_GIVEN_BY_RECORDER: Final = frozenset(("id", "parent", "time_s", "wall_time_s", "version", "type"))


def make_long(source: RunRecord, folder: Path, steps: int = STEPS) -> RunRecord:
    """A record that tells a real one over and over: its plans, steps, images and control steps, until it has enough.

    Args:
        source: a closed record of a run.
        folder: the new record.
        steps: control steps that it is to have.

    Raises:
        ValueError: the real one holds no control steps, or did not finish.
    """
    ticks = list(source.ticks())
    events = [e for e in source if not isinstance(e, ASIDE)]
    if not ticks or not isinstance(events[0], RunStarted) or not isinstance(events[-1], RunFinished):
        raise ValueError(f"{source.path} is no finished run with control steps")
    length = events[-1].time_s
    with RunRecorder.create(folder, source.manifest, durable=False) as recorder:
        for blob in (source.path / "blobs").iterdir():
            shutil.copy(blob, folder / "blobs")
        _emit(recorder, events[0], 0.0)
        rounds = 0
        while recorder.ticks_written < steps:
            _tell(recorder, events[1:-1], ticks[: steps - recorder.ticks_written], rounds * length)
            rounds += 1
        _emit(recorder, events[-1], (rounds - 1) * length)
    return RunRecord.open(folder)


def _tell(recorder: RunRecorder, events: Sequence[Event], ticks: Sequence[Tick], later_s: float) -> None:
    """One round: control steps and events in the order of their times."""
    waiting = iter(ticks)
    tick = next(waiting, None)
    ids: dict[str, str] = {}
    for event in events:
        while tick is not None and tick.sensed_at_s < event.time_s:
            recorder.tick(tick.command.replace(time_s=tick.command.time_s + later_s), _sensed(tick, later_s))
            tick = next(waiting, None)
        ids[event.id] = _emit(recorder, event, later_s, ids.get(event.parent or ""))
    while tick is not None:
        recorder.tick(tick.command.replace(time_s=tick.command.time_s + later_s), _sensed(tick, later_s))
        tick = next(waiting, None)


def _emit(recorder: RunRecorder, event: Event, later_s: float, parent: str | None = None) -> str:
    fields = {n: getattr(event, n) for n in type(event).model_fields if n not in _GIVEN_BY_RECORDER}
    return recorder.emit(type(event), time_s=event.time_s + later_s, parent=parent, **fields).id


def _sensed(tick: Tick, later_s: float) -> Proprioception:
    T = np.eye(4)
    T[:3, 3] = tick.ee_position_w
    return Proprioception(
        q=tick.q,
        dq=tick.dq,
        T_world_ee=T,
        gripper_width_m=tick.gripper_width_m,
        gripper_effort_n=tick.gripper_effort_n,
        time_s=tick.sensed_at_s + later_s,
    )


def inspect_cold(record: RunRecord, times: int = 3) -> tuple[float, float]:
    """Wall and computing time of ``hiervla inspect`` in a fresh process, the record out of the disk cache [s].

    Medians. The modules are compiled before, as they are where the package was installed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    taken = []
    command = [sys.executable, "-m", "hiervla.cli", "inspect", str(record.path)]
    with tempfile.TemporaryDirectory(prefix="hiervla-compiled-") as compiled:
        told = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment = {**told, "PYTHONPYCACHEPREFIX": compiled}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        for _ in range(times):
            _forget(record.path)
            began, computed = time.perf_counter(), _children_s()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            taken.append((time.perf_counter() - began, _children_s() - computed))
    wall, cpu = np.median(taken, axis=0)
    return float(wall), float(cpu)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _forget(folder: Path) -> None:
    """Ask the system to drop a folder's files from its cache; what is not on the disk yet is pushed there first."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
