"""The seams of long tasks: which skill follows which, in what scenes, and the ideal state between the two.

A hand-off test runs a skill B twice: from where a skill A really left the world, and from where A should have left it.
The second is the same scene with A's effect written into it, so that the two differ in nothing but A's real end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiervla.executor.policies.base import SKILLS
from hiervla.representations import UnknownNameError
from hiervla.training.arena import Arena
from hiervla.training.experts import tasks
from hiervla.training.experts.state import Task
from hiervla.training.stories import reachable
from hiervla.training.tasks import FAMILIES, sample_task
from hiervla.worlds.tabletop.sampling import Request, sample_scene, turn_for_grasp
from hiervla.worlds.tabletop.specs import DRAWER_TRAVEL, HOME_TCP, ObjectSpec, SceneSpec

_HOLDS = ("place", "throw_away", "wipe")
_DRAWER = ("open_drawer", "close_drawer")
_FOLLOWS = {
    "pick": frozenset(_HOLDS),
    "place": frozenset({"pick", *_DRAWER}),
    "throw_away": frozenset({"pick", *_DRAWER}),
    "wipe": frozenset({"place", "throw_away"}),
    "open_drawer": frozenset({"pick"}),
    "close_drawer": frozenset({"pick"}),
}
"""What can follow what: the hand decides, and a drawer that was opened is used before it is closed."""


@dataclass(frozen=True)
class Seam:
    """Two skills, one after the other.

    Raises:
        UnknownNameError: there is no such skill.
        UnknownNameError: the second cannot follow the first.
    """

    first: str
    second: str

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for skill in (self.first, self.second):
            if skill not in SKILLS:
                raise UnknownNameError("skill", skill, SKILLS)
        if self.second not in _FOLLOWS[self.first]:
            raise UnknownNameError(f"skill after '{self.first}'", self.second, sorted(_FOLLOWS[self.first]))

    def __str__(self) -> str:
        """``pick -> place``."""
        return f"{self.first} -> {self.second}"


def occurring(samples: int = 120, seed: int = 0) -> dict[Seam, int]:
    """Seams of the experts' plans for the task families, the commonest first, with how often they were met.

    Args:
        samples: tasks of each family that are drawn.
        seed: of the draw.
    """
    rng = np.random.default_rng([0x5EA3, seed])
    met: Counter[tuple[str, str]] = Counter()
    for family in FAMILIES:
        for _ in range(samples):
            steps = [s.skill for s in sample_task(rng, family, min_steps=2).plan()]
            met.update(zip(steps, steps[1:], strict=False))
    return {Seam(*pair): n for pair, n in met.most_common() if pair[1] in _FOLLOWS[pair[0]]}


def seam_scene(seam: Seam, seed: int, rng: np.random.Generator) -> SceneSpec:
    """A random scene in which the first skill can be tried, and the second after it."""
    kinds = ["sponge"] if "wipe" in (seam.first, seam.second) else ["block", "block", "mug", "can", "sponge"]
    if seam == Seam("place", "close_drawer"):
        kinds = ["block", "block", "sponge"]
    loose = kinds[int(rng.integers(len(kinds)))]
    holds = seam.first in _HOLDS
    where = "gripper" if holds else "table"
    if seam.first == "pick" and seam.second != "wipe" and rng.random() < 0.3:
        where = str(rng.choice(["top_shelf", "bottom_shelf"]))
    need: list[Request] = [(loose, None, where)]  # type: ignore[list-item]  # one of the sampler's categories
    if "place" in (seam.first, seam.second):
        need.append(("plate", None))
        if loose == "block":
            need += [("bowl", None), ("block", None, "table")]
    if seam.second == "pick" and holds:
        need.append((("block", "mug", "can")[int(rng.integers(3))], None, "table"))  # type: ignore[arg-type]  # as above
    spill = "wipe" in (seam.first, seam.second)
    opened = {"open_drawer": False, "close_drawer": True}
    follows = opened.get(seam.second)
    drawer = opened.get(seam.first, follows if follows is not None else bool(rng.random() < 0.4))
    stacks = None if seam.first == "pick" and seam.second != "place" else 0
    return sample_scene(
        seed, n_objects=(max(3, len(need)), max(6, len(need))), require=need, gripper=holds, spill=spill,
        stacks=stacks, drawer_open=drawer,
    )  # fmt: skip


def first_task(seam: Seam, arena: Arena, rng: np.random.Generator) -> Task | None:
    """What the first skill is to do; None if it cannot be pointed at or leaves nothing for the second."""
    truth, state = arena.truth, arena.state()
    if seam.first == "pick":
        name = arena.scene.objects[0].id
        covered = any(f[0] == "on" and f[2] == name for f in truth.facts())
        return None if covered else tasks.pick_task(truth, arena.world, state, name, rng)
    if seam.first in _DRAWER:
        return tasks.drawer_task(truth, seam.first, rng)
    return _with_held(seam.first, arena, rng, "drawer" if seam.second == "close_drawer" else None)


def second_task(seam: Seam, arena: Arena, rng: np.random.Generator, like: Task | None = None) -> Task | None:
    """What the second skill is to do in the world as it is now; None where it finds nothing to do.

    Args:
        seam: which.
        arena: the world after the first skill.
        rng: of the choice and of the error in pointing.
        like: a task of the same skill whose things are to be used again.
    """
    if seam.second in _DRAWER:
        return tasks.drawer_task(arena.truth, seam.second, rng)
    if seam.second != "pick":
        return _with_held(seam.second, arena, rng, like=like)
    name = reachable(arena, rng, blocks_first=False) if like is None else str(like.object)
    return None if name is None else tasks.pick_task(arena.truth, arena.world, arena.state(), name, rng)


def _with_held(
    skill: str, arena: Arena, rng: np.random.Generator, place: str | None = None, like: Task | None = None
) -> Task | None:
    state = arena.state()
    held = state.held
    if held is None:
        return None
    if skill == "throw_away":
        return tasks.throw_away_task(arena.truth, held, rng)
    if skill == "wipe":
        return tasks.wipe_task(arena.truth, held, rng)
    options = tasks.place_tasks(arena.truth, state, held, rng)
    if place is not None:
        options = [t for t in options if t.place == place]
    if like is not None:
        options = [t for t in options if (t.onto, t.place) == (like.onto, like.place)]
        if options and like.onto is None and like.place is None:
            return Task(like.skill, like.target_w, held)
    return options[int(rng.integers(len(options)))] if options else None


def ideal_after(scene: SceneSpec, task: Task) -> SceneSpec:
    """The scene as a flawless run of a task would have left it, arm at home."""
    if task.skill == "wipe":
        return scene.replace(spill=None)
    if task.skill in _DRAWER:
        return _slid(scene, DRAWER_TRAVEL if task.skill == "open_drawer" else 0.0)
    spec = scene.object(str(task.object))
    if task.skill == "pick":
        x, y, z = HOME_TCP
        moved = spec.replace(support="gripper", position=(x, y, z - spec.grasp_z), yaw=turn_for_grasp(spec.category))
    else:
        support = "bin" if task.skill == "throw_away" else task.onto or task.place or "table"
        x, y, z = (float(v) for v in task.target_w)
        moved = spec.replace(support=support, position=(x, y, max(z, _floor(scene, support))), yaw=0.0)
    return _with(scene, moved)


def _floor(scene: SceneSpec, support: str) -> float:
    """Height at which things stand on a support, so that nothing starts inside of it [m]."""
    for spec in scene.objects:
        if spec.id == support:
            return spec.position[2] + spec.carry_z
    return scene.furniture.region(support, scene.drawer_open).z  # type: ignore[arg-type]  # a place, as no object is


def _slid(scene: SceneSpec, opening: float) -> SceneSpec:
    shift = scene.drawer_open - opening
    inside = {o.id for o in scene.objects if o.support == "drawer"}

    def there(spec: ObjectSpec) -> ObjectSpec:
        x, y, z = spec.position
        return spec.replace(position=(x, y + shift, z)) if spec.id in inside else spec

    return scene.replace(drawer_open=opening, objects=tuple(there(o) for o in scene.objects))


def _with(scene: SceneSpec, moved: ObjectSpec) -> SceneSpec:
    return scene.replace(objects=tuple(moved if o.id == moved.id else o for o in scene.objects))


def situation(arena: Arena, task: Task) -> dict[str, Any]:
    """What a task is about, as measured success is filed: the thing's kind, and where it lies or is to go."""
    kind = arena.scene.object(task.object).category if task.object else "drawer"
    if task.skill == "wipe":
        return {"kind": kind, "where": "table"}
    if task.skill == "throw_away":
        return {"kind": kind, "where": "bin"}
    if task.skill == "place":
        return {"kind": kind, "where": _support_word(arena, task.onto or task.place or "table")}
    if task.skill == "pick":
        lies = next((f[2] for f in arena.truth.facts() if f[:2] == ("on", task.object)), "table")
        # A camera tells that something stands on a thing, not always on which.
        on_thing = any(o.id == lies for o in arena.scene.objects)
        return {"kind": kind, "where": "on_object" if on_thing else lies}
    return {"kind": "drawer", "where": ""}


def _support_word(arena: Arena, support: str) -> str:
    known = {o.id: str(o.category) for o in arena.scene.objects}
    return known.get(support, support)


__all__ = ["Seam", "first_task", "ideal_after", "occurring", "seam_scene", "second_task", "situation"]
