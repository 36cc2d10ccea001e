"""Where observations come from and commands go: the protocol that every world and robot implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hiervla.representations import JointCommand, Observation, Proprioception

CONTROL_PERIOD_S = 0.02
"""Length of one control tick [s]: one JointCommand is tracked for this long."""


@runtime_checkable
class World(Protocol):
    """A robot with cameras, simulated or real. Holds no privileged state in public."""

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
