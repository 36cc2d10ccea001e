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
from dataclasses import dataclass

EVENTS_FILE = "events.jsonl"

_LINE = re.compile(
    rb'(\{"seq":([1-9][0-9]{0,15}),"prev":"([0-9a-f]{64})",)"crc":"([0-9a-f]{8})","event":(\{.*\})\}', re.DOTALL
)


class LineError(ValueError):
    """A line that was not written like this; the message says what is wrong."""


@dataclass(frozen=True)
class Line:
    """A line whose own crc holds."""

    seq: int
    prev: str
    event: bytes
    digest: str
    """SHA-256 of the line, which the next one repeats."""


def encode_line(seq: int, prev: str, event: bytes) -> bytes:
    """The line for an event's JSON, newline included."""
    head = b'{"seq":%d,"prev":"%s",' % (seq, prev.encode())
    return b'%s"crc":"%08x","event":%s}\n' % (head, zlib.crc32(event, zlib.crc32(head)), event)


def decode_line(line: bytes) -> Line:
    """The parts of a line without its newline.

    Raises:
        LineError: it has another form, or its crc does not hold.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise LineError("it is not of the form {seq, prev, crc, event}")
    head, seq, prev, crc, event = match.groups()
    if zlib.crc32(event, zlib.crc32(head)) != int(crc, 16):
        raise LineError("its bytes do not match its crc")
    return Line(int(seq), prev.decode(), event, hashlib.sha256(line).hexdigest())


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
