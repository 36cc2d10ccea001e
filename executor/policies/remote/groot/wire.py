"""GR00T's messages: msgpack, with numpy arrays as the bytes of ``.npy`` files.

The format is that of Isaac-GR00T's ``MsgSerializer`` (``gr00t/eval/service.py`` of N1.5,
``gr00t/policy/server_client.py`` of N1.6 and N1.7): an array is ``{"__ndarray_class__": True, "as_npy": bytes}``, a
modality config ``{"__ModalityConfig_class__": True, "as_json": text or map}``, ``as_dict`` in some releases. Servers
before that sent what ``torch.save`` writes, which is a pickle: those are told apart and refused. The header of a
``.npy`` is held to the one form that numpy writes for plain arrays, and its size to the bytes that came, before numpy
sees either.
"""

from __future__ import annotations

import io
import json
import math
import re
from typing import Any

import numpy as np

from hiervla.executor.policies.remote.errors import WireError
from hiervla.executor.policies.remote.wire import PLAIN_KINDS, PackingError, load_msgpack, plain_dtype

_ARRAY, _CONFIG = "__ndarray_class__", "__ModalityConfig_class__"
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[^']{1,8})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[0-9, ]{0,120})\), \} *\n"
)
_MAX_DIMENSIONS = 8
_MAX_HEADER_BYTES = 1024


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        WireError: it holds something that the format has no place for, such as an array of objects.
    """
    try:
        data: bytes = load_msgpack().packb(message, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"it cannot be packed ({error})", "GR00T") from error
    return data


def unpack(data: bytes) -> Any:
    """A message from bytes: maps, lists and numbers; arrays are copies; a modality config is a map of its fields.

    Raises:
        WireError: the bytes are no msgpack, or hold an array of another kind than numbers and strings, or a pickle.
    """
    if data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise WireError("it is a pickle, as GR00T servers before msgpack sent them, and nothing is unpickled", "GR00T")
    msgpack = load_msgpack()
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except WireError:
        raise
    except PackingError as error:
        raise WireError(str(error), "GR00T") from error
    # msgpack raises its own leaves of ValueError, and for bytes of another kind whatever Python does with them.
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"it is no msgpack ({type(error).__name__}: {error})", "GR00T") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in PLAIN_KINDS:
            raise TypeError(f"an array of dtype {value.dtype}")
        file = io.BytesIO()
        np.lib.format.write_array(file, np.array(value, order="C"), version=(1, 0), allow_pickle=False)
        return {_ARRAY: True, "as_npy": file.getvalue()}
    raise TypeError(f"a {type(value).__name__}")


def _decode(value: dict[Any, Any]) -> Any:
    if _ARRAY in value:
        return _array(value.get("as_npy"))
    if _CONFIG in value:
        fields = value.get("as_json", value.get("as_dict"))
        if isinstance(fields, str):
            fields = json.loads(fields)
        if not isinstance(fields, dict):
            raise WireError(f"a modality config comes as a {type(fields).__name__}", "GR00T")
        return fields
    return value


def _array(data: Any) -> np.ndarray[Any, Any]:
    if not isinstance(data, bytes) or data[:6] != _MAGIC or len(data) < 10:
        raise WireError("an array comes without the bytes of a .npy file", "GR00T")
    # Version 1 has two bytes for the length of the header, 2 and 3 have four.
    wide = data[6] != 1
    begin = 12 if wide else 10
    length = int.from_bytes(data[8:begin], "little")
    header = data[begin : begin + length].decode("latin-1") if length <= _MAX_HEADER_BYTES else ""
    found = _HEADER.fullmatch(header)
    if found is None:
        raise WireError(f"an array has the header {header[:80]!r}, where only plain arrays may be sent", "GR00T")
    dtype = plain_dtype(found["dtype"])
    shape = [int(n) for n in found["shape"].replace(",", " ").split()]
    body = data[begin + length :]
    if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * dtype.itemsize != len(body):
        raise WireError(f"an array of shape {shape} and dtype {dtype} comes with {len(body)} bytes", "GR00T")
    order = "F" if found["fortran"] == "True" else "C"
    values = np.frombuffer(body, dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]  # a str of two
    return np.array(values, dtype=dtype.newbyteorder("="), order="C")
