"""TFRecord files: length, checksum of the length, data, checksum of the data; numbers little-endian."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from hiervla.training.data.rlds.crc32c import masked

_HEAD, _TAIL = struct.Struct("<QI"), struct.Struct("<I")
_MOST = 1 << 31


class RecordError(ValueError):
    """A record that is not what was written.

    Attributes:
        last: whether nothing after it can be found.
    """

    def __init__(self, problem: str, *, last: bool) -> None:
        super().__init__(problem)
        self.last = last


def read_records(path: Path) -> Iterator[bytes | RecordError]:
    """The records of a file, in order; a damaged one as an error, since those behind it may be whole.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                yield RecordError("the file ends within a record's length", last=True)
                return
            length, crc = _HEAD.unpack(head)
            # With a wrong length the beginning of the next record is lost.
            if masked(head[:8]) != crc:
                yield RecordError("the checksum of a record's length is wrong", last=True)
                return
            if length > _MOST:
                yield RecordError(f"a record of {length} bytes is beyond reason", last=True)
                return
            body = file.read(length + _TAIL.size)
            if len(body) < length + _TAIL.size:
                yield RecordError(f"the file ends after {len(body)} of a record's {length} bytes", last=True)
                return
            data = body[:length]
            if masked(data) != _TAIL.unpack(body[length:])[0]:
                yield RecordError("the checksum of a record's data is wrong", last=False)
                continue
            yield data
