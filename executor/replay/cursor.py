"""Walks along a record and checks that a second run writes the same events."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from hiervla.executor.record.blobs import BlobKind
from hiervla.executor.record.codecs import Values
from hiervla.executor.record.compare import parting, timeless
from hiervla.executor.record.reader import RunRecord, event_type
from hiervla.executor.record.recorder import Recorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import Event, JointCommand, Proprioception
from hiervla.representations.events import (
    EnvelopeFired,
    EventBase,
    Forked,
    Note,
    ObservationTaken,
    Paused,
    ProgramCalled,
    RecordSealed,
    ResourcesClaimed,
    Resumed,
    RunStarted,
    SceneSeen,
    SnapshotTaken,
)

E = TypeVar("E", bound=EventBase)

ASIDE: Final = (EnvelopeFired, ResourcesClaimed, Note, Forked, RecordSealed)
"""Events that no decision of the orchestrator writes: a replay passes them by."""
_ASIDE_TYPES: Final = frozenset(c.model_fields["type"].default for c in ASIDE)
_NO_DECISION: Final = (RunStarted, ObservationTaken, SnapshotTaken, SceneSeen, Paused, Resumed)
_SAME_TIME_S: Final = 1e-6
_CLOCK_FIELDS: Final = frozenset(("time_s", "duration_s", "staleness_s", "observed_at_s", "sensed_at_s", "elapsed_s"))


@dataclass(frozen=True)
class Divergence:
    """The first event at which a replay does not do what was recorded.

    Attributes:
        line: line of the events file, from 1.
        event: id of the recorded event; empty where the record has none.
        time_s: recorded time on the world's clock [s].
        type: type of the recorded event, or "end of the record".
        field: dotted name of the first field that differs; ``type`` when another event came.
        expected: recorded value.
        got: value in the replay.
    """

    line: int
    event: str
    time_s: float
    type: str
    field: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        where = f"line {self.line} ({self.event}, {self.type}, {self.time_s:.2f} s)" if self.event else self.type
        return f"{where}, {self.field}: expected {_short(self.expected)}, got {_short(self.got)}"


class ReplayStopped(BaseException):
    """Ends a replay from within; no handler of errors may take it for an error of the run.

    Attributes:
        divergence: what differs; None when the record of a killed run simply ends here.
    """

    def __init__(self, divergence: Divergence | None) -> None:
        super().__init__(str(divergence))
        self.divergence = divergence


class Cursor:
    """A place in a record, between two events; several threads may look ahead."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.position = 0
        self.now_s = 0.0
        self._ahead: dict[int, Event] = {}
        self._lock = threading.Lock()

    def peek(self, ahead: int = 0) -> Event | None:
        """The event that comes next, or one further on; events that no decision writes are left out."""
        with self._lock:
            number = self.position
            lines = self.record.lines
            while number < len(lines):
                number += 1
                if event_type(lines[number - 1]) in _ASIDE_TYPES:
                    continue
                if ahead == 0:
                    return self._event(number)
                ahead -= 1
            return None

    def next_raw(self) -> Event | None:
        """The very next event of the file."""
        with self._lock:
            return self._event(self.position + 1) if self.position < len(self.record.lines) else None

    def advance(self) -> None:
        """Step over the very next event."""
        with self._lock:
            self.position += 1
            self._ahead = {n: e for n, e in self._ahead.items() if n > self.position}

    def _event(self, number: int) -> Event:
        if number not in self._ahead:
            self._ahead[number] = self.record.event(number)
        return self._ahead[number]


class CheckingRecorder(Recorder):
    """Takes the events of a replayed run, and compares each with the recorded one.

    Attributes:
        compared: events that were the same.
        decisions: those of them that a decision wrote.
    """

    def __init__(self, cursor: Cursor, into: RunRecorder | None = None) -> None:
        """Begin at the cursor.

        Args:
            cursor: where the record is being read.
            into: a record that gets every event that was the same, as it was recorded.
        """
        super().__init__()
        self.cursor = cursor
        self.compared = 0
        self.decisions = 0
        self._into = into
        self._stopped: ReplayStopped | None = None

    def emit(self, event_class: type[E], *, time_s: float, parent: Any = None, **fields: Any) -> E:
        """Compare an event with the recorded one; see :meth:`Recorder.emit`.

        Raises:
            ReplayStopped: it is another one, or the record ends before it.
        """
        if self._stopped is not None:
            raise self._stopped
        with self._lock:
            while isinstance(aside := self.cursor.next_raw(), ASIDE) and not isinstance(aside, RecordSealed):
                self._keep(aside)
                self.events_written += 1
            return super().emit(event_class, time_s=time_s, parent=parent, **fields)

    def program_state(self, dump: Callable[[], bytes]) -> str:
        """The recorded hash: the sandbox saves the same state in other bytes each time."""
        event = self.cursor.peek()
        return event.snapshot if isinstance(event, ProgramCalled) else "0" * 64

    def stop(self, divergence: Divergence | None) -> ReplayStopped:
        """Remember why the replay ends; every later event meets the same end."""
        self._stopped = self._stopped or ReplayStopped(divergence)
        return self._stopped

    def surprise(self, got: str) -> ReplayStopped:
        """The replay asks for what the record does not have next."""
        event = self.cursor.peek()
        if event is None and not self.cursor.record.closed:
            return self.stop(None)
        return self.stop(_divergence(self.cursor, event, "type", event.type if event else None, got))

    def _write(self, event: EventBase) -> None:
        expected = self.cursor.next_raw()
        if expected is None or isinstance(expected, RecordSealed):
            raise self.surprise(_type_of(event))
        found = difference(expected, event)
        if found is not None:
            raise self.stop(_divergence(self.cursor, expected, *found))
        self.compared += 1
        self.decisions += not isinstance(event, _NO_DECISION)
        self._keep(expected)

    def _keep(self, event: Event) -> None:
        self.cursor.advance()
        self.cursor.now_s = event.time_s
        if self._into is not None:
            self._into.copy(event, self.cursor.record.blobs)

    def _tick(self, command: JointCommand, proprio: Proprioception) -> None:
        raise AssertionError("a replay moves nothing")

    def _put_snapshot(self, data: bytes) -> str:
        raise AssertionError("a replay stores nothing")

    def _put_program(self, data: bytes) -> str:
        raise AssertionError("a replay stores nothing")

    def _put(self, sha256: str, kind: BlobKind, camera: str, values: Values) -> None:
        raise AssertionError("a replay stores nothing")


def difference(expected: EventBase, got: EventBase) -> tuple[str, Any, Any] | None:
    """The first field in which two events differ, with both values; clocks of the computer are left out.

    Times of the world may differ by rounding: a replay adds up ticks where the world counted them.
    """
    if type(expected) is not type(got):
        return "type", _type_of(expected), _type_of(got)
    for name in type(expected).model_fields:
        if name == "latency_s" or name.startswith("wall_"):
            continue
        a, b = getattr(expected, name), getattr(got, name)
        if a is b or (name == "told" and a is None):
            continue  # records of format 1 do not tell what their parts were told
        if name in _CLOCK_FIELDS:
            if abs(a - b) > _SAME_TIME_S:
                return name, a, b
        elif isinstance(a, str | int | float | None):
            if a != b:
                return name, a, b
        elif not _same(a, b):
            found = parting(_plain(expected, name), _plain(got, name), name)
            if found is not None:
                return found
    return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=True))
    if not (isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b)):
        return False
    return all(x is y for x, y in zip(a, b, strict=True))


def _plain(event: EventBase, name: str) -> Any:
    return _rounded(timeless(json.loads(event.model_dump_json(include={name}))[name]))


def _rounded(value: Any) -> Any:
    """Plain JSON, times on the world's clock without what is lost in adding up ticks."""
    if isinstance(value, dict):
        return {
            k: round(v, 6) if k in _CLOCK_FIELDS and isinstance(v, float) else _rounded(v) for k, v in value.items()
        }
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _type_of(event: EventBase) -> str:
    return str(type(event).model_fields["type"].default)


def _divergence(cursor: Cursor, event: Event | None, field: str, expected: Any, got: Any) -> Divergence:
    if event is None:
        return Divergence(cursor.position + 1, "", cursor.now_s, "end of the record", field, expected, got)
    return Divergence(int(event.id[1:]), event.id, event.time_s, event.type, field, expected, got)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
