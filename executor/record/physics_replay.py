"""Re-executes the recorded commands in the recorded world, and says whether the physical states agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hiervla.controllers.envelope import world_snapshot
from hiervla.executor.presets import rebuild_world
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.representations import HiervlaError, Proprioception
from hiervla.representations.events import SnapshotTaken
from hiervla.worlds.base import SnapshotWorld, World


@dataclass(frozen=True)
class Divergence:
    """The first place at which the replayed states are not the recorded ones.

    Attributes:
        tick: control tick, from 0.
        time_s: recorded time on the world's clock [s].
        what: ``"joint positions"``, ``"joint velocities"``, ``"gripper width"``, or ``"snapshot 'before s2'"``.
        size: greatest difference of one value, in ``unit``; None for a snapshot, whose bytes are opaque.
        unit: unit of ``size``.
    """

    tick: int
    time_s: float
    what: str
    size: float | None
    unit: str

    def __str__(self) -> str:
        by = "" if self.size is None else f" by {self.size:.3g} {self.unit}"
        return f"{self.what} part at tick {self.tick} ({self.time_s:.2f} s){by}"


@dataclass(frozen=True)
class ReplayReport:
    """What :func:`replay` found.

    Attributes:
        ticks: control ticks that were executed.
        ticks_recorded: control ticks on record.
        snapshots: snapshots that were compared, bit for bit.
        restored: whether the world was set to a recorded snapshot first, or only built anew.
        divergence: where the states part; None when they agree throughout.
    """

    ticks: int
    ticks_recorded: int
    snapshots: int
    restored: bool
    divergence: Divergence | None

    @property
    def agrees(self) -> bool:
        """True when every state was the recorded one."""
        return self.divergence is None


def replay(
    record: RunRecord, world: World | None = None, *, on_tick: Callable[[int, World], None] | None = None
) -> ReplayReport:
    """Execute all recorded commands from the initial snapshot and compare every state, bit for bit.

    Args:
        record: what to replay.
        world: where; by default the world is rebuilt from the manifest, and closed in the end.
        on_tick: called with the tick and the world in its state before each command; may observe, not change it.

    Raises:
        ReplayError: the record has no commands, or its world cannot be rebuilt.
        RecordError: the record is damaged.
    """
    ticks = list(record.ticks())
    if not ticks:
        raise ReplayError(record.path, "it holds no commands", "Replay a run in which the robot moved")
    own = world is None
    if world is None:
        world = rebuild_recorded_world(record)
    try:
        return _run(record, world, ticks, on_tick)
    finally:
        if own:
            world.close()


def rebuild_recorded_world(record: RunRecord) -> World:
    """The world that a record's manifest describes.

    Raises:
        ReplayError: it cannot be rebuilt here.
    """
    of_one_robot(record)
    try:
        return rebuild_world(record.manifest.world, record.manifest.world_config)
    except (HiervlaError, KeyError, ValueError) as error:
        problem = f"its world '{record.manifest.world}' cannot be rebuilt here ({str(error).rstrip('.')})"
        raise ReplayError(record.path, problem, "Give the world to go on in") from error


def of_one_robot(record: RunRecord) -> None:
    """See that a record tells of all that moved in its world.

    Raises:
        ReplayError: it is of a run of several arms, or of one arm's part in such a run.
    """
    manifest = record.manifest
    if manifest.arm is not None:
        problem = f"it is the {manifest.arm} arm's part of a run of several arms, and the others moved too"
        raise ReplayError(record.path, problem, "Replay the record of the whole run, which is the folder around it")
    if manifest.arms:
        problem = f"it is of a run of several arms ({', '.join(manifest.arms)}), which cannot be left at a step"
        raise ReplayError(record.path, problem, "Run again, with another instruction or with ArmsAgent.run(plan=...)")


def _run(
    record: RunRecord, world: World, ticks: list[Tick], on_tick: Callable[[int, World], None] | None
) -> ReplayReport:
    snapshots: dict[int, list[SnapshotTaken]] = {}
    if isinstance(world, SnapshotWorld):
        for event in record.of(SnapshotTaken):
            snapshots.setdefault(event.ticks, []).append(event)
    restored = False
    if isinstance(world, SnapshotWorld) and snapshots.get(0):
        world.restore(world_snapshot(record.snapshot(snapshots[0][0])))
        restored = True
    compared = 0
    for index in range(len(ticks) + 1):
        for event in snapshots.get(index, ()):
            assert isinstance(world, SnapshotWorld)
            if world.snapshot() != world_snapshot(record.snapshot(event)):
                found = Divergence(index, event.time_s, f"snapshot '{event.label}'", None, "")
                return ReplayReport(index, len(ticks), compared, restored, found)
            compared += 1
        if index == len(ticks):
            break
        divergence = compare(ticks[index], world.proprio())
        if divergence is not None:
            return ReplayReport(index, len(ticks), compared, restored, divergence)
        if on_tick is not None:
            on_tick(index, world)
        world.step(ticks[index].command)
    return ReplayReport(len(ticks), len(ticks), compared, restored, None)


def compare(tick: Tick, now: Proprioception) -> Divergence | None:
    """Where an arm's state is not the recorded one; None where it is."""
    pairs: tuple[tuple[str, Any, Any, str], ...] = (
        ("joint positions", tick.q, now.q, "rad"),
        ("joint velocities", tick.dq, now.dq, "rad/s"),
        ("gripper width", tick.gripper_width_m, now.gripper_width_m, "m"),
    )
    for what, recorded, replayed, unit in pairs:
        if not np.array_equal(recorded, replayed):
            size = float(np.max(np.abs(np.subtract(recorded, replayed))))
            return Divergence(tick.index, tick.command.time_s, what, size, unit)
    return None
