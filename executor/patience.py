"""What a run does while its planner gives no answer: the arm is held, the planner asked again, or another one asked.

A planner's server can die, hang or answer with errors in the middle of a task. That says nothing about the task, so it
is no refusal and no failed step. Every failure is an event of the record with what was decided about it, so that a
replay decides the same, and a run that had to end can be resumed at that very place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hiervla.executor.record.recorder import Recorder
from hiervla.planner.base import Planner, PlannerFailedError
from hiervla.representations import Observation
from hiervla.representations.events import PlannerFailed, PlanRejected

if TYPE_CHECKING:
    from hiervla.executor.told import Asking

T = TypeVar("T")
Question = Callable[[Planner, Observation], T]
"""Asks a planner something about what is seen."""

LOST: Final = "planner failed"
"""Label of the physical state in which a run that its planner has left can be resumed."""


class PlannerLostError(PlannerFailedError):
    """The planner gave no answer, also when it was asked again, and there is no other one: the run ends at rest.

    Attributes:
        asked: how often it was asked in vain.
        held_s: how long the arm was held meanwhile [s].
    """

    def __init__(self, error: PlannerFailedError, asked: int, held_s: float) -> None:
        super().__init__(error.planner, error.problem, error.remedy, passing=error.passing)
        again = f" It was asked {asked} times, and the arm held still for {held_s:g} s meanwhile." if asked > 1 else ""
        self.args = (f"{error}{again}",)
        self.asked = asked
        self.held_s = held_s


class PlannerExchanged(Exception):
    """Another planner was put in the place of the one that was asked; the same question is put to it."""


class Patience:
    """Asks the planner of a run; made for one run.

    In the middle of a task a failure that may pass is waited for, twice as long each time. Before the first plan it is
    not: nothing has begun, and who started the run is there to read what is wrong.
    """

    def __init__(self, asking: Asking, retries: int, wait_s: float, look: Callable[[], Observation]) -> None:
        """Set up.

        Args:
            asking: reaches the parts of the run.
            retries: how often a planner is asked again.
            wait_s: how long the arm is held before the first of these times [s].
            look: takes an observation; what was seen before the wait may not be so any more.
        """
        self._asking = asking
        self._retries = retries
        self._wait_s = wait_s
        self._look = look

    def ask(self, seen: Observation, question: Question[T], *, begun: bool) -> tuple[Observation, T]:
        """The planner's answer, and the observation that it was made from.

        Args:
            seen: what it is asked about first.
            question: asks it.
            begun: whether there has been a plan in this run.

        Raises:
            PlannerLostError: nobody answers; the arm stands still.
        """
        asked, held_s = 0, 0.0
        while True:
            try:
                return seen, self._answer(seen, question)
            except PlannerExchanged:
                asked, held_s = 0, 0.0
            except PlannerFailedError as error:
                asked += 1
                wait_s = self._wait_s * 2.0 ** (asked - 1)
                parts = self._asking.parts
                for attempt in parts.planner.rejected:
                    self._emit(PlanRejected, raw_text=attempt.raw_text, problem=attempt.problem)
                if error.passing and begun and asked <= self._retries:
                    self._failed(error, then="again", wait_s=wait_s)
                    self._asking.body.wait(wait_s)
                    held_s += wait_s
                elif parts.fallback is not None:
                    self._failed(error, then="other", other=parts.fallback.id)
                    parts.take_over()
                    asked, held_s = 0, 0.0
                else:
                    self._failed(error, then="end")
                    self._asking.body.snapshot(LOST)
                    raise PlannerLostError(error, asked, held_s) from error
                seen = self._look()

    def _answer(self, seen: Observation, question: Question[T]) -> T:
        """The answer; where the world's time goes on, the arm is held while the planner is thinking."""
        return self._asking.body.holding(lambda: question(self._asking.planner, seen))

    def _failed(self, error: PlannerFailedError, **decided: Any) -> None:
        self._emit(
            PlannerFailed,
            planner=error.planner,
            problem=error.problem,
            message=str(error),
            passing=error.passing,
            told=self._asking.heard.take(),
            **decided,
        )
        self._asking.recorder.sync()

    def _emit(self, kind: type[PlannerFailed] | type[PlanRejected], **fields: Any) -> None:
        recorder: Recorder = self._asking.recorder
        recorder.emit(kind, time_s=self._asking.body.now_s, **fields)
