"""Reads a run record: strictly, typed, lazily."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from hiervla.executor.record.errors import BlobError, CorruptRecordError, NotARecordError
from hiervla.executor.record.light import AnyEvent, parse
from hiervla.executor.record.lines import EVENTS_FILE, Line, LineError, decode_line, digest
from hiervla.executor.record.manifest import Manifest, read_manifest
from hiervla.representations import EVENT_ADAPTER, CameraFrame, Event, ImageRef, Observation, Proprioception
from hiervla.representations.events import (
    EventBase,
    FrameRecord,
    ObservationTaken,
    RecordSealed,
    RunFinished,
    SnapshotTaken,
)

if TYPE_CHECKING:
    import numpy as np

    from hiervla.executor.record.blobs import BlobStore
    from hiervla.executor.record.streams import Tick

E = TypeVar("E", bound=EventBase)
T = TypeVar("T")

# The fields before `type` are fixed by EventBase; the first match is therefore the event's own.
_TYPE = re.compile(rb'"type":"([a-z_]+)"')


@dataclass(frozen=True)
class Tail:
    """What follows the last whole line: the beginning of a line whose write was cut short."""

    line: int
    size: int


class RunRecord:
    """A record opened for reading; make one with :meth:`open`.

    Attributes:
        path: the record's folder.
        manifest: what was known before the run.
        lines: the events' envelopes, in order; each was checked against its crc and the chain.
        torn: the torn last line, which is not among ``lines``; None where the file ends cleanly.
    """

    def __init__(self, path: Path, manifest: Manifest, lines: tuple[Line, ...], torn: Tail | None) -> None:
        self.path = path
        self.manifest = manifest
        self.lines = lines
        self.torn = torn

    @classmethod
    def open(cls, path: Path | str) -> RunRecord:
        """Open a record, closed or not.

        Raises:
            NotARecordError: the path holds none.
            RecordVersionError: it was written in a version that is not read here.
            CorruptRecordError: a line, or the manifest, is not what was written.
        """
        path = Path(path)
        manifest, data = read_manifest(path)
        try:
            events = (path / EVENTS_FILE).read_bytes()
        except FileNotFoundError:
            raise NotARecordError(path, f"it has no {EVENTS_FILE}") from None
        except OSError as error:
            raise NotARecordError(path, error.strerror or str(error)) from None
        lines, torn = split_lines(path, events, digest(data))
        return cls(path, manifest, lines, torn)

    @cached_property
    def blobs(self) -> BlobStore:
        """Images, depth and snapshots by hash."""
        # It brings numpy, which is not needed by those who only look at events.
        from hiervla.executor.record.blobs import BlobStore

        return BlobStore(self.path)

    @cached_property
    def closed(self) -> bool:
        """Whether the record was sealed; False for one whose process was killed."""
        return bool(self.lines) and event_type(self.lines[-1]) == "record_sealed"

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What a reader should be told, in sentences."""
        notices = []
        if self.torn is not None:
            notices.append(
                f"line {self.torn.line} was cut short after {self.torn.size} bytes and is left out; "
                "it was never acknowledged"
            )
        if not self.closed:
            notices.append("the record was not closed: its run was killed or is still going on")
        return tuple(notices)

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Event]:
        for number in range(1, len(self.lines) + 1):
            yield self.event(number)

    def event(self, which: int | str) -> Event:
        """One event by line number (from 1) or id.

        Raises:
            KeyError: there is none.
            CorruptRecordError: the line holds no event of this version.
        """
        number = self.number(which)
        try:
            return EVENT_ADAPTER.validate_json(self.lines[number - 1].event)
        except ValidationError as error:
            raise self.corrupt(number, error) from None

    def any_event(self, which: int | str) -> AnyEvent:
        """Like :meth:`event`, but one of a type that this version does not know is given as it is.

        Raises:
            KeyError: there is none.
            CorruptRecordError: the line holds no event.
        """
        number = self.number(which)
        try:
            return parse(self.lines[number - 1])
        except ValidationError as error:
            raise self.corrupt(number, error) from None

    def any_events(self) -> Iterator[AnyEvent]:
        """Every event in order, those of unknown types too.

        Raises:
            CorruptRecordError: a line holds no event.
        """
        return (self.any_event(number) for number in range(1, len(self.lines) + 1))

    def number(self, which: int | str) -> int:
        """The line of an event that is named by its line or its id.

        Raises:
            KeyError: there is none.
        """
        number = which if isinstance(which, int) else int(which[1:]) if re.fullmatch(r"e[1-9]\d*", which) else 0
        if not 1 <= number <= len(self.lines):
            raise KeyError(f"no event '{which}' in a record of {len(self.lines)}")
        return number

    def corrupt(self, number: int, error: ValueError) -> CorruptRecordError:
        """The error for a line that holds no event, from what its parser said."""
        if not isinstance(error, ValidationError):
            return CorruptRecordError(self.path, EVENTS_FILE, number, str(error))
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return CorruptRecordError(self.path, EVENTS_FILE, number, f"{where}: {first['msg']}")

    def of(self, event_class: type[E]) -> Iterator[E]:
        """The events of one class, in order; the others are not parsed."""
        wanted = event_class.model_fields["type"].default
        for number, line in enumerate(self.lines, 1):
            if event_type(line) == wanted:
                event = self.event(number)
                assert isinstance(event, event_class)
                yield event

    @property
    def finished(self) -> RunFinished | None:
        """How the run ended; None when it did not get to say so."""
        return next(self.of(RunFinished), None)

    @property
    def sealed(self) -> RecordSealed | None:
        """The closing line; None when the record was not closed."""
        return next(self.of(RecordSealed), None)

    @cached_property
    def _frames(self) -> dict[str, list[FrameRecord]]:
        frames: dict[str, list[FrameRecord]] = {}
        for observation in self.of(ObservationTaken):
            for frame in observation.frames:
                frames.setdefault(frame.image.sha256, []).append(frame)
        return frames

    def frame_of(self, image: ImageRef) -> FrameRecord:
        """The recorded frame that an artifact speaks of; of equal images, the one nearest in time.

        Raises:
            BlobError: it was never recorded.
        """
        frames = self._frames.get(image.sha256)
        if not frames:
            where = f"the image {image.sha256[:12]}…"
            raise BlobError(self.path, where, "is named by an artifact but was never recorded")
        return min(frames, key=lambda f: (f.image.camera != image.camera, abs(f.image.time_s - image.time_s)))

    def frame(self, record: FrameRecord, *, depth: bool = True) -> CameraFrame:
        """The very frame that was recorded; without its depth where nobody asks for it.

        Raises:
            BlobError: an image is missing or is not what was written.
        """
        import numpy as np

        from hiervla.executor.record.blobs import blob_name

        rgb = self.blobs.image(record.rgb_blob)
        depth_m = None
        if depth and record.depth_blob is not None:
            depth_m = self.blobs.depth(record.depth_blob)
        try:
            frame = CameraFrame(
                name=record.image.camera,
                rgb=rgb,
                depth_m=depth_m,
                K=np.array(record.K, dtype=np.float64),
                T_world_camera=np.array(record.T_world_camera, dtype=np.float64),
                time_s=record.image.time_s,
            )
        except ValidationError as error:
            problem = f"makes no camera frame ({error.errors()[0]['msg']})"
            raise BlobError(self.path, blob_name(record.rgb_blob, "rgb"), problem) from None
        if frame.sha256 != record.image.sha256:
            raise BlobError(self.path, blob_name(record.rgb_blob, "rgb"), "holds another image than the event says")
        return frame

    def image(self, image: ImageRef) -> np.ndarray[Any, Any]:
        """The colour image (H, W, 3) uint8 that an artifact speaks of.

        Raises:
            BlobError: it is not in the record, or is not what was written.
        """
        return self.frame(self.frame_of(image), depth=False).rgb

    def observation(self, event: ObservationTaken) -> Observation:
        """The very observation that was recorded.

        Raises:
            BlobError: an image is missing or is not what was written.
        """
        import numpy as np

        return Observation(
            frames=tuple(self.frame(f) for f in event.frames),
            proprio=Proprioception(
                q=np.array(event.q, dtype=np.float64),
                dq=np.array(event.dq, dtype=np.float64),
                T_world_ee=np.array(event.T_world_ee, dtype=np.float64),
                gripper_width_m=event.gripper_width_m,
                gripper_effort_n=event.gripper_effort_n,
                time_s=event.sensed_at_s,
            ),
            time_s=event.observed_at_s,
        )

    def snapshot(self, event: SnapshotTaken) -> bytes:
        """The bytes that ``world.snapshot()`` gave.

        Raises:
            BlobError: the blob is missing or is not what was written.
        """
        return self.blobs.snapshot(event.blob)

    def ticks(self) -> Iterator[Tick]:
        """Every control tick, from a finished or an unfinished stream.

        Raises:
            CorruptRecordError: the stream is damaged.
        """
        # mcap is not needed by those who only look at events.
        from hiervla.executor.record.streams import STREAMS_FILE, read_ticks

        yield from self._streamed(read_ticks, STREAMS_FILE)

    def stream_messages(self) -> Iterator[tuple[str, int, bytes]]:
        """(topic, log time [ns], JSON) of every state and command of the stream, as they were written.

        Raises:
            CorruptRecordError: the stream is damaged.
        """
        from hiervla.executor.record.streams import STREAMS_FILE, stream_messages

        yield from self._streamed(stream_messages, STREAMS_FILE)

    def _streamed(self, read: Callable[[Path], Iterator[T]], name: str) -> Iterator[T]:
        try:
            yield from read(self.path / name)
        except FileNotFoundError:
            raise CorruptRecordError(self.path, name, None, "is missing") from None
        except Exception as error:  # the mcap package raises what struct, zstandard and it itself find
            raise CorruptRecordError(self.path, name, None, str(error) or type(error).__name__) from error


def split_lines(path: Path, data: bytes, first: str) -> tuple[tuple[Line, ...], Tail | None]:
    """The lines of an events file, each checked against its crc and the chain that begins with ``first``.

    Raises:
        CorruptRecordError: names the first line that is not what was written, or does not follow the one before.
    """
    lines: list[Line] = []
    previous, start = first, 0
    while (stop := data.find(b"\n", start)) >= 0:
        previous = _follow(path, lines, data, start, stop, previous)
        start = stop + 1
    stop = len(data)
    if start == stop:
        return tuple(lines), None
    if not _is_line(data, start, stop):
        number = len(lines) + 1
        if _is_line(data, start, stop - 1):
            raise CorruptRecordError(path, EVENTS_FILE, number, "its newline was changed")
        return tuple(lines), Tail(number, stop - start)
    # Only the newline is missing.
    _follow(path, lines, data, start, stop, previous)
    return tuple(lines), None


def event_type(line: Line) -> str:
    """The ``type`` of a line's event, without parsing it."""
    match = line.search(_TYPE)
    return match.group(1).decode() if match else ""


def _follow(path: Path, lines: list[Line], data: bytes, start: int, stop: int, previous: str) -> str:
    number = len(lines) + 1
    try:
        line = decode_line(data, start, stop)
    except LineError as error:
        raise CorruptRecordError(path, EVENTS_FILE, number, str(error)) from None
    if line.seq != number:
        raise CorruptRecordError(
            path, EVENTS_FILE, number, f"it says that it is line {line.seq}: lines were removed, added or reordered"
        )
    if line.prev != previous:
        before = "the manifest" if number == 1 else f"line {number - 1}"
        raise CorruptRecordError(
            path, EVENTS_FILE, number, f"it does not follow {before}, one of the two was rewritten"
        )
    lines.append(line)
    return line.digest


def _is_line(data: bytes, start: int, stop: int) -> bool:
    try:
        decode_line(data, start, stop)
    except LineError:
        return False
    return True
