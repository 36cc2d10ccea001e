"""Privileged scripted experts: they look at ground truth and label demonstrations. No policy may import them."""

from __future__ import annotations

from collections.abc import Callable

from hiervla.training.experts import grasping, surfaces
from hiervla.training.experts.motion import Waypoint
from hiervla.training.experts.state import State, Task

Expert = Callable[[State, Task], tuple[list[Waypoint], float, bool]]
"""From the present state to waypoints, progress in 0..1, and whether nothing is left to do."""

EXPERTS: dict[str, Expert] = {
    "pick": grasping.pick,
    "place": grasping.place,
    "throw_away": grasping.throw_away,
    "open_drawer": surfaces.open_drawer,
    "close_drawer": surfaces.close_drawer,
    "wipe": surfaces.wipe,
}

__all__ = ["EXPERTS", "Expert", "State", "Task"]
