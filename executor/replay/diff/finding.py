"""One thing in which two decisions differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hiervla.representations import Typed


@dataclass(frozen=True)
class Finding:
    """One thing in which two decisions differ.

    Attributes:
        field: what differs, such as ``"keypoint 'red mug'"`` or ``"outcome"``.
        text: the difference in words, without the field's name.
        a: value in the first run, None where it has none.
        b: value in the second run, None where it has none.
        distances: measured distances by name and unit, such as ``{"image_px": 3.2, "world_mm": 4.1}``.
    """

    field: str
    text: str
    a: Any = None
    b: Any = None
    distances: Mapping[str, float] | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "field": self.field,
            "text": self.text,
            "a": plain(self.a),
            "b": plain(self.b),
            "distances": dict(self.distances or {}),
        }


def against(field: str, a: Any, b: Any) -> Finding:
    """Two values that are only said to differ."""
    return Finding(field, f"{shown(a)} | {shown(b)}", a, b)


def shown(value: Any) -> str:
    """A value for people: short, without quotes where it is a word."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Typed):
        return json.loads(value.to_json())
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value
