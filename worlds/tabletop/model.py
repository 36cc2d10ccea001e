"""A compiled MuJoCo model of a scene, with the indices that the world needs to run it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.worlds.tabletop import specs
from hiervla.worlds.tabletop.furniture import DRAWER_JOINT, add_surroundings
from hiervla.worlds.tabletop.specs import ObjectSpec, SceneSpec
from hiervla.worlds.tabletop.things import SPILL_DISCS, add_things

TIMESTEP_S = 0.002


@dataclass(frozen=True, eq=False)
class TabletopModel:
    """What a scene compiles to.

    Attributes:
        scene: the recipe.
        mj: the compiled model; its geom colours are the only part that a running world changes.
        arm_qpos: (7,) addresses of the arm's positions; its velocities have the same addresses in qvel.
        finger_qpos: (2,) addresses of the fingers' positions.
        drawer_qpos: address of the drawer's opening.
        object_qpos: address of each object's free joint, in the order of `scene.objects`.
        object_bodies: body id of each object, in that order.
        spill_geoms: (SPILL_DISCS,) geom ids, or empty.
        ee_site: id of the tool centre point's site.
    """

    scene: SceneSpec
    mj: mujoco.MjModel
    arm_qpos: NDArray[np.int64]
    finger_qpos: NDArray[np.int64]
    drawer_qpos: int
    object_qpos: tuple[int, ...]
    object_bodies: tuple[int, ...]
    spill_geoms: NDArray[np.int64]
    ee_site: int


def build_model(scene: SceneSpec, width: int = 256, height: int = 192) -> TabletopModel:
    """Compile a scene; `width` and `height` [px] bound what can be rendered from it."""
    spec = mujoco.MjSpec()
    spec.modelname = "tabletop"
    option = spec.option
    option.timestep = TIMESTEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    # Dense: mujoco 4.0.0 has a wrong Newton Hessian for sparse constraint Jacobians.
    option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    # With 20 line search steps the solver gave up once in a while, and a firmly held block jumped by 10 mm.
    option.ls_iterations = 200
    _keep_rendering_cheap(spec, width, height)
    panda.add_panda(spec)
    add_surroundings(spec, scene)
    add_things(spec, scene)
    mj = spec.compile()
    qpos = [int(mj.joint(name).qposadr[0]) for name in panda.JOINT_NAMES]
    discs = range(SPILL_DISCS) if scene.spill is not None else range(0)
    return TabletopModel(
        scene=scene,
        mj=mj,
        arm_qpos=np.array(qpos, dtype=np.int64),
        finger_qpos=np.array([int(mj.joint(n).qposadr[0]) for n in panda.FINGER_JOINT_NAMES], dtype=np.int64),
        drawer_qpos=int(mj.joint(DRAWER_JOINT).qposadr[0]),
        object_qpos=tuple(int(mj.joint(o.id).qposadr[0]) for o in scene.objects),
        object_bodies=tuple(int(mj.body(o.id).id) for o in scene.objects),
        spill_geoms=np.array([int(mj.geom(f"spill_disc_{k}").id) for k in discs], dtype=np.int64),
        ee_site=int(mj.site(panda.EE_SITE).id),
    )


def set_initial_state(model: TabletopModel, data: mujoco.MjData, q: NDArray[np.float64]) -> float:
    """Put arm, drawer and objects where the scene wants them, all at rest.

    Args:
        model: the compiled scene.
        data: is overwritten.
        q: (7,) arm posture [rad].

    Returns:
        The gripper's opening to command: fully open, or closed when the scene puts an object in the gripper [m].
    """
    scene, mj = model.scene, model.mj
    mujoco.mj_resetData(mj, data)
    data.qpos[model.arm_qpos] = q
    data.qpos[model.drawer_qpos] = scene.drawer_open
    held = scene.carried_by(specs.GRIPPER)
    width = panda.GRIPPER_MAX_WIDTH_M if not held else min(o.size[1] for o in held)
    data.qpos[model.finger_qpos] = width / 2
    mujoco.mj_kinematics(mj, data)
    for thing, address in zip(scene.objects, model.object_qpos, strict=True):
        position, quat = _initial_pose(model, data, thing)
        data.qpos[address : address + 3] = position
        data.qpos[address + 3 : address + 7] = quat
    data.ctrl[: panda.N_JOINTS] = q
    target = 0.0 if held else width
    data.ctrl[panda.N_JOINTS] = target
    return target


def _initial_pose(
    model: TabletopModel, data: mujoco.MjData, thing: ObjectSpec
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    turn = np.array([np.cos(thing.yaw / 2), 0.0, 0.0, np.sin(thing.yaw / 2)])
    if thing.support != specs.GRIPPER:
        return np.array(thing.position) + (0.0, 0.0, 0.0003), turn
    # In the hand: turned with it about the world's vertical, whatever the arm's posture.
    rotation = data.site_xmat[model.ee_site].reshape(3, 3)
    yaw = thing.yaw + np.arctan2(-rotation[0, 1], rotation[1, 1]) + np.pi
    position = data.site_xpos[model.ee_site] - (0.0, 0.0, thing.grasp_z)
    return position, np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def _keep_rendering_cheap(spec: mujoco.MjSpec, width: int, height: int) -> None:
    visual = spec.visual
    visual.quality.offsamples = 0
    visual.quality.shadowsize = 0
    visual.quality.numslices = 18
    visual.quality.numstacks = 8
    visual.quality.numquads = 1
    getattr(visual, "global").offwidth = width
    getattr(visual, "global").offheight = height
    spec.stat.extent = 1.0
    spec.stat.center = (0.4, 0.0, 0.1)
    visual.map.znear = 0.02
    visual.map.zfar = 6.0
