"""Shows a record in Rerun, or writes an ``.rrd`` file: the extra ``view``.

Nothing leaves this computer: Rerun's usage statistics are off, and its window listens on the loopback address only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.export import entities as e
from hiervla.executor.record.errors import OutputError
from hiervla.executor.record.light import head
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import HiervlaError, MissingDependencyError
from hiervla.representations.events import ObservationTaken

LOOPBACK = "127.0.0.1"


class ViewerError(HiervlaError):
    """The viewer did not open, or ended with an error."""

    def __init__(self, status: int) -> None:
        super().__init__(
            f"the Rerun viewer ended with status {status}. It needs a display and a graphics driver; without one, "
            "write a file with --save out.rrd and open it on another computer."
        )
        self.status = status


def save_rrd(record: RunRecord, path: Path) -> list[str]:
    """Write a record as an ``.rrd`` file with a layout; returns what could not be shown, in sentences.

    Raises:
        MissingDependencyError: the extra ``view`` is not installed.
        OutputError: the file cannot be written.
        CorruptRecordError: a line of the record holds no event.
    """
    notices = list(record.notices)
    with _quiet():
        rr = _rerun()
        stream = rr.RecordingStream("hiervla", recording_id=record.manifest.run_id)
        try:
            # Rerun would only log that the folder does not exist.
            path.touch()
            stream.save(path, default_blueprint=blueprint(rr, _cameras(record)))
        except (OSError, RuntimeError) as error:
            raise OutputError(path, getattr(error, "strerror", None) or str(error)) from error
        for item in e.entities(record, notices):
            _send(rr, stream, item)
        stream.flush()
        stream.disconnect()
    return notices


def show(record: RunRecord) -> list[str]:
    """Open a record in Rerun's window and wait until that is closed; returns what could not be shown.

    Raises:
        MissingDependencyError: the extra ``view`` is not installed.
        ViewerError: the window did not open.
        CorruptRecordError: a line of the record holds no event.
    """
    with tempfile.TemporaryDirectory(prefix="hiervla-view-") as folder:
        path = Path(folder) / f"{record.manifest.run_id}.rrd"
        notices = save_rrd(record, path)
        for notice in notices:
            print(f"note: {notice}", file=sys.stderr)
        done = subprocess.run(viewer_command(path), env={**os.environ, **PRIVATE}, check=False)
    if done.returncode:
        raise ViewerError(done.returncode)
    return notices


PRIVATE = {"CI": "true"}
"""Environment in which Rerun sends no usage statistics (its log says "Analytics disabled on CI")."""


def viewer_command(path: Path) -> list[str]:
    """The command that opens a file in a window of its own, which others on the network cannot reach."""
    return [sys.executable, "-m", "rerun_cli", str(path), "--bind", LOOPBACK, "--port", "auto"]


def blueprint(rr: Any, cameras: list[str]) -> Any:
    """The layout: cameras and the scene, the joints, and the plan beside them."""
    rrb = rr.blueprint
    views = [rrb.Spatial2DView(origin=f"{e.CAMERAS}/{name}", name=f"camera {name}") for name in cameras]
    scene = rrb.Spatial3DView(origin="world", contents=["world/**", f"- {e.CAMERAS}/*/marks/**"], name="scene")
    plots = rrb.Tabs(
        rrb.TimeSeriesView(origin=f"{e.JOINTS}/sensed", name="joints [rad]"),
        rrb.TimeSeriesView(origin=f"{e.JOINTS}/commanded", name="commanded [rad]"),
        rrb.TimeSeriesView(origin=e.GRIPPER, name="gripper [m]"),
        rrb.TimeSeriesView(origin=e.TIMING, name="latency [s]"),
    )
    words = rrb.Vertical(
        rrb.TextDocumentView(origin=e.PLAN, name="plan"),
        rrb.StateTimelineView(origin=e.DOING, name="step"),
        rrb.TextLogView(origin=e.LOG, name="log"),
        row_shares=[3, 1, 3],
    )
    middle = rrb.Vertical(*(views or [scene]), scene, name="what it saw") if views else rrb.Vertical(scene)
    return rrb.Blueprint(
        rrb.Horizontal(middle, rrb.Vertical(plots, words, row_shares=[1, 2]), column_shares=[3, 2]),
        rrb.TimePanel(timeline=e.TIMELINE),
        collapse_panels=True,
    )


def _cameras(record: RunRecord) -> list[str]:
    for number, line in enumerate(record.lines, 1):
        if head(line).type == "observation":
            event = record.event(number)
            assert isinstance(event, ObservationTaken)
            return [frame.image.camera for frame in event.frames]
    return []


def _send(rr: Any, stream: Any, item: e.Logged | e.Column) -> None:
    archetype = getattr(rr, item.archetype)
    if isinstance(item, e.Logged):
        stream.set_time(e.TIMELINE, duration=item.time_s)
        stream.log(item.entity, archetype(**item.values))
        return
    times = rr.TimeColumn(e.TIMELINE, duration=np.asarray(item.times_s))
    stream.send_columns(item.entity, indexes=[times], columns=archetype.columns(**item.values))


def _rerun() -> Any:
    try:
        import rerun
        import rerun.blueprint
    except ImportError:
        raise MissingDependencyError(
            "Rerun", "the viewer", "Install it (0.7 GB): pip install 'hiervla[view]'"
        ) from None
    return rerun


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Rerun reads its environment when it is imported and used; nobody else should find this one changed."""
    before = {name: os.environ.get(name) for name in PRIVATE}
    os.environ.update(PRIVATE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
