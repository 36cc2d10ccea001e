"""Where observations come from and commands go: the protocol that every world and robot implements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import JointCommand, Observation, Proprioception

CONTROL_PERIOD_S = 0.02
"""Length of one control tick [s]: one JointCommand is tracked for this long."""


@runtime_checkable
class World(Protocol):
    """A robot with cameras, simulated or real. Holds no privileged state in public.

    A simulated world stands still while nobody steps it. One whose time goes on, as a real robot's does, says so with
    an attribute ``runs_on = True``: its arm is then told to hold still, every tick, while the planner is thinking.
    """

    @property
    def name(self) -> str:
        """Name that a record carries, such as ``"tabletop"``."""
        ...

    @property
    def time_s(self) -> float:
        """The world's clock [s]; starts at 0 and advances by :data:`CONTROL_PERIOD_S` a step."""
        ...

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """Take an observation with the named cameras, or with all.

        Raises:
            CameraError: there is no camera of that name.
        """
        ...

    def proprio(self) -> Proprioception:
        """Proprioception alone; cheap enough for every tick."""
        ...

    def step(self, command: JointCommand) -> None:
        """Track ``command`` for one tick."""
        ...

    def close(self) -> None:
        """Release the hardware or the simulator; may be called twice."""
        ...


@runtime_checkable
class SnapshotWorld(World, Protocol):
    """A world whose whole physical state can be saved and restored."""

    def snapshot(self) -> bytes:
        """The whole state, opaque; restoring it and repeating the commands repeats the states bit for bit."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Return to a state of this same world.

        Raises:
            SnapshotError: the bytes are no snapshot of a world with this layout.
        """
        ...


class WorldWrapper:
    """Stands before a world and passes everything on; subclasses change what they are for."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def name(self) -> str:
        """See :class:`World`."""
        return self._world.name

    @property
    def time_s(self) -> float:
        """See :class:`World`."""
        return self._world.time_s

    @property
    def runs_on(self) -> bool:
        """See :class:`World`."""
        return bool(getattr(self._world, "runs_on", False))

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """See :class:`World`."""
        return self._world.observe(cameras)

    def proprio(self) -> Proprioception:
        """See :class:`World`."""
        return self._world.proprio()

    def step(self, command: JointCommand) -> None:
        """See :class:`World`."""
        self._world.step(command)

    def close(self) -> None:
        """See :class:`World`."""
        self._world.close()


class SnapshotWrapper(WorldWrapper):
    """The same with what a :class:`SnapshotWorld` has beyond; asked for only where the world inside is one."""

    def snapshot(self) -> bytes:
        """See :class:`SnapshotWorld`."""
        return bytes(self._world.snapshot())  # type: ignore[attr-defined]  # asked only of a SnapshotWorld

    def restore(self, snapshot: bytes) -> None:
        """See :class:`SnapshotWorld`."""
        self._world.restore(snapshot)  # type: ignore[attr-defined]  # asked only of a SnapshotWorld


@dataclass(frozen=True)
class SharedSpace:
    """A space that more than one arm can enter, as one of them has to keep to it; a matter of how they are mounted.

    Attributes:
        name: what it is called in records.
        normal: unit vector towards it, in the arm's base frame.
        free_m: no part of an arm that has not claimed the space may be further than this along the normal [m].
        entered_m: no part of an arm that has claimed it may be further than this [m].
    """

    name: str
    normal: tuple[float, float, float]
    free_m: float
    entered_m: float


@runtime_checkable
class ArmsWorld(Protocol):
    """Several arms in one place and one time. Holds no privileged state in public.

    Attributes:
        arms: their names.
    """

    arms: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name that a record carries, such as ``"tabletop-duo"``."""
        ...

    @property
    def time_s(self) -> float:
        """The one clock [s]."""
        ...

    def arm(self, name: str) -> World:
        """One arm as a world of its own: its base frame, its cameras.

        Raises:
            UnknownNameError: there is no such arm.
        """
        ...

    def shared_space(self, arm: str) -> SharedSpace:
        """The space that others can enter too, in the arm's base frame."""
        ...

    def T_root_base(self, arm: str) -> NDArray[np.float64]:
        """(4, 4) pose of an arm's base in the frame that all arms share."""
        ...

    def step(self, commands: Mapping[str, JointCommand]) -> None:
        """Track one command for each arm for one tick; an arm without one stays where it was told to be."""
        ...

    def close(self) -> None:
        """Release the hardware or the simulator; may be called twice."""
        ...
