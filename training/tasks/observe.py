"""What the vision tower would say about a symbolic scene: noisy, soft slots, made without an image."""

from __future__ import annotations

import numpy as np

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES, SceneSlots, sort_slots
from hiervla.training.tasks.camera import FrontCamera, seen_points
from hiervla.training.tasks.domain import FIXTURES, LOOSE, SymbolicScene

_CATEGORY = {c: i for i, c in enumerate(CATEGORIES)}
_COLOUR = {c: i for i, c in enumerate(COLOURS)}
_STATE = {s: i for i, s in enumerate(STATES)}


def state_of(scene: SymbolicScene, object_id: str) -> str:
    """The slot state of a thing."""
    o = scene.objects[object_id]
    if o.category == "drawer":
        return "open" if scene.drawer_open else "closed"
    if o.category in FIXTURES:
        return "none"
    base = scene.objects.get(o.support)
    return "on_object" if base is not None and base.category in LOOSE else o.support


def observe(
    scene: SymbolicScene, camera: FrontCamera, rng: np.random.Generator | None = None
) -> tuple[SceneSlots, list[str]]:
    """Slots from left to right, and the id behind each of them.

    Args:
        scene: what there is.
        camera: where it is seen from.
        rng: source of the noise; certain and exact slots without.
    """
    ids, points = seen_points(scene)
    uv = camera.project(points)
    things = [scene.objects[i] for i in ids]
    category = _soft([_CATEGORY[o.category] for o in things], len(CATEGORIES), rng, 0.10, 0.6)
    colours = [_COLOUR[o.colour] for o in things]
    if rng is not None:
        # A spill has the colour of what was spilled, which means nothing here.
        colours = [
            int(rng.integers(len(COLOURS))) if o.category == "spill" else c
            for o, c in zip(things, colours, strict=True)
        ]
        fixed = np.array([o.category in FIXTURES for o in things])
        uv = uv + rng.normal(0.0, 1.0, uv.shape) * np.where(fixed[:, None], 0.02, (0.004, 0.008))
    colour = _soft(colours, len(COLOURS), rng, 0.15, 0.55)
    state = _soft([_STATE[state_of(scene, i)] for i in ids], len(STATES), rng, 0.10, 0.55)
    slots = SceneSlots(category, colour, state, np.clip(uv, -0.2, 1.2).astype(np.float32))
    ordered, order = sort_slots(slots)
    return ordered, [ids[k] for k in order]


def _soft(
    labels: list[int], size: int, rng: np.random.Generator | None, doubt_rate: float, least: float
) -> np.ndarray:
    """Probabilities (n, size): nearly one-hot, at times with real doubt between two classes."""
    n = len(labels)
    hot = np.zeros((n, size), np.float32)
    hot[np.arange(n), labels] = 1.0
    if rng is None:
        return hot
    sure = rng.uniform(0.93, 1.0, (n, 1))
    doubt = rng.random((n, 1)) < doubt_rate
    mass = np.where(doubt, rng.uniform(least, 0.95, (n, 1)), sure)
    rival = np.zeros_like(hot)
    rival[np.arange(n), rng.integers(size, size=n)] = 1.0
    even = np.full_like(hot, 1.0 / size)
    soft: np.ndarray = (mass * hot + (1.0 - mass) * np.where(doubt, rival, even)).astype(np.float32)
    return soft
