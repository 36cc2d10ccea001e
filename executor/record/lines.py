"""One line of ``events.jsonl``: an event in an envelope that shows every change and every loss.

``{"seq":N,"prev":"<sha256>","crc":"<crc32>","event":{...}}`` and a newline, byte for byte in this form. ``seq`` is
the line's number from 1; ``prev`` is the SHA-256 of the line before without its newline (of the file
``manifest.json`` for line 1); ``crc`` is the CRC-32 of everything in the line but itself. So a damaged line fails
its own crc, and one that was rewritten, dropped or inserted with a correct crc breaks the chain.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import NamedTuple

EVENTS_FILE = "events.jsonl"

_LINE = re.compile(
    rb'(\{"seq":([1-9][0-9]{0,15}),"prev":"([0-9a-f]{64})",)"crc":"([0-9a-f]{8})","event":(\{.*\})\}', re.DOTALL
)


class LineError(ValueError):
    """A line that was not written like this; the message says what is wrong."""


# A tuple, as a frozen dataclass takes six times as long to make, and a long record has thousands.
class Line(NamedTuple):
    """A line whose own crc holds.

    Attributes:
        seq: its number.
        prev: SHA-256 of the line before.
        digest: SHA-256 of the line, which the next one repeats.
        data: what it was read from. All lines of a file share it: to copy them takes longer than to check them.
        start: where its event begins in ``data``.
        stop: where its event ends, exclusive.
    """

    seq: int
    prev: str
    digest: str
    data: bytes
    start: int
    stop: int

    def __repr__(self) -> str:
        return f"Line(seq={self.seq}, digest={self.digest!r}, {self.stop - self.start} bytes)"

    @property
    def event(self) -> bytes:
        """The event's JSON."""
        return self.data[self.start : self.stop]

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """What the event begins with."""
        return pattern.match(self.data, self.start, self.stop)

    def search(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """The first place of the event where a pattern is found."""
        return pattern.search(self.data, self.start, self.stop)


def encode_line(seq: int, prev: str, event: bytes) -> bytes:
    """The line for an event's JSON, newline included."""
    head = b'{"seq":%d,"prev":"%s",' % (seq, prev.encode())
    return b'%s"crc":"%08x","event":%s}\n' % (head, zlib.crc32(event, zlib.crc32(head)), event)


def decode_line(data: bytes, start: int = 0, stop: int | None = None) -> Line:
    """The parts of a line that stands in ``data``, without its newline, from ``start`` to ``stop``.

    Raises:
        LineError: it has another form, or its crc does not hold.
    """
    stop = len(data) if stop is None else stop
    match = _LINE.fullmatch(data, start, stop)
    if match is None:
        raise LineError("it is not of the form {seq, prev, crc, event}")
    head, seq, prev, crc = match.group(1, 2, 3, 4)
    begin, end = match.span(5)
    whole = memoryview(data)
    if zlib.crc32(whole[begin:end], zlib.crc32(head)) != int(crc, 16):
        raise LineError("its bytes do not match its crc")
    return Line(int(seq), prev.decode(), hashlib.sha256(whole[start:stop]).hexdigest(), data, begin, end)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
