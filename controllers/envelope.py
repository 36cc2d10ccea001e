"""The safety envelope: between every command and every world, and nobody above can switch it off.

What passes keeps the joints' position, velocity and acceleration limits, keeps every link above the table and the tool
in its workspace, and can still be stopped in time: a command passes only if braking after it ends in a safe posture.
Small excess is limited; gross excess, NaN and a broken clock are refused, and a refusal latches a hold until
:meth:`SafeWorld.reset`. At 50 Hz a motion that keeps the acceleration limit keeps the jerk limit as well: going from
full deceleration to full acceleration within one tick needs a fifth of the jerk that the arm allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from hiervla.controllers import panda
from hiervla.controllers.envelope_types import (
    Check,
    EnvelopeEvent,
    EnvelopeLimits,
    GuardedWorld,
    Refused,
)
from hiervla.controllers.judge import Judge
from hiervla.controllers.limits import Array
from hiervla.controllers.timing import TICK_S
from hiervla.representations.actions import JointCommand
from hiervla.representations.observations import Observation, Proprioception

__all__ = [
    "Check",
    "EnvelopeEvent",
    "EnvelopeLimits",
    "GuardedWorld",
    "SafeWorld",
    "guard",
    "world_snapshot",
]

_log = logging.getLogger(__name__)
_MAGIC = b"hiervla-envelope-1\n"
_MAX_STOP_TICKS = 200
_PRESSING_N = 3.0
# An excess that comes back within half a second is the same one, and is not reported again.
_QUIET_TICKS = 25


class SafeWorld:
    """A world behind the envelope; it has the same protocol and takes its place.

    Every :meth:`step` advances the world by one tick: with the command, with a limited one, or, after a refusal, with a
    controlled stop and then a hold.

    Attributes:
        last_command: what was sent to the world last, None before the first tick.
    """

    __slots__ = (
        "__count", "__judge", "__latch", "__noted", "__on_event", "__time", "__width", "__world",
        "__yield_to", "last_command",
    )  # fmt: skip

    last_command: JointCommand | None

    def __init__(
        self,
        world: GuardedWorld,
        limits: EnvelopeLimits | None = None,
        on_event: Callable[[EnvelopeEvent], None] | None = None,
    ) -> None:
        """Put the envelope around a world.

        Args:
            world: what gets the commands that pass.
            limits: what is allowed; the default is the Panda's published limits.
            on_event: called with every event; if it raises, that is logged and the robot goes on.
        """
        self.__world = world
        self.__judge = Judge(limits or EnvelopeLimits())
        self.__on_event = on_event
        self.__noted: dict[Check, int] = {}
        self.__latch: EnvelopeEvent | None = None
        self.__yield_to: Array | None = None
        self.__sync()

    @property
    def name(self) -> str:
        """Name of the world inside."""
        return self.__world.name

    @property
    def time_s(self) -> float:
        """The world's clock [s]."""
        return self.__world.time_s

    @property
    def latched(self) -> EnvelopeEvent | None:
        """The event that put the arm on hold, or None while commands pass."""
        return self.__latch

    @property
    def limits(self) -> EnvelopeLimits:
        """What is allowed."""
        return self.__judge.limits

    @property
    def reference(self) -> tuple[Array, Array]:
        """Joint position and velocity (7,), (7,) of the last command that passed: start new motion from here."""
        return self.__judge.q.copy(), self.__judge.v.copy()

    @property
    def width(self) -> float:
        """Gripper width of the last command that passed [m]."""
        return self.__width

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """See the World protocol."""
        return self.__world.observe(cameras)

    def proprio(self) -> Proprioception:
        """See the World protocol."""
        return self.__world.proprio()

    def close(self) -> None:
        """See the World protocol; a moving arm is stopped first."""
        try:
            if self.__moving():
                self.stop()
        finally:
            self.__world.close()

    def snapshot(self) -> bytes:
        """Physical state of the world inside, and the reference that the envelope continues from.

        :func:`world_snapshot` takes the world's own part out of it.

        Raises:
            AttributeError: the world inside cannot be saved.
        """
        inner = bytes(self.__world.snapshot())  # type: ignore[attr-defined]  # asked only of a SnapshotWorld
        judge = self.__judge
        scalars = np.array([self.__width, self.__time, self.__count], dtype=np.float64)
        state = np.concatenate([judge.q, judge.v, judge.asked_q, judge.asked_v, scalars])
        return _MAGIC + state.astype("<f8").tobytes() + inner

    def restore(self, snapshot: bytes) -> None:
        """Return to a saved state, with no hold; a snapshot of the bare world will do too.

        From a bare snapshot the envelope starts anew from what the arm then measures; from its own it continues bit
        for bit.

        Raises:
            AttributeError: the world inside cannot be restored.
        """
        self.__world.restore(world_snapshot(snapshot))  # type: ignore[attr-defined]  # asked only of a SnapshotWorld
        self.__latch = None
        self.__sync()
        if snapshot.startswith(_MAGIC):
            judge, dofs = self.__judge, panda.N_JOINTS
            state = np.frombuffer(snapshot, "<f8", 4 * dofs + 3, len(_MAGIC)).astype(np.float64)
            judge.q, judge.v, judge.asked_q, judge.asked_v = state[:-3].reshape(4, dofs)
            self.__width, self.__time, self.__count = float(state[-3]), float(state[-2]), int(state[-1])

    def reset(self) -> None:
        """Leave the hold and accept commands again, from where the arm is; it is brought to rest first."""
        self.__rest()
        self.__latch = None
        self.__sync()
        self.__emit(Check.STOP, "reset", "the hold was released; commands pass again")

    def stop(self) -> int:
        """Bring the arm to rest at once, inside all limits, and hold until :meth:`reset`.

        Returns:
            How many ticks it took.
        """
        if self.__latch is None:
            self.__latch = self.__emit(Check.STOP, "stopped", "a stop was asked for; the arm holds until reset")
        return self.__rest()

    def step(self, command: JointCommand) -> None:
        """Check a command, limit it where that is enough, and advance the world by one tick with what is safe."""
        if self.__latch is not None:
            self.__hold()
            return
        try:
            self.__check_form(command)
            self.__check_tracking()
            velocity = self.__judge.velocity_for(command, self.__note)
            width = self.__gripper(command.gripper_width_m)
        except Refused as refusal:
            message = f"{refusal.message}; the arm stops and holds until reset"
            self.__latch = self.__emit(refusal.check, "refused", message, refusal.joint)
            if refusal.check is Check.TRACKING:
                # Pushing on against whatever blocks the arm would be worse than giving way to it.
                self.__yield_to = np.array(self.__world.proprio().q)
            self.__hold()
        else:
            self.__time = command.time_s
            self.__width = width
            self.__send(velocity, command.dq)

    def __check_form(self, command: JointCommand) -> None:
        dofs = panda.N_JOINTS
        if command.q.shape != (dofs,):
            raise Refused(Check.SHAPE, f"command has {len(command.q)} joints, the arm has {dofs}")
        finite = np.isfinite(command.q) & np.isfinite(command.dq)
        if not finite.all():
            joint = int(finite.argmin()) + 1
            raise Refused(Check.NOT_FINITE, f"command for joint {joint} is NaN or infinite", joint)
        if not np.isfinite(command.gripper_width_m + command.time_s):
            raise Refused(Check.NOT_FINITE, "gripper width or time of the command is NaN or infinite")
        if command.time_s < self.__time - 1e-9:
            message = f"command for {command.time_s:.3f} s came after one for {self.__time:.3f} s"
            raise Refused(Check.CLOCK, message)
        age = self.__world.time_s - command.time_s
        allowed = self.limits.stale_s
        if abs(age) > allowed + 1e-9:
            raise Refused(Check.CLOCK, f"command is {age:+.3f} s old, allowed is {allowed:.3f} s")

    def __check_tracking(self) -> None:
        self.__count += 1
        if self.__count % self.limits.tracking_every:
            return
        error = np.abs(self.__world.proprio().q - self.__judge.q)
        joint = int(error.argmax())
        if error[joint] > self.limits.tracking_rad:
            message = f"joint {joint + 1} is {error[joint]:.2f} rad from its command: it is blocked"
            raise Refused(Check.TRACKING, message, joint + 1)

    def __gripper(self, width: float) -> float:
        widest = panda.GRIPPER_MAX_WIDTH_M
        if not -1e-9 <= width <= widest + 1e-9:
            self.__note(Check.GRIPPER, f"gripper width {width:.4f} m is outside 0 to {widest} m", None)
        return min(max(width, 0.0), widest)

    def __send(self, velocity: Array, dq: Array) -> None:
        judge = self.__judge
        joints = judge.limits.joints
        # The feed-forward must agree with the motion: within a tick's acceleration of its mean velocity.
        step = joints.acceleration * TICK_S
        low = np.maximum(velocity - step, -joints.velocity)
        high = np.minimum(velocity + step, joints.velocity)
        judge.advance(velocity)
        self.last_command = JointCommand(
            q=judge.q,
            dq=np.minimum(np.maximum(dq, low), high),
            gripper_width_m=self.__width,
            time_s=self.__world.time_s,
        )
        self.__world.step(self.last_command)

    def __hold(self) -> None:
        judge = self.__judge
        velocity = judge.braking() if self.__yield_to is None else judge.approaching(self.__yield_to)
        self.__send(velocity, velocity)

    def __moving(self) -> bool:
        return bool(np.abs(self.__judge.v).max() > 1e-9)

    def __rest(self) -> int:
        """Brake until the reference stands still; returns the number of ticks."""
        self.__yield_to = None
        for tick in range(_MAX_STOP_TICKS):
            if not self.__moving():
                return tick
            self.__hold()
        return _MAX_STOP_TICKS

    def __sync(self) -> None:
        """Start from what the arm measures, as if it stood still there."""
        proprio = self.__world.proprio()
        self.__judge.start(proprio.q)
        # Fingers that press hold something; the measured width as a command would let it fall.
        pressing = proprio.gripper_effort_n >= _PRESSING_N
        self.__width = 0.0 if pressing else min(max(proprio.gripper_width_m, 0.0), panda.GRIPPER_MAX_WIDTH_M)
        self.__time = -np.inf
        self.__count = 0
        self.__yield_to = None
        self.__noted = {}
        self.last_command = None

    def __note(self, check: Check, message: str, joint: int | None) -> None:
        """Report a limited command, once for as long as it goes on."""
        last = self.__noted.get(check)
        if last is None or self.__count - last > _QUIET_TICKS:
            self.__emit(check, "limited", message, joint)
        self.__noted[check] = self.__count

    def __emit(
        self,
        check: Check,
        action: Literal["limited", "refused", "stopped", "reset"],
        message: str,
        joint: int | None = None,
    ) -> EnvelopeEvent:
        event = EnvelopeEvent(check=check, action=action, message=message, time_s=self.__world.time_s, joint=joint)
        if self.__on_event is not None:
            try:
                self.__on_event(event)
            except Exception:  # whatever a subscriber raises, the arm must not stop being guarded
                _log.exception("a subscriber of the safety envelope failed; the robot goes on")
        return event


def world_snapshot(snapshot: bytes) -> bytes:
    """The world's own part of a :meth:`SafeWorld.snapshot`; other bytes are returned as they are."""
    if not snapshot.startswith(_MAGIC):
        return snapshot
    return snapshot[len(_MAGIC) + 8 * (4 * panda.N_JOINTS + 3) :]


def guard(
    world: GuardedWorld,
    limits: EnvelopeLimits | None = None,
    on_event: Callable[[EnvelopeEvent], None] | None = None,
) -> SafeWorld:
    """Put a world behind the envelope; one that is already behind it is returned as it is."""
    return world if isinstance(world, SafeWorld) else SafeWorld(world, limits, on_event)
