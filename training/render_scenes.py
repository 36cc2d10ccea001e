"""Labelled images of random scenes for training and testing the planner's eyes.

Every scene is placed, not simulated: what matters is how things look, and a picture costs 40 ms that way. The
shards hold the image, which thing each pixel shows, and for each thing what it is, where and in what state.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES
from hiervla.worlds.tabletop.model import TabletopModel, build_model, set_initial_state
from hiervla.worlds.tabletop.rendering import OffscreenRenderer
from hiervla.worlds.tabletop.sampling import Request, SceneRequestError
from hiervla.worlds.tabletop.scene import ObjectSpec, SceneSpec, sample_scene
from hiervla.worlds.tabletop.specs import BIN_FLOOR_Z, BIN_HEIGHT, PICKABLE
from hiervla.worlds.tabletop.things import spill_points

WIDTH: Final = 256
HEIGHT: Final = 192
MIN_PIXELS: Final = 25
"""A thing that shows fewer pixels gets no label: people would not see it either."""
FIXTURES: Final = ("bin", "top_shelf", "bottom_shelf", "drawer")


@dataclass(frozen=True)
class Thing:
    """The label of one visible thing; `u`, `v` and `box` in pixels, `pixel` its value in the segmentation."""

    id: str
    category: str
    colour: str
    state: str
    u: float
    v: float
    box: tuple[float, float, float, float]
    pixels: int
    pixel: int


@dataclass(frozen=True)
class RenderedScene:
    """One labelled picture.

    Attributes:
        rgb: (H, W, 3) uint8.
        segments: (H, W) uint8, 0 for nothing of interest, else a thing's `pixel`.
        things: the visible things.
        spec: the scene as rendered; its spill's centre is that of what is left.
        K: (3, 3) intrinsics.
        T_world_camera: (4, 4).
    """

    rgb: NDArray[np.uint8]
    segments: NDArray[np.uint8]
    things: tuple[Thing, ...]
    spec: SceneSpec
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]


def render_scene(spec: SceneSpec, rng: np.random.Generator, wiped: float = 0.0) -> RenderedScene:
    """Place a scene's things, without physics, and take the front camera's picture.

    Args:
        spec: the scene.
        rng: draws the arm's small errors of posture, and poses within the bin.
        wiped: about how much of the spill has been wiped away, 0..1.
    """
    model = build_model(spec, WIDTH, HEIGHT)
    data = mujoco.MjData(model.mj)
    posture = np.array(panda.HOME_Q) + rng.normal(0.0, 0.004, panda.N_JOINTS)
    set_initial_state(model, data, posture)
    if not spec.carried_by("gripper") and rng.random() < 0.3:
        data.qpos[model.finger_qpos] = rng.uniform(0.0, panda.GRIPPER_MAX_WIDTH_M / 2)
    _tumble_bin(model, data, rng)
    spec = _wipe(model, rng, wiped)
    mujoco.mj_kinematics(model.mj, data)
    mujoco.mj_comPos(model.mj, data)
    mujoco.mj_camlight(model.mj, data)
    camera = model.mj.camera("front").id
    renderer = OffscreenRenderer(model.mj, WIDTH, HEIGHT)
    try:
        rgb, _ = renderer.render(data, camera, depth=False)
        geoms = renderer.geom_ids(data, camera)
    finally:
        renderer.close()
    K, T = _calibration(model.mj, data, camera, WIDTH, HEIGHT)
    segments, things = _label(model, spec, geoms, K, T)
    return RenderedScene(rgb, segments, things, spec, K, T)


def sample_training_scene(seed: int, hard: bool = False) -> tuple[SceneSpec, float]:
    """A scene as one may meet it before, between and after the steps of any task, and how far its spill is wiped.

    Wider than what tasks start from: towers, full shelves and drawers, several things in the bin, any yaw.

    Args:
        seed: of everything.
        hard: mostly towers, crowds and look-alikes, which are what the eyes get wrong.
    """
    rng = np.random.default_rng([0x5CE4E, seed])
    require: list[Request] = []
    chance = rng.random()
    if hard:
        chance = chance / 6 if chance < 0.6 else chance / 2 - 0.2
    if chance < 0.10:
        require = [("block", None), ("block", None, "#0")]
        if rng.random() < 0.5:
            require.append(("block", None, "#1"))
    elif chance < 0.22:
        require = [(str(rng.choice(["plate", "bowl"])), None), ("block", None, "#0")]
    elif chance < 0.30:
        require = [("sponge", None)]
    held = rng.random() < 0.22
    if held:
        kind = None if rng.random() < 0.6 else "sponge" if rng.random() < 0.6 else "block"
        require.append((kind, None, "gripper"))
    low, high = ((0, 3), (2, 6), (4, 10))[int(rng.choice(3, p=(0.12, 0.38, 0.50)))]
    if hard:
        low, high = ((3, 6), (4, 10), (10, 15))[int(rng.choice(3, p=(0.35, 0.30, 0.35)))]
    options: dict[str, Any] = {
        "n_objects": (low, high),
        "spill": bool(rng.random() < 0.35),
        "drawer_open": bool(rng.random() < 0.35),
        "shelf_prob": 0.28,
        "distinct": bool(rng.random() < (0.5 if hard else 0.8)),
    }
    for attempt in range(8):
        try:
            spec = sample_scene(int(rng.integers(2**31 - 1)), require=require if attempt < 4 else (), **options)
            break
        except SceneRequestError:
            continue
    else:
        raise RuntimeError("no scene could be drawn, although the last attempts ask for nothing")
    wiped = 0.0 if rng.random() < 0.55 else float(rng.uniform(0.1, 0.9))
    return _crowd(spec, rng), wiped


def _crowd(spec: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    """Turn some things, and add what earlier steps may have put into bin, drawer and onto shelves."""
    objects = list(spec.objects)
    for k, o in enumerate(objects):
        if o.support == "table" and o.category in ("mug", "sponge", "block") and rng.random() < 0.3:
            if not spec.carried_by(o.id):
                objects[k] = o.replace(yaw=float(rng.uniform(-np.pi, np.pi)))

    def add(place: str, kinds: Sequence[str], x: float, y: float, z: float) -> None:
        kind = str(rng.choice(kinds))
        # A throw-away scene is the shortest way to a thing of the right size and colour.
        donor = sample_scene(int(rng.integers(2**31 - 1)), n_objects=1, require=[(kind, None)], spill=False)
        thing = donor.objects[0]
        number = sum(o.category == kind for o in objects)
        objects.append(
            ObjectSpec(
                id=f"{kind}_{number}", category=thing.category, colour=thing.colour, size=thing.size,
                position=(x, y, z), yaw=float(rng.uniform(-0.5, 0.5)), support=place,
            )  # fmt: skip
        )

    if rng.random() < 0.30:
        x, y = spec.furniture.bin_xy
        for k in range(int(rng.integers(1, 6))):
            dx, dy = rng.uniform(-0.05, 0.05, 2)
            add("bin", PICKABLE, x + dx, y + dy, BIN_FLOOR_Z + 0.012 * k)
    if spec.drawer_open > 0.1 and rng.random() < 0.45:
        region = spec.furniture.region("drawer", spec.drawer_open)
        near = [o.position[0] for o in objects if o.support == "drawer"]
        for dx in rng.permutation([-0.055, 0.0, 0.055]).tolist()[: int(rng.integers(1, 4))]:
            x = region.centre[0] + dx + float(rng.uniform(-0.006, 0.006))
            if all(abs(x - other) > 0.05 for other in near):
                kinds = ("block", "block", "sponge") if not near else ("block",)
                add("drawer", kinds, x, region.centre[1] + float(rng.uniform(-0.03, 0.03)), region.z)
                near += [x] if objects[-1].category == "block" else [x - 0.03, x + 0.03]
    for place in ("top_shelf", "bottom_shelf"):
        if rng.random() < 0.25:
            region = spec.furniture.region(place, 0.0)  # type: ignore[arg-type]
            near = [o.position[0] for o in objects if o.support == place]
            for dx in rng.permutation([-0.1, 0.0, 0.1]).tolist()[: int(rng.integers(1, 4))]:
                x = region.centre[0] + dx + float(rng.uniform(-0.015, 0.015))
                if all(abs(x - other) > 0.085 for other in near):
                    add(place, PICKABLE, x, region.centre[1] + float(rng.uniform(-0.015, 0.015)), region.z)
                    near.append(x)
    return spec.replace(objects=tuple(objects))


def _tumble_bin(model: TabletopModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
    """What was thrown away lies as it fell."""
    for thing, address in zip(model.scene.objects, model.object_qpos, strict=True):
        if thing.support == "bin" and rng.random() < 0.7:
            quat = rng.normal(size=4)
            data.qpos[address + 3 : address + 7] = quat / np.linalg.norm(quat)
            data.qpos[address + 2] += 0.02


def _wipe(model: TabletopModel, rng: np.random.Generator, wiped: float) -> SceneSpec:
    """Hide discs of the spill as a sponge would, in strokes; returns the scene with the centre of what is left."""
    spec = model.scene
    if spec.spill is None or wiped <= 0.0:
        return spec
    discs = spill_points(spec.spill)
    left = np.ones(len(discs), dtype=bool)
    for _ in range(12):
        if left.mean() <= 1.0 - wiped or left.sum() <= 3:
            break
        angle = rng.uniform(0, np.pi)
        across = discs[:, 0] * np.cos(angle) + discs[:, 1] * np.sin(angle)
        edge = rng.uniform(across.min(), across.max())
        gone = np.abs(across - edge) < 0.012 if rng.random() < 0.5 else across < edge
        if (left & ~gone).sum() >= 3:
            left &= ~gone
    model.mj.geom_rgba[model.spill_geoms[~left], 3] = 0.0
    x, y = discs[left, :2].mean(axis=0)
    return spec.replace(spill=spec.spill.replace(centre=(float(x), float(y))))


def _calibration(
    mj: mujoco.MjModel, data: mujoco.MjData, camera: int, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    focal = height / 2 / np.tan(np.radians(mj.cam_fovy[camera]) / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    T = np.eye(4)
    # MuJoCo's cameras look along -z with y up, OpenCV's along z with y down.
    T[:3, :3] = data.cam_xmat[camera].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
    T[:3, 3] = data.cam_xpos[camera]
    return K, T


def project_points(K: NDArray[np.float64], T_world_camera: NDArray[np.float64], points_w: Any) -> NDArray[np.float64]:
    """Pixels (*S, 2) of world points (*S, 3) [m]."""
    camera = (np.asarray(points_w, dtype=np.float64) - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    uv = camera[..., :2] / np.maximum(camera[..., 2:], 1e-6)
    return np.asarray(uv * (K[0, 0], K[1, 1]) + K[:2, 2])


def fixture_point(spec: SceneSpec, name: str) -> tuple[float, float, float]:
    """The point that stands for a piece of furniture [m]: a handle, an opening's or a board's middle."""
    if name == "drawer":
        return spec.furniture.handle(spec.drawer_open)
    if name == "bin":
        return (*spec.furniture.bin_xy, BIN_HEIGHT)
    region = spec.furniture.region(name, 0.0)  # type: ignore[arg-type]
    return (*region.centre, region.z)


def _label(
    model: TabletopModel, spec: SceneSpec, geoms: NDArray[np.int32], K: NDArray[np.float64], T: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], tuple[Thing, ...]]:
    mj = model.mj
    names: list[str] = [o.id for o in spec.objects if o.support != "bin"]
    owner = np.zeros(mj.ngeom + 1, dtype=np.uint8)
    bodies = {int(mj.body(n).id): k + 1 for k, n in enumerate(names)}
    for name in FIXTURES:
        names.append(name)
        bodies[int(mj.body(name).id)] = len(names)
    for geom in range(mj.ngeom):
        owner[geom] = bodies.get(int(mj.geom_bodyid[geom]), 0)
    if spec.spill is not None:
        names.append(spec.spill.id)
        owner[model.spill_geoms] = len(names)
    segments = owner[geoms]  # -1, the background, is the extra last entry, 0
    things = []
    for k, name in enumerate(names):
        rows, columns = np.nonzero(segments == k + 1)
        if len(rows) < MIN_PIXELS:
            continue
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        u, v = float(columns.mean() + 0.5), float(rows.mean() + 0.5)
        colour, state = "none", "none"
        if name in FIXTURES:
            category = name
            u, v = project_points(K, T, fixture_point(spec, name)).tolist()
            u, v = float(np.clip(u, 1.0, WIDTH - 1.0)), float(np.clip(v, 1.0, HEIGHT - 1.0))
            if name == "drawer":
                state = "open" if spec.drawer_open > 0.06 else "closed"
        elif spec.spill is not None and name == spec.spill.id:
            category, colour, state = "spill", spec.spill.colour, "table"
        else:
            thing = spec.object(name)
            category, colour = thing.category, thing.colour
            state = thing.support if thing.support in STATES else "on_object"
        things.append(Thing(name, category, colour, state, u, v, box, len(rows), k + 1))
    return segments, tuple(things)


def save_shard(path: Path, scenes: Sequence[RenderedScene]) -> None:
    """Write scenes into one file, whole or not at all."""
    rows = [(k, t) for k, s in enumerate(scenes) for t in s.things]
    columns: dict[str, Any] = {
        "rgb": np.stack([s.rgb for s in scenes]),
        "segments": np.stack([s.segments for s in scenes]),
        "spec": np.array([json.dumps(s.spec.model_dump(mode="json")) for s in scenes]),
        "K": np.stack([s.K for s in scenes]),
        "T_world_camera": np.stack([s.T_world_camera for s in scenes]),
        "scene": np.array([k for k, _ in rows], dtype=np.int32),
        "id": np.array([t.id for _, t in rows]),
        "category": np.array([CATEGORIES.index(t.category) for _, t in rows], dtype=np.uint8),
        "colour": np.array([COLOURS.index(t.colour) for _, t in rows], dtype=np.uint8),
        "state": np.array([STATES.index(t.state) for _, t in rows], dtype=np.uint8),
        "uv": np.array([(t.u, t.v) for _, t in rows], dtype=np.float32).reshape(-1, 2),
        "box": np.array([t.box for _, t in rows], dtype=np.float32).reshape(-1, 4),
        "pixels": np.array([t.pixels for _, t in rows], dtype=np.int32),
        "pixel": np.array([t.pixel for _, t in rows], dtype=np.uint8),
    }
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **columns)
    temporary.replace(path)


def load_shard(path: Path) -> list[RenderedScene]:
    """The inverse of :func:`save_shard`."""
    with np.load(path) as f:
        shard = {name: f[name] for name in f.files}
    things: list[list[Thing]] = [[] for _ in shard["rgb"]]
    for k, scene in enumerate(shard["scene"].tolist()):
        u, v = shard["uv"][k].tolist()
        a, b, c, d = shard["box"][k].tolist()
        things[scene].append(
            Thing(
                str(shard["id"][k]), CATEGORIES[shard["category"][k]], COLOURS[shard["colour"][k]],
                STATES[shard["state"][k]], u, v, (a, b, c, d), int(shard["pixels"][k]), int(shard["pixel"][k]),
            )  # fmt: skip
        )
    return [
        RenderedScene(
            shard["rgb"][k], shard["segments"][k], tuple(things[k]), SceneSpec.from_json(str(shard["spec"][k])),
            shard["K"][k], shard["T_world_camera"][k],
        )  # fmt: skip
        for k in range(len(things))
    ]


def render_shards(
    folder: Path, n_scenes: int, first_seed: int = 0, shard_size: int = 500, hard: bool = False
) -> Iterator[Path]:
    """Render scenes of consecutive seeds into `folder`; shards that exist are kept. Yields each shard's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(first_seed, first_seed + n_scenes, shard_size):
        path = folder / f"shard_{start:07d}.npz"
        if not path.exists():
            began = time.perf_counter()
            scenes = []
            for seed in range(start, min(start + shard_size, first_seed + n_scenes)):
                spec, wiped = sample_training_scene(seed, hard)
                scenes.append(render_scene(spec, np.random.default_rng([0xA12, seed]), wiped))
            save_shard(path, scenes)
            took = 1e3 * (time.perf_counter() - began) / len(scenes)
            print(f"{path.name}: {len(scenes)} scenes, {took:.0f} ms each", flush=True)
        yield path


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".work/planner_scenes"))
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--hard", action="store_true", help="towers, crowds and look-alikes")
    options = parser.parse_args()
    for _ in render_shards(options.out, options.scenes, options.first_seed, hard=options.hard):
        pass
