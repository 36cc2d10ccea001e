"""One tabletop world with an arm under command and ground truth at hand: where experts show and policies are tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.envelope import SafeWorld
from hiervla.controllers.tracker import ChunkTracker
from hiervla.executor.policies.features import ee_velocity
from hiervla.representations import ActionChunk, ImageRef, Keypoint, Keypoints, Observation, Step
from hiervla.training.experts.motion import MAX_WIDTH_M, Vector, Waypoint, follow, turn
from hiervla.training.experts.state import State, Task, Thing
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.specs import SceneSpec
from hiervla.worlds.tabletop.spill import Spill
from hiervla.worlds.tabletop.things import spill_points
from hiervla.worlds.tabletop.world import TabletopWorld

RATE_HZ = 10.0
TRAVEL_Z = 0.34
"""Height at which the tool travels between places; above everything [m]."""


class Arena:
    """A world, its ground truth and a tracker; closes the world on exit.

    Attributes:
        commanded: (7,) joint reference of every control tick that :meth:`run` has made [rad].
    """

    def __init__(self, scene: SceneSpec) -> None:
        self.scene = scene
        self.world = TabletopWorld(scene)
        self.truth = GroundTruth(self.world)
        self.tracker = ChunkTracker()
        self.commanded: list[NDArray[np.float64]] = []
        self._safe: SafeWorld | None = None
        self.rest()

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.world.close()

    def rest(self) -> None:
        """Hold the present posture and grip."""
        proprio = self.world.proprio()
        width = 0.0 if proprio.gripper_effort_n > 1.0 else proprio.gripper_width_m
        self.tracker.reset(proprio.q, gripper_width_m=width)

    def snapshot(self) -> tuple[bytes, Any]:
        """Everything needed to come back to this moment with the arm at rest."""
        return self.world.snapshot(), (self.tracker.q.copy(), self.tracker.gripper.width_m)

    def restore(self, saved: tuple[bytes, Any]) -> None:
        """Come back to a moment."""
        self.world.restore(saved[0])
        self.tracker.reset(saved[1][0], gripper_width_m=saved[1][1])

    def state(self) -> State:
        """The whole truth now."""
        truth, proprio = self.truth, self.world.proprio()
        things = {}
        for name in truth.object_ids:
            spec, pose = truth.spec(name), truth.pose(name)
            things[name] = Thing(
                name, spec.category, spec.size, pose[:3, 3].copy(), float(np.arctan2(pose[1, 0], pose[0, 0])),
                float(pose[2, 2]), spec.grasp_z,
            )  # fmt: skip
        return State(
            ee=np.array(proprio.ee_position),
            velocity=ee_velocity(proprio),
            yaw=proprio.ee_yaw,
            width=proprio.gripper_width_m,
            things=things,
            held=truth.held() if proprio.gripper_effort_n > 0.5 else None,
            drawer_open=truth.drawer_opening(),
            handle=np.array(truth.handle()),
            spill_left=truth.spill_remaining(),
            spill_points=self._spill_left(),
        )

    def _spill_left(self) -> Vector:
        if self.scene.spill is None:
            return np.zeros((0, 2))
        spill: Spill = self.world._spill
        bits = spill.mask
        points = spill_points(self.scene.spill)
        keep = np.array([bool(bits >> k & 1) for k in range(len(points))])
        return np.asarray(points[keep, :2])

    @contextmanager
    def guarded(self) -> Iterator[SafeWorld]:
        """Until the end of the block, commands go through the safety envelope, as they do on a robot."""
        self._safe = SafeWorld(self.world)
        try:
            yield self._safe
        finally:
            self._safe = None

    def observe(self) -> Observation:
        """What the policy may see."""
        return self.world.observe()

    def run(self, seconds: float) -> None:
        """Let the tracker drive for a while."""
        for _ in range(round(seconds / 0.02)):
            (self._safe or self.world).step(self.tracker.step(self.world.time_s))
            self.commanded.append(self.tracker.q.copy())

    def accept(self, rows: NDArray[np.float64]) -> None:
        """Hand rows (H, 5) of x, y, z, yaw, opening to the tracker, as observed now."""
        self.tracker.accept(as_chunk(rows, self.world.time_s), self.world.time_s)

    def go(self, position: Vector, yaw: float, opening: float) -> bool:
        """Travel high above everything to a tool pose; False if it is not reached."""
        here = self.world.proprio()
        start, now = np.array(here.ee_position), here.ee_yaw
        height = max(TRAVEL_Z, float(start[2]), float(position[2]))
        up = np.array([start[0], start[1], height])
        over = np.array([position[0], position[1], height])
        way = [Waypoint(up, now, opening, 0.4, through=True)] if height - start[2] > 0.03 else []
        way += [Waypoint(over, yaw, opening, 0.4, through=True), Waypoint(np.array(position), yaw, opening, 0.3)]
        rows = follow(start, np.zeros(3), now, way, 60, RATE_HZ)
        moving = np.flatnonzero(np.abs(np.diff(rows, axis=0)).max(axis=1) > 1e-5)
        length = int(moving[-1]) + 2 if len(moving) else 1
        self.accept(rows[: length + 1])
        self.run(length / RATE_HZ + 0.1)
        for _ in range(8):
            if self.tracker.status.lag_m < 0.004 and np.abs(self.tracker.dq).max() < 0.05:
                break
            self.run(0.1)
        end = self.world.proprio()
        return bool(np.linalg.norm(end.ee_position - position) < 0.02) and abs(turn(yaw, end.ee_yaw) - end.ee_yaw) < 0.1

    def grip(self, opening: float, seconds: float = 0.8) -> None:
        """Open or close without moving."""
        here = self.world.proprio()
        rows = np.tile([*here.ee_position, here.ee_yaw, opening], (int(seconds * RATE_HZ), 1))
        self.accept(rows)
        self.run(seconds)


def as_chunk(rows: NDArray[np.float64], now_s: float) -> ActionChunk:
    """Rows (H, 5) as a chunk."""
    return ActionChunk(
        positions=rows[:, :3], yaws=rows[:, 3], gripper=np.clip(rows[:, 4], 0.0, 1.0), rate_hz=RATE_HZ,
        observed_at_s=now_s, policy="expert",
    )  # fmt: skip


def as_step(task: Task) -> Step:
    """A task as the policy gets it: a step whose artifact says where."""
    image = ImageRef(camera="front", sha256="0" * 64, width=256, height=192, time_s=0.0)
    x, y, z = (float(v) for v in task.target_w)
    point = Keypoint(label=task.object or task.skill, u=128.0, v=96.0, position_w=(x, y, z))
    return Step(id="s1", skill=task.skill, text=task.words, artifacts=(Keypoints(image=image, points=(point,)),))


__all__ = ["MAX_WIDTH_M", "RATE_HZ", "Arena", "as_chunk", "as_step"]
