"""What is true in a tabletop world. For experts, success checks and tests; never for learned parts.

Nothing that plans or acts from observations may import this module; a test watches over that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.representations import CameraError, UnknownNameError
from hiervla.representations._base import Vec3
from hiervla.worlds.tabletop.labels import Segmentation, label_geoms, label_image
from hiervla.worlds.tabletop.relations import Box, support_of
from hiervla.worlds.tabletop.specs import ObjectSpec, SceneSpec
from hiervla.worlds.tabletop.world import TabletopWorld

DRAWER_OPEN_M = 0.10
DRAWER_CLOSED_M = 0.02
SPILL_CLEAN = 0.10
"""A spill counts as clean when at most this share of it is left."""


@dataclass(frozen=True, eq=False)
class _Touching:
    """Bodies in contact with each finger pad, and pairs of bodies in contact."""

    fingers: tuple[frozenset[int], frozenset[int]]
    pairs: frozenset[tuple[int, int]]


class GroundTruth:
    """Reads the true state of a `TabletopWorld`; reading never changes what the world does next."""

    def __init__(self, world: TabletopWorld) -> None:
        self._world = world
        self._built: Any = world._built
        self._model: mujoco.MjModel = world._model
        self._scratch = mujoco.MjData(self._model)
        self._bodies = dict(zip((o.id for o in self.scene.objects), self._built.object_bodies, strict=True))
        self._qpos = dict(zip((o.id for o in self.scene.objects), self._built.object_qpos, strict=True))
        self._labels, self._names = label_geoms(self._model, self.scene, self._built.prefix)

    @property
    def scene(self) -> SceneSpec:
        """The recipe that the world was built from; poses in it are those of the start."""
        scene: SceneSpec = self._built.scene
        return scene

    @property
    def object_ids(self) -> tuple[str, ...]:
        """Ids of all loose objects."""
        return tuple(self._bodies)

    def spec(self, object_id: str) -> ObjectSpec:
        """What an object is.

        Raises:
            UnknownNameError: there is no such object.
        """
        self._address(object_id)
        return self.scene.object(object_id)

    def pose(self, object_id: str) -> NDArray[np.float64]:
        """T_world_object (4, 4) now; the object frame is the centre of its bottom face, z up.

        Raises:
            UnknownNameError: there is no such object.
        """
        address = self._address(object_id)
        pose = np.eye(4)
        state = self._world._data.qpos[address : address + 7]
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, state[3:])
        pose[:3, :3] = matrix.reshape(3, 3)
        pose[:3, 3] = state[:3]
        return self._world._in_base(pose)

    def position(self, object_id: str) -> NDArray[np.float64]:
        """Centre of an object's bottom face now, (3,) [m]."""
        return np.array(self.pose(object_id)[:3, 3])

    def yaw(self, object_id: str) -> float:
        """Turn of an object's x axis about world z now, in (-pi, pi] [rad]."""
        rotation = self.pose(object_id)
        return float(np.arctan2(rotation[1, 0], rotation[0, 0]))

    def speed(self, object_id: str) -> float:
        """Speed of an object now [m/s]."""
        dof = int(self._model.jnt_dofadr[self._model.body_jntadr[self._body(object_id)]])
        return float(np.linalg.norm(self._world._data.qvel[dof : dof + 3]))

    def drawer_opening(self) -> float:
        """How far the drawer is open now [m]."""
        return float(self._world._data.qpos[self._built.drawer_qpos])

    def handle(self) -> Vec3:
        """Middle of the drawer's handle bar now, in the world frame [m]."""
        return self.scene.furniture.handle(self.drawer_opening())

    def spill_remaining(self) -> float:
        """Share of the spill that is left, 0 to 1; 0 without a spill."""
        return self._world._spill.remaining

    def held(self) -> str | None:
        """The object between the fingers: touched by both pads now."""
        return self._held(self._touching())

    def touching(self) -> frozenset[tuple[str, str]]:
        """Pairs (sorted) of names in contact: object ids, furniture, "robot", "table"."""
        names = [self._names[self._label_of_body(body)] for body in range(self._model.nbody)]
        pairs = {tuple(sorted((names[a], names[b]))) for a, b in self._touching().pairs}
        return frozenset((a, b) for a, b in pairs)

    def facts(self) -> frozenset[tuple[str, ...]]:
        """The scene in symbols.

        `("on", object, support)`: support is "table", "top_shelf", "bottom_shelf", "drawer", "bin", "gripper", or
        the id of the object underneath; an object in the gripper that still stands on something is on that. An
        object that falls, or lies where nothing is named, is on nothing. Then `("drawer_open",)` beyond 0.10 m,
        `("drawer_closed",)` below 0.02 m, and `("spill_clean", id)` when at most a tenth is left.
        """
        touching = self._touching()
        held = self._held(touching)
        opening = self.drawer_opening()
        boxes = {o.id: Box.of(o, self.pose(o.id)) for o in self.scene.objects}
        facts: set[tuple[str, ...]] = set()
        for name, box in boxes.items():
            body = self._bodies[name]
            near = [n for n, b in self._bodies.items() if (min(body, b), max(body, b)) in touching.pairs]
            rests = self._rests(body, touching)
            if name == held and not rests:
                facts.add(("on", name, "gripper"))
                continue
            support = support_of(box, [boxes[n] for n in near if n != name], self.scene.furniture, opening)
            if support is not None and rests:
                facts.add(("on", name, support))
        if opening > DRAWER_OPEN_M:
            facts.add(("drawer_open",))
        if opening < DRAWER_CLOSED_M:
            facts.add(("drawer_closed",))
        if self.scene.spill is not None and self.spill_remaining() <= SPILL_CLEAN:
            facts.add(("spill_clean", self.scene.spill.id))
        return frozenset(facts)

    def segmentation(self, camera: str) -> Segmentation:
        """Which thing each pixel of a camera shows now.

        Raises:
            CameraError: the world has no such camera.
        """
        if camera not in self._world.cameras:
            raise CameraError(camera, "is not in this world", f"This world has {', '.join(self._world.cameras)}")
        renderer, camera_id = self._world._rendering(camera)
        geoms = renderer.geom_ids(self._world._mirror, camera_id)
        return Segmentation(label_image(geoms, self._labels), self._names)

    def _address(self, object_id: str) -> int:
        if object_id not in self._qpos:
            raise UnknownNameError("object", object_id, self._qpos, "this scene")
        return int(self._qpos[object_id])

    def _body(self, object_id: str) -> int:
        self._address(object_id)
        return int(self._bodies[object_id])

    def _touching(self) -> _Touching:
        scratch = self._scratch
        scratch.qpos[:] = self._world._data.qpos
        mujoco.mj_fwdPosition(self._model, scratch)
        bodies = self._model.geom_bodyid
        pairs = {
            (int(min(a, b)), int(max(a, b)))
            for a, b in ((bodies[g1], bodies[g2]) for g1, g2 in scratch.contact.geom if min(g1, g2) >= 0)
        }
        fingers = [int(self._model.body(self._built.prefix + name).id) for name in panda.FINGER_NAMES]
        left, right = (frozenset(a if b == f else b for a, b in pairs if f in (a, b)) for f in fingers)
        return _Touching((left, right), frozenset(pairs))

    def _held(self, touching: _Touching) -> str | None:
        both = touching.fingers[0] & touching.fingers[1]
        return next((name for name, body in self._bodies.items() if body in both), None)

    def _rests(self, body: int, touching: _Touching) -> bool:
        """Whether anything but the robot touches the body."""
        others = [a if b == body else b for a, b in touching.pairs if body in (a, b)]
        return any(self._names[self._label_of_body(other)] != "robot" for other in others)

    def _label_of_body(self, body: int) -> int:
        if body == 0:
            return self._names.index("table")
        first = int(self._model.body_geomadr[body])
        return int(self._labels[first]) if first >= 0 else self._names.index("robot")
