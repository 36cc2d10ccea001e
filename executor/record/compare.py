"""Whether two runs did the same: compares records event by event, leaving out what the computer's clock measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from hiervla.executor.record.reader import RunRecord
from hiervla.representations import Event


@dataclass(frozen=True)
class Difference:
    """The first place at which two records part.

    Attributes:
        place: ``"line 12"`` of the events, or ``"tick 340"`` of the streams.
        field: dotted name of the first field that differs.
        first: its value in the first record.
        second: its value in the second record.
    """

    place: str
    field: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.place}, {self.field}: {self.first!r} against {self.second!r}"


def first_difference(first: RunRecord, second: RunRecord) -> Difference | None:
    """Where two records part, or None when they agree on everything but wall-clock times.

    Images and snapshots are compared through the hashes that the events carry.

    Raises:
        RecordError: one of them is damaged.
    """
    for number, (a, b) in enumerate(zip_longest(first, second), 1):
        found = parting(_timeless(a), _timeless(b), "")
        if found is not None:
            return Difference(f"line {number}", *found)
    for index, (c, d) in enumerate(zip_longest(first.ticks(), second.ticks())):
        if c is None or d is None:
            return Difference(f"tick {index}", "tick", c is not None, d is not None)
        for name, x, y in (
            ("command.q", c.command.q, d.command.q),
            ("command.gripper_width_m", c.command.gripper_width_m, d.command.gripper_width_m),
            ("q", c.q, d.q),
            ("dq", c.dq, d.dq),
            ("gripper_width_m", c.gripper_width_m, d.gripper_width_m),
        ):
            if not np.array_equal(x, y, equal_nan=True):
                return Difference(f"tick {index}", name, x, y)
    return None


def _timeless(event: Event | None) -> Any:
    if event is None:
        return None
    values = timeless(json.loads(event.model_dump_json()))
    # The finished streams hold the events for viewers, wall-clock times included.
    values.pop("streams_sha256", None)
    return values


def timeless(value: Any) -> Any:
    """Plain JSON without what the computer's clock measured."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.startswith("wall_") and k != "latency_s"}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def parting(a: Any, b: Any, path: str) -> tuple[str, Any, Any] | None:
    """Where two values of plain JSON first differ: the dotted place, and both values there."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            found = parting(a.get(key), b.get(key), f"{path}.{key}" if path else key)
            if found is not None:
                return found
        return None
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            found = parting(x, y, f"{path}[{index}]")
            if found is not None:
                return found
        return None
    return None if a == b else (path or "event", a, b)
