"""What is true at a table with two arms. For experts, success checks and tests; never for learned parts."""

from __future__ import annotations

import mujoco

from hiervla.controllers import panda
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop_duo.scene import ARMS
from hiervla.worlds.tabletop_duo.world import DuoWorld

_ROBOT = frozenset((*panda.LINK_NAMES, panda.HAND_BODY, *panda.FINGER_NAMES))


class DuoTruth:
    """Reads the true state of a `DuoWorld`; reading never changes what the world does next.

    Attributes:
        halves: ground truth of each arm's half, in the arm's base frame.
    """

    def __init__(self, world: DuoWorld) -> None:
        self._world = world
        self._model: mujoco.MjModel = world._model
        self.halves = {arm: GroundTruth(world.arm(arm)) for arm in ARMS}
        robot = {f"{arm}_{name}": arm for arm in ARMS for name in _ROBOT}
        names = [self._model.body(body).name for body in range(self._model.nbody)]
        self._robot = {body: robot[name] for body, name in enumerate(names) if name in robot}
        self._fingers = {arm: [names.index(f"{arm}_{finger}") for finger in panda.FINGER_NAMES] for arm in ARMS}

    def facts(self) -> frozenset[tuple[str, ...]]:
        """Both halves in symbols, each fact with its arm in front: ``("left", "on", "can_0", "bin")``."""
        return frozenset((arm, *fact) for arm, truth in self.halves.items() for fact in truth.facts())

    def collisions(self) -> tuple[tuple[str, str], ...]:
        """Pairs of bodies with which the arms touched each other in the last physics step; empty is as it should be.

        A thing that one arm holds counts as part of it.
        """
        bodies = self._model.geom_bodyid
        pairs = {(int(bodies[a]), int(bodies[b])) for a, b in self._world._data.contact.geom if min(a, b) >= 0}
        side = dict(self._robot)
        for arm, fingers in self._fingers.items():
            left, right = ({b if a == f else a for a, b in pairs if f in (a, b)} for f in fingers)
            side |= dict.fromkeys((left & right) - self._robot.keys(), arm)
        met = {tuple(sorted(pair)) for pair in pairs if {side.get(body) for body in pair} == set(ARMS)}
        return tuple(sorted((self._model.body(a).name, self._model.body(b).name) for a, b in met))
