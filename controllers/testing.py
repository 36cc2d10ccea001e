"""Fakes for tests of whatever moves the arm; ours use them, and so may yours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics
from hiervla.controllers.limits import Array
from hiervla.controllers.timing import TICK_S
from hiervla.representations.actions import JointCommand
from hiervla.representations.errors import CameraError
from hiervla.representations.observations import Observation, Proprioception


class PerfectArm:
    """A world without physics and cameras: the arm is where the last command wanted it.

    Attributes:
        history: (7,) joint positions, the start first, then one a tick.
        commands: what arrived.
        stuck: joint position offsets that the measurement shows, to play a blocked arm.
        effort_n: what the gripper measures.
        closed: whether `close` was called.
    """

    name = "perfect_arm"

    def __init__(self, q: ArrayLike = panda.HOME_Q) -> None:
        self.history: list[Array] = [np.array(q, dtype=np.float64)]
        self.commands: list[JointCommand] = []
        self.stuck = np.zeros(panda.N_JOINTS)
        self.effort_n = 0.0
        self.closed = False
        self._width = panda.GRIPPER_MAX_WIDTH_M
        self._ticks = 0
        self._kinematics = Kinematics()

    @property
    def time_s(self) -> float:
        """Clock [s]."""
        return self._ticks * TICK_S

    def proprio(self) -> Proprioception:
        """What the arm would measure."""
        q = self.history[-1] + self.stuck
        return Proprioception(
            q=q,
            dq=np.zeros(panda.N_JOINTS),
            T_world_ee=self._kinematics.forward(q),
            gripper_width_m=self._width,
            gripper_effort_n=self.effort_n,
            time_s=self.time_s,
        )

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """Proprioception without images.

        Raises:
            CameraError: a camera was asked for.
        """
        if cameras:
            raise CameraError(cameras[0], "does not exist: this world has no cameras", "Use another world")
        return Observation(frames=(), proprio=self.proprio(), time_s=self.time_s)

    def step(self, command: JointCommand) -> None:
        """Be where the command says."""
        self.commands.append(command)
        self.history.append(np.array(command.q))
        self._width = command.gripper_width_m
        self._ticks += 1

    def snapshot(self) -> bytes:
        """Joint position, width and clock."""
        return np.array([*self.history[-1], self._width, self._ticks]).tobytes()

    def restore(self, snapshot: bytes) -> None:
        """Go back to a snapshot."""
        state = np.frombuffer(snapshot)
        self.history = [np.array(state[:-2])]
        self._width, self._ticks = float(state[-2]), int(state[-1])

    def close(self) -> None:
        """Note that it was called."""
        self.closed = True

    def rates(self) -> tuple[Array, Array, Array]:
        """Velocity, acceleration and jerk of the history by differences: (N, 7), (N - 1, 7), (N - 2, 7)."""
        velocity = np.diff(np.array(self.history), axis=0) / TICK_S
        acceleration = np.diff(velocity, axis=0) / TICK_S
        return velocity, acceleration, np.diff(acceleration, axis=0) / TICK_S
