"""The arm as a handful of points with radii: enough to know the lowest one, in microseconds."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from hiervla.controllers import panda
from hiervla.controllers.kinematics import arm_model
from hiervla.controllers.limits import Array


@dataclass(frozen=True)
class ArmPlacement:
    """Where the arm is at one posture.

    Attributes:
        lowest_m: height of its lowest point [m].
        lowest_body: name of the link that has it.
        ee_position: (3,) tool centre point [m].
    """

    lowest_m: float
    lowest_body: str
    ee_position: Array


class ArmShape:
    """Bounding points of the moving links; one object serves one thread."""

    def __init__(self) -> None:
        self.model = arm_model()
        self._data = mujoco.MjData(self.model)
        self._site = self.model.site(panda.EE_SITE).id
        # The base and the first link cannot come near the table: they turn about a vertical axis above it.
        fixed = {0, self.model.body("link0").id, self.model.body("link1").id}
        points, bodies, radii = [], [], []
        for geom in range(self.model.ngeom):
            body = int(self.model.geom_bodyid[geom])
            if body in fixed or not self.model.geom_contype[geom]:
                continue
            local, radius = _bounding_points(self.model, geom)
            points.append(local)
            bodies += [body] * len(local)
            radii += [radius] * len(local)
        hand = self.model.body(panda.HAND_BODY).id
        tips = _finger_tips(self.model)
        points.append(tips)
        bodies += [hand] * len(tips)
        radii += [0.0] * len(tips)
        self._points = np.concatenate(points)
        self._bodies = np.array(bodies)
        self._radii = np.array(radii)

    def place(self, q: ArrayLike) -> ArmPlacement:
        """Lowest point and tool position at joint position `q` (7,) [rad]."""
        data = self._data
        data.qpos[:] = q
        mujoco.mj_kinematics(self.model, data)
        up = data.xmat[self._bodies, 6:9]
        heights = data.xpos[self._bodies, 2] + np.einsum("pi,pi->p", up, self._points) - self._radii
        worst = int(heights.argmin())
        return ArmPlacement(
            lowest_m=float(heights[worst]),
            lowest_body=str(self.model.body(int(self._bodies[worst])).name),
            ee_position=np.array(data.site_xpos[self._site]),
        )

    def extent(self, direction: ArrayLike) -> float:
        """How far the arm reaches along a unit vector (3,) in the posture that was placed last [m]."""
        data, along = self._data, np.asarray(direction, dtype=np.float64)
        rotations = data.xmat[self._bodies].reshape(-1, 3, 3)
        far = data.xpos[self._bodies] @ along + np.einsum("i,pij,pj->p", along, rotations, self._points) + self._radii
        return float(far.max())

    def lift_direction(self, q: ArrayLike) -> Array:
        """(7,) gradient of the lowest point's height over the joints [m/rad]."""
        data = self._data
        data.qpos[:] = q
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        up = data.xmat[self._bodies, 6:9]
        heights = data.xpos[self._bodies, 2] + np.einsum("pi,pi->p", up, self._points) - self._radii
        worst = int(heights.argmin())
        body = int(self._bodies[worst])
        point = data.xpos[body] + data.xmat[body].reshape(3, 3) @ self._points[worst]
        jacobian = np.zeros((3, self.model.nv))
        mujoco.mj_jac(self.model, data, jacobian, None, point, body)
        return np.array(jacobian[2])


def _bounding_points(model: mujoco.MjModel, geom: int) -> tuple[Array, float]:
    """Points in the body frame, and a radius, that bound one geom from all sides."""
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    size = model.geom_size[geom]
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        local = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size
        radius = 0.0
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        local = np.array([[0.0, 0.0, -size[1]], [0.0, 0.0, size[1]]])
        radius = float(size[0])
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        angle = np.arange(8) * (np.pi / 4)
        ring = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(8)]) * size[0]
        local = np.concatenate([ring + (0, 0, size[1]), ring - (0, 0, size[1])])
        radius = 0.0
    else:
        local = np.zeros((1, 3))
        radius = float(model.geom_rbound[geom])
    return local @ rotation.reshape(3, 3).T + model.geom_pos[geom], radius


def _finger_tips(model: mujoco.MjModel) -> Array:
    """Corners of the pads in the hand frame with the fingers wide open; closed ones are among the geoms."""
    half = panda.GRIPPER_MAX_WIDTH_M / 2
    tips = []
    for name, side in (("left_finger", 1.0), ("right_finger", -1.0)):
        local, _ = _bounding_points(model, model.geom(f"{name}_pad").id)
        tips.append(local + model.body(name).pos + (0.0, side * half, 0.0))
    return np.concatenate(tips)
