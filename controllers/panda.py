"""The Franka Panda arm with its hand, written as MuJoCo model code.

Kinematics, limits and inertias are the published figures (Franka's Denavit-Hartenberg table and
datasheet; link inertias as identified by Gaz et al., 2019). The shape is made of boxes, cylinders and
capsules: they serve collision and rendering alike, and software rendering likes them better than meshes.

Frames: the base frame is the world frame; every link frame has its joint's axis as z (modified DH). The
hand frame sits on the flange, turned by -45 degrees about z; `ee` is the tool centre point, midway between
the finger pads, with the axes of the hand: z out of the hand, y the closing direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def _fixed(*values: float) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


N_JOINTS = 7
JOINT_NAMES: tuple[str, ...] = tuple(f"joint{i}" for i in range(1, N_JOINTS + 1))
LINK_NAMES: tuple[str, ...] = tuple(f"link{i}" for i in range(N_JOINTS + 1))
FINGER_JOINT_NAMES: tuple[str, str] = ("finger_joint1", "finger_joint2")
FINGER_NAMES: tuple[str, str] = ("left_finger", "right_finger")
HAND_BODY = "hand"
EE_SITE = "ee"
WRIST_CAMERA = "wrist"
GRIPPER_ACTUATOR = "gripper"

Q_MIN = _fixed(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
"""Lower joint limits, (7,) [rad]."""
Q_MAX = _fixed(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
"""Upper joint limits, (7,) [rad]."""
DQ_MAX = _fixed(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
"""Joint velocity limits, (7,) [rad/s]."""
DDQ_MAX = _fixed(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
"""Joint acceleration limits, (7,) [rad/s^2]."""
DDDQ_MAX = _fixed(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
"""Joint jerk limits, (7,) [rad/s^3]."""
TAU_MAX = _fixed(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
"""Joint torque limits, (7,) [N m]."""
KP = _fixed(4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)
"""Position gains of the joint servos, (7,) [N m/rad]."""
KD = _fixed(225.0, 225.0, 175.0, 175.0, 80.0, 80.0, 60.0)
"""Velocity gains of the joint servos, (7,) [N m s/rad]."""
HOME_Q = _fixed(0.0, -0.6672971, 0.0, -2.4544904, 0.0, 1.7871932, 0.7853982)
"""Home posture, (7,) [rad]: tool straight down at x 0.35, y 0, z 0.42 m, fingers closing along y."""

GRIPPER_MAX_WIDTH_M = 0.08
GRIPPER_MAX_FORCE_N = 45.0
GRIPPER_MAX_SPEED_M_S = 0.1
"""Opening speed, both fingers together [m/s]."""
GRIPPER_KP = 4000.0
GRIPPER_KD = 120.0
TCP_OFFSET_M = 0.1034
"""Distance from the hand frame to the tool centre point along the hand's z [m]."""

_SHELL = (0.91, 0.92, 0.93, 1.0)
_JOINT = (0.78, 0.80, 0.83, 1.0)
_DARK = (0.20, 0.21, 0.23, 1.0)
_PAD = (0.33, 0.34, 0.36, 1.0)

_TURN_BACK = (0.70710678, -0.70710678, 0.0, 0.0)  # -90 degrees about x
_TURN_FORTH = (0.70710678, 0.70710678, 0.0, 0.0)  # +90 degrees about x
_HAND_TURN = (0.92387953, 0.0, 0.0, -0.38268343)  # -45 degrees about z


@dataclass(frozen=True)
class _Link:
    """A moving link: placement on its parent, mass [kg], centre of mass [m], inertia (xx yy zz xy xz yz)."""

    pos: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    mass: float
    com: tuple[float, float, float]
    inertia: tuple[float, float, float, float, float, float]


_UPRIGHT = (1.0, 0.0, 0.0, 0.0)
_BASE_INERTIA = (0.00315, 0.00388, 0.004285, 8.2904e-7, 0.00015, 8.2299e-6)
_LINKS: tuple[_Link, ...] = (
    _Link((0, 0, 0.333), _UPRIGHT, 4.970684, (0.003875, 0.002081, -0.04762),
          (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    _Link((0, 0, 0), _TURN_BACK, 0.646926, (-0.003141, -0.02872, 0.003495),
          (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    _Link((0, -0.316, 0), _TURN_FORTH, 3.228604, (0.027518, 0.039252, -0.066502),
          (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    _Link((0.0825, 0, 0), _TURN_FORTH, 3.587895, (-0.05317, 0.104419, 0.027454),
          (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    _Link((-0.0825, 0.384, 0), _TURN_BACK, 1.225946, (-0.011953, 0.041065, -0.038437),
          (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    _Link((0, 0, 0), _TURN_FORTH, 1.666555, (0.060149, -0.014117, -0.010517),
          (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    _Link((0.088, 0, 0), _TURN_FORTH, 0.735522, (0.010517, -0.004252, 0.061597),
          (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)  # fmt: skip


@dataclass(frozen=True)
class _Shape:
    """One primitive of a link: a capsule or cylinder from `a` to `b` with radius, or a box about `a`."""

    kind: str
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    radius: float = 0.0
    rgba: tuple[float, float, float, float] = _SHELL
    collides: bool = True


# Capsules bound the real casing; the cylinders that stand a little proud of them draw the joints.
_SHAPES: dict[str, tuple[_Shape, ...]] = {
    "link0": (
        _Shape("box", (-0.05, 0, 0.012), (0.095, 0.09, 0.012), rgba=_DARK),
        _Shape("capsule", (-0.09, 0, 0.06), (-0.03, 0, 0.06), 0.058),
        _Shape("cylinder", (0, 0, 0.02), (0, 0, 0.14), 0.066, _JOINT),
    ),
    "link1": (
        _Shape("capsule", (0, 0, -0.20), (0, 0, -0.02), 0.060),
        _Shape("cylinder", (0, -0.068, 0), (0, 0.068, 0), 0.0625, _JOINT, collides=False),
    ),
    "link2": (
        _Shape("capsule", (0, 0, -0.06), (0, 0, 0.06), 0.060),
        _Shape("capsule", (0, -0.03, 0), (0, -0.12, 0), 0.058),
    ),
    "link3": (
        _Shape("capsule", (0, 0, -0.15), (0, 0, -0.06), 0.059),
        _Shape("capsule", (0.01, 0, -0.05), (0.0725, 0, 0), 0.052),
        _Shape("cylinder", (0.0825, -0.064, 0), (0.0825, 0.064, 0), 0.060, _JOINT, collides=False),
    ),
    "link4": (
        _Shape("capsule", (0, 0, -0.055), (0, 0, 0.055), 0.058),
        _Shape("capsule", (-0.02, 0.03, 0), (-0.0825, 0.11, 0), 0.054),
    ),
    "link5": (
        _Shape("capsule", (0, 0, -0.26), (0, 0, -0.19), 0.057),
        _Shape("capsule", (0, 0.05, -0.20), (0, 0.082, -0.07), 0.030),
        _Shape("capsule", (0, 0.082, -0.07), (0, 0.02, -0.01), 0.036),
        _Shape("cylinder", (0, -0.02, 0), (0, 0.078, 0), 0.048, _JOINT, collides=False),
    ),
    "link6": (
        _Shape("capsule", (0, 0, -0.06), (0, 0, 0.01), 0.050),
        _Shape("capsule", (0.02, 0, 0), (0.075, 0, 0), 0.045),
    ),
    "link7": (
        _Shape("capsule", (0, 0, -0.02), (0, 0, 0.06), 0.043),
        _Shape("cylinder", (0, 0, 0.082), (0, 0, 0.107), 0.034, _DARK),
    ),
    HAND_BODY: (
        _Shape("box", (0, 0, 0.030), (0.026, 0.102, 0.031)),
        _Shape("box", (0, 0, 0.061), (0.020, 0.094, 0.005), rgba=_DARK),
        _Shape("box", (0.046, 0, 0.030), (0.010, 0.038, 0.012), rgba=_DARK, collides=False),
    ),
}
_PAD_HALF = (0.0105, 0.0035, 0.0105)


def add_panda(
    spec: mujoco.MjSpec,
    *,
    gravcomp: bool = True,
    self_collision: bool = False,
    actuators: bool = True,
    wrist_fovy_deg: float = 72.0,
) -> Any:
    """Add the arm, the hand, their servos, the site `ee` and the camera `wrist` to a spec.

    The joint servos are `tau = KP (ctrl - q) - KD dq` inside the torque limits (gravity compensation counts
    against them); give `ctrl = q_ref + KD / KP * dq_ref` to track a moving reference. The actuator `gripper`
    takes the opening width [m] and pushes with `GRIPPER_MAX_FORCE_N` at most.

    Args:
        spec: the model under construction; its angles must be radians.
        gravcomp: compensate the arm's and the hand's own weight through the joint actuators.
        self_collision: let links that are not neighbours collide with each other (bit 0 of the masks).
            Robot geoms always have contype 1; what should meet the robot needs bit 0 in its conaffinity.
        actuators: add the seven joint servos and the gripper's.
        wrist_fovy_deg: vertical field of view of the wrist camera [degrees].

    Returns:
        The base body `link0` (an `mjsBody`), fixed at the origin of the world.
    """
    spec.compiler.degree = False
    comp = 1.0 if gravcomp else 0.0
    base = spec.worldbody.add_body(name="link0")
    _set_inertia(base, 0.629769, (-0.041018, -0.00014, 0.049974), _BASE_INERTIA)
    bodies = {"link0": base}
    parent = base
    for i, link in enumerate(_LINKS):
        parent = parent.add_body(name=LINK_NAMES[i + 1], pos=link.pos, quat=link.quat, gravcomp=comp)
        _set_inertia(parent, link.mass, link.com, link.inertia)
        parent.add_joint(
            name=JOINT_NAMES[i], type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0, 0, 1),
            range=(float(Q_MIN[i]), float(Q_MAX[i])), limited=True, armature=0.1, damping=1.0,
            actfrcrange=(-float(TAU_MAX[i]), float(TAU_MAX[i])), actfrclimited=True, actgravcomp=gravcomp,
        )  # fmt: skip
        bodies[LINK_NAMES[i + 1]] = parent
    hand = parent.add_body(name=HAND_BODY, pos=(0, 0, 0.107), quat=_HAND_TURN, gravcomp=comp)
    _set_inertia(hand, 0.73, (-0.01, 0, 0.03), (0.001, 0.0025, 0.0017, 0, 0, 0))
    bodies[HAND_BODY] = hand
    for name, body in bodies.items():
        for shape in _SHAPES[name]:
            _add_shape(body, shape, self_collision)
    hand.add_site(name=EE_SITE, pos=(0, 0, TCP_OFFSET_M), size=(0.004, 0, 0), group=4)
    _add_wrist_camera(hand, wrist_fovy_deg)
    _add_fingers(spec, hand, comp, self_collision, gravcomp)
    if self_collision:
        _exclude_neighbours(spec)
    if actuators:
        _add_servos(spec)
    return base


def panda_model(*, self_collision: bool = True, gravcomp: bool = True) -> mujoco.MjModel:
    """Compile the arm and hand alone, base at the origin; nq is 9 (seven joints, two fingers)."""
    spec = mujoco.MjSpec()
    spec.modelname = "panda"
    spec.option.timestep = 0.002
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    add_panda(spec, self_collision=self_collision, gravcomp=gravcomp)
    return spec.compile()


def _set_inertia(body: Any, mass: float, com: tuple[float, ...], inertia: tuple[float, ...]) -> None:
    body.mass = mass
    body.ipos = com
    body.fullinertia = inertia
    body.explicitinertial = True


def _masks(collides: bool, self_collision: bool) -> dict[str, int]:
    if not collides:
        return {"contype": 0, "conaffinity": 0}
    return {"contype": 1, "conaffinity": 1 if self_collision else 0}


def _add_shape(body: Any, shape: _Shape, self_collision: bool) -> None:
    masks = _masks(shape.collides, self_collision)
    if shape.kind == "box":
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=shape.a, size=shape.b, rgba=shape.rgba, mass=0.0, **masks)
        return
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE if shape.kind == "capsule" else mujoco.mjtGeom.mjGEOM_CYLINDER
    body.add_geom(type=kind, fromto=(*shape.a, *shape.b), size=(shape.radius, 0, 0), rgba=shape.rgba, mass=0.0, **masks)


def _add_wrist_camera(hand: Any, fovy_deg: float) -> None:
    # The camera sits on the outer face of the hand, looks along the fingers and leans 20 degrees towards
    # their tips; the image's up is the hand's +x. MuJoCo cameras look along their own -z with y up.
    lean = np.deg2rad(20.0)
    forward = np.array([-np.sin(lean), 0.0, np.cos(lean)])
    right = np.array([0.0, 1.0, 0.0])
    up = np.cross(right, forward)
    rotation = np.stack([right, up, -forward], axis=1)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    hand.add_camera(name=WRIST_CAMERA, pos=(0.062, 0.0, 0.035), quat=quat, fovy=fovy_deg)


def _add_fingers(spec: mujoco.MjSpec, hand: Any, comp: float, self_collision: bool, gravcomp: bool) -> None:
    for name, joint, side in zip(FINGER_NAMES, FINGER_JOINT_NAMES, (1.0, -1.0), strict=True):
        finger = hand.add_body(name=name, pos=(0, 0, 0.0584), gravcomp=comp)
        _set_inertia(finger, 0.015, (0, 0, 0.02), (1.0e-5, 1.0e-5, 2.0e-6, 0, 0, 0))
        finger.add_joint(
            name=joint, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, side, 0), limited=True,
            range=(0.0, GRIPPER_MAX_WIDTH_M / 2), armature=0.1, damping=1.0, actgravcomp=gravcomp,
        )  # fmt: skip
        masks = _masks(True, self_collision)
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, side * 0.015, 0.009), size=(0.0105, 0.0095, 0.010),
            rgba=_JOINT, mass=0.0, **masks,
        )  # fmt: skip
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, side * 0.011, 0.030), size=(0.0085, 0.006, 0.014),
            rgba=_JOINT, mass=0.0, **masks,
        )  # fmt: skip
        # Only the pad grips: elliptic friction with torsion, and a priority for all objects.
        finger.add_geom(
            name=f"{name}_pad", type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, side * _PAD_HALF[1], 0.045),
            size=_PAD_HALF, rgba=_PAD, mass=0.0, condim=4, friction=(1.2, 0.02, 0.001), priority=2,
            solref=(0.006, 1.0), solimp=(0.95, 0.99, 0.001, 0.5, 2.0), **masks,
        )  # fmt: skip
    coupling = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name="finger_coupling")
    coupling.objtype = mujoco.mjtObj.mjOBJ_JOINT
    coupling.name1, coupling.name2 = FINGER_JOINT_NAMES
    coupling.data[:5] = (0.0, 1.0, 0.0, 0.0, 0.0)
    coupling.solref = (0.005, 1.0)
    coupling.solimp = (0.95, 0.99, 0.001, 0.5, 2.0)
    width = spec.add_tendon(name="gripper_width")
    for joint in FINGER_JOINT_NAMES:
        width.wrap_joint(joint, 1.0)


def _exclude_neighbours(spec: mujoco.MjSpec) -> None:
    # MuJoCo filters parent and child; these pairs share a casing at every posture.
    pairs = [("link0", "link1"), ("link5", "link7"), ("link6", HAND_BODY), ("left_finger", "right_finger")]
    pairs += [("link7", "left_finger"), ("link7", "right_finger"), ("link1", "link3"), ("link2", "link4")]
    pairs += [("link3", "link5"), ("link4", "link6")]
    for one, other in pairs:
        spec.add_exclude(bodyname1=one, bodyname2=other)


def _servo(kp: float, kd: float) -> dict[str, Any]:
    gain, bias = np.zeros(10), np.zeros(10)
    gain[0] = kp
    bias[1], bias[2] = -kp, -kd
    return {
        "gaintype": mujoco.mjtGain.mjGAIN_FIXED,
        "biastype": mujoco.mjtBias.mjBIAS_AFFINE,
        "gainprm": gain,
        "biasprm": bias,
    }


def _add_servos(spec: mujoco.MjSpec) -> None:
    for i, joint in enumerate(JOINT_NAMES):
        spec.add_actuator(
            name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=True,
            forcerange=(-float(TAU_MAX[i]), float(TAU_MAX[i])), **_servo(float(KP[i]), float(KD[i])),
        )  # fmt: skip
    spec.add_actuator(
        name=GRIPPER_ACTUATOR, target="gripper_width", trntype=mujoco.mjtTrn.mjTRN_TENDON, forcelimited=True,
        forcerange=(-GRIPPER_MAX_FORCE_N, GRIPPER_MAX_FORCE_N), **_servo(GRIPPER_KP, GRIPPER_KD),
    )  # fmt: skip
