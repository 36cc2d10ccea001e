"""Compresses the images of a record beside the control loop.

An image is on the disk, as it is, before the event that names it; a thread then puts a compressed one in its place. A
process that is killed meanwhile leaves more bytes behind, and nothing less. What a camera that stands still shows is
mostly what it showed before: only the pixels that changed are kept then, against an image that is kept whole.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from hiervla.executor.record import codecs
from hiervla.executor.record.blobs import BlobKind, BlobStore
from hiervla.executor.record.codecs import Values
from hiervla.executor.record.errors import RecordWriteError

_WAITING: Final = 64
"""Images that may wait; who adds more has to wait as well."""
_SAME: Final = 0.5
"""Share of pixels that has to be unchanged for a try to keep the others only."""
_SMALLER: Final = 0.6
"""What the changed pixels may take of the bytes of the whole image that they are based on."""


@dataclass(frozen=True)
class _Job:
    sha256: str
    kind: BlobKind
    camera: str
    values: Values


@dataclass(frozen=True)
class _Base:
    sha256: str
    values: Values
    size: int


class Compressor:
    """A thread that compresses what was stored raw, in the order in which it came; it starts with the first image."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._held: deque[_Job] = deque()
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._bases: dict[tuple[BlobKind, str], _Base] = {}
        self._errors: queue.SimpleQueue[RecordWriteError] = queue.SimpleQueue()
        self._told = False

    def hold(self, sha256: str, kind: BlobKind, camera: str, values: Values) -> None:
        """Keep an image that was stored raw until :meth:`release`.

        The thread holds up whoever stores the next image while both want the interpreter, so that it gets its work
        when there is time for it.
        """
        self._held.append(_Job(sha256, kind, camera, values))

    def release(self, most: int | None = None) -> None:
        """Have so many of the images that are held compressed, or all; waits where too many are waiting already.

        Raises:
            RecordWriteError: one that was released before could not be written; the others stay held.
        """
        for _ in range(len(self._held) if most is None else min(most, len(self._held))):
            self._complain()
            if self._thread is None:
                # What a process that ends without closing its record leaves undone is on the disk as it is.
                self._thread = threading.Thread(target=self._work, name="hiervla-record", daemon=True)
                self._thread.start()
            self._jobs.put(self._held.popleft())

    def drain(self) -> None:
        """Have all that is held compressed, and wait until nothing waits.

        Raises:
            RecordWriteError: something could not be written; it is kept as it is.
        """
        self.release()
        self._jobs.join()
        self._complain()

    def close(self) -> None:
        """Have all that is held compressed, and end the thread when nothing waits; may be called twice.

        Raises:
            RecordWriteError: something could not be written; it is kept as it is.
        """
        self.release()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        self._complain()

    def _complain(self) -> None:
        """Raise the first thing that went wrong in the thread, once: what else does is kept as it is all the same."""
        if not self._told and not self._errors.empty():
            self._told = True
            raise self._errors.get()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._compress(job)
            except RecordWriteError as error:
                self._errors.put(error)
            except Exception as error:  # whatever an encoder may raise: it is told to who writes the record
                problem = f"an image of camera '{job.camera}' cannot be compressed ({type(error).__name__}: {error})"
                self._errors.put(RecordWriteError(self._store.record, problem))
            finally:
                self._jobs.task_done()
        self._jobs.task_done()

    def _compress(self, job: _Job) -> None:
        base = self._bases.get((job.kind, job.camera))
        body = _changed(job, base) if base is not None else None
        if body is None:
            body = codecs.encode_rgb(job.values) if job.kind == "rgb" else codecs.encode_depth(job.values)
            self._bases[job.kind, job.camera] = _Base(job.sha256, job.values, len(body))
        self._store.put_compressed(job.sha256, job.kind, body)


def _changed(job: _Job, base: _Base) -> bytes | None:
    """What differs from the base; None where it is not much less than the whole."""
    if base.values.shape != job.values.shape:
        return None
    same = job.values == base.values
    if np.count_nonzero(same) < _SAME * same.size:
        return None
    encode = codecs.encode_changed_rgb if job.kind == "rgb" else codecs.encode_changed_depth
    body = encode(job.values, base.values, base.sha256)
    return body if len(body) <= _SMALLER * base.size else None
