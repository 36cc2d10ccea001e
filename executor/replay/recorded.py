"""Planner, policy, checks, control and body that answer as they did when a run was recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.executor.body import EnvelopeStop, RunCancelled
from hiervla.executor.control import Answer, Decision, Say
from hiervla.executor.record.recorder import Purpose
from hiervla.executor.replay.cursor import CheckingRecorder, Cursor
from hiervla.executor.replay.seen import StateStream, lazy_observation
from hiervla.planner.base import GroundingError, Objection, PlannerContext, PlannerFailedError, RejectedAttempt
from hiervla.representations import (
    ActionChunk,
    Event,
    HiervlaError,
    Observation,
    Plan,
    Proprioception,
    Refusal,
    SeenThing,
    Step,
    Verdict,
)
from hiervla.representations import events as ev
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary
from hiervla.worlds.base import CONTROL_PERIOD_S

E = TypeVar("E", bound=ev.EventBase)
V = TypeVar("V")
X = TypeVar("X", bound=HiervlaError)

_ENVELOPE_FIELDS = frozenset(("id", "parent", "time_s", "wall_time_s", "version", "type"))


class Recorded:
    """What the recorded parts share: the cursor, and the recorder that tells where the replay leaves the record."""

    def __init__(self, cursor: Cursor, recorder: CheckingRecorder) -> None:
        self.cursor = cursor
        self.recorder = recorder

    def wanted(self, kind: type[E]) -> E:
        """The next event, which has to be of this class.

        Raises:
            ReplayStopped: it is another one.
            HiervlaError: the recorded run broke off here; the replay does the same.
        """
        event = self.cursor.peek()
        if isinstance(event, kind):
            return event
        self.break_off(event)
        raise self.recorder.surprise(str(kind.model_fields["type"].default))

    def break_off(self, event: Event | None) -> None:
        """End as the recorded run did where it was cancelled, stopped or broken at this place.

        Raises:
            RunCancelled: somebody cancelled it here.
            EnvelopeStop: the envelope stopped it here.
            HiervlaError: it broke here.
        """
        if not isinstance(event, ev.RunFinished) or event.outcome not in {"cancelled", "envelope_stop", "error"}:
            return
        self.cursor.now_s = event.time_s
        if event.outcome == "cancelled":
            raise RunCancelled
        raise recorded_error(EnvelopeStop if event.outcome == "envelope_stop" else HiervlaError, event.message)


class RecordedPlanner(Recorded):
    """Answers with the recorded plans."""

    id = "recorded"
    rejected: tuple[RejectedAttempt, ...] = ()

    @property
    def looks_over(self) -> bool:
        """Was the planner asked at this place whether anything is left to do?"""
        event = self.cursor.peek()
        return isinstance(event, ev.ObservationTaken) and event.purpose == "plan"

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """See :class:`hiervla.planner.base.Planner`."""
        event = self._answer()
        if isinstance(event, ev.PlanRefused):
            return event.refusal
        if isinstance(event, ev.PlanProposed):
            return event.plan
        if isinstance(event, ev.PlanRejected) and event.plan is not None:
            return event.plan
        self.break_off(event)
        raise self.recorder.surprise("plan_proposed")

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """See :class:`hiervla.planner.base.Planner`."""
        event = self._answer()
        if isinstance(event, ev.PlanStale):
            return None
        if not isinstance(event, ev.PlanProposed):
            self.break_off(event)
            raise self.recorder.surprise("plan_proposed")
        recorded = event.plan
        if (recorded.done, recorded.remaining) == (plan.done, plan.remaining):
            return recorded
        # Which steps are done the orchestrator decides; a planner gives that back as it was given.
        return recorded.model_copy(update={"done": plan.done, "remaining": plan.remaining})

    def _answer(self) -> Event | None:
        """What follows the attempts that were rejected before it.

        Raises:
            PlannerFailedError: there was no answer.
        """
        rejected: list[RejectedAttempt] = []
        while isinstance(event := self.cursor.peek(len(rejected)), ev.PlanRejected) and event.plan is None:
            rejected.append(RejectedAttempt(event.raw_text, event.problem))
        self.rejected = tuple(rejected)
        if isinstance(event, ev.PlannerFailed):
            self.fail(event)
        return event

    def fail(self, event: ev.PlannerFailed) -> None:
        """Give no answer, as the recorded planner did.

        Raises:
            PlannerFailedError: always.
        """
        error = recorded_error(PlannerFailedError, event.message)
        error.planner, error.problem, error.passing = event.planner, event.problem, event.passing
        error.remedy = ""
        raise error

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """See :class:`hiervla.planner.seeing.Seeing`."""
        event = self._answer()
        if isinstance(event, ev.SceneSeen):
            return event.things
        self.break_off(event)
        raise self.recorder.surprise("scene_seen")

    def ground(self, observation: Observation, step: Step) -> Step:
        """See :class:`hiervla.planner.base.Planner`."""
        event = self.cursor.peek()
        if isinstance(event, ev.GroundingFailed):
            error = recorded_error(GroundingError, event.message)
            error.step, error.problem = event.step_id, event.problem
            raise error
        return step.model_copy(update={"artifacts": self.wanted(ev.Grounded).artifacts})


class RecordedFallback(RecordedPlanner):
    """Takes over where another planner did."""

    @property
    def id(self) -> str:  # type: ignore[override]  # asked while the event that names it is written
        """Who took over at this place."""
        event = self.cursor.peek()
        return event.other if isinstance(event, ev.PlannerFailed) else "recorded"


class RecordedScreen(Recorded):
    """Objects to the plans that were objected to."""

    def objection(self, plan: Plan, observation: Observation, belief: Belief, skills: SkillLibrary) -> Objection | None:
        """See :class:`hiervla.executor.screening.Screen`."""
        event = self.cursor.peek()
        if isinstance(event, ev.PlanRejected) and event.plan is not None:
            return Objection(event.raw_text, event.problem, event.step)
        return None


class RecordedPolicy(Recorded):
    """Gives the recorded chunks."""

    id = "recorded"

    def reset(self, step: Step, seed: int) -> None:
        """Nothing to begin."""

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        return self.wanted(ev.ChunkProposed).chunk


class RecordedVerifier(Recorded):
    """Gives the recorded verdicts."""

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return self._verdict("ready")

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`hiervla.executor.activities.Verifier`."""
        event = self.cursor.peek()
        return event.verdict if isinstance(event, ev.VerdictGiven) and event.phase == "invariant" else None

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return self._verdict("during")

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return self._verdict("done")

    def lasts(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`hiervla.executor.activities.Verifier`."""
        event = self.cursor.peek()
        same = isinstance(event, ev.VerdictGiven) and (event.phase, event.step_id) == ("lasting", context.step.id)
        return event.verdict if same and isinstance(event, ev.VerdictGiven) else None

    def _verdict(self, phase: str) -> Verdict:
        event = self.wanted(ev.VerdictGiven)
        if event.phase != phase:
            raise self.recorder.surprise(f"verdict '{phase}'")
        return event.verdict


class RecordedControl(Recorded):
    """Holds and corrects as somebody did in the recorded run."""

    author = "recorded"

    def review(self, decision: Decision, hold: Any) -> Answer:
        """See :class:`hiervla.executor.control.Control`."""
        event, after = self.cursor.peek(), self.cursor.peek(1)
        if isinstance(event, ev.Paused) and event.decision == decision.kind:
            for _ in range(after.ticks if isinstance(after, ev.Resumed) else 1):
                hold()
            # Of a run that was cancelled while it was held nothing comes after the pause.
            self.break_off(self.cursor.peek())
            event = self.cursor.peek(1)
        if isinstance(event, ev.CorrectionGiven) and event.decision == decision.kind:
            self.author = event.author
            if event.text is not None:
                return Say(event.text)
            for answer in (event.plan, event.step, event.verdict, event.chunk, event.outcome):
                if answer is not None:
                    return answer
        return decision.value


class RecordedBody(Recorded):
    """Sees what was seen and moves nothing; its clock goes by control ticks.

    Attributes:
        parent: id of the event that new events belong to.
        exact: whether proprioception between observations is read from the streams, which takes a moment; without it
            the latest observation's is given, which is enough where recorded verdicts are used.
    """

    tick_s = CONTROL_PERIOD_S

    def __init__(
        self, cursor: Cursor, recorder: CheckingRecorder, *, settle_ticks: int = 0, exact: bool = False
    ) -> None:
        super().__init__(cursor, recorder)
        self.parent: str | None = None
        self.exact = exact
        self._settle_ticks = settle_ticks
        self._seen: Observation | None = None

    @property
    def now_s(self) -> float:
        """The world's clock [s]."""
        return self.cursor.now_s

    @cached_property
    def states(self) -> StateStream:
        """Proprioception of every tick."""
        return StateStream(self.cursor.record)

    def proprio(self) -> Proprioception:
        """Proprioception now."""
        if self._seen is not None and (not self.exact or abs(self._seen.time_s - self.now_s) < self.tick_s / 2):
            return self._seen.proprio
        return self.states.at(self.now_s)

    def observe(self, purpose: Purpose) -> Observation:
        """The recorded observation."""
        event = self.wanted(ev.ObservationTaken)
        self._again(event, purpose=purpose)
        self._seen = lazy_observation(self.cursor.record, event)
        return self._seen

    def look(self, purpose: Purpose) -> Observation:
        """Hold still for as long as the loop is configured to, then look."""
        self.hold(self._settle_ticks)
        return self.observe(purpose)

    def snapshot(self, label: str) -> None:
        """The recorded snapshot; none for a world that cannot save its state."""
        event = self.cursor.peek()
        if isinstance(event, ev.SnapshotTaken):
            self._again(event, label=label)

    def hold(self, ticks: int) -> None:
        """Let the time pass."""
        self._pass(ticks)

    def wait(self, seconds: float) -> None:
        """Let the time pass on the world's clock."""
        self._pass(round(seconds / self.tick_s))

    def holding(self, question: Callable[[], V]) -> V:
        """The answer, after the arm was held as long as it was when it had to be waited for."""
        self.recorded_hold()
        return question()

    def recorded_hold(self) -> int:
        """Hold still for as long as an answer had to be waited for at this place, in control ticks."""
        event, after = self.cursor.peek(), self.cursor.peek(1)
        if not isinstance(event, ev.Paused) or event.decision != "plan":
            return 0
        ticks = after.ticks if isinstance(after, ev.Resumed) else 1
        self.recorder.emit(ev.Paused, time_s=self.now_s, parent=self.parent, decision="plan")
        # Of a run that was cancelled meanwhile nothing comes after the pause: this ends it.
        self._pass(ticks)
        self.recorder.emit(ev.Resumed, time_s=self.now_s, parent=self.parent, decision="plan", ticks=ticks)
        return ticks

    def home(self, step_id: str) -> None:
        """The recorded way home.

        Raises:
            NoPath: none was found.
        """
        if isinstance(self.cursor.peek(), ev.ObservationTaken):
            self.observe("move")
        self._transit(step_id, "home", None)

    def approach(self, step: Step, approach: Approach, target_w: NDArray[np.float64], observation: Observation) -> None:
        """The recorded way to the hover.

        Raises:
            UnreachablePose: the arm could not get there.
            NoPath: it could, but not without touching something.
        """
        hover = approach.hover(target_w)
        self._transit(step.id, "approach", (float(hover[0]), float(hover[1]), float(hover[2])))

    def start_tracking(self) -> None:
        """Nothing to prepare."""

    def track(self, chunk: ActionChunk | None, ticks: int) -> None:
        """Let the time pass."""
        self._pass(ticks)

    def stop(self) -> None:
        """At rest as soon as the recorded arm was."""
        event = self.cursor.peek()
        if event is not None:
            self.cursor.now_s = event.time_s

    def _transit(self, step_id: str, purpose: str, target: tuple[float, float, float] | None) -> None:
        event = self.cursor.peek()
        if isinstance(event, ev.TransitFailed):
            self.cursor.now_s = event.time_s
            self._again(event, step_id=step_id, purpose=purpose)
            raise recorded_error(NoPath if event.error == "no_path" else UnreachablePose, event.message)
        planned = self.wanted(ev.TransitPlanned)
        # The gripper is brought to its width before the arm sets out.
        self.cursor.now_s = planned.time_s
        self._again(planned, step_id=step_id, purpose=purpose, target_position_w=target)
        self._pass(planned.ticks)

    def _pass(self, ticks: int) -> None:
        self.cursor.now_s += ticks * self.tick_s
        self.break_off(self.cursor.peek())

    def _again(self, event: ev.EventBase, **fields: Any) -> None:
        """Write a recorded event again, with what the orchestrator decided about it in place of what was recorded."""
        recorded = {name: getattr(event, name) for name in type(event).model_fields if name not in _ENVELOPE_FIELDS}
        self.recorder.emit(type(event), time_s=self.now_s, parent=self.parent, **{**recorded, **fields})


def recorded_error(kind: type[X], message: str) -> X:
    """An error of a class as it read when it was recorded."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error
