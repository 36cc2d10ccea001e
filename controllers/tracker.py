"""From action chunks to joint commands: interpolate, blend, servo, keep the limits.

A policy emits a chunk of tool poses every few tenths of a second; the arm wants a joint reference every 20 ms. The
tracker keeps one timeline of tool targets. A new chunk is laid over what is left of the old one and faded in, so that
the target never jumps; differential IK turns it into joints; ruckig keeps velocity, acceleration and jerk in limits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from hiervla.controllers import panda
from hiervla.controllers.gripper import Gripper
from hiervla.controllers.kinematics import (
    DifferentialIK,
    Kinematics,
    motion_limits,
    nearest_yaw,
    tool_yaw,
    topdown_pose,
)
from hiervla.controllers.limits import TABLETOP_WORKSPACE, Array, JointLimits, Workspace
from hiervla.controllers.timing import TICK_S, OnlineTracker
from hiervla.representations.actions import ActionChunk, JointCommand

_YAW, _GRIP = 3, 4
_STUCK_TICKS = 15


class TrackPhase(StrEnum):
    """What the tracker follows."""

    HOLDING = "holding"
    TRACKING = "tracking"


@dataclass(frozen=True)
class Acceptance:
    """What became of a chunk that was handed in.

    Attributes:
        usable: False if every row was due in the past; the chunk was then dropped.
        staleness_s: age of the observation behind the chunk when it was taken over [s].
        skipped_rows: rows that were due already.
        clamped_rows: rows that were moved into the workspace.
    """

    usable: bool
    staleness_s: float
    skipped_rows: int
    clamped_rows: int


@dataclass(frozen=True)
class TrackStatus:
    """State of the tracking after a tick.

    Attributes:
        phase: holding (no chunk, or its end is reached) or tracking.
        remaining_s: time left on the timeline [s].
        lag_m: distance between the target and the commanded tool position [m].
        lag_rad: angle between them [rad].
        unreachable: the target has been out of the arm's reach for a while; the tool stays as near as it can.
    """

    phase: TrackPhase
    remaining_s: float
    lag_m: float
    lag_rad: float
    unreachable: bool


class ChunkTracker:
    """Follows action chunks with a receding horizon; one :meth:`step` a control tick.

    Call :meth:`reset` with the arm's reference before the first chunk and after every motion that somebody else
    commanded.
    """

    def __init__(
        self,
        *,
        limits: JointLimits | None = None,
        workspace: Workspace = TABLETOP_WORKSPACE,
        blend_s: float = 0.2,
        smooth_ticks: int = 15,
    ) -> None:
        """Set up; constructing moves nothing.

        Args:
            limits: what the joints may do; the default is :func:`motion_limits`.
            workspace: chunk positions outside are clamped to it, and reported.
            blend_s: how long a new chunk is faded in [s].
            smooth_ticks: width of the smoothing of the joint reference, an odd number of ticks. The servo runs half
                of it ahead of the clock, so smoothing costs no lag.
        """
        self.limits = limits or motion_limits()
        self.workspace = workspace
        self.blend_s = blend_s
        self.gripper = Gripper()
        self._kinematics = Kinematics(self.limits)
        self._servo = DifferentialIK(self.limits)
        self._online = OnlineTracker(self.limits)
        # Averaging over past *and* coming servo positions cannot overshoot them, which a causal filter does: it went
        # 10 cm through the edge of the workspace when a fast chunk ended there.
        self._half = smooth_ticks // 2
        ramp = np.arange(1, self._half + 2, dtype=np.float64)
        self._weights = np.concatenate([ramp, ramp[-2::-1]]) / (self._half + 1) ** 2
        self.reset(panda.HOME_Q)

    def reset(
        self, q: ArrayLike, dq: ArrayLike | None = None, gripper_width_m: float = panda.GRIPPER_MAX_WIDTH_M
    ) -> None:
        """Forget all chunks and hold from this reference on (normally the last command's q, dq and width)."""
        self._online.reset(q, dq)
        self.gripper.reset(gripper_width_m)
        self._forget(0.0)

    def _forget(self, now_s: float) -> None:
        """Drop all chunks; the timeline is where the tool is, and the joints stay as they are."""
        self._reference = np.array(self._online.q)
        self._window = np.tile(self._reference, (len(self._weights), 1))
        pose = self._kinematics.forward(self._online.q)
        opening = self.gripper.width_m / self.gripper.max_width_m
        self._timeline = np.array([[*pose[:3, 3], tool_yaw(pose), opening]])
        self._start_s = now_s
        self._started = False
        self._lags: deque[float] = deque(maxlen=_STUCK_TICKS)
        self.status = TrackStatus(TrackPhase.HOLDING, 0.0, 0.0, 0.0, False)

    @property
    def q(self) -> Array:
        """(7,) present joint reference [rad]."""
        return self._online.q

    @property
    def dq(self) -> Array:
        """(7,) velocity of the joint reference [rad/s]."""
        return self._online.dq

    def accept(self, chunk: ActionChunk, now_s: float) -> Acceptance:
        """Take over a chunk at time `now_s`; rows already due are skipped, the rest is faded in."""
        due = chunk.observed_at_s + np.arange(1, chunk.horizon + 1) / chunk.rate_hz
        skipped = int(np.count_nonzero(due <= now_s))
        staleness = now_s - chunk.observed_at_s
        positions = self.workspace.clamp(chunk.positions)
        clamped = int(np.count_nonzero((positions != chunk.positions).any(axis=1)))
        if skipped == chunk.horizon:
            return Acceptance(False, staleness, skipped, clamped)
        now = self._target(now_s)
        yaws = [nearest_yaw(float(chunk.yaws[0]), float(now[_YAW]))]
        for yaw in chunk.yaws[1:]:
            yaws.append(nearest_yaw(float(yaw), yaws[-1]))
        rows = np.column_stack([positions, yaws, np.clip(chunk.gripper, 0.0, 1.0)])
        # Row 0 is due one period after the observation; until then the chunk comes from where the target is now.
        if skipped == 0:
            due = np.concatenate([[min(now_s, due[0] - 1.0 / chunk.rate_hz)], due])
            rows = np.vstack([now, rows])
        times = np.arange(now_s, due[-1] + TICK_S, TICK_S)
        fresh = rows[:1] if len(rows) == 1 else PchipInterpolator(due, rows)(np.clip(times, due[0], due[-1]))
        # The servo has seen the old target a little way into the future; the new one fades in from there.
        begin = now_s + self._half * TICK_S if self._started else now_s
        fade = np.clip((times - begin) / max(self.blend_s, 1e-9), 0.0, 1.0)
        weight = (fade * fade * (3.0 - 2.0 * fade))[:, None]
        old = np.array([self._target(t) for t in times])
        self._timeline = (1.0 - weight) * old + weight * fresh
        self._start_s = now_s
        self._started = True
        return Acceptance(True, staleness, skipped, clamped)

    def step(self, now_s: float) -> JointCommand:
        """The command for the tick that starts at `now_s`; without a chunk, or past its end, the arm holds."""
        ahead = self._target(now_s + (1 + self._half) * TICK_S)
        if self._started:
            pose = topdown_pose(ahead[:3], float(ahead[_YAW]))
            self._window = np.vstack([self._window[1:], self._servo.step(self._window[-1], pose)])
        reference = self._weights @ self._window
        coming = self._window[self._half :]
        room = (np.minimum(coming.min(axis=0), reference), np.maximum(coming.max(axis=0), reference))
        self._online.step(reference, (reference - self._reference) / TICK_S, room)
        self._reference = reference
        target = self._target(now_s + TICK_S)
        width = self.gripper.command(float(target[_GRIP]))
        self._report(now_s)
        return JointCommand(q=self._online.q, dq=self._online.dq, gripper_width_m=width, time_s=now_s)

    def brake(self, now_s: float) -> JointCommand:
        """One tick of a jerk-limited stop; chunks are forgotten and the gripper keeps its width."""
        self._online.brake()
        self._forget(now_s)
        return JointCommand(q=self._online.q, dq=self._online.dq, gripper_width_m=self.gripper.width_m, time_s=now_s)

    def _target(self, time_s: float) -> Array:
        """Row of the timeline (x, y, z, yaw, opening) at a time; its ends are held."""
        place = (time_s - self._start_s) / TICK_S
        last = len(self._timeline) - 1
        if place <= 0.0 or last == 0:
            return np.array(self._timeline[0])
        if place >= last:
            return np.array(self._timeline[last])
        k = int(place)
        share = place - k
        return np.asarray((1.0 - share) * self._timeline[k] + share * self._timeline[k + 1])

    def _report(self, now_s: float) -> None:
        lag_m, lag_rad = self._servo.residual() if self._started else (0.0, 0.0)
        # The servo is limited in speed: only a gap that does not close any more is out of reach.
        lag = lag_m + 0.2 * lag_rad
        self._lags.append(lag)
        stuck = len(self._lags) == _STUCK_TICKS and lag > 0.01 and lag > 0.98 * self._lags[0]
        remaining = max(0.0, self._start_s + (len(self._timeline) - 1) * TICK_S - now_s)
        self.status = TrackStatus(
            phase=TrackPhase.TRACKING if remaining > 0.0 else TrackPhase.HOLDING,
            remaining_s=remaining,
            lag_m=lag_m,
            lag_rad=lag_rad,
            unreachable=stuck,
        )
