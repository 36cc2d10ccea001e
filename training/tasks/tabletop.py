"""Tasks in real tabletop scenes: from a `SceneSpec` to symbols, and from a world's end state to "goal reached".

This side knows the truth. It makes tasks and judges outcomes; nothing that plans or acts may import it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hiervla.training.tasks.camera import FrontCamera
from hiervla.training.tasks.domain import Fact, SymbolicObject, SymbolicScene, spatial_facts
from hiervla.training.tasks.goals import Goal, goal_satisfied
from hiervla.training.tasks.phrases import Split
from hiervla.training.tasks.tasks import MAX_PLAN, Task, task_in
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import SceneSpec, sample_scene
from hiervla.worlds.tabletop.specs import BIN_HEIGHT

_OPEN_M = 0.06


def symbolic_scene(scene: SceneSpec) -> SymbolicScene:
    """The scene in symbols, as it stands at the start."""
    furniture = scene.furniture
    places = {
        "drawer": furniture.handle(scene.drawer_open),
        "bin": (*furniture.bin_xy, BIN_HEIGHT / 2),
        "top_shelf": (*furniture.region("top_shelf").centre, furniture.region("top_shelf").z),
        "bottom_shelf": (*furniture.region("bottom_shelf").centre, furniture.region("bottom_shelf").z),
    }
    things = {name: SymbolicObject(name, name, "none", "table_edge", at) for name, at in places.items()}
    for o in scene.objects:
        things[o.id] = SymbolicObject(o.id, o.category, o.colour, o.support, o.position)
    if scene.spill is not None:
        x, y = scene.spill.centre
        things[scene.spill.id] = SymbolicObject(scene.spill.id, "spill", "none", "table", (x, y, 0.0))
    return SymbolicScene(things, scene.drawer_open > _OPEN_M)


def camera_of(scene: SceneSpec) -> FrontCamera:
    """The front camera of a scene as the symbolic world sees through it."""
    plain = FrontCamera()
    look = scene.look
    focal = 0.5 * 0.75 / float(np.tan(np.radians(look.fovy_deg) / 2))
    eye = tuple(a + b for a, b in zip(plain.eye, look.camera_shift, strict=True))
    at = tuple(a + b for a, b in zip(plain.look_at, look.target_shift, strict=True))
    return FrontCamera((eye[0], eye[1], eye[2]), (at[0], at[1], at[2]), focal, plain.aspect)


def _request(rng: np.random.Generator, family: str) -> dict[str, Any]:
    """What a scene needs so that a task of the family can be asked in it."""
    options: dict[str, Any] = {"n_objects": (4, 7), "spill": bool(rng.random() < 0.25), "shelf_prob": 0.12}
    wishes: list[tuple[Any, ...]] = []
    if family == "clear_table":
        options["n_objects"] = (3, 5)
        options["shelf_prob"] = 0.0
    elif family == "wipe":
        wishes, options["spill"] = [("sponge", None, "table")], True
    elif family == "shelf":
        wishes = [("mug", None, "table"), ("block", None, "table")]
    elif family == "drawer":
        wishes, options["drawer_open"] = [("block", None, "table")], bool(rng.random() < 0.25)
    elif family == "stack":
        wishes = [("block", None, "table"), ("block", None, "#0"), (str(rng.choice(["plate", "bowl"])), None, "table")]
        if rng.random() < 0.4:
            wishes = [("block", None, "table"), ("block", None, "table"), ("block", None, "table")]
    elif family == "swap":
        dishes = [str(d) for d in rng.choice(["plate", "bowl"], 2)]
        wishes = [(dishes[0], None, "table"), (dishes[1], None, "table"), ("block", None, "#0"), ("block", None, "#1")]
        options["n_objects"] = (4, 5)
    elif family == "rubbish":
        wishes = [("can", None, "table"), ("can", None, "table")]
    return {"require": wishes, **options}


CROWDED = (12, 15)
"""Loose things that a crowded scene is drawn with; what finds no room is left out."""


def sample_scene_for(
    family: str,
    seed: int,
    split: Split = "test",
    min_steps: int = 3,
    max_steps: int = MAX_PLAN,
    *,
    crowded: bool = False,
) -> tuple[SceneSpec, Task]:
    """A tabletop scene and a task of a family in it; the same arguments give the same pair.

    Args:
        family: one of `FAMILIES`, "other" or "refuse".
        seed: of everything.
        split: which wordings to use.
        min_steps: fewest steps of the expert's plan (0 for "refuse").
        max_steps: most steps.
        crowded: as many things as fit, look-alikes among them.

    Raises:
        RuntimeError: no such task was found in many scenes; the range of steps does not suit the family.
    """
    for attempt in range(200):
        rng = np.random.default_rng([0x7A5C, seed, attempt])
        options = _request(rng, family)
        if crowded:
            options |= {"n_objects": CROWDED, "distinct": False}
        scene = sample_scene(int(rng.integers(2**31 - 1)), **options)
        task = task_in(rng, symbolic_scene(scene), family, split, camera_of(scene), min_steps, max_steps)
        if task is not None:
            return scene, task
    raise RuntimeError(f"no {family} task of {min_steps} to {max_steps} steps was found for seed {seed}")


def true_facts(truth: GroundTruth) -> frozenset[Fact]:
    """All facts that goals speak of, as they are in the world now.

    What lies on something in the bin or in the drawer is in there, too.
    """
    found = truth.facts()
    below = {f[1]: f[2] for f in found if f[0] == "on"}
    for thing, support in below.items():
        root = support
        while root in below:
            root = below[root]
        if root in ("bin", "drawer"):
            found |= {("on", thing, root)}
    table = {f[1]: truth.position(f[1]) for f in found if f[0] == "on" and f[2] == "table"}
    xy = {name: (float(p[0]), float(p[1])) for name, p in table.items()}
    return frozenset(found | spatial_facts(xy))


def goal_reached(truth: GroundTruth, goal: Goal) -> bool:
    """Whether the world's present state fulfils the goal."""
    return goal_satisfied(true_facts(truth), goal)
