"""The ``blobs`` folder of a record: images, depth and physical snapshots, each a file that is named by a hash.

An image or a depth image is named by the hash of its shape and values, so that its name is known before it is
compressed. It is first kept as it is, in one file with all that wait (:mod:`hiervla.executor.record.spool`), and
compressed later (:mod:`hiervla.executor.record.compress`). A snapshot is zlib, named by the hash of the file; so are
all files of records of format 1. A suspended program is the sandbox's own bytes, which nothing here ever loads
(:mod:`hiervla.skills.programs.sandbox` says why).
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from pathlib import Path
from typing import Any, Final, Literal

from hiervla.executor.record import codecs
from hiervla.executor.record.codecs import Depth, Pixels, Values
from hiervla.executor.record.errors import BlobError, RecordWriteError
from hiervla.executor.record.spool import WAITING_FILE, Spool, waiting

BlobKind = Literal["rgb", "depth", "snapshot", "program"]
BLOBS_FOLDER: Final = "blobs"

WHOLE_RGB, OTHER_RGB, OLD_RGB = "webp", "rgb", "png"
_EXTENSIONS: Final[dict[BlobKind, tuple[str, ...]]] = {
    "rgb": (WHOLE_RGB, OTHER_RGB, OLD_RGB),
    "depth": ("depth",),
    "snapshot": ("snapshot",),
    "program": ("monty",),
}
_OTHER: Final[dict[BlobKind, str]] = {"rgb": OTHER_RGB, "depth": "depth"}
_KEPT_BASES: Final = 4
_MAX_SNAPSHOT: Final = 256 * 1024 * 1024


def blob_name(sha256: str, kind: BlobKind, extension: str | None = None) -> str:
    """Path of a blob relative to its record."""
    return f"{BLOBS_FOLDER}/{sha256}.{extension or _EXTENSIONS[kind][0]}"


class BlobStore:
    """The ``blobs`` folder of one record; several threads may read."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.folder = record / BLOBS_FOLDER
        self._unsynced: list[Path] = []
        self._stored: set[tuple[BlobKind, str]] = set()
        self._bases: dict[tuple[BlobKind, str], Values] = {}
        self._lock = threading.Lock()
        self._spool = Spool(self.folder / WAITING_FILE)

    def put_snapshot(self, data: bytes) -> str:
        """Store a snapshot, whole or not at all; returns its name.

        Raises:
            RecordWriteError: the disk refused.
        """
        return self._put_file(encode_snapshot(data), "snapshot")

    def put_program(self, data: bytes) -> str:
        """Store what a suspended program's sandbox saves, whole or not at all; returns its name.

        Raises:
            RecordWriteError: the disk refused.
        """
        return self._put_file(data, "program")

    def _put_file(self, data: bytes, kind: BlobKind) -> str:
        """A file that is named by the hash of its bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        if (kind, sha256) not in self._stored:
            self._unsynced.append(self._write(sha256, _EXTENSIONS[kind][0], data))
            self._stored.add((kind, sha256))
        return sha256

    def put_raw(self, sha256: str, kind: BlobKind, values: Values) -> bool:
        """Keep an image or a depth image as it is, until :meth:`put_compressed`; False where it is there already.

        Raises:
            RecordWriteError: the disk refused; it is not there.
        """
        if (kind, sha256) in self._stored:
            return False
        try:
            self._spool.add(sha256, values)
        except OSError as error:
            raise RecordWriteError(self.record, error.strerror or str(error)) from error
        self._stored.add((kind, sha256))
        return True

    def put_compressed(self, sha256: str, kind: BlobKind, body: bytes) -> None:
        """Put a compressed image or depth image in the place of the one that was kept as it is.

        Raises:
            RecordWriteError: the disk refused; what was there is still there.
        """
        extension = WHOLE_RGB if kind == "rgb" and codecs.base_of(body) is None else _OTHER[kind]
        self._unsynced.append(self._write(sha256, extension, codecs.sealed(body)))
        self._spool.done()

    def close(self) -> None:
        """Remove what is needed only while images wait to be compressed; may be called twice."""
        self._spool.close()

    def copy(self, other: BlobStore, sha256: str, kind: BlobKind) -> None:
        """Copy a blob of another record, and what it is based on.

        Raises:
            BlobError: it is missing or damaged there.
            RecordWriteError: the disk refused.
        """
        if (kind, sha256) in self._stored:
            return
        name, data = other.read(sha256, kind)
        extension = name.rsplit(".", 1)[1]
        if extension in {OTHER_RGB, "depth"} and (base := codecs.base_of(data)) is not None:
            self.copy(other, base, kind)
        self._unsynced.append(self._write(sha256, extension, data))
        self._stored.add((kind, sha256))

    def image(self, sha256: str) -> Pixels:
        """An image (H, W, 3) uint8.

        Raises:
            BlobError: it is missing, unreadable, or another one.
        """
        rgb: Pixels = self._values(sha256, "rgb")
        return rgb

    def depth(self, sha256: str) -> Depth:
        """A depth image (H, W) float32 [m].

        Raises:
            BlobError: it is missing, unreadable, or another one.
        """
        depth_m: Depth = self._values(sha256, "depth")
        return depth_m

    def snapshot(self, sha256: str) -> bytes:
        """A snapshot.

        Raises:
            BlobError: it is missing or unreadable.
        """
        name, data = self.read(sha256, "snapshot")
        try:
            return decode_snapshot(data)
        except ValueError as error:
            raise BlobError(self.record, name, str(error)) from None

    def read(self, sha256: str, kind: BlobKind) -> tuple[str, bytes]:
        """A blob's file, relative to the record, and its bytes, checked against its checksum or its name.

        Raises:
            BlobError: it is missing, unreadable, or not what was written.
        """
        # An image may be compressed while somebody reads: it waits no more then, and its own file is there.
        found = self._file(sha256, kind) or self._waiting(sha256, kind) or self._file(sha256, kind)
        if found is None:
            raise BlobError(self.record, blob_name(sha256, kind), "is missing")
        name, data = found
        if _named_by_file(name, data):
            if hashlib.sha256(data).hexdigest() != sha256:
                raise BlobError(self.record, name, "does not match its hash")
            return found
        try:
            codecs.unsealed(data)
        except ValueError as error:
            raise BlobError(self.record, name, str(error)) from None
        return found

    def _file(self, sha256: str, kind: BlobKind) -> tuple[str, bytes] | None:
        for extension in _EXTENSIONS[kind]:
            name = blob_name(sha256, kind, extension)
            try:
                return name, (self.record / name).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BlobError(self.record, name, f"cannot be read ({error.strerror})") from None
        return None

    def _waiting(self, sha256: str, kind: BlobKind) -> tuple[str, bytes] | None:
        if kind not in _OTHER:
            return None
        path = self.folder / WAITING_FILE
        try:
            data = waiting(path, sha256)
        except OSError as error:
            raise BlobError(self.record, f"{BLOBS_FOLDER}/{path.name}", f"cannot be read ({error.strerror})") from None
        return None if data is None else (blob_name(sha256, kind, _OTHER[kind]), data)

    def sync(self) -> None:
        """Push what was stored since the last call to the disk."""
        self._spool.sync()
        for path in self._unsynced:
            _fsync(path)
        if self._unsynced:
            _fsync(self.folder)
        self._unsynced.clear()

    def _values(self, sha256: str, kind: BlobKind, *, may_be_based: bool = True) -> Any:
        name, data = self.read(sha256, kind)
        try:
            if name.endswith(f".{OLD_RGB}"):
                return codecs.decode_old_rgb(data)
            if kind == "depth" and codecs.is_old_depth(data):
                return codecs.decode_old_depth(data)
            body = codecs.unsealed(data)
            base = codecs.base_of(body)
            if base is not None and not may_be_based:
                raise ValueError("is a base and is based on another")
            decode = codecs.decode_rgb if kind == "rgb" else codecs.decode_depth
            values = decode(body, None if base is None else self._base(base, kind))
        except ValueError as error:
            raise BlobError(self.record, name, str(error)) from None
        if codecs.content_hash(values) != sha256:
            raise BlobError(self.record, name, "does not match its hash")
        return values

    def _base(self, sha256: str, kind: BlobKind) -> Any:
        """A base; the last few are kept, since what follows is based on them too."""
        with self._lock:
            found = self._bases.get((kind, sha256))
        if found is None:
            found = self._values(sha256, kind, may_be_based=False)
            with self._lock:
                self._bases[kind, sha256] = found
                while len(self._bases) > _KEPT_BASES:
                    del self._bases[next(iter(self._bases))]
        return found

    def _write(self, sha256: str, extension: str, data: bytes) -> Path:
        path = self.folder / f"{sha256}.{extension}"
        temporary = self.folder / f".writing-{path.name}"
        try:
            with open(temporary, "wb", buffering=0) as file:
                written = file.write(data)
            if written != len(data):
                raise OSError(28, os.strerror(28))
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RecordWriteError(self.record, error.strerror or str(error)) from error
        return path


def encode_snapshot(data: bytes) -> bytes:
    """Compressed bytes of a snapshot."""
    return zlib.compress(data, 1)


def decode_snapshot(data: bytes) -> bytes:
    """The snapshot in a blob.

    Raises:
        ValueError: it cannot be decompressed.
    """
    try:
        return zlib.decompressobj().decompress(data, _MAX_SNAPSHOT)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed ({error})") from None


def _named_by_file(name: str, data: bytes) -> bool:
    extension = name.rsplit(".", 1)[1]
    return extension in {OLD_RGB, "snapshot", "monty"} or (extension == "depth" and codecs.is_old_depth(data))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
