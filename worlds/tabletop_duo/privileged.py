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
        self._side = {}
        for body in range(self._model.nbody):
            arm, _, name = self._model.body(body).name.partition("_")
            if arm in ARMS and name in _ROBOT:
                self._side[body] = arm

    def facts(self) -> frozenset[tuple[str, ...]]:
        """Both halves in symbols, each fact with its arm in front: ``("left", "on", "can_0", "bin")``."""
        return frozenset((arm, *fact) for arm, truth in self.halves.items() for fact in truth.facts())

    def collisions(self) -> tuple[tuple[str, str], ...]:
        """Pairs of bodies with which the arms touched each other in the last physics step; empty is as it should be.

        A thing that one arm holds counts as part of it.
        """
        held = {}
        for arm, truth in self.halves.items():
            thing = truth.held()
            if thing is not None:
                held[int(self._model.body(f"{arm}_{thing}").id)] = arm
        side = {**self._side, **held}
        bodies = self._model.geom_bodyid
        found = set()
        for one, other in self._world._data.contact.geom:
            a, b = int(bodies[one]), int(bodies[other])
            if min(one, other) >= 0 and {side.get(a), side.get(b)} == set(ARMS):
                names = sorted((self._model.body(a).name, self._model.body(b).name))
                found.add((names[0], names[1]))
        return tuple(sorted(found))
