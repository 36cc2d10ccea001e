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
        arm_dofs: (7,) addresses of the arm's velocities in qvel.
        ctrl: address of the arm's first servo; the gripper's follows the seven.
        prefix: what the names of this scene's parts begin with in a model that holds several.
        T_root_base: (4, 4) pose of the robot's base in the model's frame; None where the two are one frame.
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
    arm_dofs: NDArray[np.int64]
    ctrl: int = 0
    prefix: str = ""
    T_root_base: NDArray[np.float64] | None = None


def build_model(scene: SceneSpec, width: int = 256, height: int = 192) -> TabletopModel:
    """Compile a scene; `width` and `height` [px] bound what can be rendered from it."""
    spec = mujoco.MjSpec()
    spec.modelname = "tabletop"
    set_physics(spec)
    keep_rendering_cheap(spec, width, height)
    panda.add_panda(spec)
    add_surroundings(spec, scene)
    add_things(spec, scene)
    return indexed(spec.compile(), scene)


def set_physics(spec: mujoco.MjSpec) -> None:
    """Time step and solver of every model of this world."""
    option = spec.option
    option.timestep = TIMESTEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    # Dense: mujoco 4.0.0 has a wrong Newton Hessian for sparse constraint Jacobians.
    option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    # With 20 line search steps the solver gave up once in a while, and a firmly held block jumped by 10 mm.
    option.ls_iterations = 200


def indexed(
    mj: mujoco.MjModel, scene: SceneSpec, prefix: str = "", T_root_base: NDArray[np.float64] | None = None
) -> TabletopModel:
    """A compiled model with the places of one scene's parts in it.

    Args:
        mj: the model; it may hold several scenes, told apart by prefixes.
        scene: the recipe of the one that is wanted.
        prefix: of its names.
        T_root_base: (4, 4) pose of its robot's base in the model's frame; None where the two are one frame.
    """
    joints = [mj.joint(prefix + name) for name in panda.JOINT_NAMES]
    discs = range(SPILL_DISCS) if scene.spill is not None else range(0)
    fingers = [int(mj.joint(prefix + n).qposadr[0]) for n in panda.FINGER_JOINT_NAMES]
    return TabletopModel(
        scene=scene,
        mj=mj,
        arm_qpos=np.array([int(j.qposadr[0]) for j in joints], dtype=np.int64),
        finger_qpos=np.array(fingers, dtype=np.int64),
        drawer_qpos=int(mj.joint(prefix + DRAWER_JOINT).qposadr[0]),
        object_qpos=tuple(int(mj.joint(prefix + o.id).qposadr[0]) for o in scene.objects),
        object_bodies=tuple(int(mj.body(prefix + o.id).id) for o in scene.objects),
        spill_geoms=np.array([int(mj.geom(f"{prefix}spill_disc_{k}").id) for k in discs], dtype=np.int64),
        ee_site=int(mj.site(prefix + panda.EE_SITE).id),
        arm_dofs=np.array([int(j.dofadr[0]) for j in joints], dtype=np.int64),
        ctrl=int(mj.actuator(prefix + panda.JOINT_NAMES[0]).id),
        prefix=prefix,
        T_root_base=T_root_base,
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
    mujoco.mj_resetData(model.mj, data)
    return place_scene(model, data, q)


def place_scene(model: TabletopModel, data: mujoco.MjData, q: NDArray[np.float64]) -> float:
    """Like :func:`set_initial_state`, but whatever else the model holds stays as it is."""
    scene, mj = model.scene, model.mj
    data.qpos[model.arm_qpos] = q
    data.qpos[model.drawer_qpos] = scene.drawer_open
    held = scene.carried_by(specs.GRIPPER)
    width = panda.GRIPPER_MAX_WIDTH_M if not held else min(o.size[1] for o in held)
    data.qpos[model.finger_qpos] = width / 2
    mujoco.mj_kinematics(mj, data)
    for thing, address in zip(scene.objects, model.object_qpos, strict=True):
        position, quat = _in_root(model, *_initial_pose(model, data, thing))
        data.qpos[address : address + 3] = position
        data.qpos[address + 3 : address + 7] = quat
    gripper = model.ctrl + panda.N_JOINTS
    data.ctrl[model.ctrl : gripper] = q
    target = 0.0 if held else width
    data.ctrl[gripper] = target
    return target


def _in_root(
    model: TabletopModel, position: NDArray[np.float64], quat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A pose in the base frame as one in the model's frame."""
    if model.T_root_base is None:
        return position, quat
    turn, turned = np.zeros(4), np.zeros(4)
    mujoco.mju_mat2Quat(turn, model.T_root_base[:3, :3].ravel())
    mujoco.mju_mulQuat(turned, turn, quat)
    return model.T_root_base[:3, :3] @ position + model.T_root_base[:3, 3], turned


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


def keep_rendering_cheap(spec: mujoco.MjSpec, width: int, height: int) -> None:
    """Settings with which software renders fast; `width` and `height` [px] bound what can be rendered."""
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
