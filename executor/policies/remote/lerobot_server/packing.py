"""openpi's messages: msgpack, with numpy arrays as maps of their bytes.

The format is that of ``openpi_client.msgpack_numpy`` 0.1.2: an array is ``{b"__ndarray__": True, b"data": bytes,
b"dtype": str, b"shape": [..]}``, a numpy scalar ``{b"__npgeneric__": True, b"data": value, b"dtype": str}``. Nothing is
ever unpickled: only numbers, booleans and strings are arrays here, and what a header says is checked against the bytes
that came before numpy sees either.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

MAX_MESSAGE_BYTES = 64 * 2**20
"""A message longer than this is refused by both sides [bytes]."""
PLAIN_KINDS = "biufSU"
"""Kinds of arrays that may be sent: booleans, numbers, strings."""
_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"
_DTYPE = re.compile(rf"[<>|=]?[{PLAIN_KINDS}?]\d{{0,4}}")
_MAX_DIMENSIONS = 8


class PackingError(ValueError):
    """Bytes that are no message of the protocol, or a value that it cannot carry."""


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        PackingError: it holds something that the format has no place for, such as an array of objects.
    """
    import msgpack

    try:
        data: bytes = msgpack.packb(message, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise PackingError(f"it cannot be packed ({error})") from error
    return data


def unpack(data: bytes) -> dict[str, Any]:
    """A message from bytes; arrays are copies, in the byte order of this machine.

    Raises:
        PackingError: the bytes are no msgpack, hold an array of another kind than numbers and strings, or are no map.
    """
    import msgpack

    try:
        message = msgpack.unpackb(data, object_hook=_decode)
    except PackingError:
        raise
    # msgpack raises its own leaves of ValueError, and for bytes of another kind whatever Python does with them.
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise PackingError(f"it is no msgpack ({type(error).__name__}: {error})") from error
    if not isinstance(message, dict):
        raise PackingError(f"it holds a {type(message).__name__} where a map is expected")
    return message


def _encode(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in PLAIN_KINDS:
            raise TypeError(f"an array of dtype {value.dtype}")
        if isinstance(value, np.ndarray):
            return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__}")


def _decode(value: dict[Any, Any]) -> Any:
    if _ARRAY in value:
        dtype, data, shape = plain_dtype(value.get(b"dtype")), value.get(b"data"), value.get(b"shape")
        if not isinstance(data, bytes):
            raise PackingError("an array comes without its bytes")
        if (
            not isinstance(shape, list)
            or len(shape) > _MAX_DIMENSIONS
            or not all(type(n) is int and n >= 0 for n in shape)
        ):
            raise PackingError(f"an array has the shape {str(shape)[:60]}")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise PackingError(f"an array of shape {shape} and dtype {dtype} comes with {len(data)} bytes")
        return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=True)
    if _SCALAR in value:
        plain = value.get(b"data")
        if not isinstance(plain, (bool, int, float, str, bytes)):
            raise PackingError(f"a numpy scalar comes as a {type(plain).__name__}")
        return plain_dtype(value.get(b"dtype")).newbyteorder("=").type(plain)
    return value


def plain_dtype(text: Any) -> np.dtype[Any]:
    """A dtype from its short form, of a plain kind: objects, records and names have no place in a message.

    Raises:
        PackingError: it is none of these.
    """
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise PackingError(f"an array has the dtype {str(text)[:60]!r}, where only numbers and strings may be sent")
    try:
        dtype = np.dtype(text)
    except TypeError as error:
        raise PackingError(f"an array has the dtype {text!r}, which there is not") from error
    if dtype.itemsize == 0 or dtype.kind not in PLAIN_KINDS:
        raise PackingError(f"an array has the dtype {text!r}, which holds nothing")
    return dtype
