"""What can be wrong with a run record, and what to do about it."""

from __future__ import annotations

from hiervla.representations.errors import HiervlaError


class RecordError(HiervlaError):
    """Base of everything that a run record can be blamed for.

    Attributes:
        path: the record's folder.
    """

    def __init__(self, path: object, message: str) -> None:
        super().__init__(message)
        self.path = str(path)


class NotARecordError(RecordError):
    """The path holds no run record."""

    exit_code = 2

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            path, f"'{path}' is no run record: {problem}. List the records that exist with `hiervla runs`."
        )
        self.problem = problem


class RecordExistsError(RecordError):
    """A run would be written over something that is there."""

    exit_code = 2

    def __init__(self, path: object) -> None:
        super().__init__(
            path,
            f"'{path}' exists and is not an empty folder; a record is never overwritten. "
            "Name another folder, or move this one away.",
        )


class RecordVersionError(RecordError):
    """The record was written in a version that this installation does not read.

    Attributes:
        what: which version disagrees, ``"record format"`` or ``"schemas"``.
        found: the record's version.
        supported: the version that this installation reads.
    """

    def __init__(self, path: object, what: str, found: object, supported: int, written_by: str | None) -> None:
        by = f" by hiervla {written_by}" if written_by else ""
        super().__init__(
            path,
            f"record '{path}' was written{by} with {what} version {found}, but this installation reads version "
            f"{supported}. Open it with {f'hiervla {written_by}' if written_by else 'the hiervla that wrote it'}.",
        )
        self.what = what
        self.found = found
        self.supported = supported


class CorruptRecordError(RecordError):
    """A line of the events, the manifest or the streams is not what was written.

    Attributes:
        place: the file, relative to the record.
        line: number of the first broken line, from 1; None where the file has no lines.
        problem: what is wrong with it.
    """

    def __init__(self, path: object, place: str, line: int | None, problem: str) -> None:
        where = place if line is None else f"{place}, line {line}"
        super().__init__(path, f"record '{path}' is damaged: {where}: {problem}. See `hiervla verify {path}`.")
        self.place = place
        self.line = line
        self.problem = problem


class BlobError(RecordError):
    """A blob that an event names is missing or is not what was written.

    Attributes:
        blob: the blob's file, relative to the record.
        problem: what is wrong with it.
    """

    def __init__(self, path: object, blob: str, problem: str) -> None:
        super().__init__(path, f"record '{path}': {blob} {problem}. See `hiervla verify {path}`.")
        self.blob = blob
        self.problem = problem


class RecordWriteError(RecordError):
    """The record could not be written, so nothing may be done that it would have announced."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            path,
            f"record '{path}' cannot be written: {problem}. What was written before is safe; "
            "make room or choose another place with --record.",
        )
        self.problem = problem


class OutputError(HiervlaError):
    """A picture or a report cannot be written where it should.

    Attributes:
        path: the file.
    """

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"'{path}' cannot be written: {problem}. Choose another place.")
        self.path = str(path)


class ReplayError(RecordError):
    """A record that cannot be replayed, such as one without a snapshot."""

    def __init__(self, path: object, problem: str, remedy: str) -> None:
        super().__init__(path, f"record '{path}' cannot be replayed: {problem}. {remedy}.")
        self.problem = problem
