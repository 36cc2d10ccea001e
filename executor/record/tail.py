"""Reads the events of a record while another process writes them."""

from __future__ import annotations

from pathlib import Path

from hiervla.executor.record.errors import CorruptRecordError
from hiervla.executor.record.lines import EVENTS_FILE, Line, LineError, decode_line, digest
from hiervla.executor.record.manifest import read_manifest
from hiervla.executor.record.reader import event_type


class Tail:
    """The events of one record as they come; every line is checked against its crc and the chain.

    Attributes:
        path: the record's folder.
        manifest: what was known before the run.
        sealed: whether the last line was there: nothing will follow.
        finished: whether the run said how it ended.
    """

    def __init__(self, path: Path | str) -> None:
        """Begin at the first event.

        Raises:
            NotARecordError: the path holds no record.
            RecordVersionError: it was written in a version that is not read here.
            CorruptRecordError: its manifest is not what was written.
        """
        self.path = Path(path)
        self.manifest, data = read_manifest(self.path)
        self.sealed = False
        self.finished = False
        self._previous = digest(data)
        self._offset = 0
        self._count = 0

    def poll(self) -> list[Line]:
        """The whole lines that were added since the last call; a line that is being written is left for the next one.

        Raises:
            CorruptRecordError: a line is not what was written, or does not follow the one before.
        """
        try:
            with open(self.path / EVENTS_FILE, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            # The manifest comes first: the run is about to begin.
            return []
        except OSError as error:
            raise CorruptRecordError(self.path, EVENTS_FILE, None, error.strerror or str(error)) from None
        lines = []
        for text in data.split(b"\n")[:-1]:
            number = self._count + 1
            try:
                line = decode_line(text)
            except LineError as error:
                raise CorruptRecordError(self.path, EVENTS_FILE, number, str(error)) from None
            if line.seq != number or line.prev != self._previous:
                raise CorruptRecordError(self.path, EVENTS_FILE, number, "it does not follow the line before")
            self._previous, self._count = line.digest, number
            self._offset += len(text) + 1
            kind = event_type(line)
            self.finished = self.finished or kind == "run_finished"
            self.sealed = self.sealed or kind == "record_sealed"
            lines.append(line)
        return lines
