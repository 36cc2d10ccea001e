"""What keeping a record costs a control loop, beside two other ways to keep the same data.

Each writer gets the same: 50 control steps a second with sensed state and command, and five times a second two RGB-D
frames, at the pace of the robot. The images are those of recorded runs, each given once, since a record stores equal
ones once.
"""

from __future__ import annotations

import io
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import CameraFrame, JointCommand, Observation, Proprioception
from hiervla.representations.events import ObservationTaken, RunFinished, RunStarted
from hiervla.worlds.base import CONTROL_PERIOD_S

CAMERA_HZ: Final = 5
EVERY: Final = round(1.0 / CONTROL_PERIOD_S / CAMERA_HZ)
_SYNC_EVERY: Final = 250
"""Control steps from one push to the disk to the next: about the length of a step of a task."""
_DEPTH_UNIT_M: Final = 1e-4


@dataclass(frozen=True)
class Moment:
    """A control step: what is commanded and sensed, and what is seen, if anything."""

    command: JointCommand
    proprio: Proprioception
    seen: Observation | None


@dataclass(frozen=True)
class Cost:
    """What a writer cost.

    Attributes:
        median_ms: of a control step [ms].
        p99_ms: of a control step [ms].
        worst_ms: the longest control step [ms].
        p99_cpu_ms: of a control step, computing time of its thread alone [ms].
        mean_ms: computing time of all threads for a control step, closing the file included [ms].
        close_ms: closing the file [ms].
        mb_per_minute: size on the disk, closed.
    """

    median_ms: float
    p99_ms: float
    worst_ms: float
    p99_cpu_ms: float
    mean_ms: float
    close_ms: float
    mb_per_minute: float


class Writer(ABC):
    """Keeps moments in a folder."""

    @abstractmethod
    def write(self, moment: Moment) -> None:
        """Keep one; what is kept only in memory until :meth:`close` is lost with the process."""

    @abstractmethod
    def close(self) -> None:
        """Finish the files."""


class OwnWriter(Writer):
    """A run record, pushed to the disk every five seconds as at the steps of a task."""

    def __init__(self, folder: Path) -> None:
        manifest = Manifest.collect("measure", world="none", seed=0, planner="none", policy="none")
        self._recorder = RunRecorder.create(folder / "record", manifest)
        self._root = self._recorder.emit(
            RunStarted, time_s=0.0, instruction="measure", world="none", planner="none", policy="none", seed=0
        )
        self._steps = 0

    def write(self, moment: Moment) -> None:
        """See :class:`Writer`."""
        if moment.seen is not None:
            self._recorder.observation(moment.seen, "act", parent=self._root)
        self._recorder.tick(moment.command, moment.proprio)
        self._steps += 1
        if self._steps % _SYNC_EVERY == 0:
            self._recorder.sync()

    def close(self) -> None:
        """See :class:`Writer`."""
        self._recorder.emit(RunFinished, time_s=0.0, parent=self._root, outcome="succeeded", message="measured")
        self._recorder.close()


class McapWriter(Writer):
    """The mcap package's own writer as it comes: chunks of a megabyte, zstandard; JSON, PNG and 16-bit PNG in it."""

    def __init__(self, folder: Path) -> None:
        from mcap.writer import CompressionType
        from mcap.writer import Writer as Mcap

        self._file = (folder / "plain.mcap").open("wb")
        self._mcap = Mcap(self._file, compression=CompressionType.ZSTD)
        self._mcap.start(profile="", library="benchmark")
        schema = self._mcap.register_schema("json", "jsonschema", b'{"type":"object"}')
        self._robot = self._mcap.register_channel("/robot", "json", schema)
        self._images: dict[str, int] = {}

    def write(self, moment: Moment) -> None:
        """See :class:`Writer`."""
        at = round(moment.proprio.time_s * 1e9)
        for frame in moment.seen.frames if moment.seen is not None else ():
            for name, data in (("rgb", _png(frame.rgb)), ("depth", _depth_png(frame))):
                self._add(f"/{frame.name}/{name}", at, data)
        values = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in _row(moment).items()}
        self._mcap.add_message(self._robot, log_time=at, publish_time=at, data=json.dumps(values).encode())

    def close(self) -> None:
        """See :class:`Writer`."""
        self._mcap.finish()
        self._file.close()

    def _add(self, topic: str, at: int, data: bytes) -> None:
        if topic not in self._images:
            self._images[topic] = self._mcap.register_channel(topic, "png", 0)
        self._mcap.add_message(self._images[topic], log_time=at, publish_time=at, data=data)


class ParquetVideoWriter(Writer):
    """A table and a video a camera, as LeRobot keeps an episode: H.264, rows written at the end; depth as 16-bit PNG.

    Video loses detail: this is less data than the other two keep.
    """

    def __init__(self, folder: Path) -> None:
        import av

        self._av = av
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._depth: list[dict[str, Any]] = []
        self._videos: dict[str, tuple[Any, Any]] = {}

    def write(self, moment: Moment) -> None:
        """See :class:`Writer`."""
        for frame in moment.seen.frames if moment.seen is not None else ():
            self._video(frame)
            self._depth.append({"time_s": moment.proprio.time_s, "camera": frame.name, "png": _depth_png(frame)})
        self._rows.append(_row(moment))

    def close(self) -> None:
        """See :class:`Writer`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for container, stream in self._videos.values():
            container.mux(stream.encode(None))
            container.close()
        for name, rows in (("data", self._rows), ("depth", self._depth)):
            pq.write_table(pa.Table.from_pylist(rows), self._folder / f"{name}.parquet")

    def _video(self, frame: CameraFrame) -> None:
        if frame.name not in self._videos:
            container = self._av.open(str(self._folder / f"{frame.name}.mp4"), "w")
            stream = container.add_stream("libx264", rate=Fraction(CAMERA_HZ), options={"crf": "23", "threads": "1"})
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            self._videos[frame.name] = container, stream
        container, stream = self._videos[frame.name]
        container.mux(stream.encode(self._av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")))


def measure(writer: Writer, folder: Path, moments: Sequence[Moment]) -> Cost:
    """Have a writer keep all the moments, each when its time has come."""
    wall, own = [], []
    computing = time.process_time()
    start = time.perf_counter()
    for number, moment in enumerate(moments):
        time.sleep(max(0.0, start + number * CONTROL_PERIOD_S - time.perf_counter()))
        began, began_own = time.perf_counter(), time.thread_time()
        writer.write(moment)
        wall.append(time.perf_counter() - began)
        own.append(time.thread_time() - began_own)
    began = time.perf_counter()
    writer.close()
    closing = time.perf_counter() - began
    computing = time.process_time() - computing
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    ms = np.array(wall) * 1e3
    return Cost(
        median_ms=float(np.median(ms)),
        p99_ms=float(np.percentile(ms, 99)),
        worst_ms=float(ms.max()),
        p99_cpu_ms=float(np.percentile(own, 99) * 1e3),
        mean_ms=computing * 1e3 / len(ms),
        close_ms=closing * 1e3,
        mb_per_minute=size / 1e6 / (len(ms) * CONTROL_PERIOD_S / 60),
    )


def moments_of(records: Sequence[RunRecord], seconds: float) -> list[Moment]:
    """So much robot time, or as much as the records have different images for.

    Raises:
        ValueError: the records hold no two cameras with depth, or no control steps.
    """
    ticks = _forever([t for record in records for t in record.ticks()])
    moments: list[Moment] = []
    for seen in _images(records):
        for number in range(EVERY):
            if len(moments) >= seconds / CONTROL_PERIOD_S:
                return moments
            now = len(moments) * CONTROL_PERIOD_S
            moments.append(_moment(next(ticks), now, seen if number == 0 else None))
    if not moments:
        raise ValueError("no recorded image with two cameras and depth; record runs with the default cameras")
    return moments


def _images(records: Sequence[RunRecord]) -> Iterator[Observation]:
    known: set[str] = set()
    for record in records:
        for event in record.of(ObservationTaken):
            names = {f.image.sha256 for f in event.frames}
            if len(names) == 2 and not names & known and all(f.depth_blob is not None for f in event.frames):
                known |= names
                yield record.observation(event)


def _forever(ticks: Sequence[Tick]) -> Iterator[Tick]:
    if not ticks:
        raise ValueError("the records hold no control steps")
    while True:
        yield from ticks


def _moment(tick: Tick, now: float, seen: Observation | None) -> Moment:
    T = np.eye(4)
    T[:3, 3] = tick.ee_position_w
    proprio = Proprioception(
        q=tick.q,
        dq=tick.dq,
        T_world_ee=T,
        gripper_width_m=tick.gripper_width_m,
        gripper_effort_n=tick.gripper_effort_n,
        time_s=now,
    )
    return Moment(tick.command.replace(time_s=now), proprio, seen)


def _row(moment: Moment) -> dict[str, Any]:
    return {
        "time_s": moment.proprio.time_s,
        "state": np.concatenate([moment.proprio.q, moment.proprio.dq]),
        "gripper_width_m": moment.proprio.gripper_width_m,
        "gripper_effort_n": moment.proprio.gripper_effort_n,
        "ee_position_w": moment.proprio.ee_position,
        "action": np.concatenate([moment.command.q, moment.command.dq]),
        "action_gripper_m": moment.command.gripper_width_m,
    }


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _depth_png(frame: CameraFrame) -> bytes:
    assert frame.depth_m is not None
    return _png(np.round(frame.depth_m / _DEPTH_UNIT_M).clip(0, 65535).astype(np.uint16))
