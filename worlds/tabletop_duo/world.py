"""Two arms at one table as a world, and each arm as a `World` of its own in it.

Both arms move in the same simulated time: :meth:`DuoWorld.step` takes a command for each of them and advances one
control tick. :meth:`DuoWorld.arm` gives what one arm sees and is told: observations and commands in its own base frame,
through its own cameras, as in `tabletop`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.representations import CameraError, JointCommand, UnknownNameError
from hiervla.worlds.base import CONTROL_PERIOD_S, SharedSpace
from hiervla.worlds.tabletop import snapshots
from hiervla.worlds.tabletop.model import TabletopModel, place_scene
from hiervla.worlds.tabletop.rendering import OffscreenRenderer
from hiervla.worlds.tabletop.servo import SUBSTEPS, ArmServo
from hiervla.worlds.tabletop.spill import Spill
from hiervla.worlds.tabletop.world import CAMERAS, TabletopWorld, checked, start_posture
from hiervla.worlds.tabletop_duo.model import build_duo
from hiervla.worlds.tabletop_duo.scene import ARMS, SHARED_SPACE, DuoScene

_SETTLE_TICKS = 15
_EXTRA = (7, 7, 1, 1)


class DuoWorld:
    """Two Pandas at one table, built from a `DuoScene`; the same scene and commands give the same states, bit for bit.

    What is true in the scene is not to be had here: see `privileged.DuoTruth`.
    """

    name = "tabletop-duo"
    arms: tuple[str, ...] = ARMS

    def __init__(
        self,
        scene: DuoScene,
        cameras: Sequence[str] = CAMERAS,
        width: int = 256,
        height: int = 192,
        *,
        depth: bool | Collection[str] = True,
        home_noise: float = 0.0,
    ) -> None:
        """Build the scene and let it settle; no OpenGL is touched before the first image.

        Args:
            scene: the recipe.
            cameras: which of "front" and "wrist" each arm has.
            width: image width [px].
            height: image height [px].
            depth: whether cameras give depth, or the names of those that do.
            home_noise: standard deviation of an error on the arms' postures at the start, drawn from the seed [rad].

        Raises:
            CameraError: a camera name is unknown.
        """
        for camera in cameras:
            if camera not in CAMERAS:
                raise CameraError(camera, "does not exist in this world", f"Choose from {', '.join(CAMERAS)}")
        self._scene = scene
        built = build_duo(scene, width, height)
        self._model = built["left"].mj
        self._data = mujoco.MjData(self._model)
        self._mirror = mujoco.MjData(self._model)
        self._renderer: OffscreenRenderer | None = None
        self._size = (width, height)
        self._ticks = 0
        self._views = {arm: ArmView(self, arm, built[arm], tuple(cameras), depth) for arm in ARMS}
        mujoco.mj_resetData(self._model, self._data)
        still: dict[str, JointCommand] = {}
        for number, (arm, view) in enumerate(self._views.items()):
            q = start_posture(2 * scene.seed + number, None, home_noise)
            width_m = place_scene(built[arm], self._data, q)
            view._servo.rest(q)
            still[arm] = JointCommand(q=q, dq=np.zeros_like(q), gripper_width_m=width_m, time_s=0.0)
        for _ in range(_SETTLE_TICKS):
            self.step(still)
        self._ticks, self._data.time = 0, 0.0

    @property
    def time_s(self) -> float:
        """Simulated time since the start [s]; one clock for both arms."""
        return self._ticks * CONTROL_PERIOD_S

    def shared_space(self, arm: str) -> SharedSpace:
        """The space above the bin and beside it, which both arms can enter, in an arm's base frame.

        Raises:
            UnknownNameError: there is no such arm.
        """
        self.arm(arm)
        return SHARED_SPACE

    def T_root_base(self, arm: str) -> NDArray[np.float64]:
        """(4, 4) pose of an arm's base in the root frame, as it is mounted.

        Raises:
            UnknownNameError: there is no such arm.
        """
        self.arm(arm)
        return self._scene.T_root_base(arm)

    def arm(self, name: str) -> ArmView:
        """One arm as a world of its own.

        Raises:
            UnknownNameError: there is no such arm.
        """
        if name not in self._views:
            raise UnknownNameError("arm", name, ARMS, place=f"world {self.name}")
        return self._views[name]

    def step(self, commands: Mapping[str, JointCommand]) -> None:
        """Track one command for each arm for one tick; an arm without one stays where it was told to be.

        Raises:
            ConventionError: a command has not seven joints, or is not finite; nothing moves.
            UnknownNameError: a command is for no arm of this world.
        """
        aims = {self.arm(name)._arm: checked(command) for name, command in commands.items()}
        for name, view in self._views.items():
            servo = view._servo
            q, dq, width = aims.get(name, (servo.q_ref, np.zeros_like(servo.dq_ref), view._width))
            servo.aim(q, dq, width)
            view._width = width
        for substep in range(SUBSTEPS):
            for view in self._views.values():
                view._servo.drive(self._data, substep)
            mujoco.mj_step(self._model, self._data)
        for view in self._views.values():
            view._servo.feel(self._data)
            view._spill.wipe(self._data)
        self._ticks += 1

    def snapshot(self) -> bytes:
        """The whole state of both arms and all things; see `SnapshotWorld.snapshot`."""
        extra = []
        for view in self._views.values():
            servo = view._servo
            extra += [servo.q_ref, servo.dq_ref, np.array([servo.effort]), np.array([view._width])]
        left, right = (view._spill.mask for view in self._views.values())
        extra.append(np.array([float(right)]))  # forty bits, exact in a float
        return snapshots.pack(
            self._model, self._data, scene=self._scene, extra=extra, ticks=self._ticks, spill_mask=left
        )

    def restore(self, snapshot: bytes) -> None:
        """Return to a state of this world; see `SnapshotWorld.restore`.

        Raises:
            SnapshotError: the bytes are no snapshot of a world with this layout.
        """
        sizes = (*_EXTRA, *_EXTRA, 1)
        state = snapshots.unpack(snapshot, self._model, scene=self._scene, extra_sizes=sizes)
        mujoco.mj_setState(self._model, self._data, state.physics, snapshots.STATE)
        masks = (state.spill_mask, int(state.extra[-1][0]))
        for number, (view, mask) in enumerate(zip(self._views.values(), masks, strict=True)):
            q, dq, effort, width = state.extra[4 * number : 4 * number + 4]
            view._servo.q_ref, view._servo.dq_ref, view._servo.effort = q, dq, float(effort[0])
            view._width, view._spill.mask = float(width[0]), mask
        self._ticks = state.ticks

    def _drawing(self) -> OffscreenRenderer:
        """What draws for both arms' cameras; made at the first image."""
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self._model, *self._size)
        return self._renderer

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> DuoWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArmView(TabletopWorld):
    """One arm of a :class:`DuoWorld` as a world: its own base frame, its own cameras, the common clock.

    Its :meth:`step` moves this arm alone for a tick, while the other one stays where it was told to be.
    """

    def __init__(
        self, duo: DuoWorld, arm: str, built: TabletopModel, cameras: tuple[str, ...], depth: bool | Collection[str]
    ) -> None:
        """See :meth:`DuoWorld.arm`; a view is not made by itself."""
        self._duo = duo
        self._arm = arm
        self._built = built
        self._model, self._data, self._mirror = duo._model, duo._data, duo._mirror
        self._cameras, self._size = cameras, duo._size
        self._depth = frozenset((cameras if depth else ()) if isinstance(depth, bool) else depth)
        self._servo = ArmServo(built)
        self._spill = Spill(built)
        self._renderer = None
        self._width = 0.0

    @property
    def time_s(self) -> float:
        """The common clock [s]."""
        return self._duo.time_s

    def step(self, command: JointCommand) -> None:
        """Track a command for one tick with the other arm at rest; see :meth:`DuoWorld.step`."""
        self._duo.step({self._arm: command})

    def snapshot(self) -> bytes:
        """The state of the whole world, both arms."""
        return self._duo.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Bring the whole world, both arms, back to a state."""
        self._duo.restore(snapshot)

    def close(self) -> None:
        """Nothing: the world that the arm is part of is closed by whoever built it."""

    def _rendering(self, name: str) -> tuple[OffscreenRenderer, int]:
        self._renderer = self._duo._drawing()
        return super()._rendering(name)


__all__ = ["ArmView", "DuoWorld"]
