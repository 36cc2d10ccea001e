"""The live controller on a record: it moves nothing, and each command that it would give is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.body import Body, CancelToken
from hiervla.executor.record.recorder import NullRecorder, Purpose
from hiervla.executor.replay.cursor import Cursor
from hiervla.executor.replay.decisions import recorded_config
from hiervla.executor.replay.recorded import RecordedBody
from hiervla.executor.replay.seen import StateStream, lazy_observation
from hiervla.representations import ActionChunk, HiervlaError, JointCommand, Observation, Proprioception, Step
from hiervla.representations.events import ObservationTaken, Paused, Resumed
from hiervla.skills import Approach

if TYPE_CHECKING:
    from hiervla.executor.replay.shadow import Score

T = TypeVar("T")
V = TypeVar("V")

_SAME_RAD = 1e-6
_SAME_M = 1e-6


class _Track:
    """A world that was: it senses what was sensed, and notes how far commands are from the recorded ones."""

    name = "recorded"

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.states = StateStream(cursor.record)
        self.index = 0
        self.apart = 0.0
        self.gripper_apart = 0.0

    @property
    def over(self) -> bool:
        """Has the record no more ticks?"""
        return self.index >= len(self.states.ticks)

    @property
    def time_s(self) -> float:
        """The recorded clock at this tick [s]."""
        ticks = self.states.ticks
        return ticks[min(self.index, len(ticks) - 1)].command.time_s

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """What the recorded body was about to see."""
        event = self._cursor.peek()
        if not isinstance(event, ObservationTaken):
            raise HiervlaError("the live controller looks where the recorded one did not. Compare an older version.")
        return lazy_observation(self._cursor.record, event)

    def proprio(self) -> Proprioception:
        """What was sensed at this tick."""
        return self.states.at(self.time_s)

    def step(self, command: JointCommand) -> None:
        """Compare a command with the recorded one of this tick."""
        if not self.over:
            recorded = self.states.ticks[self.index].command
            self.apart = max(self.apart, float(np.abs(command.q - recorded.q).max()))
            self.gripper_apart = max(self.gripper_apart, abs(command.gripper_width_m - recorded.gripper_width_m))
        self.index += 1

    def close(self) -> None:
        """Nothing to release."""


class ShadowBody:
    """Does with a live body what the recorded one did, motion by motion, until they part.

    Attributes:
        tick_s: length of a control tick [s].
    """

    def __init__(self, recorded: RecordedBody, cursor: Cursor, score: Score) -> None:
        self._recorded = recorded
        self._cursor = cursor
        self._score = score
        self._world = _Track(cursor)
        self._config = recorded_config(cursor.record)
        self._live: Body | None = None
        if not self._world.over:
            seed = cursor.record.manifest.seed
            self._live = Body(self._world, NullRecorder(), self._config, CancelToken(), seed=seed)
        self.tick_s = recorded.tick_s

    @property
    def parent(self) -> str | None:
        """Id of the event that new events belong to."""
        return self._recorded.parent

    @parent.setter
    def parent(self, value: str | None) -> None:
        self._recorded.parent = value

    @property
    def now_s(self) -> float:
        """The recorded clock [s]."""
        return self._recorded.now_s

    def proprio(self) -> Proprioception:
        """What was sensed."""
        return self._recorded.proprio()

    def observe(self, purpose: Purpose) -> Observation:
        """What was seen."""
        return self._recorded.observe(purpose)

    def look(self, purpose: Purpose) -> Observation:
        """Hold still and look, in both."""
        return self._both("hold", lambda b: b.hold(self._config.settle_ticks), lambda: self._recorded.look(purpose))

    def snapshot(self, label: str) -> None:
        """The recorded snapshot."""
        self._recorded.snapshot(label)

    def hold(self, ticks: int) -> None:
        """Hold still in both."""
        self._both("hold", lambda b: b.hold(ticks), lambda: self._recorded.hold(ticks))

    def wait(self, seconds: float) -> None:
        """Hold still in both; nobody has to be waited for."""
        self._both("hold", lambda b: b.hold(round(seconds / self.tick_s)), lambda: self._recorded.wait(seconds))

    def holding(self, question: Callable[[], V]) -> V:
        """The answer; what had to be held for it is held in both."""
        after = self._cursor.peek(1)
        if isinstance(self._cursor.peek(), Paused) and isinstance(after, Resumed):
            ticks = after.ticks
            self._both("hold", lambda b: b.hold(ticks), self._recorded.recorded_hold)
        return self._recorded.holding(question)

    def home(self, step_id: str) -> None:
        """Go home in both."""
        self._both(f"home in {step_id}", lambda b: b.home(step_id), lambda: self._recorded.home(step_id))

    def approach(self, step: Step, approach: Approach, target_w: NDArray[np.float64], observation: Observation) -> None:
        """Go to the hover in both."""
        self._both(
            f"approach in {step.id}",
            lambda b: b.approach(step, approach, target_w, observation),
            lambda: self._recorded.approach(step, approach, target_w, observation),
        )

    def start_tracking(self) -> None:
        """Prepare for chunks in both."""
        if self._live is not None:
            self._live.start_tracking()

    def track(self, chunk: ActionChunk | None, ticks: int) -> None:
        """Track in both."""
        self._both("track", lambda b: b.track(chunk, ticks), lambda: self._recorded.track(chunk, ticks))

    def stop(self) -> None:
        """The recorded stop; nothing comes after it."""
        self._live = None
        self._recorded.stop()

    def _both(self, what: str, live: Callable[[Body], None], recorded: Callable[[], T]) -> T:
        world, body = self._world, self._live
        if body is None:
            return recorded()
        problem = ""
        world.apart = world.gripper_apart = 0.0
        try:
            live(body)
        except HiervlaError as error:
            problem = str(error)
        try:
            return recorded()
        except HiervlaError as error:
            # What the recorded motion failed at, the live one fails at too.
            problem = "" if problem else f"moved, where the recorded one failed: {error}"
            raise
        finally:
            self._compare(what, problem)

    def _compare(self, what: str, problem: str) -> None:
        world = self._world
        index = world.states.index(self.now_s)
        if not problem and world.index != index and not world.over:
            problem = f"{abs(world.index - index)} control ticks {'longer' if world.index > index else 'shorter'}"
        if not problem and (world.apart > _SAME_RAD or world.gripper_apart > _SAME_M):
            problem = f"joints {world.apart:.2g} rad, fingers {1e3 * world.gripper_apart:.2g} mm apart at most"
        self._score.distance("joint_rad", world.apart)
        self._score.compare(self._cursor, what, "as recorded", problem or "as recorded")
        if problem:
            # The reference that later motions start from is another one now; they would all differ for this reason.
            self._live = None
