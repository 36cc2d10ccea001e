"""Foxglove's message types as protobuf, without a protobuf package.

The field numbers are those of https://docs.foxglove.dev/docs/sdk/schemas (each type's ``.proto`` file); a test decodes
what is written here with Foxglove's own package. The wire format is that of
https://protobuf.dev/programming-guides/encoding/, the description of the types that of ``descriptor.proto``.
Only the fields that we set are described: a reader skips none, and asks for no others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

Field = tuple[str, int, str]
"""Name, number, and type; ``*`` before the type says that it is repeated."""

TYPES: dict[str, tuple[Field, ...]] = {
    "google.protobuf.Timestamp": (("seconds", 1, "int64"), ("nanos", 2, "int32")),
    "foxglove.Point2": (("x", 1, "double"), ("y", 2, "double")),
    "foxglove.Color": (("r", 1, "double"), ("g", 2, "double"), ("b", 3, "double"), ("a", 4, "double")),
    "foxglove.Vector3": (("x", 1, "double"), ("y", 2, "double"), ("z", 3, "double")),
    "foxglove.Quaternion": (("x", 1, "double"), ("y", 2, "double"), ("z", 3, "double"), ("w", 4, "double")),
    "foxglove.CompressedImage": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("data", 2, "bytes"),
        ("format", 3, "string"),
        ("frame_id", 4, "string"),
    ),
    "foxglove.RawImage": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("width", 2, "fixed32"),
        ("height", 3, "fixed32"),
        ("encoding", 4, "string"),
        ("step", 5, "fixed32"),
        ("data", 6, "bytes"),
        ("frame_id", 7, "string"),
    ),
    "foxglove.CameraCalibration": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("width", 2, "fixed32"),
        ("height", 3, "fixed32"),
        ("distortion_model", 4, "string"),
        ("D", 5, "*double"),
        ("K", 6, "*double"),
        ("R", 7, "*double"),
        ("P", 8, "*double"),
        ("frame_id", 9, "string"),
    ),
    "foxglove.CircleAnnotation": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("position", 2, "foxglove.Point2"),
        ("diameter", 3, "double"),
        ("thickness", 4, "double"),
        ("fill_color", 5, "foxglove.Color"),
        ("outline_color", 6, "foxglove.Color"),
    ),
    "foxglove.PointsAnnotation": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("type", 2, "foxglove.PointsAnnotation.Type"),
        ("points", 3, "*foxglove.Point2"),
        ("outline_color", 4, "foxglove.Color"),
        ("thickness", 7, "double"),
    ),
    "foxglove.TextAnnotation": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("position", 2, "foxglove.Point2"),
        ("text", 3, "string"),
        ("font_size", 4, "double"),
        ("text_color", 5, "foxglove.Color"),
        ("background_color", 6, "foxglove.Color"),
    ),
    "foxglove.ImageAnnotations": (
        ("circles", 1, "*foxglove.CircleAnnotation"),
        ("points", 2, "*foxglove.PointsAnnotation"),
        ("texts", 3, "*foxglove.TextAnnotation"),
        ("timestamp", 5, "google.protobuf.Timestamp"),
    ),
    "foxglove.FrameTransform": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("parent_frame_id", 2, "string"),
        ("child_frame_id", 3, "string"),
        ("translation", 4, "foxglove.Vector3"),
        ("rotation", 5, "foxglove.Quaternion"),
    ),
    "foxglove.Log": (
        ("timestamp", 1, "google.protobuf.Timestamp"),
        ("level", 2, "foxglove.Log.Level"),
        ("message", 3, "string"),
        ("name", 4, "string"),
        ("file", 5, "string"),
        ("line", 6, "fixed32"),
    ),
}
"""The fields of each message type."""

ENUMS: dict[str, tuple[str, ...]] = {
    "foxglove.PointsAnnotation.Type": ("UNKNOWN", "POINTS", "LINE_LOOP", "LINE_STRIP", "LINE_LIST"),
    "foxglove.Log.Level": ("UNKNOWN", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL"),
}
"""The values of each enumeration, numbered from 0."""

# FieldDescriptorProto.Type
_SCALARS = {"double": 1, "int64": 3, "int32": 5, "fixed32": 7, "string": 9, "bytes": 12}
_MESSAGE, _ENUM = 11, 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def encode(type_name: str, values: Mapping[str, Any]) -> bytes:
    """A message; fields that are not given keep their default, and names that do not exist are a KeyError.

    Args:
        type_name: one of :data:`TYPES`.
        values: by field name: numbers, text, bytes, mappings for messages, names for enumerations, lists of these.
    """
    fields = {name: (number, kind) for name, number, kind in TYPES[type_name]}
    parts = []
    for name, value in values.items():
        number, kind = fields[name]
        if not kind.startswith("*"):
            parts.append(_field(number, kind, value))
        elif kind == "*double":
            parts.append(_block(number, struct.pack(f"<{len(value)}d", *value)))
        else:
            parts += [_field(number, kind[1:], item) for item in value]
    return b"".join(parts)


@cache
def descriptor_set(type_name: str) -> bytes:
    """A ``FileDescriptorSet`` with a type and all that it is made of: the schema of an MCAP channel."""
    names = list(dict.fromkeys(_needed(type_name)))
    packages = list(dict.fromkeys(_package(name) for name in names))
    # A file has to follow the files that it imports.
    files = [_block(1, _file(package, [n for n in names if _package(n) == package], packages)) for package in packages]
    return b"".join(files)


def stamp(time_s: float) -> dict[str, int]:
    """A time on the world's clock as a ``google.protobuf.Timestamp``."""
    nanoseconds = max(0, round(time_s * 1e9))
    return {"seconds": nanoseconds // 1_000_000_000, "nanos": nanoseconds % 1_000_000_000}


def _needed(type_name: str) -> Iterator[str]:
    for _, _, kind in TYPES[type_name]:
        if kind.lstrip("*") in TYPES:
            yield from _needed(kind.lstrip("*"))
    yield type_name


def _package(type_name: str) -> str:
    return type_name.rpartition(".")[0]


def _file(package: str, names: list[str], packages: list[str]) -> bytes:
    before = packages[: packages.index(package)]
    parts = [_text(1, f"{package.replace('.', '/')}.proto"), _text(2, package)]
    parts += [_text(3, f"{other.replace('.', '/')}.proto") for other in before]
    parts += [_block(4, _describe(name)) for name in names]
    return b"".join([*parts, _text(12, "proto3")])


def _describe(type_name: str) -> bytes:
    parts = [_text(1, type_name.rpartition(".")[2])]
    for name, number, kind in TYPES[type_name]:
        plain = kind.lstrip("*")
        field = [_text(1, name), _number(3, number), _number(4, 3 if kind.startswith("*") else 1)]
        if plain in _SCALARS:
            field.append(_number(5, _SCALARS[plain]))
        else:
            field += [_number(5, _ENUM if plain in ENUMS else _MESSAGE), _text(6, f".{plain}")]
        parts.append(_block(2, b"".join(field)))
    for enum, members in ENUMS.items():
        if _package(enum) == type_name:
            body = [_text(1, enum.rpartition(".")[2])]
            body += [_block(2, _text(1, member) + _number(2, value)) for value, member in enumerate(members)]
            parts.append(_block(4, b"".join(body)))
    return b"".join(parts)


def _field(number: int, kind: str, value: Any) -> bytes:
    if kind in TYPES:
        return _block(number, encode(kind, value))
    if kind in ENUMS:
        return _number(number, ENUMS[kind].index(value))
    match kind:
        case "double":
            return _varint(number << 3 | _FIXED64) + struct.pack("<d", value)
        case "fixed32":
            return _varint(number << 3 | _FIXED32) + struct.pack("<I", value)
        case "string":
            return _text(number, value)
        case "bytes":
            return _block(number, value)
        case _:
            return _number(number, value)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _text(number: int, value: str) -> bytes:
    return _block(number, value.encode())


def _block(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
