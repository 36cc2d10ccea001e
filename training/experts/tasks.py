"""What to do next in a scene: random tasks with the keypoint that a planner could have pointed at."""

from __future__ import annotations

import numpy as np

from hiervla.representations import CameraFrame
from hiervla.representations.geometry import deproject
from hiervla.training.experts.state import State, Task, Vector
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.specs import BIN_FLOOR_Z, BOTTOM_SHELF_Z, DRAWER_FLOOR_Z, TABLE_X, TABLE_Y, TOP_SHELF_Z
from hiervla.worlds.tabletop.world import TabletopWorld

POINTING_NOISE_M = 0.004


def pick_task(
    truth: GroundTruth, world: TabletopWorld, state: State, name: str, rng: np.random.Generator
) -> Task | None:
    """Pick an object by a visible point on it; None if the front camera does not see it."""
    shown = truth.segmentation("front").mask(name)
    if shown.sum() < 12:
        return None
    frame = world.observe(["front"]).frames[0]
    point = surface_point(frame, shown, rng)
    return None if point is None else Task("pick", point + rng.normal(0.0, POINTING_NOISE_M, 3), object=name)


def surface_point(frame: CameraFrame, mask: np.ndarray, rng: np.random.Generator) -> Vector | None:  # type: ignore[type-arg]
    """A point of the mask, drawn to its middle as a pointing head's peak is."""
    v, u = np.nonzero(mask)
    aim = np.array([v.mean(), u.mean()]) + rng.normal(0.0, 0.25, 2) * np.array([np.ptp(v) + 1, np.ptp(u) + 1]) * 0.6
    k = int(np.argmin((v - aim[0]) ** 2 + (u - aim[1]) ** 2))
    point = deproject(frame)[v[k], u[k]]
    return np.array(point) if np.isfinite(point).all() else None


def free_spot(state: State, thing: str, rng: np.random.Generator, keep: float = 0.0) -> Vector | None:
    """A place on the table with room for an object and the fingers around it."""
    size = state.things[thing].size
    radius = float(np.hypot(size[0], size[1])) / 2
    for _ in range(60):
        spot = np.array([rng.uniform(*TABLE_X), rng.uniform(*TABLE_Y)])
        clear = all(
            float(np.hypot(*(o.position[:2] - spot))) > radius + float(np.hypot(*o.size[:2])) / 2 * 0.8 + 0.035 + keep
            for o in state.things.values()
            if o.id != thing
        )
        # The top of tall neighbours must stay clear of the hand, which is wide along y.
        hand = all(
            abs(o.position[0] - spot[0]) > 0.085 or abs(o.position[1] - spot[1]) > 0.145 or o.size[2] < 0.05
            for o in state.things.values()
            if o.id != thing
        )
        if clear and hand:
            return np.array([*spot, 0.0])
    return None


def place_tasks(truth: GroundTruth, state: State, name: str, rng: np.random.Generator) -> list[Task]:
    """Everywhere that a held object can go, one task a kind of place."""
    thing = state.things[name]
    furniture = truth.scene.furniture
    tasks = []
    spot = free_spot(state, name, rng)
    if spot is not None:
        tasks.append(Task("place", spot, object=name))
    occupied = [o.position for o in state.things.values() if o.id != name]
    for place, z in (("top_shelf", TOP_SHELF_Z), ("bottom_shelf", BOTTOM_SHELF_Z)):
        region = furniture.region(place)  # type: ignore[arg-type]
        for _ in range(20):
            x = region.centre[0] + rng.uniform(-0.095, 0.095)
            y = region.centre[1] + rng.uniform(-0.008, 0.008)
            rivals = [p for p in occupied if region.contains(float(p[0]), float(p[1])) and abs(p[2] - z) < 0.03]
            if all(abs(p[0] - x) > 0.105 for p in rivals):
                tasks.append(Task("place", np.array([x, y, z]), object=name, place=place))
                break
    if state.drawer_open > 0.11 and thing.category in ("block", "sponge"):
        region = furniture.region("drawer", state.drawer_open)
        if not any(region.contains(float(p[0]), float(p[1])) and p[2] < 0.06 for p in occupied):
            near = rng.uniform(-0.02, 0.02, 2)
            spot = np.array([region.centre[0] + near[0], region.centre[1] + near[1], DRAWER_FLOOR_Z])
            tasks.append(Task("place", spot, object=name, place="drawer"))
    for base in state.things.values():
        if base.id == name or base.upright < 0.99 or base.position[2] > 0.01:
            continue
        fits = {"plate": ("block", "mug", "can", "sponge"), "bowl": ("block",), "block": ("block",)}
        if thing.category not in fits.get(base.category, ()):
            continue
        if any(np.hypot(*(p[:2] - base.position[:2])) < 0.04 for p in occupied if p is not base.position):
            continue
        spread = {"plate": 0.015, "bowl": 0.012, "block": 0.007}[base.category]
        offset = np.clip(rng.normal(0.0, spread, 2), -2 * spread, 2 * spread)
        height = {"plate": 0.006, "bowl": 0.006}.get(base.category, base.size[2])
        target = base.position + np.array([*offset, height])
        tasks.append(Task("place", target, object=name, onto=base.id))
    noise = POINTING_NOISE_M
    return [Task(t.skill, t.target_w + rng.normal(0, noise, 3) * (1, 1, 0.5), t.object, t.onto, t.place) for t in tasks]


def throw_away_task(truth: GroundTruth, name: str, rng: np.random.Generator) -> Task:
    """Throw the held object into the bin, pointing somewhere at the middle of its floor."""
    x, y = truth.scene.furniture.bin_xy
    spot = np.array([x, y, BIN_FLOOR_Z]) + rng.normal(0.0, 0.008, 3)
    return Task("throw_away", spot, object=name)


def drawer_task(truth: GroundTruth, skill: str, rng: np.random.Generator) -> Task:
    """Open or close the drawer, pointing at its handle."""
    noise = rng.normal(0.0, POINTING_NOISE_M, 3)
    along = np.array([rng.uniform(-0.02, 0.02), 0.0, 0.0])
    return Task(skill, np.array(truth.handle()) + noise + along)


def wipe_task(truth: GroundTruth, name: str, rng: np.random.Generator) -> Task | None:
    """Wipe the spill with a held sponge, pointing at its middle."""
    spill = truth.scene.spill
    if spill is None:
        return None
    centre = np.array([*spill.centre, 0.001]) + rng.normal(0.0, POINTING_NOISE_M, 3) * (1, 1, 0.3)
    return Task("wipe", centre, object=name)
