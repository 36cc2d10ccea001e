"""Loose household objects and the spill, as MuJoCo model code.

An object's body frame is the centre of its bottom face, z up. Round things are drawn as turned meshes and touch
the gripper as cylinders, but stand on square feet inside their outline: flat contacts are what keeps stacks still.
"""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.worlds.tabletop import shapes
from hiervla.worlds.tabletop.furniture import GHOST, SOLID
from hiervla.worlds.tabletop.specs import BOWL_FLOOR, COLOUR_RGB, PLATE_FLOOR, ObjectSpec, SceneSpec, SpillSpec

SPILL_DISCS = 40
MASS_KG = {"block": 0.05, "mug": 0.12, "can": 0.15, "sponge": 0.03, "bowl": 0.18, "plate": 0.22}
_FRICTION = (0.8, 0.01, 0.0005)
_GRIP_ONLY = {"contype": 0, "conaffinity": 1, "group": 3}
_FOOT = {"contype": 2, "conaffinity": 2, "group": 3}
_HIDDEN = {**SOLID, "group": 3}
_DRAWN = {**GHOST, "group": 2}
_BOX = mujoco.mjtGeom.mjGEOM_BOX
_CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
_CAPSULE = mujoco.mjtGeom.mjGEOM_CAPSULE
_MESH = mujoco.mjtGeom.mjGEOM_MESH
_Rgb = tuple[float, float, float]


def add_things(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    """Add the scene's objects, each a free body named by its id, and the spill's discs `spill_disc_<k>`."""
    rng = np.random.default_rng([0x7AB3, scene.look.texture_seed])
    for thing in scene.objects:
        tone = rng.uniform(0.92, 1.05)
        r, g, b = (float(np.clip(c * tone + rng.uniform(-0.02, 0.02), 0, 1)) for c in COLOUR_RGB[thing.colour])
        _add_thing(spec, thing, (r, g, b))
    if scene.spill is not None:
        _add_spill(spec, scene.spill)


def spill_points(spill: SpillSpec) -> NDArray[np.float64]:
    """Centres (SPILL_DISCS, 2) and radii of the spill's discs, as (SPILL_DISCS, 3) [m]."""
    seed = [int(round(1e5 * abs(c))) for c in (*spill.centre, spill.radius)]
    rng = np.random.default_rng([0x7AB4, *seed])
    # A sunflower pattern covers a disc evenly; a wavy outline makes a blob of it.
    k = np.arange(SPILL_DISCS)
    angle = k * math.pi * (3.0 - math.sqrt(5.0))
    phase = rng.uniform(0, 2 * math.pi, 2)
    outline = 1.0 + 0.16 * np.sin(2 * angle + phase[0]) + 0.10 * np.sin(3 * angle + phase[1])
    distance = spill.radius * 0.92 * np.sqrt((k + 0.5) / SPILL_DISCS) * outline
    radius = spill.radius * rng.uniform(0.20, 0.27, SPILL_DISCS)
    x = spill.centre[0] + distance * np.cos(angle)
    y = spill.centre[1] + distance * np.sin(angle)
    return np.stack([x, y, radius], axis=1)


def _add_spill(spec: mujoco.MjSpec, spill: SpillSpec) -> None:
    r, g, b = COLOUR_RGB[spill.colour]
    for k, (x, y, radius) in enumerate(spill_points(spill)):
        shade = 0.85 + 0.1 * ((k * 7) % 5) / 4
        spec.worldbody.add_geom(
            name=f"spill_disc_{k}", type=_CYLINDER, pos=(x, y, 0.0006 + 0.00001 * k), size=(radius, 0.0004, 0),
            rgba=(r * shade, g * shade, b * shade, 1.0), **_DRAWN,
        )  # fmt: skip


def _add_thing(spec: mujoco.MjSpec, thing: ObjectSpec, rgb: _Rgb) -> None:
    quat = (math.cos(thing.yaw / 2), 0.0, 0.0, math.sin(thing.yaw / 2))
    body = spec.worldbody.add_body(name=thing.id, pos=thing.position, quat=quat)
    body.add_freejoint(name=thing.id)
    _set_inertia(body, thing)
    {
        "block": _block,
        "sponge": _sponge,
        "mug": _mug,
        "can": _can,
        "bowl": _bowl,
        "plate": _plate,
    }[thing.category](spec, body, thing, rgb)


def _set_inertia(body: Any, thing: ObjectSpec) -> None:
    mass = MASS_KG[thing.category]
    x, y, z = thing.size
    # Never less than that of a 30 mm cube: tiny inertias make contacts ring.
    floor = mass * 0.03**2 / 6
    body.mass = mass
    body.ipos = (0.0, 0.0, z / 2 if thing.category != "can" else 0.4 * z)
    body.inertia = [max(floor, mass * (a * a + b * b) / 12) for a, b in ((y, z), (x, z), (x, y))]
    body.explicitinertial = True


def _paint(spec: mujoco.MjSpec, body: Any, rgb: _Rgb, gloss: float) -> str:
    name = f"{body.name}_paint"
    spec.add_material(name=name, rgba=(*rgb, 1.0), specular=gloss, shininess=0.5)
    return name


def _block(spec: mujoco.MjSpec, body: Any, thing: ObjectSpec, rgb: _Rgb) -> None:
    half = [s / 2 for s in thing.size]
    paint = _paint(spec, body, rgb, 0.2)
    body.add_geom(name=thing.id, type=_BOX, pos=(0, 0, half[2]), size=half, material=paint, friction=_FRICTION, **SOLID)


def _sponge(spec: mujoco.MjSpec, body: Any, thing: ObjectSpec, rgb: _Rgb) -> None:
    hx, hy, hz = (s / 2 for s in thing.size)
    body.add_geom(
        name=thing.id, type=_BOX, pos=(0, 0, hz), size=(hx, hy, hz), friction=_FRICTION,
        solref=(0.012, 1.0), solimp=(0.8, 0.95, 0.004, 0.5, 2.0), **_HIDDEN,
    )  # fmt: skip
    # A darker scouring layer and rows of pores tell it from a big block.
    pad = 0.28 * hz
    dark = (rgb[0] * 0.45, rgb[1] * 0.45, rgb[2] * 0.45, 1.0)
    body.add_geom(type=_BOX, pos=(0, 0, pad), size=(hx, hy, pad), rgba=dark, **_DRAWN)
    body.add_geom(type=_BOX, pos=(0, 0, hz + pad), size=(hx, hy, hz - pad), rgba=(*rgb, 1.0), **_DRAWN)
    pore = tuple(0.62 * c + 0.06 for c in rgb)
    for i, (u, v) in enumerate(((-0.7, -0.45), (-0.35, 0.4), (0.0, -0.3), (0.3, 0.5), (0.62, -0.5), (0.7, 0.35))):
        size = 0.0045 if i % 2 else 0.006
        body.add_geom(type=_CYLINDER, pos=(u * hx, v * hy, 2 * hz), size=(size, 0.0003, 0), rgba=(*pore, 1.0), **_DRAWN)


def _turned(
    spec: mujoco.MjSpec, body: Any, part: str, profile: list[tuple[float, float]], rgba: tuple[float, ...]
) -> None:
    vertices, faces = shapes.lathe(profile)
    name = f"{body.name}_{part}"
    spec.add_mesh(
        name=name, uservert=vertices.ravel(), userface=faces.ravel(), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    )
    material = f"{name}_paint"
    spec.add_material(name=material, rgba=rgba, specular=0.35, shininess=0.6)
    body.add_geom(type=_MESH, meshname=name, material=material, **_DRAWN)


def _upright(body: Any, name: str, r: float, h: float) -> None:
    """What a mug or can touches with: a cylinder for the gripper, a square column for everything else."""
    body.add_geom(name=name, type=_CYLINDER, pos=(0, 0, h / 2), size=(r, h / 2, 0), **_GRIP_ONLY)
    body.add_geom(
        name=f"{name}_foot", type=_BOX, pos=(0, 0, h / 2), size=(0.78 * r, 0.78 * r, h / 2), friction=_FRICTION, **_FOOT
    )


def _mug(spec: mujoco.MjSpec, body: Any, thing: ObjectSpec, rgb: _Rgb) -> None:
    r, h = thing.size[0] / 2, thing.size[2]
    _upright(body, thing.id, r, h)
    _turned(spec, body, "outside", shapes.mug_outside(r, h), (*rgb, 1.0))
    _turned(spec, body, "inside", shapes.mug_inside(r, h), (0.10, 0.07, 0.06, 1.0))
    points = ((r - 0.002, 0.76 * h), (r + 0.016, 0.70 * h), (r + 0.016, 0.34 * h), (r - 0.002, 0.26 * h))
    for (x0, z0), (x1, z1) in zip(points, points[1:], strict=False):
        body.add_geom(type=_CAPSULE, fromto=(x0, 0, z0, x1, 0, z1), size=(0.004, 0, 0), rgba=(*rgb, 1.0), **_DRAWN)
    body.add_geom(
        name=f"{thing.id}_handle", type=_BOX, pos=(r + 0.009, 0, 0.5 * h), size=(0.010, 0.004, 0.26 * h), **_GRIP_ONLY
    )


def _can(spec: mujoco.MjSpec, body: Any, thing: ObjectSpec, rgb: _Rgb) -> None:
    r, h = thing.size[0] / 2, thing.size[2]
    _upright(body, thing.id, r, h)
    metal = (0.72, 0.73, 0.75, 1.0)
    paint = _paint(spec, body, rgb, 0.5)
    body.add_geom(type=_CYLINDER, pos=(0, 0, h / 2), size=(r, h / 2 - 0.004, 0), material=paint, **_DRAWN)
    for z in (0.003, h - 0.003):
        body.add_geom(type=_CYLINDER, pos=(0, 0, z), size=(0.93 * r, 0.003, 0), rgba=metal, **_DRAWN)
    body.add_geom(
        type=_CYLINDER, pos=(0.25 * r, 0, h + 0.0002), size=(0.28 * r, 0.0004, 0), rgba=(0.35, 0.36, 0.38, 1), **_DRAWN
    )


def _bowl(spec: mujoco.MjSpec, body: Any, thing: ObjectSpec, rgb: _Rgb) -> None:
    r, h = thing.size[0] / 2, thing.size[2]
    inner = tuple(0.72 * c + 0.05 for c in rgb)
    _turned(spec, body, "outside", shapes.bowl_outside(r, h), (*rgb, 1.0))
    _turned(spec, body, "inside", shapes.bowl_inside(r, h, BOWL_FLOOR), (*inner, 1.0))
    flat = 0.5 * r
    body.add_geom(
        name=thing.id, type=_BOX, pos=(0, 0, BOWL_FLOOR / 2), size=(flat, flat, BOWL_FLOOR / 2), friction=_FRICTION,
        **_HIDDEN,
    )  # fmt: skip
    count, thick, low, high = 10, 0.003, 0.72 * r, r - 0.004
    lean = math.atan2(high - low, h - 0.003)
    slant = math.hypot(high - low, h - 0.003)
    for k in range(count):
        turn = 2 * math.pi * k / count
        middle = (low + high) / 2
        # Turn about z into the segment's direction, then lean outwards about its tangent.
        quat = np.zeros(4)
        around = np.array([math.cos(turn / 2), 0, 0, math.sin(turn / 2)])
        tilt = np.array([math.cos(lean / 2), 0, math.sin(lean / 2), 0])
        mujoco.mju_mulQuat(quat, around, tilt)
        body.add_geom(
            name=f"{thing.id}_wall{k}", type=_BOX, quat=quat, friction=_FRICTION,
            pos=(middle * math.cos(turn), middle * math.sin(turn), (h + 0.003) / 2),
            size=(thick, 1.06 * middle * math.tan(math.pi / count), slant / 2), **_HIDDEN,
        )  # fmt: skip


def _plate(spec: mujoco.MjSpec, body: Any, thing: ObjectSpec, rgb: _Rgb) -> None:
    r, h = thing.size[0] / 2, thing.size[2]
    inner = tuple(0.80 * c + 0.04 for c in rgb)
    _turned(spec, body, "outside", shapes.plate_outside(r, h), (*rgb, 1.0))
    _turned(spec, body, "inside", shapes.plate_inside(r, h, PLATE_FLOOR), (*inner, 1.0))
    half = 0.66 * r
    for k, turn in enumerate((0.0, math.pi / 8)):
        body.add_geom(
            name=thing.id if k == 0 else f"{thing.id}_star", type=_BOX, pos=(0, 0, PLATE_FLOOR / 2),
            quat=(math.cos(turn), 0, 0, math.sin(turn)), size=(half, half, PLATE_FLOOR / 2), friction=_FRICTION,
            **_HIDDEN,
        )  # fmt: skip
    count = 8
    for k in range(count):
        turn = 2 * math.pi * (k + 0.5) / count
        body.add_geom(
            name=f"{thing.id}_rim{k}", type=_BOX, quat=(math.cos(turn / 2), 0, 0, math.sin(turn / 2)),
            pos=(0.95 * r * math.cos(turn), 0.95 * r * math.sin(turn), h / 2 + 0.001), friction=_FRICTION,
            size=(0.05 * r, 0.95 * r * math.tan(math.pi / count), h / 2 - 0.001), **_HIDDEN,
        )  # fmt: skip
