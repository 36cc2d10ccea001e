"""The frame of the thing or place that a skill is about: in it, a motion that works once works elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiervla.training.experts.grasping import landing
from hiervla.training.experts.motion import Vector
from hiervla.training.experts.state import State, Task, Thing

_SQUARE_M = 0.003
"""Sides that differ by less than this are the same to the fingers [m]."""
_ROUND = frozenset({"can", "bowl", "plate"})


@dataclass(frozen=True)
class ObjectFrame:
    """Where it lies when the skill begins, and what else the motion depends on.

    Attributes:
        kind: category of the thing that is picked up, or what receives: ``"plate"``, ``"top_shelf"``, ``"bin"``,
            ``"handle"``, ``"spill"``.
        origin: (3,) in the world frame [m].
        yaw: about world z [rad].
        period: after a turn by this it looks the same [rad]; 0: after any turn; infinite: it never turns, and neither
            may the motion.
        size: full extents of what the fingers are or will be around [m]; zeros where that is always the same.
        held: category of what the gripper holds, or "".
        offset: (3,) tool centre point minus bottom centre of what is held, world axes [m]; zeros if nothing is.
    """

    kind: str
    origin: Vector
    yaw: float
    period: float
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    held: str = ""
    offset: Vector | None = None

    def to_json(self, keypoint: Vector) -> dict[str, Any]:
        """Plain JSON values; the origin becomes relative to the keypoint, as all that demonstrations hold."""
        return {
            "kind": self.kind,
            "origin": [float(v) for v in self.origin - keypoint],
            "yaw": float(self.yaw),
            "period": None if math.isinf(self.period) else float(self.period),
            "size": [float(v) for v in self.size],
            "held": self.held,
            "offset": None if self.offset is None else [float(v) for v in self.offset],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ObjectFrame:
        """The inverse of :meth:`to_json`, with the keypoint at the origin of the world.

        Raises:
            KeyError: a field is missing.
            TypeError: a field is of another type.
            ValueError: a vector has another length, or a number is not finite.
        """
        made = cls(
            str(values["kind"]), _vector(values["origin"]), float(values["yaw"]),
            math.inf if values["period"] is None else float(values["period"]), tuple(_vector(values["size"]).tolist()),
            str(values["held"]), None if values["offset"] is None else _vector(values["offset"]),
        )  # fmt: skip
        if not math.isfinite(made.yaw) or math.isnan(made.period) or made.period < 0.0:
            raise ValueError(f"yaw {made.yaw} and period {made.period} are no angles")
        return made


def object_frame(state: State, task: Task) -> ObjectFrame:
    """The frame of what `task` is about, by ground truth, before anything has moved."""
    if task.skill == "pick":
        thing = state.things[str(task.object)]
        return ObjectFrame(thing.category, thing.position, thing.yaw, _period(thing), thing.size)
    if task.skill in ("open_drawer", "close_drawer"):
        return ObjectFrame("handle", state.handle, 0.0, math.inf)
    held = state.things[str(task.object)]
    about: dict[str, Any] = {"size": held.size, "held": held.category, "offset": state.ee - held.position}
    if task.skill == "place":
        kind = state.things[task.onto].category if task.onto is not None else task.place or "table"
        return ObjectFrame(kind, landing(state, task, held), 0.0, 0.0, **about)
    if task.skill == "throw_away":
        return ObjectFrame("bin", task.target_w, 0.0, 0.0, **about)
    return ObjectFrame("spill", task.target_w, 0.0, math.inf, **about)


def _period(thing: Thing) -> float:
    if thing.category in _ROUND:
        return 0.0
    if thing.category == "block":
        return math.pi / 2 if abs(thing.size[0] - thing.size[1]) < _SQUARE_M else math.pi
    return math.pi if thing.category == "sponge" else 2 * math.pi


def _vector(values: Any) -> Vector:
    made = np.array(values, dtype=np.float64)
    if made.shape != (3,) or not np.isfinite(made).all():
        raise ValueError(f"{values} is no vector of three finite numbers")
    return made
