"""What is true at a table with two arms. For experts, success checks and tests; never for learned parts."""

from __future__ import annotations

import mujoco

from hiervla.controllers import panda
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.relations import Box, carries
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
        self.halves: dict[str, GroundTruth] = {arm: GroundTruth(world.arm(arm)) for arm in ARMS}
        robot = {f"{arm}_{name}": arm for arm in ARMS for name in _ROBOT}
        names = [self._model.body(body).name for body in range(self._model.nbody)]
        self._robot = {body: robot[name] for body, name in enumerate(names) if name in robot}
        self._things = {
            (arm, thing): names.index(f"{arm}_{thing}") for arm in ARMS for thing in self.halves[arm].object_ids
        }
        self._fingers = {arm: [names.index(f"{arm}_{finger}") for finger in panda.FINGER_NAMES] for arm in ARMS}

    def facts(self) -> frozenset[tuple[str, ...]]:
        """Both halves in symbols, each fact with its arm in front: ``("left", "on", "can_0", "bin")``.

        What stands on a thing of the other half, in the bin that both use, is on that: ``"right_can_0"``.
        """
        facts = {(arm, *fact) for arm, truth in self.halves.items() for fact in truth.facts()}
        placed = {fact[:3] for fact in facts}
        pairs = self._pairs()
        for one, body in self._things.items():
            if (one[0], "on", one[1]) in placed:
                continue
            for other, under in self._things.items():
                near = one[0] != other[0] and not pairs.isdisjoint({(body, under), (under, body)})
                if near and carries(self._box(other), self._box(one)):
                    facts.add((one[0], "on", one[1], f"{other[0]}_{other[1]}"))
        return frozenset(facts)

    def place(self, arm: str, thing: str) -> str | None:
        """Where a thing of an arm's half is in the end: what stands on another thing is where that is; None: nowhere.

        Raises:
            UnknownNameError: there is no such thing.
        """
        self.halves[arm].spec(thing)
        on = {fact[::2]: fact[3] for fact in self.facts() if fact[1] == "on"}
        at = on.get((arm, thing))
        for _ in self._things:
            if at in self.halves[arm].object_ids:
                at = on.get((arm, at))
            elif at is not None and at.partition("_")[0] in ARMS and at.partition("_")[2]:
                arm, _, thing = at.partition("_")
                at = on.get((arm, thing))
        return at

    def _box(self, thing: tuple[str, str]) -> Box:
        truth = self.halves[thing[0]]
        return Box.of(truth.spec(thing[1]), self._world.T_root_base(thing[0]) @ truth.pose(thing[1]))

    def _pairs(self) -> set[tuple[int, int]]:
        """Pairs of bodies that touched each other in the last physics step."""
        bodies = self._model.geom_bodyid
        return {(int(bodies[a]), int(bodies[b])) for a, b in self._world._data.contact.geom if min(a, b) >= 0}

    def collisions(self) -> tuple[tuple[str, str], ...]:
        """Pairs of bodies with which the arms touched each other in the last physics step; empty is as it should be.

        A thing that one arm holds counts as part of it.
        """
        pairs = self._pairs()
        side = dict(self._robot)
        for arm, fingers in self._fingers.items():
            left, right = ({b if a == f else a for a, b in pairs if f in (a, b)} for f in fingers)
            side |= dict.fromkeys((left & right) - self._robot.keys(), arm)
        met = {tuple(sorted(pair)) for pair in pairs if {side.get(body) for body in pair} == set(ARMS)}
        return tuple(sorted((self._model.body(a).name, self._model.body(b).name) for a, b in met))
