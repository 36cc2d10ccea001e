"""A puppeteer for tests: straight-line hand motion by damped least squares, blind and without any planning."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.representations import JointCommand
from hiervla.worlds.tabletop.scene import FurnitureSpec, LookSpec, ObjectSpec, SceneSpec, SpillSpec
from hiervla.worlds.tabletop.world import TabletopWorld

DT = 0.02


class Hand:
    """Moves the tool centre point of a world along straight lines, pointing down."""

    def __init__(self, world: TabletopWorld) -> None:
        self.world = world
        self.model = panda.panda_model(self_collision=False)
        self.data = mujoco.MjData(self.model)
        self.site = self.model.site(panda.EE_SITE).id
        self.q = np.array(world.proprio().q)
        self.width = world.proprio().gripper_width_m
        pose = world.proprio().T_world_ee
        self.position = np.array(pose[:3, 3])
        self.yaw = world.proprio().ee_yaw

    def _solve(self, position: NDArray[np.float64], yaw: float) -> None:
        c, s = np.cos(yaw), np.sin(yaw)
        target = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
        jac = np.zeros((6, self.model.nv))
        for _ in range(4):
            self.data.qpos[:7] = self.q
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            rotation = self.data.site_xmat[self.site].reshape(3, 3)
            turn = 0.5 * sum(np.cross(rotation[:, i], target[:, i]) for i in range(3))
            error = np.concatenate([position - self.data.site_xpos[self.site], turn])
            mujoco.mj_jacSite(self.model, self.data, jac[:3], jac[3:], self.site)
            j = jac[:, :7]
            step = j.T @ np.linalg.solve(j @ j.T + 1e-4 * np.eye(6), error)
            self.q = np.clip(self.q + step, panda.Q_MIN, panda.Q_MAX)

    def _tick(self) -> None:
        before = self.q.copy()
        self._solve(self.position, self.yaw)
        dq = (self.q - before) / DT
        self.world.step(JointCommand(q=self.q, dq=dq, gripper_width_m=self.width, time_s=self.world.time_s))

    def go(self, x: float, y: float, z: float, *, yaw: float | None = None, speed: float = 0.25) -> None:
        """Straight line to a point, turning on the way."""
        start, goal = self.position.copy(), np.array([x, y, z])
        start_yaw, goal_yaw = self.yaw, self.yaw if yaw is None else yaw
        duration = max(float(np.linalg.norm(goal - start)) / speed, abs(goal_yaw - start_yaw) / 1.0, DT)
        n = int(np.ceil(duration / DT))
        for k in range(1, n + 1):
            share = k / n
            share = share * share * (3 - 2 * share)
            self.position = start + share * (goal - start)
            self.yaw = start_yaw + share * (goal_yaw - start_yaw)
            self._tick()

    def by(self, dx: float = 0.0, dy: float = 0.0, dz: float = 0.0, speed: float = 0.25) -> None:
        """Straight line relative to where the hand was commanded last."""
        x, y, z = self.position
        self.go(x + dx, y + dy, z + dz, speed=speed)

    def grip(self, width: float, seconds: float = 0.8) -> None:
        """Command an opening and wait."""
        self.width = width
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Stay."""
        for _ in range(round(seconds / DT)):
            self._tick()


def thing(
    category: str,
    xy: tuple[float, float] = (0.5, 0.0),
    *,
    size: tuple[float, float, float] | None = None,
    yaw: float = 0.0,
    support: str = "table",
    z: float = 0.0,
    colour: str = "red",
    number: int = 0,
) -> ObjectSpec:
    """An object of middling size."""
    sizes = {
        "block": (0.04, 0.04, 0.04), "mug": (0.06, 0.06, 0.08), "can": (0.06, 0.06, 0.10),
        "sponge": (0.09, 0.06, 0.035), "bowl": (0.14, 0.14, 0.045), "plate": (0.18, 0.18, 0.012),
    }  # fmt: skip
    return ObjectSpec.model_validate(
        {
            "id": f"{category}_{number}", "category": category, "colour": colour, "size": size or sizes[category],
            "position": (*xy, z), "yaw": yaw, "support": support,
        }
    )  # fmt: skip


def scene(*objects: ObjectSpec, spill: SpillSpec | None = None, drawer_open: float = 0.0, seed: int = 0) -> SceneSpec:
    """A plain scene of these objects."""
    return SceneSpec(
        seed=seed, objects=objects, spill=spill, drawer_open=drawer_open, furniture=FurnitureSpec(), look=LookSpec()
    )
