"""Base of every typed intermediate: frozen, strict, versioned, closed to unknown fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

SCHEMA_VERSION: Literal[1] = 1
"""Version of all schemas in this package; a record with another version is refused before it is parsed."""

Vec2 = tuple[FiniteFloat, FiniteFloat]
Vec3 = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Quaternion = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Typed(BaseModel):
    """Frozen, strict base model; equality is by content, arrays included."""

    # Built when first used: who looks at a record needs few types, and building all takes as long as reading it.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True, defer_build=True)

    def __eq__(self, other: object) -> bool:
        """Compare by type and content; arrays are compared element by element, with dtype."""
        if self.__class__ is not other.__class__ or not isinstance(other, Typed):
            return NotImplemented
        return all(_equal(getattr(self, name), getattr(other, name)) for name in type(self).model_fields)

    def __hash__(self) -> int:
        """Hash of the JSON form."""
        return hash(self.model_dump_json())

    def to_json(self) -> str:
        """Compact JSON that :meth:`from_json` reads back to an equal value."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse JSON strictly.

        Raises:
            pydantic.ValidationError: the text is not valid JSON for this type.
        """
        return cls.model_validate_json(text)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed.

        Raises:
            pydantic.ValidationError: a changed field is invalid.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate({**values, **changes})


def build_types() -> None:
    """Build every type that is loaded now: a control loop does not want to wait for it at the first use of one."""
    waiting: list[type[Typed]] = [Typed]
    for kind in waiting:
        kind.model_rebuild(raise_errors=False)
        waiting += kind.__subclasses__()


def _equal(a: Any, b: Any) -> bool:
    import numpy as np

    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
