"""The MuJoCo model of two arms: each half is built as for one arm, then both are set into one world."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from hiervla.controllers import panda
from hiervla.worlds.tabletop.furniture import GHOST, add_surroundings, set_headlight
from hiervla.worlds.tabletop.model import TabletopModel, indexed, keep_rendering_cheap, set_physics
from hiervla.worlds.tabletop.things import add_things
from hiervla.worlds.tabletop_duo.scene import ARMS, DuoScene

_ARMS_MEET = 4
"""Contact bit by which the links of one arm touch those of the other."""
_TABLE_Y = (-0.80, 0.80)
_ROBOT_BODIES = (*panda.LINK_NAMES, panda.HAND_BODY, *panda.FINGER_NAMES)


def build_duo(scene: DuoScene, width: int = 256, height: int = 192) -> dict[str, TabletopModel]:
    """Compile a scene: one model, seen from each arm; `width` and `height` [px] bound what can be rendered."""
    spec = mujoco.MjSpec()
    spec.modelname = "tabletop_duo"
    spec.compiler.degree = False
    set_physics(spec)
    keep_rendering_cheap(spec, width, height)
    set_headlight(spec, scene.left.look)
    for arm in ARMS:
        pose = scene.T_root_base(arm)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, pose[:3, :3].ravel())
        frame = spec.worldbody.add_frame(pos=pose[:3, 3], quat=quat)
        spec.attach(_half(scene, arm), prefix=f"{arm}_", frame=frame)
    mj = spec.compile()
    return {
        arm: indexed(mj, scene.half(arm), f"{arm}_", None if arm == "left" else scene.T_root_base(arm)) for arm in ARMS
    }


def _half(scene: DuoScene, arm: str) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    panda.add_panda(spec)
    add_surroundings(spec, scene.half(arm))
    add_things(spec, scene.half(arm))
    seam = scene.left.furniture.bin_xy[1]
    for name in ("table", "table_edge"):
        _cut_at(spec.geom(name), seam)
    spec.material("table").texrepeat = (1.5, 2.0 * (seam - _TABLE_Y[0]) / (_TABLE_Y[1] - _TABLE_Y[0]))
    if arm == "right":
        # One lamp, one floor, one bin and one plane to stand on: the left half has them.
        for extra in (spec.light("lamp"), spec.geom("floor"), spec.body("bin")):
            spec.delete(extra)
        spec.geom("table").contype, spec.geom("table").conaffinity = GHOST["contype"], GHOST["conaffinity"]
    for body in _ROBOT_BODIES:
        for geom in spec.body(body).geoms:
            if geom.contype and arm == "left":
                geom.conaffinity |= _ARMS_MEET
            elif geom.contype:
                geom.contype |= _ARMS_MEET
    return spec


def _cut_at(geom: Any, seam: float) -> None:
    """Let a table end at the seam with the other one: they are drawn side by side, at one height."""
    geom.pos = (geom.pos[0], (_TABLE_Y[0] + seam) / 2, geom.pos[2])
    geom.size = (geom.size[0], (seam - _TABLE_Y[0]) / 2, geom.size[2])
