"""Content-addressed files of a record: images, depth, physical snapshots, suspended programs.

``rgb``: PNG, the very pixels. ``snapshot``: zlib. ``program``: the sandbox's own bytes, which nothing here ever loads
(:mod:`hiervla.skills.programs.sandbox` says why). ``depth``: magic ``HVD1``, a mode byte, height and width (uint32,
little endian), then zstandard of unsigned integers: each row as differences from the left neighbour modulo their
range, all lowest bytes first, then all second bytes, and so on. Mode 1 and 2: uint16 in units of 0.1 mm (65535 stands
for NaN); mode 1 multiplies in float32, mode 2 in float64. Mode 0: the bits of float32 as uint32. The first of the
modes 1, 2, 0 that gives back the very bits is taken.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from hiervla.executor.record.errors import BlobError, RecordWriteError

BlobKind = Literal["rgb", "depth", "snapshot", "program"]
Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
Depth: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"

EXTENSIONS: dict[BlobKind, str] = {"rgb": "png", "depth": "depth", "snapshot": "snapshot", "program": "monty"}
BLOBS_FOLDER = "blobs"

_DEPTH_HEAD = struct.Struct("<4sBII")
_DEPTH_MAGIC = b"HVD1"
_DEPTH_UNIT_M = 1e-4
_DEPTH_NAN = 65535
_MAX_PIXELS = 64_000_000
_MAX_SNAPSHOT = 256 * 1024 * 1024


def blob_name(sha256: str, kind: BlobKind) -> str:
    """Path of a blob relative to its record."""
    return f"{BLOBS_FOLDER}/{sha256}.{EXTENSIONS[kind]}"


class BlobStore:
    """The ``blobs`` folder of one record."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.folder = record / BLOBS_FOLDER
        self._unsynced: list[Path] = []

    def put(self, data: bytes, kind: BlobKind) -> str:
        """Store bytes under their hash, whole or not at all; returns the hash.

        Raises:
            RecordWriteError: the disk refused.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.record / blob_name(sha256, kind)
        if path.exists():
            return sha256
        temporary = self.folder / f".writing-{sha256}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RecordWriteError(self.record, error.strerror or str(error)) from error
        self._unsynced.append(path)
        return sha256

    def get(self, sha256: str, kind: BlobKind) -> bytes:
        """The bytes of a blob, checked against its name.

        Raises:
            BlobError: it is missing, unreadable, or holds other bytes.
        """
        name = blob_name(sha256, kind)
        try:
            data = (self.record / name).read_bytes()
        except FileNotFoundError:
            raise BlobError(self.record, name, "is missing") from None
        except OSError as error:
            raise BlobError(self.record, name, f"cannot be read ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobError(self.record, name, "does not match its hash")
        return data

    def sync(self) -> None:
        """Push what was stored since the last call to the disk."""
        if not self._unsynced:
            return
        for path in self._unsynced:
            _fsync(path)
        _fsync(self.folder)
        self._unsynced.clear()


def encode_rgb(rgb: Pixels) -> bytes:
    """PNG of an (H, W, 3) uint8 image."""
    from PIL import Image

    buffer = io.BytesIO()
    # Level 1 is three times as fast as the default and costs a tenth in size.
    Image.fromarray(rgb, "RGB").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_rgb(data: bytes) -> Pixels:
    """The (H, W, 3) uint8 image in a PNG.

    Raises:
        ValueError: it is no such PNG.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode != "RGB" or image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"is a PNG of mode {image.mode}, {image.width} x {image.height}")
            return np.array(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"is no readable PNG ({error})") from None


def encode_depth(depth_m: Depth) -> bytes:
    """Lossless bytes of an (H, W) float32 depth image [m]."""
    height, width = depth_m.shape
    for mode in (1, 2):
        units = _to_units(depth_m)
        if units is not None and np.array_equal(
            _from_units(units, mode).view(np.uint32), np.ascontiguousarray(depth_m).view(np.uint32)
        ):
            return _DEPTH_HEAD.pack(_DEPTH_MAGIC, mode, height, width) + _pack(units)
    bits = np.ascontiguousarray(depth_m, dtype="<f4").view("<u4")
    return _DEPTH_HEAD.pack(_DEPTH_MAGIC, 0, height, width) + _pack(bits)


def decode_depth(data: bytes) -> Depth:
    """The (H, W) float32 depth image [m] in a depth blob.

    Raises:
        ValueError: it is no depth blob.
    """
    if len(data) < _DEPTH_HEAD.size:
        raise ValueError("is too short for a depth image")
    magic, mode, height, width = _DEPTH_HEAD.unpack_from(data)
    if magic != _DEPTH_MAGIC or mode not in {0, 1, 2} or height * width > _MAX_PIXELS:
        raise ValueError("is no depth image of a known form")
    if mode == 0:
        return _unpack(data[_DEPTH_HEAD.size :], "<u4", height, width).view("<f4").astype(np.float32)
    return _from_units(_unpack(data[_DEPTH_HEAD.size :], "<u2", height, width), mode)


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


def _pack(values: np.ndarray[Any, Any]) -> bytes:
    import zstandard

    delta = np.diff(values, axis=1, prepend=values.dtype.type(0))
    planes = np.ascontiguousarray(delta).view(np.uint8).reshape(-1, values.dtype.itemsize).T
    return zstandard.compress(np.ascontiguousarray(planes).tobytes(), 3)


def _unpack(data: bytes, dtype: str, height: int, width: int) -> np.ndarray[Any, Any]:
    import zstandard

    itemsize = np.dtype(dtype).itemsize
    size = height * width * itemsize
    try:
        body = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
    except zstandard.ZstdError as error:
        raise ValueError(f"cannot be decompressed ({error})") from None
    if len(body) != size:
        raise ValueError(f"holds {len(body)} bytes, its size needs {size}")
    planes = np.frombuffer(body, np.uint8).reshape(itemsize, -1)
    delta = np.ascontiguousarray(planes.T).view(dtype).reshape(height, width)
    return np.cumsum(delta, axis=1, dtype=dtype)


def _to_units(depth_m: Depth) -> np.ndarray[Any, np.dtype[np.uint16]] | None:
    units = np.rint(depth_m.astype(np.float64) / _DEPTH_UNIT_M)
    missing = np.isnan(units)
    if np.any((units < 0) | (units >= _DEPTH_NAN)):
        return None
    return np.where(missing, _DEPTH_NAN, units).astype("<u2")


def _from_units(units: np.ndarray[Any, np.dtype[np.uint16]], mode: int) -> Depth:
    if mode == 1:
        depth_m = units.astype(np.float32) * np.float32(_DEPTH_UNIT_M)
    else:
        depth_m = (units.astype(np.float64) * _DEPTH_UNIT_M).astype(np.float32)
    depth_m[units == _DEPTH_NAN] = np.nan
    return depth_m


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
