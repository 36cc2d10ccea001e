"""Forward and inverse kinematics of the arm's tool centre point (`ee`).

A pose is a (4, 4) `T_world_ee`: it maps points in the tool frame to the world frame. The tool's z points out of the
hand (down in a top-down grasp), its y is the direction in which the fingers close.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import mink
import mujoco
import numpy as np
from mink.limits import Constraint, Limit
from numpy.typing import ArrayLike

from hiervla.controllers import panda
from hiervla.controllers.errors import UnreachablePose
from hiervla.controllers.limits import Array, JointLimits
from hiervla.controllers.timing import TICK_S

POSITION_TOLERANCE_M = 1e-3
ROTATION_TOLERANCE_RAD = 5e-3
# A stronger pull to the posture fights the pose (DEPENDENCIES.md); a weaker one lets the elbow drift.
_POSTURE_COST = 1e-3
# Radians are worth this many metres when position and rotation cannot both be had.
_ROTATION_WEIGHT = 0.3


@cache
def panda_limits() -> JointLimits:
    """What the Panda's joints may do at most, as published."""
    return JointLimits(panda.Q_MIN, panda.Q_MAX, panda.DQ_MAX, panda.DDQ_MAX, panda.DDDQ_MAX)


@cache
def motion_limits() -> JointLimits:
    """What planned motion uses of :func:`panda_limits`: brisk, with room for the envelope and for the servos."""
    return panda_limits().scaled(velocity=0.6, acceleration=0.5, jerk=0.05, position_margin=0.02)


def arm_model() -> mujoco.MjModel:
    """The seven joints alone, fingers welded half open; nq is 7."""
    spec = mujoco.MjSpec()
    panda.add_panda(spec, actuators=False)
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    for equality in list(spec.equalities):
        spec.delete(equality)
    for name in panda.FINGER_JOINT_NAMES:
        spec.delete(spec.joint(name))
    return spec.compile()


def topdown_pose(position: ArrayLike, yaw: float) -> Array:
    """Pose of a tool that points straight down.

    Args:
        position: (3,) tool centre point in the world frame [m].
        yaw: rotation of the finger-closing axis about world z; 0 closes along world y [rad].

    Returns:
        (4, 4) T_world_ee.
    """
    c, s = np.cos(yaw), np.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = [[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]]
    pose[:3, 3] = position
    return pose


def nearest_yaw(yaw: float, reference: float) -> float:
    """The angle that is equal to `yaw` modulo pi and nearest to `reference` [rad]."""
    return yaw + np.pi * round((reference - yaw) / np.pi)


def tool_yaw(pose: Array) -> float:
    """Yaw of a tool pose in (-pi, pi], telling the two sides of the gripper apart [rad]."""
    return float(np.arctan2(pose[1, 0], pose[0, 0]))


def pose_error(pose: Array, target: Array) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two (4, 4) poses."""
    cosine = (np.trace(pose[:3, :3].T @ target[:3, :3]) - 1.0) / 2.0
    return float(np.linalg.norm(pose[:3, 3] - target[:3, 3])), float(np.arccos(np.clip(cosine, -1.0, 1.0)))


class _StepLimit(Limit):
    """Position and velocity limits as one box on the step; half as many rows as mink's two separate limits."""

    def __init__(self, limits: JointLimits, speed: bool) -> None:
        self._limits = limits
        self._speed = speed
        self._rows = np.vstack([np.eye(limits.dofs), -np.eye(limits.dofs)])

    def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> Constraint:
        q = configuration.data.qpos
        # From outside the limits the way back in must stay feasible, hence never below zero.
        up = np.maximum(self._limits.upper - q, 0.0)
        down = np.maximum(q - self._limits.lower, 0.0)
        if self._speed:
            reach = self._limits.velocity * dt
            up, down = np.minimum(up, reach), np.minimum(down, reach)
        return Constraint(G=self._rows, h=np.concatenate([up, down]))


class _Solver:
    """One mink problem: reach a pose, lean to a posture, stay in the limits."""

    def __init__(self, model: mujoco.MjModel, limits: JointLimits, speed: bool) -> None:
        self.configuration = mink.Configuration(model)
        self.limits = limits
        self.pose_task = mink.FrameTask(
            panda.EE_SITE, "site", position_cost=1.0, orientation_cost=_ROTATION_WEIGHT, lm_damping=1e-3
        )
        self.posture_task = mink.PostureTask(model, cost=_POSTURE_COST)
        self.posture_task.set_target(panda.HOME_Q)
        self._constraints = [_StepLimit(limits, speed)]

    def start(self, q: Array, target: Array) -> None:
        self.configuration.update(self.limits.clip(q))
        self.pose_task.set_target(mink.SE3.from_matrix(target))

    def step(self, dt: float) -> Array:
        """One step of the problem; returns the new joint position."""
        velocity = mink.solve_ik(
            self.configuration,
            [self.pose_task, self.posture_task],
            dt,
            solver="daqp",
            damping=1e-9,
            limits=self._constraints,
        )
        self.configuration.integrate_inplace(velocity, dt)
        return np.array(self.configuration.data.qpos)

    def residual(self) -> tuple[float, float]:
        error = self.pose_task.compute_error(self.configuration)
        return float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:]))


class Kinematics:
    """Forward kinematics, and inverse kinematics with restarts; deterministic for equal inputs.

    One object serves one thread: it reuses its work space.
    """

    def __init__(self, limits: JointLimits | None = None) -> None:
        """Set up with the joint limits that solutions must keep; the default is :func:`motion_limits`."""
        self.limits = limits or motion_limits()
        self.model = arm_model()
        self._data = mujoco.MjData(self.model)
        self._site = self.model.site(panda.EE_SITE).id
        self._solver = _Solver(self.model, self.limits, speed=False)

    def forward(self, q: ArrayLike) -> Array:
        """(4, 4) T_world_ee of joint position `q` (7,) [rad]."""
        self._data.qpos[:] = q
        mujoco.mj_kinematics(self.model, self._data)
        pose = np.eye(4)
        pose[:3, :3] = self._data.site_xmat[self._site].reshape(3, 3)
        pose[:3, 3] = self._data.site_xpos[self._site]
        return pose

    def solve(self, target: Array, start_q: ArrayLike, *, restarts: int = 8) -> Array:
        """A joint position that puts the tool at `target`, near `start_q` if there is one.

        Args:
            target: (4, 4) T_world_ee.
            start_q: (7,) where to search from first [rad].
            restarts: how many further places to search from.

        Returns:
            (7,) joint position inside the limits [rad].

        Raises:
            UnreachablePose: no search ended within 1 mm and 5 mrad of the target.
            ValueError: the target has a NaN or an infinity.
        """
        if not np.isfinite(target).all():
            raise ValueError(f"target pose is not finite: {target!r}")
        best = (np.inf, np.inf)
        for start in self._starts(target, np.asarray(start_q, dtype=np.float64), restarts):
            q, residual = self._descend(target, start)
            if residual[0] < POSITION_TOLERANCE_M and residual[1] < ROTATION_TOLERANCE_RAD:
                return q
            if _cost(residual) < _cost(best):
                best = residual
        yaw = tool_yaw(target) if target[2, 2] < -0.999 else None
        raise UnreachablePose(list(target[:3, 3]), yaw, best[0], best[1])

    def solve_topdown(self, position: ArrayLike, yaw: float, start_q: ArrayLike, *, restarts: int = 8) -> Array:
        """Like :meth:`solve` for a top-down tool; `yaw` counts modulo pi and the nearer side is tried first.

        Raises:
            UnreachablePose: neither side of the gripper can get there.
        """
        return next(self.topdown_candidates(position, yaw, start_q, restarts=restarts))

    def topdown_candidates(
        self, position: ArrayLike, yaw: float, start_q: ArrayLike, *, restarts: int = 8
    ) -> Iterator[Array]:
        """All solutions of :meth:`solve_topdown`, the nearer side of the gripper first.

        Raises:
            UnreachablePose: there is not a single one.
        """
        start = np.asarray(start_q, dtype=np.float64)
        near = nearest_yaw(yaw, tool_yaw(self.forward(start)))
        # Past a quarter turn both sides are equally far; the one that leaves the last joint more room is better.
        other = near + np.pi if tool_yaw(self.forward(start)) > near else near - np.pi
        found = 0
        failure: UnreachablePose | None = None
        for side in (near, other):
            try:
                q = self.solve(topdown_pose(position, side), start, restarts=restarts)
            except UnreachablePose as error:
                failure = failure or error
            else:
                found += 1
                yield q
        if failure is not None and not found:
            raise failure

    def _starts(self, target: Array, start_q: Array, restarts: int) -> Iterator[Array]:
        yield start_q
        # Home, turned towards the target about the base and with the wrist turned to the wanted yaw.
        turned = np.array(panda.HOME_Q)
        turned[0] = np.arctan2(target[1, 3], target[0, 3])
        turned[6] = panda.HOME_Q[6] + turned[0] - tool_yaw(target)
        turned[6] = (turned[6] + np.pi) % (2 * np.pi) - np.pi
        yield turned
        rng = np.random.default_rng(20)
        for _ in range(restarts):
            mix = rng.uniform(self.limits.lower, self.limits.upper)
            yield 0.5 * (turned + mix)

    def _descend(self, target: Array, start: Array) -> tuple[Array, tuple[float, float]]:
        solver = self._solver
        solver.start(start, target)
        q = np.array(solver.configuration.data.qpos)
        before = _cost(solver.residual())
        for k in range(40):
            q = solver.step(1.0)
            residual = solver.residual()
            if residual[0] < 1e-4 and residual[1] < 1e-3:
                break
            # Five steps that gained almost nothing are a dead end.
            if k % 5 == 4:
                if _cost(residual) > 0.95 * before:
                    break
                before = _cost(residual)
        return q, solver.residual()


def _cost(residual: tuple[float, float]) -> float:
    return residual[0] + _ROTATION_WEIGHT * residual[1]


class DifferentialIK:
    """Servo at velocity level: from a joint reference and a tool target to the next reference, one tick later."""

    def __init__(self, limits: JointLimits | None = None, tick_s: float = TICK_S) -> None:
        """Set up with the limits that every step keeps; the default is :func:`motion_limits`."""
        self.limits = limits or motion_limits()
        self.tick_s = tick_s
        self._solver = _Solver(arm_model(), self.limits, speed=True)

    def step(self, q: ArrayLike, target: Array) -> Array:
        """Next joint reference, (7,) [rad]; never outside the position and velocity limits.

        Args:
            q: (7,) present joint reference [rad].
            target: (4, 4) T_world_ee wanted; it may be out of reach, then the tool goes as near as it can.
        """
        self._solver.start(np.asarray(q, dtype=np.float64), target)
        return self._solver.step(self.tick_s)

    def residual(self) -> tuple[float, float]:
        """What the last step left to the target: distance [m] and angle [rad]."""
        return self._solver.residual()
