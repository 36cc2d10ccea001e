"""The tabletop as a `World`: a simulated Panda that senses and tracks joint commands, nothing more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiervla.controllers import panda
from hiervla.representations import (
    CameraError,
    CameraFrame,
    ConventionError,
    JointCommand,
    Observation,
    Proprioception,
)
from hiervla.worlds.base import CONTROL_PERIOD_S
from hiervla.worlds.tabletop import snapshots
from hiervla.worlds.tabletop.furniture import FRONT_CAMERA
from hiervla.worlds.tabletop.model import build_model, set_initial_state
from hiervla.worlds.tabletop.rendering import OffscreenRenderer
from hiervla.worlds.tabletop.servo import SUBSTEPS, ArmServo
from hiervla.worlds.tabletop.specs import GRIPPER, SceneSpec
from hiervla.worlds.tabletop.spill import Spill

CAMERAS: tuple[str, ...] = (FRONT_CAMERA, panda.WRIST_CAMERA)
_SETTLE_TICKS = 15


class TabletopWorld:
    """A Franka Panda at a table, built from a `SceneSpec`.

    Joint servos track position and velocity targets inside the torque limits; the gripper moves at its rated
    speed and squeezes with limited force. The same scene and commands give the same states, bit for bit.
    What is true in the scene is not to be had here: see `privileged.GroundTruth`.
    """

    name = "tabletop"

    def __init__(
        self,
        scene: SceneSpec,
        cameras: Sequence[str] = CAMERAS,
        width: int = 256,
        height: int = 192,
        *,
        depth: bool | Collection[str] = True,
        start_q: ArrayLike | None = None,
        home_noise: float = 0.0,
    ) -> None:
        """Build the scene and let it settle; no OpenGL is touched before the first image.

        Args:
            scene: the recipe.
            cameras: which of "front" and "wrist" exist.
            width: image width [px].
            height: image height [px].
            depth: whether cameras give depth, or the names of those that do.
            start_q: (7,) posture of the arm at the start [rad]; default: home.
            home_noise: standard deviation of an error on that posture, drawn from the scene's seed [rad].

        Raises:
            CameraError: a camera name is unknown.
            ConventionError: `start_q` is outside the joint limits.
        """
        for camera in cameras:
            if camera not in CAMERAS:
                raise CameraError(camera, "does not exist in this world", f"Choose from {', '.join(CAMERAS)}")
        if isinstance(depth, bool):
            self._depth = frozenset(cameras if depth else ())
        else:
            self._depth = frozenset(depth)
        self._cameras = tuple(cameras)
        self._size = (width, height)
        self._built = build_model(scene, width, height)
        self._model, self._data = self._built.mj, mujoco.MjData(self._built.mj)
        # Whoever looks, looks at this copy: looking must not change what the physics does next.
        self._mirror = mujoco.MjData(self._model)
        self._spill = Spill(self._built)
        self._servo = ArmServo(self._built)
        self._renderer: OffscreenRenderer | None = None
        self._reset(start_posture(scene.seed, start_q, home_noise))

    @property
    def time_s(self) -> float:
        """Simulated time since the start [s]."""
        return self._ticks * CONTROL_PERIOD_S

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that `observe` can use."""
        return self._cameras

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """See `World.observe`."""
        names = self._cameras if cameras is None else tuple(cameras)
        for name in names:
            if name not in self._cameras:
                remedy = f"This world has {', '.join(self._cameras) or 'no camera'}"
                raise CameraError(name, "is not in this world", remedy)
        proprio = self.proprio()
        frames = tuple(self._frame(name) for name in names)
        return Observation(frames=frames, proprio=proprio, time_s=self.time_s)

    def proprio(self) -> Proprioception:
        """See `World.proprio`."""
        self._refresh()
        site = self._built.ee_site
        pose = np.eye(4)
        pose[:3, :3] = self._mirror.site_xmat[site].reshape(3, 3)
        pose[:3, 3] = self._mirror.site_xpos[site]
        return Proprioception(
            q=self._data.qpos[self._built.arm_qpos],
            dq=self._data.qvel[self._built.arm_dofs],
            T_world_ee=self._in_base(pose),
            gripper_width_m=float(self._data.qpos[self._built.finger_qpos].sum()),
            gripper_effort_n=self._servo.effort,
            time_s=self.time_s,
        )

    def step(self, command: JointCommand) -> None:
        """Track a command for one tick; the targets are meant for the tick's end.

        Raises:
            ConventionError: the command has not seven joints, or is not finite.
        """
        self._track(*checked(command))
        self._ticks += 1

    def _in_base(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """A pose (4, 4) of the model's frame in the frame of the robot's base, which is the world frame here."""
        base = self._built.T_root_base
        return pose if base is None else np.asarray(np.linalg.inv(base) @ pose)

    def snapshot(self) -> bytes:
        """See `SnapshotWorld.snapshot`; about 3 kB."""
        return snapshots.pack(
            self._model,
            self._data,
            scene=self._built.scene,
            extra=(self._servo.q_ref, self._servo.dq_ref, np.array([self._servo.effort])),
            ticks=self._ticks,
            spill_mask=self._spill.mask,
        )

    def restore(self, snapshot: bytes) -> None:
        """See `SnapshotWorld.restore`."""
        state = snapshots.unpack(snapshot, self._model, scene=self._built.scene, extra_sizes=(7, 7, 1))
        mujoco.mj_setState(self._model, self._data, state.physics, snapshots.STATE)
        servo = self._servo
        servo.q_ref, servo.dq_ref, servo.effort = state.extra[0], state.extra[1], float(state.extra[2][0])
        self._ticks = state.ticks
        self._spill.mask = state.spill_mask

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> TabletopWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reset(self, q: NDArray[np.float64]) -> None:
        width = set_initial_state(self._built, self._data, q)
        self._servo.rest(q)
        self._ticks = 0
        if self._built.scene.carried_by(GRIPPER):
            self._hold_until_gripped()
        for _ in range(_SETTLE_TICKS):
            self._track(q, np.zeros(panda.N_JOINTS), width)
        self._data.time = 0.0

    def _hold_until_gripped(self) -> None:
        # Without weight for a tenth of a second: the fingers reach their force before gravity pulls.
        gravity = self._model.opt.gravity.copy()
        self._model.opt.gravity[:] = 0.0
        for _ in range(5):
            self._track(self._servo.q_ref, self._servo.dq_ref, 0.0)
        self._model.opt.gravity[:] = gravity

    def _track(self, q: NDArray[np.float64], dq: NDArray[np.float64], width: float) -> None:
        servo = self._servo
        servo.aim(q, dq, width)
        for substep in range(SUBSTEPS):
            servo.drive(self._data, substep)
            mujoco.mj_step(self._model, self._data)
        servo.feel(self._data)
        self._spill.wipe(self._data)

    def _refresh(self) -> None:
        self._mirror.qpos[:] = self._data.qpos
        mujoco.mj_kinematics(self._model, self._mirror)

    def _frame(self, name: str) -> CameraFrame:
        renderer, camera = self._rendering(name)
        rgb, depth = renderer.render(self._mirror, camera, depth=name in self._depth)
        return CameraFrame(
            name=name,
            rgb=rgb,
            depth_m=depth,
            K=intrinsics(float(self._model.cam_fovy[camera]), *self._size),
            T_world_camera=self._in_base(extrinsics(self._mirror, camera)),
            time_s=self.time_s,
        )

    def _rendering(self, name: str) -> tuple[OffscreenRenderer, int]:
        """A renderer and the camera's id, with the mirror up to date for drawing."""
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self._model, *self._size)
        self._refresh()
        mujoco.mj_camlight(self._model, self._mirror)
        return self._renderer, int(self._model.camera(self._built.prefix + name).id)


def checked(command: JointCommand) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """What a command asks for, inside the robot's own limits: joints (7,) [rad], velocities (7,) [rad/s], width [m].

    Raises:
        ConventionError: the command has not seven joints, or is not finite.
    """
    if command.q.shape != (panda.N_JOINTS,):
        raise ConventionError("JointCommand.q", f"has shape {command.q.shape}", "The Panda has 7 joints")
    numbers = (*command.q, *command.dq, command.gripper_width_m)
    if not np.isfinite(numbers).all():
        raise ConventionError(
            "JointCommand", "holds NaN or infinity", "Send commands through the SafetyEnvelope, which refuses such"
        )
    width = float(np.clip(command.gripper_width_m, 0.0, panda.GRIPPER_MAX_WIDTH_M))
    return np.clip(command.q, panda.Q_MIN, panda.Q_MAX), command.dq, width


def intrinsics(fovy_deg: float, width: int, height: int) -> NDArray[np.float64]:
    """Pinhole matrix K (3, 3) [px] of a camera with this vertical field of view and square pixels."""
    focal = height / 2 / np.tan(np.deg2rad(fovy_deg) / 2)
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def extrinsics(data: mujoco.MjData, camera_id: int) -> NDArray[np.float64]:
    """T_world_camera (4, 4) with OpenCV axes; MuJoCo's own camera axes are x right, y up, z backwards."""
    pose = np.eye(4)
    pose[:3, :3] = data.cam_xmat[camera_id].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
    pose[:3, 3] = data.cam_xpos[camera_id]
    return pose


def start_posture(seed: int, start_q: ArrayLike | None, noise: float) -> NDArray[np.float64]:
    """Where an arm starts (7,) [rad]: as given, or at home, with an error drawn from the seed.

    Raises:
        ConventionError: `start_q` is outside the joint limits.
    """
    q = np.array(panda.HOME_Q if start_q is None else start_q, dtype=np.float64)
    if q.shape != (panda.N_JOINTS,) or not np.isfinite(q).all():
        raise ConventionError("start_q", f"is {q.tolist()}", "Give seven finite joint angles in radians")
    if (q < panda.Q_MIN).any() or (q > panda.Q_MAX).any():
        raise ConventionError("start_q", f"{q.tolist()} is outside the joint limits", "Use panda.HOME_Q")
    if noise > 0.0:
        rng: Any = np.random.default_rng([0x7AB5, seed])
        q = np.clip(q + rng.normal(0.0, noise, panda.N_JOINTS), panda.Q_MIN, panda.Q_MAX)
    return q
