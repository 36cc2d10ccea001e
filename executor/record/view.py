"""A run as people look at it: plans, steps, attempts. One fold over events, for live progress, inspect and report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hiervla.representations import Event, Plan, Refusal, Step
from hiervla.representations import events as ev
from hiervla.representations.plans import StepOutcome

State = Literal["waiting", "running", "succeeded", "failed", "replaced", "unfinished"]


@dataclass
class Attempt:
    """One attempt at a step, with all that happened in it, in order."""

    started: ev.StepStarted
    finished: ev.StepFinished | None = None
    grounded: list[ev.Grounded] = field(default_factory=list)
    verdicts: list[ev.VerdictGiven] = field(default_factory=list)
    transits: list[ev.TransitPlanned] = field(default_factory=list)
    chunks: list[ev.ChunkProposed] = field(default_factory=list)
    observations: list[ev.ObservationTaken] = field(default_factory=list)
    envelope: list[ev.EnvelopeFired] = field(default_factory=list)

    @property
    def outcome(self) -> StepOutcome | None:
        """How it ended; None while it lasts, or when the run was killed in it."""
        return self.finished.outcome if self.finished else None


@dataclass
class StepRun:
    """All attempts at one step of one plan.

    Attributes:
        number: counts the steps that were begun, from 1, over the whole run; 0 for one that was not begun.
    """

    step: Step
    plan_index: int
    number: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def retries(self) -> int:
        """Attempts after the first."""
        return max(0, len(self.attempts) - 1)

    @property
    def duration_s(self) -> float:
        """Time of all finished attempts on the world's clock [s]."""
        return sum(a.finished.duration_s for a in self.attempts if a.finished)

    @property
    def outcome(self) -> StepOutcome | None:
        """How the last attempt ended."""
        return self.attempts[-1].outcome if self.attempts else None

    @property
    def reason(self) -> str:
        """Why the last attempt ended as it did."""
        last = self.attempts[-1].finished if self.attempts else None
        return last.reason if last else ""


@dataclass
class PlanRun:
    """One answer of the planner and the steps that were begun under it."""

    index: int
    event: ev.PlanProposed
    runs: dict[str, StepRun] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.event.plan


@dataclass
class RunView:
    """The state of a run after the events that it was given."""

    started: ev.RunStarted | None = None
    finished: ev.RunFinished | None = None
    plans: list[PlanRun] = field(default_factory=list)
    steps: list[StepRun] = field(default_factory=list)
    rejected: list[ev.PlanRejected] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[ev.Note] = field(default_factory=list)
    envelope: list[ev.EnvelopeFired] = field(default_factory=list)
    time_s: float = 0.0
    events: int = 0
    current: Attempt | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunView:
        """The view after all of ``events``."""
        view = cls()
        for event in events:
            view.add(event)
        return view

    def add(self, event: Event) -> None:
        """Take in the next event."""
        self.events += 1
        self.time_s = max(self.time_s, event.time_s)
        match event:
            case ev.RunStarted():
                self.started = event
            case ev.RunFinished():
                self.finished = event
            case ev.PlanProposed():
                self._plan(event)
            case ev.PlanRejected():
                self.rejected.append(event)
            case ev.PlanRefused():
                self.refusals.append(event.refusal)
            case ev.StepStarted():
                self._start(event)
            case ev.StepFinished():
                attempt = self._attempt(event.step_id)
                if attempt is not None:
                    attempt.finished = event
                self.current = None
            case ev.Note():
                self.notes.append(event)
            case ev.EnvelopeFired():
                self.envelope.append(event)
                if self.current:
                    self.current.envelope.append(event)
            case ev.ObservationTaken():
                if self.current:
                    self.current.observations.append(event)
            case ev.Grounded() | ev.VerdictGiven() | ev.TransitPlanned() | ev.ChunkProposed():
                self._detail(event)
            case _:
                pass

    @property
    def plan(self) -> PlanRun | None:
        """The plan that holds now."""
        return self.plans[-1] if self.plans else None

    @property
    def replans(self) -> int:
        """Plans after the first."""
        return max(0, len(self.plans) - 1)

    def state(self, plan: PlanRun, step_id: str) -> State:
        """How a step of a plan stands."""
        run = plan.runs.get(step_id)
        if run is None:
            if step_id in plan.plan.done:
                return "succeeded"
            return "waiting" if plan is self.plan and self.finished is None else "replaced"
        if run.outcome is None:
            return "running" if self.finished is None and plan is self.plan else "unfinished"
        return "succeeded" if run.outcome == "succeeded" else "failed"

    def find(self, which: str) -> StepRun:
        """A begun step by its number in the run, or by its id (the last plan that began it).

        Raises:
            KeyError: there is none.
        """
        for run in reversed(self.steps):
            if which in {str(run.number), run.step.id}:
                return run
        raise KeyError(which)

    def _plan(self, event: ev.PlanProposed) -> None:
        self.plans.append(PlanRun(len(self.plans), event))
        self.current = None

    def _start(self, event: ev.StepStarted) -> None:
        if not self.plans:
            return
        plan = self.plans[-1]
        run = plan.runs.get(event.step.id)
        if run is None:
            run = StepRun(event.step, plan.index, len(self.steps) + 1)
            plan.runs[event.step.id] = run
            self.steps.append(run)
        run.step = event.step
        self.current = Attempt(event)
        run.attempts.append(self.current)

    def _attempt(self, step_id: str) -> Attempt | None:
        run = self.plans[-1].runs.get(step_id) if self.plans else None
        return run.attempts[-1] if run else None

    def _detail(self, event: ev.Grounded | ev.VerdictGiven | ev.TransitPlanned | ev.ChunkProposed) -> None:
        attempt = self._attempt(event.step_id)
        if attempt is None:
            return
        match event:
            case ev.Grounded():
                attempt.grounded.append(event)
            case ev.VerdictGiven():
                attempt.verdicts.append(event)
            case ev.TransitPlanned():
                attempt.transits.append(event)
            case ev.ChunkProposed():
                attempt.chunks.append(event)


def sentence(event: Event) -> str:
    """An event in one line; empty for one that only carries data."""
    match event:
        case ev.RunStarted():
            return f"asked: {event.instruction!r} in {event.world}, seed {event.seed}"
        case ev.PlanProposed():
            steps = "; ".join(str(event.plan.step(s)) for s in event.plan.remaining)
            return f"plan ({event.reason}): {steps or 'nothing remains'}"
        case ev.PlanRejected():
            return f"plan rejected: {event.problem}"
        case ev.PlanRefused():
            return f"refused ({event.refusal.reason}): {event.refusal.message}"
        case ev.StepStarted():
            again = f", attempt {event.attempt + 1}" if event.attempt else ""
            return f"step {event.step.id}: {event.step}{again}"
        case ev.Grounded():
            return f"step {event.step_id} grounded: {', '.join(a.kind for a in event.artifacts)}"
        case ev.VerdictGiven():
            return f"step {event.step_id} {event.phase}: {verdict_text(event)}"
        case ev.TransitPlanned():
            return f"step {event.step_id} {event.purpose} by {event.method}, {event.duration_s:.1f} s"
        case ev.ChunkProposed():
            return f"step {event.step_id} chunk {event.index} of {event.chunk.policy or 'policy'}"
        case ev.StepFinished():
            why = f": {event.reason}" if event.reason else ""
            return f"step {event.step_id} {words(event.outcome)} after {event.duration_s:.1f} s{why}"
        case ev.EnvelopeFired():
            return f"safety envelope {event.action} ({event.check}): {event.message}"
        case ev.Note():
            return f"{event.level}: {event.message}"
        case ev.RunFinished():
            return f"run {words(event.outcome)}: {event.message}"
        case _:
            return ""


def verdict_text(event: ev.VerdictGiven) -> str:
    """``grasped: yes (0.97)``."""
    return f"{event.verdict.name}: {event.verdict.value} ({event.verdict.confidence:.2f})"


def words(outcome: str) -> str:
    """An outcome as words."""
    return outcome.replace("_", " ")
