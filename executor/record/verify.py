"""Proves that a record is whole, or names the first thing in it that is not what was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hiervla.executor.record.blobs import BLOBS_FOLDER
from hiervla.executor.record.errors import BlobError, CorruptRecordError
from hiervla.executor.record.lines import EVENTS_FILE, digest
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.spool import WAITING_FILE
from hiervla.executor.record.streams import STREAMS_FILE, is_finished
from hiervla.representations import Event
from hiervla.representations import events as ev

Status = Literal["whole", "unclosed", "broken"]


@dataclass
class VerifyReport:
    """What :func:`verify` found.

    Attributes:
        status: ``"whole"``; ``"unclosed"`` when all that was acknowledged is there but the run was killed or is
            still going on; ``"broken"`` when something is not what was written.
        place: the first broken file, relative to the record; empty when nothing is broken.
        line: its first broken line, where it has lines.
        problem: what is wrong there.
        notices: what else should be known.
        events: whole events.
        blobs: distinct blobs that were checked.
        ticks: control ticks.
        arms: those whose parts lie in the record's folder; they are records of their own.
        head: hash of the last line. Whoever keeps it can later prove that nothing was cut off or rewritten.
    """

    path: Path
    status: Status = "whole"
    place: str = ""
    line: int | None = None
    problem: str = ""
    notices: list[str] = field(default_factory=list)
    events: int = 0
    blobs: int = 0
    ticks: int = 0
    head: str = ""
    arms: tuple[str, ...] = ()


class _Broken(Exception):  # noqa: N818
    def __init__(self, place: str, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.place, self.line, self.problem = place, line, problem


def verify(path: Path | str) -> VerifyReport:
    """Check chain, crcs, types, ids, parents, blobs, manifest, streams and the closing of a record.

    Raises:
        NotARecordError: the path holds no record.
        RecordVersionError: it was written in a version that is not read here.
    """
    report = VerifyReport(Path(path))
    try:
        record = RunRecord.open(path)
        report.events = len(record)
        report.head = record.lines[-1].digest if record.lines else ""
        report.notices += record.notices
        report.arms = record.manifest.arms
        _events(record, report)
        _streams(record, report)
    except CorruptRecordError as error:
        report.place, report.line, report.problem = error.place, error.line, error.problem
    except _Broken as error:
        report.place, report.line, report.problem = error.place, error.line, error.problem
    if report.problem:
        report.status = "broken"
    elif not record.closed:
        report.status = "unclosed"
    return report


def _events(record: RunRecord, report: VerifyReport) -> None:
    checked: set[str] = set()
    images: set[str] = set()
    finished = False
    for number, event in enumerate(record, 1):
        _place_in_run(record, number, event, finished)
        finished = finished or isinstance(event, ev.RunFinished)
        try:
            _blobs(record, event, checked, images)
        except BlobError as error:
            raise _Broken(EVENTS_FILE, number, f"{error.blob} {error.problem}") from None
    if record.closed and record.torn is not None:
        raise _Broken(EVENTS_FILE, record.torn.line, "it was added after the record was closed")
    report.blobs = len(checked)
    known = checked | {WAITING_FILE}
    leftover = sum(1 for p in (record.path / BLOBS_FOLDER).glob("*") if p.name.split(".")[0] not in known)
    if leftover:
        report.notices.append(f"{leftover} file(s) in {BLOBS_FOLDER}/ that no event names")


def _place_in_run(record: RunRecord, number: int, event: Event, finished: bool) -> None:
    def broken(problem: str) -> _Broken:
        return _Broken(EVENTS_FILE, number, problem)

    if event.id != f"e{number}":
        raise broken(f"its id is {event.id}, expected e{number}")
    if event.parent is not None and not _earlier(event.parent, number):
        raise broken(f"its parent {event.parent} is no earlier event")
    if isinstance(event, ev.RunStarted) != (number == 1):
        raise broken("the first event, and no other, has to be run_started")
    if isinstance(event, ev.RunStarted):
        said = {name: getattr(event, name) for name in ("instruction", "world", "planner", "policy", "seed")}
        for name, value in said.items():
            if value != getattr(record.manifest, name):
                raise broken(f"its {name} is {value!r}, the manifest says {getattr(record.manifest, name)!r}")
    if finished and not isinstance(event, ev.RecordSealed | ev.Note):
        raise broken(f"{event.type} after run_finished")
    if isinstance(event, ev.RecordSealed) and (not finished or number != len(record)):
        raise broken("record_sealed has to be the last line and to follow run_finished")


def _earlier(parent: str, number: int) -> bool:
    return parent[:1] == "e" and parent[1:].isdecimal() and 1 <= int(parent[1:]) < number


def _blobs(record: RunRecord, event: Event, checked: set[str], images: set[str]) -> None:
    match event:
        case ev.ObservationTaken():
            record.observation(event)
            for frame in event.frames:
                images.add(frame.image.sha256)
                checked.update(b for b in (frame.rgb_blob, frame.depth_blob) if b)
        case ev.SnapshotTaken():
            record.snapshot(event)
            checked.add(event.blob)
        case ev.ProgramCalled():
            record.blobs.read(event.snapshot, "program")
            checked.add(event.snapshot)
        case ev.PlanProposed():
            _named(event, [*event.plan.scene, *(a for step in event.plan.steps for a in step.artifacts)], images)
        case ev.StepStarted():
            _named(event, event.step.artifacts, images)
        case ev.Grounded():
            _named(event, event.artifacts, images)
        case _:
            pass


def _named(event: Event, artifacts: Iterable[object], images: set[str]) -> None:
    for artifact in artifacts:
        image = getattr(artifact, "image", None)
        if image is not None and image.sha256 not in images:
            problem = f"an artifact speaks of image {image.sha256[:12]}…, which was not recorded before"
            raise _Broken(EVENTS_FILE, int(event.id[1:]), problem)


def _streams(record: RunRecord, report: VerifyReport) -> None:
    path = record.path / STREAMS_FILE
    sealed = record.sealed
    if sealed is not None and path.exists() and digest(path.read_bytes()) != sealed.streams_sha256:
        raise _Broken(STREAMS_FILE, None, f"its hash is not the one on line {len(record)} of {EVENTS_FILE}")
    for tick in record.ticks():
        report.ticks = tick.index + 1
    if sealed is None and not is_finished(path):
        report.notices.append(f"{STREAMS_FILE} has no index yet; it is read in order")
    if sealed is not None and report.ticks != sealed.ticks:
        raise _Broken(STREAMS_FILE, None, f"holds {report.ticks} ticks, {sealed.ticks} were recorded")
