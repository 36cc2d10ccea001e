"""The executor's hands: recorded ticks, transits, holding still and stopping, all through the safety envelope."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.controllers.collision import Box, HeldObject, Obstacles
from hiervla.controllers.envelope import EnvelopeEvent, EnvelopeLimits, SafeWorld
from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.controllers.fence import HAND_HALF_M, Fence
from hiervla.controllers.obstacles import RobotMask, obstacles_from_depth
from hiervla.controllers.tracker import ChunkTracker
from hiervla.controllers.transit import Transit, TransitPlanner
from hiervla.executor.config import LoopConfig
from hiervla.executor.record.recorder import Purpose, Recorder
from hiervla.representations import ActionChunk, HiervlaError, JointCommand, Observation, Proprioception, Step
from hiervla.representations.errors import SnapshotError
from hiervla.representations.events import EnvelopeFired, Note, Paused, Resumed, TransitFailed, TransitPlanned
from hiervla.skills import Approach
from hiervla.skills.checks import holding
from hiervla.worlds.base import CONTROL_PERIOD_S, SnapshotWorld, SnapshotWrapper, World

V = TypeVar("V")
_HELD = HeldObject(half_extents=(0.035, 0.04, 0.05), below_m=0.03)
_NEAR_HAND_M = 0.11
_LEAVE_M = 0.07
"""How far an empty hand rises straight up before it goes home [m]."""
_CARRYING = 0.6
"""Share of the arm's speed, acceleration and jerk with something in the hand: at 1 a mug slips, at 0.7 none does."""
_RAISED_M = 0.42
"""Lowest height at which a hand counts as raised above everything that stands on the table [m]."""
_MAY_RISE_M = 0.08
"""A hover may be this much higher than asked for where what is held would touch something [m]."""


class RunCancelled(HiervlaError):
    """Somebody asked the run to stop; the arm is brought to rest inside the envelope."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("the run was cancelled. Its record is closed and can be inspected.")


class EnvelopeStop(HiervlaError):
    """The safety envelope refused a command and latched a stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the safety envelope stopped the arm: {reason}. Inspect the record before running again.")
        self.reason = reason


class CancelToken:
    """Thread-safe request to stop at the next control tick."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask for the stop; may be called from any thread or a signal handler."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Has it been asked for?"""
        return self._event.is_set()


class _RecordedWorld(SnapshotWrapper):
    """A world whose every command is on record, with the state in which it is given, before it is carried out.

    It stands inside the envelope, so that the record holds what the robot was really told.
    """

    def __init__(self, world: World, recorder: Recorder) -> None:
        super().__init__(world)
        self._recorder = recorder

    def step(self, command: JointCommand) -> None:
        self._recorder.tick(command, self._world.proprio())
        super().step(command)


class Body:
    """One robot for the length of one run.

    Every command goes through the safety envelope and onto the record before the world sees it. The reference (the
    last command) and not the measured state is what motions start from, so that nothing jumps.

    Attributes:
        parent: id of the event that new events belong to, set while a step is attempted.
    """

    tick_s = CONTROL_PERIOD_S

    def __init__(
        self,
        world: World,
        recorder: Recorder,
        config: LoopConfig,
        cancel: CancelToken,
        *,
        seed: int = 0,
        fence: Fence | None = None,
    ) -> None:
        self._world = world
        self._recorder = recorder
        self._config = config
        self._cancel = cancel
        self._transit = TransitPlanner(seed=seed)
        self._tracker = ChunkTracker()
        self._mask = RobotMask()
        self.parent: str | None = None
        self._fence = fence
        self._safe = SafeWorld(_RecordedWorld(world, recorder), EnvelopeLimits(fence=fence), on_event=self._fired)
        proprio = world.proprio()
        # A run may begin with something in the hand; commanding the measured width would let it go.
        self._width = 0.0 if holding(proprio).yes else proprio.gripper_width_m

    @property
    def now_s(self) -> float:
        """The world's clock [s]."""
        return self._world.time_s

    def proprio(self) -> Proprioception:
        """Proprioception now."""
        return self._world.proprio()

    def observe(self, purpose: Purpose) -> Observation:
        """Look with all configured cameras, and put what is seen on record."""
        observation = self._world.observe(self._config.cameras)
        self._recorder.observation(observation, purpose, parent=self.parent)
        return observation

    def look(self, purpose: Purpose) -> Observation:
        """Hold still for a moment, then look."""
        self.hold(self._config.settle_ticks)
        return self.observe(purpose)

    def snapshot(self, label: str) -> None:
        """Put the physical state on record, with the envelope's reference, where the world can save it."""
        if isinstance(self._world, SnapshotWorld):
            self._recorder.snapshot(self._safe.snapshot(), label, self.now_s, parent=self.parent)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a recorded physical state as the body that recorded it did.

        Raises:
            SnapshotError: the world cannot be restored, or not from these bytes.
        """
        if not isinstance(self._world, SnapshotWorld):
            raise SnapshotError(self._world.name, "this world cannot be set to a state")
        self._safe.restore(snapshot)
        self._width = self._safe.width

    def hold(self, ticks: int) -> None:
        """Stand still for some control ticks, gripper as it is."""
        for _ in range(ticks):
            self._stay(self._width)

    def wait(self, seconds: float) -> None:
        """Stand still for so long, tick by tick, and no quicker than the computer's clock."""
        due = time.monotonic()
        for _ in range(round(seconds / self.tick_s)):
            self.hold(1)
            due += self.tick_s
            time.sleep(max(0.0, due - time.monotonic()))

    def holding(self, question: Callable[[], V]) -> V:
        """The answer to a question that takes its time; where the world's time goes on, the arm holds still meanwhile.

        Raises:
            RunCancelled: the run was cancelled before there was an answer, which is not waited for.
        """
        if not getattr(self._world, "runs_on", False):
            return question()
        answer: Future[V] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        # A daemon: an answer that nobody waits for any more must not keep the process.
        threading.Thread(target=ask, name="question", daemon=True).start()
        ticks, due = 0, time.monotonic() + self.tick_s
        while not wait([answer], max(0.0, due - time.monotonic())).done:
            if not ticks:
                self._recorder.emit(Paused, time_s=self.now_s, parent=self.parent, decision="plan")
            self.hold(1)
            ticks, due = ticks + 1, due + self.tick_s
        if ticks:
            self._recorder.emit(Resumed, time_s=self.now_s, parent=self.parent, decision="plan", ticks=ticks)
        return answer.result()

    def grip(self, width_m: float, max_ticks: int = 40) -> None:
        """Bring the gripper to a width at its own speed, arm at rest [m]."""
        reach = panda.GRIPPER_MAX_SPEED_M_S * self.tick_s
        for _ in range(max_ticks):
            if abs(self._width - width_m) < 1e-9:
                return
            self._stay(self._width + float(np.clip(width_m - self._width, -reach, reach)))

    def home(self, step_id: str) -> None:
        """Bring the arm home, carrying what is held; when no free path is known, first straight up.

        Raises:
            NoPath: everything that was tried touches something.
        """
        observation = self._world.observe(self._config.cameras[:1])
        self._recorder.observation(observation, "move", parent=self.parent)
        obstacles = self._obstacles(observation, near=observation.proprio.ee_position)
        started = time.perf_counter()
        q, dq = self._safe.reference
        with self._failing(step_id, "home", started):
            transit = self._home(q, dq, obstacles, observation)
        self._follow(transit, step_id, "home", None, time.perf_counter() - started)

    def _home(
        self, q: NDArray[np.float64], dq: NDArray[np.float64], obstacles: Obstacles, observation: Observation
    ) -> Transit:
        proprio = observation.proprio
        if proprio.ee_position[2] < _RAISED_M - _LEAVE_M and not holding(proprio).yes:
            # What an empty hand has just let go of stands between its fingers; sideways it would be dragged along.
            rise = self._transit.rise(q, _LEAVE_M, dq=dq)
            if rise is not None:
                way = self._way_home(rise.q[-1], rise.dq[-1], obstacles, observation)
                return replace(way, trajectory=rise.then(way.trajectory))
        return self._way_home(q, dq, obstacles, observation)

    def _way_home(
        self, q: NDArray[np.float64], dq: NDArray[np.float64], obstacles: Obstacles, observation: Observation
    ) -> Transit:
        held = self._held(observation.proprio)
        speed = 1.0 if held is None else _CARRYING
        try:
            return self._transit.to_joints(q, panda.HOME_Q, obstacles, dq=dq, held=held, speed=speed)
        except NoPath:
            # Things that hang at the gripper can look like obstacles around it. The arm's own table and limits stay.
            return self._transit.to_joints(q, panda.HOME_Q, Obstacles(furniture=self._walls()), dq=dq, speed=speed)

    def reaches(self, hover_w: NDArray[np.float64], yaw: float) -> str | None:
        """What keeps the arm from a top-down pose, obstacles left aside; None when nothing does.

        Args:
            hover_w: (3,) tool centre point, world frame [m].
            yaw: finger-closing direction, modulo pi [rad].
        """
        if self._fence is not None and self._fence.out_of_bounds(hover_w, HAND_HALF_M):
            return f"it lies beyond the space '{self._fence.name}', where another arm works"
        try:
            self._transit.kinematics.solve_topdown(hover_w, yaw, panda.HOME_Q)
        except UnreachablePose as error:
            return f"{1e3 * error.residual_m:.0f} mm are missing at ({', '.join(f'{v:.2f}' for v in error.position)}) m"
        return None

    def approach(self, step: Step, approach: Approach, target_w: NDArray[np.float64], observation: Observation) -> None:
        """Transit to the skill's hover above the target.

        Raises:
            UnreachablePose: the arm cannot get there.
            NoPath: it could, but not without touching something.
        """
        if approach.gripper_width_m is not None:
            self.grip(approach.gripper_width_m)
        hover = approach.hover(target_w)
        started = time.perf_counter()
        with self._failing(step.id, "approach", started):
            transit = self._hover(hover, approach.yaw, observation)
        self._follow(transit, step.id, "approach", hover, time.perf_counter() - started)

    def _hover(self, hover: NDArray[np.float64], yaw: float, observation: Observation) -> Transit:
        held = self._held(observation.proprio)
        q, dq = self._safe.reference
        speed = 1.0 if held is None else _CARRYING
        try:
            around = self._obstacles(observation, near=None)
            return self._transit.to_hover(q, hover, yaw, around, dq=dq, held=held, speed=speed, may_rise_m=_MAY_RISE_M)
        except NoPath:
            # Columns stand for all that is hidden under a seen surface; close to the goal that is too cautious.
            around = self._obstacles(observation, near=hover)
            return self._transit.to_hover(q, hover, yaw, around, dq=dq, held=held, speed=speed, may_rise_m=_MAY_RISE_M)

    def start_tracking(self) -> None:
        """Prepare for chunks: the tracker starts from the reference."""
        q, dq = self._safe.reference
        self._tracker.reset(q, dq, self._width)

    def track(self, chunk: ActionChunk | None, ticks: int) -> None:
        """Track for some ticks; a chunk, if given, takes over from what is left of the one before."""
        if chunk is not None:
            acceptance = self._tracker.accept(chunk, self.now_s)
            if not acceptance.usable:
                self._note("warning", f"a chunk of policy '{chunk.policy}' was too old to use")
        for _ in range(ticks):
            self._send(self._tracker.step(self.now_s))

    def stop(self) -> None:
        """Bring the arm to rest within its limits; always possible, also after the envelope has latched."""
        self._safe.stop()

    @contextmanager
    def _failing(self, step_id: str, purpose: Literal["approach", "home"], started: float) -> Iterator[None]:
        """Put a motion that cannot be found on record before anybody hears of it."""
        try:
            yield
        except (NoPath, UnreachablePose) as error:
            self._recorder.emit(
                TransitFailed,
                time_s=self.now_s,
                parent=self.parent,
                step_id=step_id,
                purpose=purpose,
                error="no_path" if isinstance(error, NoPath) else "unreachable",
                message=str(error),
                wall_latency_s=time.perf_counter() - started,
            )
            raise

    def _follow(
        self,
        transit: Transit,
        step_id: str,
        purpose: Literal["approach", "home", "retreat"],
        target: NDArray[np.float64] | None,
        latency: float,
    ) -> None:
        self._recorder.emit(
            TransitPlanned,
            time_s=self.now_s,
            parent=self.parent,
            step_id=step_id,
            purpose=purpose,
            target_position_w=None if target is None else (float(target[0]), float(target[1]), float(target[2])),
            method=transit.method.value,
            duration_s=transit.trajectory.duration_s,
            ticks=len(transit.trajectory.times) - 1,
            wall_latency_s=latency,
        )
        for command in transit.trajectory.commands(self._width, self.now_s):
            self._send(command)

    def _stay(self, width: float) -> None:
        q, dq = self._safe.reference
        self._send(JointCommand(q=q, dq=np.zeros_like(dq), gripper_width_m=width, time_s=self.now_s))

    def _send(self, command: JointCommand) -> None:
        if self._cancel.cancelled:
            raise RunCancelled
        self._safe.step(command)
        self._width = command.gripper_width_m
        latched = self._safe.latched
        if latched is not None:
            self._safe.stop()
            raise EnvelopeStop(latched.message)

    def _fired(self, event: EnvelopeEvent) -> None:
        self._recorder.emit(
            EnvelopeFired,
            time_s=self.now_s,
            parent=self.parent,
            check=event.check.value,
            action=event.action,
            message=event.message,
        )

    def _note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        self._recorder.emit(Note, time_s=self.now_s, parent=self.parent, level=level, message=message)

    def _held(self, proprio: Proprioception) -> HeldObject | None:
        return _HELD if holding(proprio).yes else None

    def _obstacles(self, observation: Observation, near: NDArray[np.float64] | None) -> Obstacles:
        """Observed obstacles; without the surroundings of ``near`` (3,), which are the policy's business [m]."""
        hand = tuple(float(v) for v in observation.proprio.ee_position)
        # What is seen around a raised hand is the hand and what it holds, also where the arm's model has no part.
        ignore = [Box("the hand", (hand[0], hand[1], max(hand[2], _RAISED_M) + 0.1), (0.14, 0.14, 0.25))]
        if near is not None:
            x, y, _ = (float(v) for v in near)
            ignore.append(Box("at the hand", (x, y, 0.3), (_NEAR_HAND_M, _NEAR_HAND_M, 0.3)))
        return obstacles_from_depth(
            observation.frames[:1],
            observation.proprio,
            ignore=ignore,
            held=self._held(observation.proprio),
            furniture=self._walls(),
            mask=self._mask,
        )

    def _walls(self) -> tuple[Box, ...]:
        """What no motion may be planned through, whatever the cameras see."""
        return () if self._fence is None else (self._fence.wall(),)
