"""A record of 36,000 control steps, twelve minutes of robot time, and what it takes to look at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.replay.cursor import ASIDE
from hiervla.representations import Proprioception
from hiervla.representations.events import EventBase, RunFinished, RunStarted

STEPS: Final = 36_000
_BY_RECORDER: Final = frozenset(("id", "parent", "time_s", "wall_time_s", "version", "type"))


def make_long(source: RunRecord, folder: Path, steps: int = STEPS) -> RunRecord:
    """A record that tells a real one over and over: its plans, steps, images and control steps, until it has enough.

    Raises:
        ValueError: the real one holds no control steps.
    """
    ticks = list(source.ticks())
    if not ticks:
        raise ValueError(f"{source.path} holds no control steps")
    first, *events = [e for e in source if not isinstance(e, ASIDE)]
    assert isinstance(first, RunStarted)
    last = next((e for e in events if isinstance(e, RunFinished)), None)
    repeated = [e for e in events if not isinstance(e, RunFinished)]
    length = ticks[-1].sensed_at_s + (ticks[-1].sensed_at_s - ticks[-2].sensed_at_s)
    manifest = Manifest.from_file((source.path / "manifest.json").read_bytes()) if False else source.manifest
    shutil.copytree(source.path / "blobs", folder / "blobs-of-source")
    made = folder / "long"
    with RunRecorder.create(made, manifest, durable=False) as recorder:
        for blob in (folder / "blobs-of-source").iterdir():
            shutil.copy(blob, made / "blobs" / blob.name)
        _emit(recorder, first, 0.0, {})
        while recorder.ticks_written < steps:
            begun = recorder.ticks_written / len(ticks) * length
            _tell(recorder, repeated, ticks, begun, steps)
        end = last if last is not None else RunFinished(id="e0", time_s=0.0, outcome="failed", message="cut off")
        _emit(recorder, end, steps / len(ticks) * length - end.time_s, {})
    return RunRecord.open(made)
