"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) in numpy, fast enough for datasets.

A CRC with a zero start is linear, so a long message is cut into equal lanes that numpy advances together, two bytes
of each at a time; the lanes are then joined pairwise with the operator that appends zero bytes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_SHORT = 512
Words = NDArray[np.uint32]


def _table() -> Words:
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), crc >> np.uint32(1))
    return crc.astype(np.uint32)


_TABLE = _table()
_LIST: list[int] = _TABLE.tolist()
_PAIR = np.arange(65536, dtype=np.uint32)
_PAIR = _TABLE[_PAIR & 0xFF] ^ (_PAIR >> np.uint32(8))
_WIDE: Words = _TABLE[_PAIR & 0xFF] ^ (_PAIR >> np.uint32(8))
"""Two bytes at a time."""


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of `data`."""
    if len(data) < _SHORT:
        crc = 0xFFFFFFFF
        for byte in bytes(data):
            crc = _LIST[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    return _lanes(data) ^ 0xFFFFFFFF


def masked(data: bytes | memoryview) -> int:
    """The checksum as TFRecord stores it: rotated and offset, since data that holds CRCs would weaken them."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _lanes(data: bytes | memoryview) -> int:
    count = 1 << max(4, min(13, len(data).bit_length() // 2))
    length = -(-len(data) // (2 * count)) * 2
    padded = np.zeros(count * length, dtype=np.uint8)
    # Zeros in front leave a zero CRC as it is, and a start of ones is the same as the first four bytes inverted.
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, dtype=np.uint8)
    padded[start : start + 4] ^= 0xFF
    rows = np.ascontiguousarray(padded.view("<u2").reshape(count, length // 2).T)
    crc = np.zeros(count, dtype=np.uint32)
    for row in rows:
        crc = np.take(_WIDE, (crc.astype(np.uint16) ^ row)) ^ (crc >> np.uint32(16))
    while len(crc) > 1:
        crc = _append_zeros(crc[0::2], length) ^ crc[1::2]
        length *= 2
    return int(crc[0])


def _append_zeros(crc: Words, count: int) -> Words:
    """The CRCs (zero start) of the same messages with `count` zero bytes behind them."""
    tables = _operator(count)
    parts = [tables[i][(crc >> np.uint32(8 * i)) & 0xFF] for i in range(4)]
    return np.asarray(parts[0] ^ parts[1] ^ parts[2] ^ parts[3])


@lru_cache(maxsize=256)
def _operator(count: int) -> tuple[Words, ...]:
    """Appending zero bytes as four tables, one for each byte of a CRC."""
    columns = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _TABLE[columns & 0xFF] ^ (columns >> np.uint32(8))
    result = columns
    while count:
        if count & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        count >>= 1
    byte = np.arange(256, dtype=np.uint32)
    return tuple(_apply(result, byte << np.uint32(8 * i)) for i in range(4))


def _apply(matrix: Words, vectors: Words) -> Words:
    """A GF(2) matrix, given by its 32 columns, times vectors of 32 bits."""
    out = np.zeros_like(vectors)
    for bit in range(32):
        out ^= np.where((vectors >> np.uint32(bit)) & 1, matrix[bit], np.uint32(0)).astype(np.uint32)
    return out
