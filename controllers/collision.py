"""Does a posture of the arm touch anything? Robot, table, furniture boxes, observed obstacles, a held object.

Nothing here knows the true state of a world: furniture is what the installation's layout says, obstacles are what
was seen. All is made of boxes, in one small MuJoCo model that is built once and refilled for every query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from hiervla.controllers import panda
from hiervla.controllers.limits import Array

MAX_BOXES = 192
_ROBOT_BIT, _HELD_BIT = 1, 2


@dataclass(frozen=True)
class Box:
    """A solid box in the world frame.

    Attributes:
        name: what it is, for error messages.
        centre: (x, y, z) [m].
        half_extents: half of its size along its own axes [m].
        yaw: rotation about world z [rad].
    """

    name: str
    centre: tuple[float, float, float]
    half_extents: tuple[float, float, float]
    yaw: float = 0.0


@dataclass(frozen=True)
class HeldObject:
    """Approximate size of what hangs at the gripper, as a box in the tool frame.

    Attributes:
        half_extents: half of its size along the tool's x, y (closing direction) and z [m].
        below_m: how far its centre lies beyond the tool centre point, along the tool's z [m].
    """

    half_extents: tuple[float, float, float]
    below_m: float = 0.0


@dataclass(frozen=True)
class Obstacles:
    """What is in the way, apart from the table plane.

    Attributes:
        boxes: observed things.
        furniture: fixed boxes that the installation knows of.
    """

    boxes: tuple[Box, ...] = ()
    furniture: tuple[Box, ...] = ()
    table_z: float = field(default=0.0)

    def all_boxes(self) -> tuple[Box, ...]:
        """Furniture first, then what was observed."""
        return self.furniture + self.boxes

    def with_boxes(self, boxes: Iterable[Box]) -> Obstacles:
        """The same with further observed boxes."""
        return Obstacles(self.boxes + tuple(boxes), self.furniture, self.table_z)


class CollisionModel:
    """The arm, fingers wide open, among boxes; one object serves one thread."""

    def __init__(self, margin_m: float = 0.01) -> None:
        """Build the model.

        Args:
            margin_m: anything nearer to the arm (or to the held object) than this counts as touched [m].
        """
        self.model = _build()
        self._data = mujoco.MjData(self.model)
        self._boxes = np.array([self.model.geom(f"box{i}").id for i in range(MAX_BOXES)])
        self._held = self.model.geom("held").id
        self._table = self.model.geom("table").id
        self._names: dict[int, str] = {}
        # The compiler noted that these geoms share their body's frame; from now on they move.
        self.model.geom_sameframe[[*self._boxes, self._held, self._table]] = 0
        self.set_margin(margin_m)
        self.set_scene(Obstacles())
        self.set_held(None)

    def set_margin(self, margin_m: float) -> None:
        """Change the margin [m]."""
        self.margin_m = margin_m
        self.model.geom_margin[self._boxes] = margin_m
        self.model.geom_margin[self._table] = margin_m

    def set_scene(self, obstacles: Obstacles) -> None:
        """Replace all boxes.

        Raises:
            ValueError: there are more boxes than the model has room for.
        """
        boxes = obstacles.all_boxes()
        if len(boxes) > MAX_BOXES:
            raise ValueError(f"{len(boxes)} boxes given, but the collision model takes {MAX_BOXES}; merge some")
        model = self.model
        model.geom_conaffinity[self._boxes] = 0
        self._names = {self._table: "the table"}
        for geom, box in zip(self._boxes, boxes, strict=False):
            model.geom_pos[geom] = box.centre
            model.geom_quat[geom] = (np.cos(box.yaw / 2), 0.0, 0.0, np.sin(box.yaw / 2))
            self._resize(int(geom), box.half_extents)
            model.geom_conaffinity[geom] = _ROBOT_BIT | _HELD_BIT
            self._names[int(geom)] = box.name
        model.geom_pos[self._table, 2] = obstacles.table_z

    def set_held(self, held: HeldObject | None) -> None:
        """Attach a box to the gripper, or take it away with None."""
        model = self.model
        model.geom_contype[self._held] = 0 if held is None else _HELD_BIT
        if held is not None:
            model.geom_pos[self._held] = (0.0, 0.0, panda.TCP_OFFSET_M + held.below_m)
            self._resize(self._held, held.half_extents)

    def free(self, q: ArrayLike) -> bool:
        """Whether nothing is nearer to the arm than the margin, and no link touches another."""
        self._collide(q)
        return bool(self._data.ncon == 0)

    def path_free(self, path: Array, step_rad: float = 0.05) -> bool:
        """Whether the straight lines between the rows of `path` (N, 7) are free, checked every `step_rad`."""
        return all(self.free(q) for q in densify(path, step_rad)[::-1])

    def depth(self, q: ArrayLike) -> float:
        """How deep the worst contact lies inside the margin; 0 if free [m]."""
        self._collide(q)
        if self._data.ncon == 0:
            return 0.0
        return float(max(0.0, (self.margin_m - self._data.contact.dist).max()))

    def touched(self, q: ArrayLike) -> tuple[str, ...]:
        """Names of the boxes (or links) that are within the margin, sorted."""
        self._collide(q)
        found = set()
        for pair in np.asarray(self._data.contact.geom).reshape(-1, 2):
            known = [self._names[int(g)] for g in pair if int(g) in self._names]
            found.update(known or ["the arm itself"])
        return tuple(sorted(found))

    def _collide(self, q: ArrayLike) -> None:
        data = self._data
        data.qpos[:] = q
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_collision(self.model, data)

    def _resize(self, geom: int, half: Sequence[float]) -> None:
        model = self.model
        model.geom_size[geom] = half
        # MuJoCo's broad phase looks at these two, and only the compiler would keep them up to date.
        model.geom_rbound[geom] = float(np.linalg.norm(half))
        model.geom_aabb[geom] = (0.0, 0.0, 0.0, *half)


def densify(path: Array, step_rad: float) -> Array:
    """Points on a polyline (N, J) so that no joint moves more than `step_rad` from one to the next."""
    pieces = [path[:1]]
    for start, end in zip(path[:-1], path[1:], strict=True):
        count = max(1, int(np.ceil(np.abs(end - start).max() / step_rad)))
        share = np.arange(1, count + 1)[:, None] / count
        pieces.append(start + share * (end - start))
    return np.concatenate(pieces)


def _build() -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    panda.add_panda(spec, actuators=False, self_collision=True)
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    for equality in list(spec.equalities):
        spec.delete(equality)
    half = panda.GRIPPER_MAX_WIDTH_M / 2
    for name, side in (("left_finger", 1.0), ("right_finger", -1.0)):
        finger = spec.body(name)
        spec.delete(finger.joints[0])
        finger.pos = (finger.pos[0], finger.pos[1] + side * half, finger.pos[2])
    world = spec.worldbody
    world.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(2, 2, 0.1), conaffinity=3, contype=0)
    for i in range(MAX_BOXES):
        world.add_geom(
            name=f"box{i}", type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.01, 0.01, 0.01), contype=0, conaffinity=0
        )
    spec.body(panda.HAND_BODY).add_geom(
        name="held", type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.01, 0.01, 0.01), contype=0, conaffinity=0, mass=0.0
    )
    # The boxes move after compilation, which the tree of bounding volumes of the world body does not notice.
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
    return spec.compile()
