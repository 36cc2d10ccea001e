"""`tf.train.Example` in the protobuf wire format (https://protobuf.dev/programming-guides/encoding).

Example { Features features = 1 }, Features { map<string, Feature> feature = 1 },
Feature { oneof { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3 } },
each list { repeated value = 1 }, numbers packed or not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Value = list[bytes] | NDArray[np.float32] | NDArray[np.int64]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no message of this kind."""


def read_example(data: bytes) -> dict[str, Value]:
    """The features of an Example by key.

    Raises:
        WireError: the bytes are no Example.
    """
    features: dict[str, Value] = {}
    for number, kind, body in _fields(memoryview(data)):
        if number != 1 or kind != _BYTES:
            continue
        for inner, inner_kind, entry in _fields(_message(body)):
            if inner == 1 and inner_kind == _BYTES:
                key, value = _entry(_message(entry))
                features[key] = value
    return features


def _entry(data: memoryview) -> tuple[str, Value]:
    key, value = "", memoryview(b"")
    for number, kind, body in _fields(data):
        if kind != _BYTES:
            raise WireError("a feature's key or value has the wrong wire type")
        if number == 1:
            try:
                key = bytes(_message(body)).decode()
            except UnicodeDecodeError as error:
                raise WireError("a feature's key is not UTF-8") from error
        elif number == 2:
            value = _message(body)
    return key, _feature(value)


def _feature(data: memoryview) -> Value:
    for number, kind, body in _fields(data):
        if kind != _BYTES:
            raise WireError("a feature's list has the wrong wire type")
        inside = _message(body)
        if number == 1:
            return [bytes(_message(v)) for n, k, v in _fields(inside) if n == 1 and k == _BYTES]
        if number == 2:
            return _floats(inside)
        if number == 3:
            return _integers(inside)
    # What was empty is written without a kind.
    return []


def _floats(data: memoryview) -> NDArray[np.float32]:
    parts: list[NDArray[np.float32]] = []
    for _, kind, body in _fields(data):
        if kind not in (_BYTES, _FIXED32):
            raise WireError("a list of floats has the wrong wire type")
        raw = _message(body)
        if len(raw) % 4:
            raise WireError("a list of floats ends within a number")
        parts.append(np.frombuffer(raw, dtype="<f4"))
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def _integers(data: memoryview) -> NDArray[np.int64]:
    parts: list[NDArray[np.int64]] = []
    for _, kind, body in _fields(data):
        if kind == _BYTES:
            parts.append(_varints(_message(body)))
        elif kind == _VARINT and isinstance(body, int):
            parts.append(np.array([body], dtype=np.uint64).view(np.int64))
        else:
            raise WireError("a list of integers has the wrong wire type")
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _varints(data: memoryview) -> NDArray[np.int64]:
    """Packed varints, all at once."""
    raw = np.frombuffer(data, dtype=np.uint8)
    if len(raw) == 0:
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if len(ends) == 0 or ends[-1] != len(raw) - 1:
        raise WireError("a list of integers ends within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    if (ends - starts).max() > 9:
        raise WireError("an integer has more than ten bytes")
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    bits = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts).view(np.int64)


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """(number, wire type, value) of a message's fields."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise WireError(f"wire type {kind} is none of this format")
        if at + size > len(data):
            raise WireError("a field ends beyond its message")
        yield number, kind, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + i + 1
    raise WireError("a varint is cut off or too long")


def _message(body: memoryview | int) -> memoryview:
    if isinstance(body, int):
        raise WireError("a number stands where a message should")
    return body
