"""The servos of one arm and its gripper in a simulated world: from a command to what each physics step is told."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.worlds.base import CONTROL_PERIOD_S
from hiervla.worlds.tabletop.model import TIMESTEP_S, TabletopModel

SUBSTEPS = round(CONTROL_PERIOD_S / TIMESTEP_S)
_JOINT_DAMPING = 1.0
_LEAD_S = (panda.KD + _JOINT_DAMPING) / panda.KP
# The gripper's target never runs further ahead of the fingers than what gives full force.
_GRIPPER_LEAD_M = panda.GRIPPER_MAX_FORCE_N / panda.GRIPPER_KP * 1.05
_GRIPPER_STEP_M = panda.GRIPPER_MAX_SPEED_M_S * TIMESTEP_S


class ArmServo:
    """Brings one arm to its next reference within a control tick.

    Attributes:
        q_ref: (7,) reference at the end of the last tick [rad].
        dq_ref: (7,) its velocity [rad/s].
        effort: force with which the fingers press [N].
    """

    def __init__(self, built: TabletopModel) -> None:
        self._first = built.ctrl
        self._gripper = built.ctrl + panda.N_JOINTS
        self._left, self._right = (int(f) for f in built.finger_qpos)
        self._targets: NDArray[np.float64] = np.zeros((SUBSTEPS, panda.N_JOINTS))
        self._width = 0.0
        self.q_ref: NDArray[np.float64] = np.zeros(panda.N_JOINTS)
        self.dq_ref: NDArray[np.float64] = np.zeros(panda.N_JOINTS)
        self.effort = 0.0

    def rest(self, q: NDArray[np.float64]) -> None:
        """Stand still at a posture (7,) [rad]."""
        self.q_ref, self.dq_ref, self.effort = q.copy(), np.zeros(panda.N_JOINTS), 0.0

    def aim(self, q: NDArray[np.float64], dq: NDArray[np.float64], width: float) -> None:
        """Take the targets of a tick: joints (7,) [rad], their velocities (7,) [rad/s], gripper opening [m]."""
        share = np.arange(1, SUBSTEPS + 1)[:, None] / SUBSTEPS
        q_path = self.q_ref + share * (q - self.q_ref)
        dq_path = self.dq_ref + share * (dq - self.dq_ref)
        self._targets = q_path + _LEAD_S * dq_path
        self._width = width
        self.q_ref, self.dq_ref = np.array(q, dtype=np.float64), np.array(dq, dtype=np.float64)

    def drive(self, data: mujoco.MjData, substep: int) -> None:
        """Set the controls for one physics step of the tick."""
        ctrl, last = data.ctrl, self._gripper
        ctrl[self._first : last] = self._targets[substep]
        now = data.qpos[self._left] + data.qpos[self._right]
        aim = ctrl[last] + min(max(self._width - ctrl[last], -_GRIPPER_STEP_M), _GRIPPER_STEP_M)
        ctrl[last] = min(max(aim, now - _GRIPPER_LEAD_M), now + _GRIPPER_LEAD_M)

    def feel(self, data: mujoco.MjData) -> None:
        """Take note of how hard the fingers press at the end of a tick."""
        self.effort = max(0.0, -float(data.actuator_force[self._gripper]))
