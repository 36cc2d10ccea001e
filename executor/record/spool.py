"""``blobs/waiting``: images of a record as they are, until they are compressed.

Making a file for each image, and getting fresh pages for it, costs a control loop more than copying the pixels, so all
that wait share one file, which is written from its start again whenever nothing waits any more; what is left of older
images behind that is harmless. An entry is the 32 bytes of the name, then the bytes of a raw file; see
:mod:`hiervla.executor.record.codecs`. A process that is killed leaves the file behind, and readers look there for what
is in no file of its own.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from typing_extensions import Buffer

from hiervla.executor.record import codecs
from hiervla.executor.record.codecs import Values

WAITING_FILE: Final = "waiting"
_NAME: Final = 32


class Spool:
    """Appends images and forgets them all when the last one is done; several threads may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._end = 0
        self._waiting = 0
        self._lock = threading.Lock()

    def add(self, sha256: str, values: Values) -> None:
        """Keep an image (H, W, 3) uint8 or a depth image (H, W) float32 until :meth:`done` was called for each.

        Raises:
            OSError: the disk refused; nothing was added.
        """
        parts: list[Buffer] = [bytes.fromhex(sha256), codecs.raw_head(values), values.data.cast("B")]
        size = _NAME + codecs.HEAD_SIZE + values.nbytes
        with self._lock:
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            if os.pwritev(self._file, parts, self._end) != size:
                raise OSError(28, os.strerror(28))
            self._end += size
            self._waiting += 1

    def done(self) -> None:
        """One image is in a file of its own now."""
        with self._lock:
            self._waiting -= 1
            if self._waiting == 0:
                self._end = 0

    def sync(self) -> None:
        """Push what waits to the disk.

        Raises:
            OSError: the disk refused.
        """
        with self._lock:
            if self._waiting:
                os.fsync(self._file)

    def close(self) -> None:
        """Remove the file where nothing waits, leave it where something does; may be called twice."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            if not self._waiting:
                self._path.unlink(missing_ok=True)


def waiting(path: Path, sha256: str) -> bytes | None:
    """The raw file's bytes of an image in a spool; None where it is not there, or was cut off.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        with open(path, "rb") as file:
            while len(start := file.read(_NAME + codecs.HEAD_SIZE)) == _NAME + codecs.HEAD_SIZE:
                head = start[_NAME:]
                size = codecs.raw_size(head)
                if size is None:
                    break
                if start[:_NAME].hex() == sha256:
                    data = file.read(size)
                    return head + data if len(data) == size else None
                file.seek(size, os.SEEK_CUR)
    except FileNotFoundError:
        pass
    return None
