"""Scenes in symbols: the distribution that the renderer's scenes come from, at thousands a second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hiervla.training.tasks.domain import (
    COLOURS,
    DISHES,
    HOME,
    PICKABLE,
    SymbolicObject,
    SymbolicScene,
    free_spot,
    moved,
    position_on,
    slide_drawer,
    support_problem,
)

_FIXTURES = {
    "top_shelf": (0.30, -0.592, 0.20),
    "bottom_shelf": (0.30, -0.40, 0.06),
    "drawer": (0.46, 0.41, 0.046),
    "bin": (0.20, 0.46, 0.05),
}


def sample_symbolic_scene(
    rng: np.random.Generator,
    need: dict[str, int] | None = None,
    spill: bool | None = None,
    drawer_open: bool | None = None,
) -> SymbolicScene:
    """A random scene.

    Args:
        rng: source of randomness.
        need: least number of objects of some categories.
        spill: whether there is a spill; by chance when None.
        drawer_open: whether the drawer is open; by chance when None.
    """
    is_open = bool(rng.random() < 0.2) if drawer_open is None else drawer_open
    things: dict[str, SymbolicObject] = {}
    for name, (x, y, z) in _FIXTURES.items():
        dx, dy = rng.uniform(-0.02, 0.02, 2)
        things[name] = SymbolicObject(name, name, "none", "table_edge", (x + dx, y + dy, z))
    scene = SymbolicScene(things)
    if is_open:
        scene = slide_drawer(scene, True)
    counts = _counts(rng, need or {})
    kinds = [k for k, n in counts.items() for _ in range(n)]
    colours = _colours(rng, kinds)
    names: dict[str, int] = {}
    objects = dict(scene.objects)
    if rng.random() < 0.35 if spill is None else spill:
        objects["spill_0"] = SymbolicObject("spill_0", "spill", "none", "table", (9.0, 9.0, 0.0))
    scene = SymbolicScene(objects, scene.drawer_open)
    if "spill_0" in objects:
        x, y, _ = free_spot(scene, rng)
        scene = moved(scene, "spill_0", "table", (x, y, 0.0))
    # Dishes first, so that there is room for them and things can be put on them.
    for k in sorted(range(len(kinds)), key=lambda i: kinds[i] not in DISHES):
        kind = kinds[k]
        index = names.get(kind, 0)
        names[kind] = index + 1
        thing = SymbolicObject(f"{kind}_{index}", kind, colours[k], "table", (9.0, 9.0, 0.0))
        scene = SymbolicScene({**scene.objects, thing.id: thing}, scene.drawer_open)
        support = _support(rng, scene, thing)
        position = position_on(scene, support, rng)
        scene = moved(scene, thing.id, support, position)
    return scene


def _counts(rng: np.random.Generator, need: dict[str, int]) -> dict[str, int]:
    counts = {k: need.get(k, 0) for k in ("block", "mug", "can", "sponge", "bowl", "plate")}
    total = int(rng.integers(3, 10) if rng.random() < 0.8 else rng.integers(10, 16))
    limits = {"block": 4, "mug": 3, "can": 3, "sponge": 1, "bowl": 2, "plate": 2}
    kinds = list(counts)
    for _ in range(20):
        if sum(counts.values()) >= total:
            break
        kind = kinds[int(rng.choice(6, p=(0.30, 0.20, 0.15, 0.11, 0.12, 0.12)))]
        if counts[kind] < limits[kind]:
            counts[kind] += 1
    return counts


def _colours(rng: np.random.Generator, kinds: list[str]) -> list[str]:
    """Mostly distinct colours within a category; sometimes two look the same."""
    twins = rng.random() < 0.06
    colours: list[str] = []
    for i, kind in enumerate(kinds):
        used = {c for c, k in zip(colours, kinds[:i], strict=True) if k == kind}
        free = [c for c in COLOURS if twins or c not in used]
        colours.append(free[int(rng.integers(len(free)))])
    return colours


def _support(rng: np.random.Generator, scene: SymbolicScene, thing: SymbolicObject) -> str:
    """The table, or sometimes a dish, a block, a shelf or the open drawer."""
    chance = rng.random()
    options: list[str] = []
    if chance < (0.45 if thing.category == "block" else 0.15):
        options = [o for kind in ("bowl", "plate", "block") for o in scene.category(kind) if o != thing.id]
    elif chance > 0.84 and thing.category not in DISHES:
        options = ["top_shelf", "bottom_shelf", "drawer"]
    options = [s for s in options if support_problem(scene, thing.id, s) is None]
    return options[int(rng.integers(len(options)))] if options else "table"


def hold_something(rng: np.random.Generator, scene: SymbolicScene) -> SymbolicScene:
    """The scene with one of its loose things in the gripper, if there is one that can be."""
    free = [
        o for o in scene.objects.values()
        if o.category in PICKABLE and scene.visible(o.id) and not scene.on(o.id)
    ]  # fmt: skip
    if not free or scene.held:
        return scene
    thing = free[int(rng.integers(len(free)))]
    held = replace(thing, support="gripper", position=HOME)
    return replace(scene, objects={**scene.objects, thing.id: held})
