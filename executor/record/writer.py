"""Writes a run record as the run happens, so that a killed process loses nothing that was acknowledged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hiervla.executor.record.blobs import BLOBS_FOLDER, BlobKind, BlobStore
from hiervla.executor.record.codecs import Values
from hiervla.executor.record.compress import Compressor
from hiervla.executor.record.errors import RecordExistsError, RecordWriteError
from hiervla.executor.record.lines import EVENTS_FILE, digest, encode_line
from hiervla.executor.record.manifest import MANIFEST_FILE, Manifest
from hiervla.executor.record.recorder import Purpose, Recorder
from hiervla.executor.record.streams import STREAMS_FILE, StreamWriter, Tick, finish
from hiervla.executor.record.viewer import viewer_messages
from hiervla.representations import HiervlaError, JointCommand, Observation, Proprioception
from hiervla.representations.events import (
    EventBase,
    Note,
    ObservationTaken,
    ProgramCalled,
    RecordSealed,
    SnapshotTaken,
)


class RunRecorder(Recorder):
    """The recorder of a real run; make one with :meth:`create`."""

    def __init__(self, folder: Path, manifest: Manifest, previous: str, durable: bool) -> None:
        super().__init__()
        self.manifest = manifest
        self._folder = folder
        self._previous = previous
        self._durable = durable
        self._blobs = BlobStore(folder)
        self._compressor = Compressor(self._blobs)
        self._streams = StreamWriter(folder / STREAMS_FILE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._events = os.open(folder / EVENTS_FILE, flags, 0o644)
        self._size = 0

    @classmethod
    def create(cls, folder: Path | str, manifest: Manifest, *, durable: bool = True) -> RunRecorder:
        """Begin a record in a new folder.

        Args:
            folder: the record; must not exist, or be empty.
            manifest: what is known before the run.
            durable: push the record to the disk at plan and step boundaries, so that a power failure cannot take
                more than one step. A killed process loses nothing either way.

        Raises:
            RecordExistsError: something is there already.
            RecordWriteError: the folder cannot be made or written.
        """
        folder = Path(folder)
        data = manifest.to_file()
        try:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise RecordExistsError(folder)
            (folder / BLOBS_FOLDER).mkdir(parents=True)
            # Exclusive creation settles a race between two runs for one folder.
            with open(folder / MANIFEST_FILE, "xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            return cls(folder, manifest, digest(data), durable)
        except FileExistsError:
            raise RecordExistsError(folder) from None
        except OSError as error:
            raise RecordWriteError(folder, error.strerror or str(error)) from error

    @property
    def path(self) -> Path:
        """The record's folder."""
        return self._folder

    def observation(
        self, observation: Observation, purpose: Purpose, parent: EventBase | str | None = None
    ) -> ObservationTaken:
        """See :meth:`Recorder.observation`."""
        with self._lock:
            # Those of the one before, if no tick came in between.
            self._compressor.release()
            return super().observation(observation, purpose, parent)

    def copy(self, event: EventBase, blobs: BlobStore) -> None:
        """Append an event of another record as it is, with the blobs that it names.

        Args:
            event: its id has to be the next one of this record.
            blobs: the other record's.

        Raises:
            ValueError: the id is another one.
            BlobError: a blob of the other record is missing or damaged.
            RecordWriteError: the disk refused; the event was not written.
        """
        with self._lock:
            for sha256, kind in blobs_of(event):
                self._blobs.copy(blobs, sha256, kind)
            if event.id != f"e{self.events_written + 1}":
                raise ValueError(f"event {event.id} cannot follow {self.events_written} events")
            self._write(event)
            self._note(event)
            self._tell(event)

    def copy_tick(self, tick: Tick) -> None:
        """Append a control tick of another record.

        Raises:
            RecordWriteError: the disk refused.
        """
        T_world_ee = np.eye(4)
        # The streams keep the tool's position and not its orientation.
        T_world_ee[:3, 3] = tick.ee_position_w
        state = Proprioception(
            q=tick.q,
            dq=tick.dq,
            T_world_ee=T_world_ee,
            gripper_width_m=tick.gripper_width_m,
            gripper_effort_n=tick.gripper_effort_n,
            time_s=tick.sensed_at_s,
        )
        self.tick(tick.command, state)

    def sync(self) -> None:
        """Push everything to the disk: blobs first, then the events that name them.

        Raises:
            RecordWriteError: the disk refused, now or when an image was compressed; no event is lost.
        """
        with self._lock:
            if self._durable and self._events >= 0:
                self._compressor.drain()
                self._blobs.sync()
                self._streams.sync()
                os.fsync(self._events)

    def close(self) -> None:
        """Finish the streams and seal the record; may be called twice."""
        with self._lock:
            if self._events < 0:
                return
            try:
                super().close()
                self._compressor.close()
                if self._started is not None:
                    self._seal()
                self.sync()
            finally:
                self._compressor.close()
                self._blobs.close()
                os.close(self._events)
                self._events = -1
                self._streams.close()

    def _seal(self) -> None:
        path = self._folder / STREAMS_FILE
        self._streams.close()
        try:
            try:
                extra = list(viewer_messages(self._folder))
            except HiervlaError as error:
                # What viewers get besides is no reason to leave a record open.
                message = f"no log and images in the streams: {error}"
                self.emit(Note, time_s=self._last_time_s, parent=self._started, level="warning", message=message)
                extra = []
            finish(path, extra)
            streams = digest(path.read_bytes())
        except OSError as error:
            raise RecordWriteError(self._folder, error.strerror or str(error)) from error
        self.emit(
            RecordSealed,
            time_s=self._last_time_s,
            parent=self._started,
            streams_sha256=streams,
            ticks=self.ticks_written,
        )

    def _write(self, event: EventBase) -> None:
        if not isinstance(event, ObservationTaken):
            self._compressor.release()
        if self._events < 0:
            raise RecordWriteError(self._folder, "it is closed")
        line = encode_line(self.events_written + 1, self._previous, event.model_dump_json().encode())
        try:
            written = os.write(self._events, line)
            if written != len(line):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            # A torn line in the middle would cut off all that comes after it.
            os.ftruncate(self._events, self._size)
            raise RecordWriteError(self._folder, error.strerror or str(error)) from error
        self._size += len(line)
        self._previous = digest(line[:-1])

    def _tick(self, command: JointCommand, proprio: Proprioception) -> None:
        try:
            self._streams.tick(command, proprio)
        except OSError as error:
            raise RecordWriteError(self._folder, error.strerror or str(error)) from error
        # Compressing an image takes less than a tick, and all else of this one is done.
        self._compressor.release(1)

    def _put_snapshot(self, data: bytes) -> str:
        return self._blobs.put_snapshot(data)

    def _put_program(self, data: bytes) -> str:
        return self._blobs.put_program(data)

    def _put(self, sha256: str, kind: BlobKind, camera: str, values: Values) -> None:
        if self._blobs.put_raw(sha256, kind, values):
            self._compressor.hold(sha256, kind, camera, values)


def blobs_of(event: EventBase) -> Iterator[tuple[str, BlobKind]]:
    """Hash and kind of every blob that an event names."""
    if isinstance(event, ObservationTaken):
        for frame in event.frames:
            yield frame.rgb_blob, "rgb"
            if frame.depth_blob is not None:
                yield frame.depth_blob, "depth"
    elif isinstance(event, SnapshotTaken):
        yield event.blob, "snapshot"
    elif isinstance(event, ProgramCalled):
        yield event.snapshot, "program"
