"""Numpy arrays as strict, read-only pydantic fields with a declared shape and dtype."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    import numpy as np

    NDArray = np.ndarray[Any, Any]
else:
    # numpy takes longer to load than most records to read, and pydantic asks nothing of a field's class but its Array.
    NDArray = object

# A zip bomb in a record must not take the reader's memory with it.
_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Array:
    """Annotation for an array field: ``Annotated[NDArray, Array("float64", 4, 4)]``.

    A shape entry is a number, or a letter that stands for any length. Validation copies the input unless it is
    already read-only, checks dtype kind, shape and (for floats, unless ``allow_nan``) finiteness, and returns a
    read-only array. In JSON the array is ``{"dtype", "shape", "zlib_base64"}``, which round-trips bit for bit.
    """

    dtype: str
    shape: tuple[int | str, ...]
    allow_nan: bool = False

    def __init__(self, dtype: str, *shape: int | str, allow_nan: bool = False) -> None:
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", tuple(shape))
        object.__setattr__(self, "allow_nan", allow_nan)

    def check(self, value: Any) -> NDArray:
        """Return ``value`` as a read-only array of this annotation.

        Raises:
            ValueError: the value is no array or has the wrong dtype, shape, or a NaN or infinity.
        """
        import numpy as np

        want = np.dtype(self.dtype)
        if isinstance(value, dict):
            value = _decode(value)
        array = np.asarray(value)
        if array.dtype != want:
            if not np.can_cast(array.dtype, want, casting="same_kind"):
                raise ValueError(f"dtype is {array.dtype}, expected {want}")
            array = array.astype(want)
        if array.ndim != len(self.shape) or any(
            isinstance(n, int) and n != m for n, m in zip(self.shape, array.shape, strict=True)
        ):
            raise ValueError(f"shape is {array.shape}, expected ({', '.join(map(str, self.shape))})")
        if want.kind == "f" and not self.allow_nan and not np.isfinite(array).all():
            raise ValueError("holds NaN or infinity")
        if array.flags.writeable or not array.flags.c_contiguous:
            array = np.array(array, order="C")
            array.flags.writeable = False
        return array

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate with :meth:`check`; serialise to JSON losslessly and to Python as the array itself."""
        return core_schema.no_info_plain_validator_function(
            self.check,
            serialization=core_schema.plain_serializer_function_ser_schema(_encode, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe the JSON form, with dtype and shape spelled out."""
        shape = ", ".join(map(str, self.shape))
        return {
            "type": "object",
            "description": f"{self.dtype} array of shape ({shape}), C order, zlib then base64",
            "properties": {
                "dtype": {"const": self.dtype},
                "shape": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": len(self.shape),
                    "maxItems": len(self.shape),
                },
                "zlib_base64": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["dtype", "shape", "zlib_base64"],
            "additionalProperties": False,
        }


def _encode(array: NDArray) -> dict[str, Any]:
    import numpy as np

    data = zlib.compress(np.ascontiguousarray(array).tobytes(), 1)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "zlib_base64": base64.b64encode(data).decode("ascii"),
    }


def _decode(value: dict[str, Any]) -> NDArray:
    import numpy as np

    if set(value) != {"dtype", "shape", "zlib_base64"}:
        raise ValueError("an encoded array has exactly the keys dtype, shape, zlib_base64")
    try:
        dtype = np.dtype(str(value["dtype"]))
        shape = tuple(int(n) for n in value["shape"])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0 or size > _MAX_BYTES:
            raise ValueError("encoded array has an unusable dtype or size")
        raw = zlib.decompressobj().decompress(base64.b64decode(value["zlib_base64"], validate=True), size + 1)
    except (TypeError, zlib.error) as error:
        raise ValueError(f"encoded array cannot be decoded: {error}") from error
    if len(raw) != size:
        raise ValueError(f"encoded array holds {len(raw)} bytes, its shape needs {size}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)
