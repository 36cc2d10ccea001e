"""Table, floor, shelf, cabinet with drawer, bin, lamp and front camera, as MuJoCo model code."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from hiervla.representations._base import Vec3
from hiervla.worlds.tabletop import specs
from hiervla.worlds.tabletop.shapes import table_texture
from hiervla.worlds.tabletop.specs import LookSpec, SceneSpec

FRONT_CAMERA = "front"
DRAWER_JOINT = "drawer_slide"
SOLID = {"contype": 2, "conaffinity": 3}
"""Contact masks of what meets the robot (bit 0) and other solids (bit 1)."""
GHOST = {"contype": 0, "conaffinity": 0}
_FRONT_PLACE = np.array([1.25, 0.0, 1.0])
_FRONT_TARGET = np.array([0.42, 0.0, 0.05])
_BOX = mujoco.mjtGeom.mjGEOM_BOX
_METAL = (0.55, 0.56, 0.58, 1.0)


def add_surroundings(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    """Add everything but the robot and the loose objects."""
    _add_light(spec, scene)
    _add_table(spec, scene)
    _add_shelf(spec, scene)
    _add_cabinet(spec, scene)
    _add_bin(spec, scene)
    _add_front_camera(spec, scene)


def look_at(place: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Quaternion (wxyz) of a MuJoCo camera at `place` that looks at `target` with world z up in the image."""
    back = place - target
    back = back / np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back], axis=1)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    return quat


def _rgba(rgb: Vec3, gain: float = 1.0) -> tuple[float, float, float, float]:
    r, g, b = (min(1.0, c * gain) for c in rgb)
    return (r, g, b, 1.0)


def _add_light(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    look = scene.look
    place = np.array(look.light_position)
    aim = np.array([0.45, 0.0, 0.0]) - place
    spec.worldbody.add_light(
        name="lamp", type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=place, dir=aim / np.linalg.norm(aim),
        diffuse=look.light * _tint(look), ambient=(0, 0, 0), specular=(0.25, 0.25, 0.25), castshadow=False,
    )  # fmt: skip
    set_headlight(spec, look)


def set_headlight(spec: mujoco.MjSpec, look: LookSpec) -> None:
    """The light without direction; it belongs to the whole model and not to a part that is attached to it."""
    head = spec.visual.headlight
    head.ambient = look.ambient * _tint(look)
    head.diffuse = (0.12, 0.12, 0.12)
    head.specular = (0.0, 0.0, 0.0)


def _tint(look: LookSpec) -> np.ndarray[Any, Any]:
    return np.array([1.0 + 0.06 * look.warmth, 1.0, 1.0 - 0.08 * look.warmth])


def _add_table(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    look = scene.look
    pixels = table_texture(look)
    texture = spec.add_texture(
        name="table", type=mujoco.mjtTexture.mjTEXTURE_2D, width=pixels.shape[1], height=pixels.shape[0], nchannel=3
    )
    texture.data = pixels.tobytes()
    material = spec.add_material(name="table", specular=0.1, shininess=0.1, texrepeat=(1.5, 2.0))
    roles = material.textures
    roles[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    material.textures = roles
    world = spec.worldbody
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=(0.37, 0, 0), size=(0.62, 0.80, 0.05), material="table",
        friction=(0.8, 0.01, 0.0005), **SOLID,
    )  # fmt: skip
    edge = _rgba(look.table_rgb2, 0.8)
    world.add_geom(name="table_edge", type=_BOX, pos=(0.37, 0, -0.024), size=(0.62, 0.80, 0.022), rgba=edge, **GHOST)
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=(0, 0, -0.75), size=(4, 4, 0.1),
        rgba=_rgba(look.floor_rgb), **GHOST,
    )  # fmt: skip


def _slab(body: Any, name: str, low: Vec3, high: Vec3, rgba: tuple[float, ...], ghost: bool = False) -> None:
    centre = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    half = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
    body.add_geom(
        name=name, type=_BOX, pos=centre, size=half, rgba=rgba, friction=(0.8, 0.01, 0.0005),
        **(GHOST if ghost else SOLID),
    )  # fmt: skip


def _add_shelf(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    rgb = scene.look.furniture_rgb
    for place, gain in (("bottom_shelf", 1.0), ("top_shelf", 1.12)):
        region = scene.furniture.region(place, 0.0)  # type: ignore[arg-type]
        (x, y), (hx, hy), z = region.centre, region.half, region.z
        body = spec.worldbody.add_body(name=place)
        _slab(body, f"{place}_board", (x - hx, y - hy, z - 0.014), (x + hx, y + hy, z), _rgba(rgb, gain))
        for side in (-1.0, 1.0):
            edge = x + side * (hx - 0.012)
            _slab(
                body, f"{place}_side{int(side)}", (edge - 0.008, y - hy + 0.006, 0.0),
                (edge + 0.008, y + hy - 0.006, z - 0.014), _rgba(rgb, 0.75),
            )  # fmt: skip


def _add_cabinet(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    rgb = scene.look.furniture_rgb
    cx, cy = scene.furniture.cabinet_xy
    hx, hy = specs.CABINET_HALF
    top, wall = specs.CABINET_TOP_Z, 0.010
    cabinet = spec.worldbody.add_body(name="cabinet")
    back = cy + 2 * hy
    shade = _rgba(rgb, 0.85)
    # The drawer's front panel covers the carcass, which therefore starts behind it.
    face = cy + 0.016
    _slab(cabinet, "cabinet_top", (cx - hx, face, top - wall), (cx + hx, back, top), _rgba(rgb, 0.95))
    _slab(cabinet, "cabinet_left", (cx - hx, face, 0.0), (cx - hx + wall, back, top - wall), shade)
    _slab(cabinet, "cabinet_right", (cx + hx - wall, face, 0.0), (cx + hx, back, top - wall), shade)
    _slab(cabinet, "cabinet_back", (cx - hx + wall, back - wall, 0.0), (cx + hx - wall, back, top - wall), shade)
    # The drawer's frame: middle of its front face at closed, on the table.
    drawer = spec.worldbody.add_body(name="drawer", pos=(cx, cy, 0.0))
    drawer.mass, drawer.ipos, drawer.inertia = 0.8, (0, 0.09, 0.03), (0.004, 0.004, 0.006)
    drawer.explicitinertial = True
    drawer.add_joint(
        name=DRAWER_JOINT, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, -1, 0), range=(0.0, specs.DRAWER_TRAVEL),
        limited=True, damping=8.0, frictionloss=1.2, armature=0.2,
        solref_limit=(0.02, 1.0), solimp_limit=(0.95, 0.99, 0.001, 0.5, 2.0),
    )  # fmt: skip
    dx, dy = specs.DRAWER_HALF
    front, floor, rim = 0.015, specs.DRAWER_FLOOR_Z, 0.058
    paint, inner = _rgba(rgb, 1.18), _rgba(rgb, 0.65)
    end = front + 2 * dy
    _slab(drawer, "drawer_front", (-hx + 0.002, 0.0, 0.004), (hx - 0.002, front, 0.092), paint)
    _slab(drawer, "drawer_floor", (-dx - 0.006, front, 0.006), (dx + 0.006, end + 0.006, floor), inner)
    _slab(drawer, "drawer_left", (-dx - 0.006, front, floor), (-dx, end, rim), inner)
    _slab(drawer, "drawer_right", (dx, front, floor), (dx + 0.006, end, rim), inner)
    _slab(drawer, "drawer_back", (-dx - 0.006, end, floor), (dx + 0.006, end + 0.006, rim), inner)
    bar_y, bar_z = -specs.HANDLE_OFFSET, specs.HANDLE_Z
    drawer.add_geom(
        name="drawer_handle", type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=(-0.055, bar_y, bar_z, 0.055, bar_y, bar_z),
        size=(0.006, 0, 0), rgba=(0.16, 0.17, 0.19, 1.0), friction=(0.9, 0.01, 0.001), **SOLID,
    )  # fmt: skip
    for side in (-1.0, 1.0):
        drawer.add_geom(
            name=f"drawer_post{int(side)}", type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=(0.005, 0, 0), rgba=_METAL,
            fromto=(side * 0.055, bar_y, bar_z, side * 0.055, 0.0, bar_z), **SOLID,
        )  # fmt: skip
    spec.add_exclude(bodyname1="drawer", bodyname2="cabinet")
    spec.add_exclude(bodyname1="drawer", bodyname2="world")


def _add_bin(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    x, y = scene.furniture.bin_xy
    hx, hy = specs.BIN_HALF
    wall, height, floor = 0.006, specs.BIN_HEIGHT, specs.BIN_FLOOR_Z
    rgb = scene.look.bin_rgb
    body = spec.worldbody.add_body(name="bin")
    _slab(body, "bin_floor", (x - hx, y - hy, 0.0), (x + hx, y + hy, floor), _rgba(rgb, 0.7))
    _slab(body, "bin_near", (x + hx - wall, y - hy, floor), (x + hx, y + hy, height), _rgba(rgb))
    _slab(body, "bin_far", (x - hx, y - hy, floor), (x - hx + wall, y + hy, height), _rgba(rgb))
    _slab(body, "bin_left", (x - hx + wall, y - hy, floor), (x + hx - wall, y - hy + wall, height), _rgba(rgb, 0.9))
    _slab(body, "bin_right", (x - hx + wall, y + hy - wall, floor), (x + hx - wall, y + hy, height), _rgba(rgb, 0.9))


def _add_front_camera(spec: mujoco.MjSpec, scene: SceneSpec) -> None:
    place = _FRONT_PLACE + np.array(scene.look.camera_shift)
    target = _FRONT_TARGET + np.array(scene.look.target_shift)
    spec.worldbody.add_camera(name=FRONT_CAMERA, pos=place, quat=look_at(place, target), fovy=scene.look.fovy_deg)
