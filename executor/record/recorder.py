"""What a run tells its record: the interface, and the recorders that keep nothing or keep it in memory."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from hiervla.executor.record.blobs import BlobKind, encode_snapshot
from hiervla.executor.record.codecs import Values, content_hash, encode_depth, encode_rgb
from hiervla.representations import (
    CameraFrame,
    Event,
    ImageRef,
    JointCommand,
    Observation,
    Proprioception,
    build_types,
)
from hiervla.representations.events import (
    EventBase,
    FrameRecord,
    Note,
    ObservationTaken,
    PlanProposed,
    PlanRefused,
    RunFinished,
    RunStarted,
    SnapshotTaken,
    StepFinished,
    StepStarted,
)
from hiervla.representations.plans import RunOutcome

E = TypeVar("E", bound=EventBase)
Subscriber = Callable[[Event], object]
Purpose = Literal["plan", "ground", "ready", "move", "act", "verify"]

# At these the record is pushed to the disk: they bound what a power failure can take.
_BOUNDARIES = (RunStarted, PlanProposed, PlanRefused, StepStarted, StepFinished, RunFinished)


class Recorder(ABC):
    """Takes events, frames, snapshots and ticks; safe to share between threads.

    Every method writes before it returns: what has been returned is on record. As a context manager it closes the
    record whatever happens, and says how the run ended if nobody did.
    """

    def __init__(self) -> None:
        build_types()
        self._lock = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._stored: set[tuple[BlobKind, str]] = set()
        self._last_time_s = 0.0
        self._started: str | None = None
        self._finished = False
        self.events_written = 0
        self.ticks_written = 0

    @property
    def path(self) -> Path | None:
        """The record's folder; None for a recorder without one."""
        return None

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Have ``callback`` called with every event after it is on record; returns a function that ends it.

        A callback that raises is noted in the record and is not called again; the run goes on.
        """
        with self._lock:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    def emit(self, event_class: type[E], *, time_s: float, parent: EventBase | str | None = None, **fields: Any) -> E:
        """Put an event on record and return it.

        Args:
            event_class: which event.
            time_s: the world's clock [s].
            parent: the event that this one belongs to, or its id.
            fields: the event's own fields.

        Raises:
            pydantic.ValidationError: a field is invalid; nothing was written.
            RecordWriteError: the disk refused; nothing was written.
        """
        with self._lock:
            event = event_class(
                id=f"e{self.events_written + 1}",
                parent=parent.id if isinstance(parent, EventBase) else parent,
                time_s=float(time_s),
                wall_time_s=time.time(),
                **fields,
            )
            self._write(event)
            self._note(event)
            if isinstance(event, _BOUNDARIES):
                self.sync()
            self._tell(event)
            return event

    def observation(
        self, observation: Observation, purpose: Purpose, parent: EventBase | str | None = None
    ) -> ObservationTaken:
        """Put an observation with its images on record."""
        proprio = observation.proprio
        with self._lock:
            return self.emit(
                ObservationTaken,
                time_s=observation.time_s,
                parent=parent,
                purpose=purpose,
                frames=tuple(self.frame(frame) for frame in observation.frames),
                q=tuple(proprio.q.tolist()),
                dq=tuple(proprio.dq.tolist()),
                gripper_width_m=proprio.gripper_width_m,
                gripper_effort_n=proprio.gripper_effort_n,
                T_world_ee=_rows(proprio.T_world_ee),
                sensed_at_s=proprio.time_s,
                observed_at_s=observation.time_s,
            )

    def frame(self, frame: CameraFrame) -> FrameRecord:
        """Store a frame's image and depth, once for equal ones, and return the reference to it."""
        with self._lock:
            rgb_blob = self._stored_once("rgb", frame.sha256, frame.name, frame.rgb)
            depth_blob = None
            if frame.depth_m is not None:
                depth_blob = self._stored_once("depth", content_hash(frame.depth_m), frame.name, frame.depth_m)
        return FrameRecord(
            image=ImageRef(
                camera=frame.name, sha256=frame.sha256, width=frame.width, height=frame.height, time_s=frame.time_s
            ),
            rgb_blob=rgb_blob,
            depth_blob=depth_blob,
            K=_rows(frame.K),
            T_world_camera=_rows(frame.T_world_camera),
        )

    def snapshot(self, data: bytes, label: str, time_s: float, parent: EventBase | str | None = None) -> SnapshotTaken:
        """Put a physical snapshot, as ``world.snapshot()`` gave it, on record."""
        with self._lock:
            blob = self._put_snapshot(data)
            return self.emit(
                SnapshotTaken, time_s=time_s, parent=parent, blob=blob, label=label, ticks=self.ticks_written
            )

    def program_state(self, dump: Callable[[], bytes]) -> str:
        """Put what a suspended program's sandbox saves on record; returns its hash."""
        with self._lock:
            return self._put_program(dump())

    def tick(self, command: JointCommand, proprio: Proprioception) -> None:
        """Put a command on record with the state in which it is given; call it before ``world.step(command)``."""
        with self._lock:
            self._tick(command, proprio)
            self.ticks_written += 1

    def sync(self) -> None:
        """Push everything to the disk; called by itself at plan and step boundaries."""
        return

    def close(self) -> None:
        """End the record; may be called twice. Without a ``RunFinished`` before, one with ``error`` is added."""
        with self._lock:
            self._finish("error", "the run ended without saying how")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            cancelled = not issubclass(kind, Exception)
            message = "interrupted" if issubclass(kind, KeyboardInterrupt) else f"{kind.__name__}: {error}"
            self._finish("cancelled" if cancelled else "error", message)
        self.close()

    @abstractmethod
    def _write(self, event: EventBase) -> None: ...

    @abstractmethod
    def _tick(self, command: JointCommand, proprio: Proprioception) -> None: ...

    @abstractmethod
    def _put_snapshot(self, data: bytes) -> str: ...

    @abstractmethod
    def _put_program(self, data: bytes) -> str: ...

    @abstractmethod
    def _put(self, sha256: str, kind: BlobKind, camera: str, values: Values) -> None: ...

    def _note(self, event: EventBase) -> None:
        self.events_written += 1
        self._last_time_s = event.time_s
        if isinstance(event, RunStarted):
            self._started = event.id
        if isinstance(event, RunFinished):
            self._finished = True

    def _stored_once(self, kind: BlobKind, sha256: str, camera: str, values: Values) -> str:
        if (kind, sha256) not in self._stored:
            self._put(sha256, kind, camera, values)
            self._stored.add((kind, sha256))
        return sha256

    def _finish(self, outcome: RunOutcome, message: str) -> None:
        if self._started is not None and not self._finished:
            self.emit(RunFinished, time_s=self._last_time_s, parent=self._started, outcome=outcome, message=message)

    def _tell(self, event: Any) -> None:
        for callback in list(self._subscribers):
            try:
                callback(event)
            except Exception as error:
                with contextlib.suppress(ValueError):
                    self._subscribers.remove(callback)
                name = getattr(callback, "__qualname__", type(callback).__name__)
                self.emit(
                    Note,
                    time_s=event.time_s,
                    parent=event.id,
                    level="warning",
                    message=f"subscriber {name} raised {type(error).__name__}: {error}; it gets no more events",
                )


class NullRecorder(Recorder):
    """Keeps nothing, but numbers events and tells subscribers: for a run without a record."""

    def _write(self, event: EventBase) -> None:
        pass

    def _tick(self, command: JointCommand, proprio: Proprioception) -> None:
        pass

    def _put_snapshot(self, data: bytes) -> str:
        # Nobody will read it: any name that differs for different content does.
        return hashlib.sha256(data).hexdigest()

    def _put_program(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def _put(self, sha256: str, kind: BlobKind, camera: str, values: Values) -> None:
        pass


class MemoryRecorder(Recorder):
    """Keeps everything in memory: for tests of what a run records.

    Attributes:
        events: all events in order.
        ticks: (command, state) of every tick.
        blobs: compressed images, depth and snapshots by hash.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[EventBase] = []
        self.ticks: list[tuple[JointCommand, Proprioception]] = []
        self.blobs: dict[str, bytes] = {}

    def of(self, event_class: type[E]) -> list[E]:
        """The events of one class, in order."""
        return [event for event in self.events if isinstance(event, event_class)]

    def _write(self, event: EventBase) -> None:
        self.events.append(event)

    def _tick(self, command: JointCommand, proprio: Proprioception) -> None:
        self.ticks.append((command, proprio))

    def _put_snapshot(self, data: bytes) -> str:
        packed = encode_snapshot(data)
        name = hashlib.sha256(packed).hexdigest()
        self.blobs[name] = packed
        return name

    def _put_program(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.blobs[name] = data
        return name

    def _put(self, sha256: str, kind: BlobKind, camera: str, values: Values) -> None:
        self.blobs[sha256] = encode_rgb(values) if kind == "rgb" else encode_depth(values)


def _rows(matrix: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
