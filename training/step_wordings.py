"""What a planner could say of a task, in varied wordings, for steps that experts show and policies are tried on.

The words follow from the task alone, so that they are the same whoever does it, and no other chance depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from hiervla.executor.policies.base import SKILLS
from hiervla.training.arena import Arena
from hiervla.training.experts.state import Task
from hiervla.training.tasks.phrases import NOUNS, choose
from hiervla.worlds.tabletop.specs import SceneSpec

WORDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    # {x}: the thing, {s}: from where, {d}: on or in what; the first of each is how the shipped planner puts it
    "pick": (
        "pick up {x} from {s}", "pick up {x}", "pick {x} up", "grab {x}", "take {x}", "take {x} from {s}", "lift {x}",
        "get {x}", "grasp {x}", "fetch {x} from {s}",
    ),
    "place": (
        "put {x} {d}", "put {x} down {d}", "place {x} {d}", "set {x} down {d}", "lay {x} {d}",
        "move {x} so that it is {d}", "leave {x} {d}",
    ),
    "throw_away": (
        "throw {x} away", "throw away {x}", "throw {x} into {bin}", "drop {x} into {bin}", "put {x} in {bin}",
        "discard {x}", "get rid of {x}", "toss {x} out",
    ),
    "open_drawer": ("open the drawer", "pull the drawer open", "pull out the drawer", "slide the drawer open"),
    "close_drawer": ("close the drawer", "shut the drawer", "push the drawer shut", "push the drawer in"),
    "wipe": (
        "wipe up {spill}", "wipe up {spill} with {x}", "wipe {spill} away", "clean up {spill}", "mop up {spill}",
        "wipe {table} where {spill} is",
    ),
}  # fmt: skip
BARE: Final = 0.25
"""How often the colour is left out where there is one thing of that category only."""
_INSIDE: Final = frozenset({"bowl", "drawer", "bin"})


def worded(task: Task, arena: Arena) -> Task:
    """The task with words, unless it has some; what it is about is named as a planner that sees it could."""
    if task.words:
        return task
    support = next((f[2] for f in arena.truth.facts() if f[:2] == ("on", str(task.object))), "table")
    return replace(task, words=wording(task, arena.scene, support))


def wording(task: Task, scene: SceneSpec, support: str = "table") -> str:
    """A sentence for a task, without a full stop.

    Args:
        task: what is to be done.
        scene: the things that there are.
        support: id of what the thing lies on, or a place.
    """
    place = np.frombuffer(np.asarray(task.target_w, dtype=np.float64).tobytes(), dtype=np.uint32)
    rng = np.random.default_rng([0x3A1D, SKILLS.index(task.skill), *place.tolist()])
    goal = task.onto or task.place or "table"
    inside = "in" if _kind(goal, scene) in _INSIDE else "on"
    return choose(rng, WORDINGS[task.skill]).format(
        x=_the(rng, task.object or "", scene),
        s=_the(rng, support, scene),
        d=f"{inside} {_the(rng, goal, scene)}",
        bin=_the(rng, "bin", scene),
        spill=_the(rng, "spill", scene),
        table=_the(rng, "table", scene),
    )


def _kind(name: str, scene: SceneSpec) -> str:
    return next((o.category for o in scene.objects if o.id == name), name)


def _the(rng: np.random.Generator, name: str, scene: SceneSpec) -> str:
    """The name with its article: "the red block", or "the block" at times where there is no other."""
    kind = _kind(name, scene)
    word = choose(rng, NOUNS[kind]) if kind in NOUNS else kind.replace("_", " ")
    colours = [o.colour for o in scene.objects if o.id == name]
    peers = sum(o.category == kind for o in scene.objects)
    bare = rng.random() < BARE and peers == 1
    return f"the {colours[0]} {word}" if colours and not bare else f"the {word}"


__all__ = ["WORDINGS", "worded", "wording"]
