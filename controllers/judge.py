"""The arithmetic of the safety envelope: which velocity is safe for the next tick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hiervla.controllers import panda
from hiervla.controllers.envelope_types import Check, EnvelopeLimits, Refused
from hiervla.controllers.limits import Array
from hiervla.controllers.shape import ArmShape
from hiervla.controllers.timing import TICK_S
from hiervla.representations.actions import JointCommand

# No point of the arm is farther than this from any joint's axis.
_REACH_M = 1.3

Note = Callable[[Check, str, int | None], None]
"""Told of every limited command: check, message, joint."""


class Judge:
    """Knows the reference that the arm follows, and what may follow next.

    Attributes:
        q: (7,) reference after the last tick [rad].
        v: (7,) its mean velocity over the last tick [rad/s].
        asked_q: (7,) what the last command asked for [rad].
        asked_v: (7,) mean velocity that the last command asked for [rad/s].
    """

    def __init__(self, limits: EnvelopeLimits) -> None:
        self.limits = limits
        self.shape = ArmShape()
        self._step = limits.joints.acceleration * TICK_S
        self.start(np.array(panda.HOME_Q))

    def start(self, q: Array) -> None:
        """Begin at rest at `q`."""
        self.q = np.array(q, dtype=np.float64)
        self.v = np.zeros_like(self.q)
        self.asked_q, self.asked_v = self.q, self.v

    def advance(self, velocity: Array) -> None:
        """Take note that the arm is moved with this velocity for a tick."""
        self.q = self.q + velocity * TICK_S
        self.v = velocity

    def velocity_for(self, command: JointCommand, note: Note) -> Array:
        """Safe velocity (7,) for a finite command; `note` is called for everything that had to be limited.

        Raises:
            Refused: the command is grossly out of bounds.
        """
        limits, joints = self.limits, self.limits.joints
        goal: Array = command.q
        asked = (goal - self.asked_q) / TICK_S
        beyond = np.maximum(joints.lower - goal, goal - joints.upper)
        _excess(Check.POSITION, beyond, 1e-9, limits.gross_position_rad, goal, note)
        fast = np.abs(asked) / joints.velocity
        _excess(Check.VELOCITY, fast, 1 + 1e-6, limits.gross_velocity, asked, note)
        change = (asked - self.asked_v) / TICK_S
        steep = np.abs(change) / joints.acceleration
        _excess(Check.ACCELERATION, steep, 1 + 1e-6, limits.gross_acceleration, change, note)
        behind = self.asked_q - self.q
        gap = np.abs(behind)
        joint = int(gap.argmax())
        if gap[joint] > limits.gross_lag_rad:
            message = f"commands for joint {joint + 1} ran {gap[joint]:.2f} rad ahead of what is safe"
            raise Refused(Check.LAG, message, joint + 1)
        # What earlier limiting left behind is caught up with no faster than can be braked again.
        catch_up = np.minimum(gap / TICK_S, np.sqrt(joints.acceleration * gap))
        velocity = self.admissible(asked + np.sign(behind) * catch_up)
        self.asked_q, self.asked_v = goal, asked
        return self._in_space(velocity, goal, note)

    def admissible(self, wanted: Array) -> Array:
        """The velocity nearest to the wanted one that keeps the joint limits now and later.

        A joint is let go towards its stop only as fast as it can still brake: with deceleration a, tick T and room m
        that is v <= sqrt(2 a m) - a T / 2, or a single tick's stop for what is left.
        """
        joints, step = self.limits.joints, self._step
        high = np.minimum(self._towards(joints.upper - self.q), self.v + step)
        low = np.maximum(-self._towards(self.q - joints.lower), self.v - step)
        # Where the two exclude each other (a start outside the limits) braking comes first.
        velocity = np.minimum(np.maximum(wanted, np.minimum(low, high)), np.maximum(low, high))
        return np.asarray(np.minimum(np.maximum(velocity, self.v - step), self.v + step))

    def approaching(self, goal: Array) -> Array:
        """Velocity that moves smoothly towards `goal` and stops there."""
        gap = goal - self.q
        size = np.abs(gap)
        pace = np.minimum(8.0 * size, np.sqrt(self.limits.joints.acceleration * size))
        return self.admissible(np.sign(gap) * pace)

    def braking(self) -> Array:
        """Velocity after one tick of full braking."""
        return np.asarray(self.v - np.minimum(np.maximum(self.v, -self._step), self._step))

    def _towards(self, room: Array) -> Array:
        joints, step = self.limits.joints, self._step
        space = np.maximum(room, 0.0)
        brake = np.sqrt(2.0 * joints.acceleration * space) - 0.5 * step
        return np.minimum(joints.velocity, np.maximum(brake, np.minimum(space / TICK_S, step)))

    def _stop_way(self, v: Array) -> Array:
        """How far the joints still move when they brake fully after a tick with velocity `v`."""
        ticks = np.floor(np.abs(v) / self._step)
        return np.asarray(np.sign(v) * TICK_S * (ticks * np.abs(v) - 0.5 * self._step * ticks * (ticks + 1)))

    def _depth(self, q: Array) -> tuple[float, Check, str]:
        """How far a posture is out of bounds (negative: how far inside) [m], where, and in words."""
        limits, box = self.limits, self.limits.workspace
        place = self.shape.place(q)
        below = limits.table_z - limits.table_tolerance_m - place.lowest_m
        outside = float(np.maximum(box.low - place.ee_position, place.ee_position - box.high).max())
        fence = limits.fence
        over = -np.inf if fence is None else self.shape.extent(fence.normal) - fence.limit_m
        if fence is not None and over > max(outside, below):
            return over, Check.SPACE, f"the arm would go {over * 1000:.0f} mm too far into the space '{fence.name}'"
        if outside > below:
            return outside, Check.WORKSPACE, f"the tool would leave its workspace by {outside * 1000:.0f} mm"
        return below, Check.TABLE, f"{place.lowest_body} would go {below * 1000:.0f} mm too deep into the table"

    def _worst(self, q: Array, v: Array) -> tuple[float, Check, str]:
        """The deeper of where a tick ends and where braking from there would end."""
        first = self._depth(q)
        way = self._stop_way(v)
        if first[0] + _REACH_M * float(np.abs(way).sum()) <= 0.0:
            return first  # braking cannot carry any point of the arm that far
        return max(first, self._depth(q + way))

    def _in_space(self, velocity: Array, goal: Array, note: Note) -> Array:
        q_next = self.q + velocity * TICK_S
        worst = self._worst(q_next, velocity)
        if worst[0] <= 0.0:
            return velocity
        now = self._depth(self.q)
        if now[0] > 0.0 and worst[0] <= now[0]:
            return velocity  # it was out of bounds already and comes back
        asked = self._depth(self.limits.joints.clip(goal))
        if asked[0] > self.limits.gross_depth_m:
            raise Refused(asked[1], asked[2])
        note(worst[1], worst[2], None)
        if worst[1] is Check.TABLE:
            # Slide along the table: take out just the share of the motion that goes down.
            gradient = self.shape.lift_direction(q_next)
            lift = gradient * (worst[0] + 1e-4) / float(gradient @ gradient + 1e-9)
            slide = self.admissible(velocity + lift / TICK_S)
            if self._worst(self.q + slide * TICK_S, slide)[0] <= 0.0:
                return slide
        return self.braking()


def _excess(check: Check, ratio: Array, soft: float, gross: float, value: Array, note: Note) -> None:
    joint = int(ratio.argmax())
    if ratio[joint] <= soft:
        return
    message = f"{check} {value[joint]:.3f} of joint {joint + 1} breaks its limit"
    if ratio[joint] > gross:
        raise Refused(check, message + " grossly", joint + 1)
    note(check, message, joint + 1)
