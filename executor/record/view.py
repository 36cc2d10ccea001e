"""A run as people look at it: chapters, steps, attempts.

One fold over events, which live progress, ``inspect`` and ``report`` share. It takes whole events, or, from a record,
light ones and such that are parsed when somebody looks at them (:mod:`hiervla.executor.record.fold`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from hiervla.executor.record.light import AnyEvent, ChunkFacts, UnknownEvent
from hiervla.executor.record.programs import program_text
from hiervla.representations import Plan, Refusal, Step
from hiervla.representations import events as ev
from hiervla.representations.plans import StepOutcome

State = Literal["waiting", "running", "succeeded", "failed", "not_begun", "unfinished"]
E = TypeVar("E", bound=ev.EventBase)


class EventList(Generic[E]):
    """Events in order; one of a record is parsed when it is looked at for the first time."""

    def __init__(self) -> None:
        self._items: list[E | Callable[[], E]] = []

    def append(self, item: E | Callable[[], E]) -> None:
        """Add an event, or a function that gives it."""
        self._items.append(item)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> E:
        item = self._items[index]
        if not isinstance(item, ev.EventBase):
            item = self._items[index] = item()
        return item

    def __iter__(self) -> Iterator[E]:
        return (self[index] for index in range(len(self._items)))


@dataclass
class Attempt:
    """One attempt at a step, with all that happened in it, in order.

    Attributes:
        started: light where it comes from a record: the step's maps are in the record's own event.
        other: what this version has no place for.
    """

    started: ev.StepStarted
    finished: ev.StepFinished | None = None
    grounded: EventList[ev.Grounded] = field(default_factory=EventList)
    verdicts: list[ev.VerdictGiven] = field(default_factory=list)
    transits: list[ev.TransitPlanned] = field(default_factory=list)
    chunks: list[ChunkFacts] = field(default_factory=list)
    observations: EventList[ev.ObservationTaken] = field(default_factory=EventList)
    envelope: list[ev.EnvelopeFired] = field(default_factory=list)
    other: list[AnyEvent] = field(default_factory=list)

    @property
    def outcome(self) -> StepOutcome | None:
        """How it ended; None while it lasts, or when the run was killed in it."""
        return self.finished.outcome if self.finished else None


@dataclass
class StepRun:
    """All attempts at one step.

    Attributes:
        number: counts the steps that were begun, from 1, over the whole run; 0 for one that was not begun.
    """

    step: Step
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
class Chapter:
    """One course of action: a plan and the later plans that only confirmed it.

    A planner that is asked after every step mostly answers with the same steps, one fewer; a chapter begins where
    the answer is another one.

    Attributes:
        answers: the planner's answers, the first with the reason for which it was asked.
        runs: the steps that were begun, in order.
        rejected: answers that did not pass the checks, before the one that did.
        before: steps that the plan before still had to do when this one replaced it.
        settled: what had succeeded in this chapter when the latest answer came, by what it does.
    """

    index: int
    answers: list[ev.PlanProposed]
    runs: list[StepRun] = field(default_factory=list)
    rejected: list[ev.PlanRejected] = field(default_factory=list)
    before: tuple[Step, ...] = ()
    settled: Counter[str] = field(default_factory=Counter)

    def succeeded(self) -> Counter[str]:
        """How often each thing to do was done in this chapter."""
        return Counter(what(run.step) for run in self.runs if run.outcome == "succeeded")

    @property
    def plan(self) -> Plan:
        """The latest plan."""
        return self.answers[-1].plan

    @property
    def reason(self) -> str:
        """Why the planner was asked."""
        return self.answers[0].reason

    def open_runs(self) -> dict[str, StepRun]:
        """Begun steps that have not succeeded, by what they do."""
        return {what(run.step): run for run in self.runs if run.outcome != "succeeded"}

    def entries(self) -> list[StepRun]:
        """The steps that were begun, then those that the latest plan still has to begin."""
        begun = self.open_runs()
        entries = list(self.runs)
        # What succeeded after the latest answer still stands among its remaining steps.
        finished = self.succeeded() - self.settled
        for step_id in self.plan.remaining:
            step = self.plan.step(step_id)
            if begun.pop(what(step), None) is not None:
                continue
            if finished[what(step)] > 0:
                finished[what(step)] -= 1
            else:
                entries.append(StepRun(step))
        return entries


@dataclass
class RunView:
    """The state of a run after the events that it was given."""

    started: ev.RunStarted | None = None
    finished: ev.RunFinished | None = None
    chapters: list[Chapter] = field(default_factory=list)
    steps: list[StepRun] = field(default_factory=list)
    rejected: list[ev.PlanRejected] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[ev.Note] = field(default_factory=list)
    envelope: list[ev.EnvelopeFired] = field(default_factory=list)
    other: list[AnyEvent] = field(default_factory=list)
    time_s: float = 0.0
    events: int = 0
    current: Attempt | None = None
    _unanswered: list[ev.PlanRejected] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[AnyEvent]) -> RunView:
        """The view after all of ``events``."""
        view = cls()
        for event in events:
            view.add(event)
        return view

    def add(self, event: AnyEvent) -> None:
        """Take in the next event."""
        self.pass_over(event.time_s)
        match event:
            # What there is most of comes first: pydantic's classes take a while to say that an event is not theirs.
            case ev.VerdictGiven() | ev.TransitPlanned() | ev.ChunkProposed() | ev.ObservationTaken() | ev.Grounded():
                if self.current:
                    self._detail(self.current, event)
            case ev.RunStarted():
                self.started = event
            case ev.RunFinished():
                self.finished = event
            case ev.PlanProposed():
                self._plan(event)
            case ev.PlanRejected():
                self.rejected.append(event)
                self._unanswered.append(event)
            case ev.PlanRefused():
                self.refusals.append(event.refusal)
            case ev.StepStarted():
                self._start(event)
            case ev.StepFinished():
                if self.current:
                    self.current.finished = event
                self.current = None
            case ev.Note():
                self.notes.append(event)
            case ev.EnvelopeFired():
                self.envelope.append(event)
                if self.current:
                    self.current.envelope.append(event)
            case ev.SnapshotTaken() | ev.RecordSealed() | ev.ProgramCalled() | ev.ProgramReturned() | ev.SceneSeen():
                pass
            case _:
                self.other.append(event)
                if self.current:
                    self.current.other.append(event)

    def pass_over(self, time_s: float) -> None:
        """Count an event whose content is of no interest, or was already taken in."""
        self.events += 1
        self.time_s = max(self.time_s, time_s)

    @property
    def chapter(self) -> Chapter | None:
        """The course of action that holds now."""
        return self.chapters[-1] if self.chapters else None

    @property
    def replans(self) -> int:
        """How often the planner changed its mind."""
        return max(0, len(self.chapters) - 1)

    @property
    def retries(self) -> int:
        """Attempts after the first, over all steps."""
        return sum(run.retries for run in self.steps)

    def state(self, chapter: Chapter, run: StepRun) -> State:
        """How a step of a chapter stands."""
        over = self.finished is not None or chapter is not self.chapter
        if not run.attempts:
            return "not_begun" if over else "waiting"
        if run.outcome is None:
            return "unfinished" if over else "running"
        return "succeeded" if run.outcome == "succeeded" else "failed"

    def find(self, which: str) -> StepRun:
        """A begun step by its number in the run, or by its id (the last one of that id).

        Raises:
            KeyError: there is none.
        """
        for run in reversed(self.steps):
            if which in {str(run.number), run.step.id}:
                return run
        raise KeyError(which)

    def _plan(self, event: ev.PlanProposed) -> None:
        chapter = self.chapter
        self.current = None
        rejected, self._unanswered = self._unanswered, []
        expected: tuple[Step, ...] = ()
        if chapter is not None:
            program = event.plan.program
            if (
                program is not None
                and chapter.plan.program is not None
                and program.source == chapter.plan.program.source
            ):
                # The next call of the same program is no change of mind.
                chapter.answers.append(event)
                chapter.settled = chapter.succeeded()
                return
            expected = tuple(run.step for run in chapter.entries() if run.outcome != "succeeded")
            if [what(event.plan.step(s)) for s in event.plan.remaining] == [what(step) for step in expected]:
                chapter.answers.append(event)
                chapter.settled = chapter.succeeded()
                chapter.rejected += rejected
                return
        self.chapters.append(Chapter(len(self.chapters), [event], rejected=rejected, before=expected))

    def _start(self, event: ev.StepStarted) -> None:
        chapter = self.chapter
        if chapter is None:
            return
        run = chapter.open_runs().get(what(event.step))
        if run is None:
            run = StepRun(event.step, len(self.steps) + 1)
            chapter.runs.append(run)
            self.steps.append(run)
        run.step = event.step
        self.current = Attempt(event)
        run.attempts.append(self.current)

    @staticmethod
    def _detail(attempt: Attempt, event: AnyEvent) -> None:
        match event:
            case ev.VerdictGiven():
                attempt.verdicts.append(event)
            case ev.TransitPlanned():
                attempt.transits.append(event)
            case ev.ObservationTaken():
                attempt.observations.append(event)
            case ev.Grounded():
                attempt.grounded.append(event)
            case ev.ChunkProposed():
                attempt.chunks.append(ChunkFacts.of(event))
            case _:
                pass


def what(step: Step) -> str:
    """What a step does, whatever its id: two plans may number the same step differently."""
    return f"{step.skill}{sorted(step.args.items())}"


def sentence(event: AnyEvent) -> str:
    """An event in one line; empty for one that only carries data."""
    match event:
        case ev.PlannerFailed():
            return str(event)
        case ev.RunStarted():
            return f"asked: {event.instruction!r} in {event.world}, seed {event.seed}"
        case ev.PlanProposed():
            steps = "; ".join(str(event.plan.step(s)) for s in event.plan.remaining)
            program = event.plan.program
            rest = "nothing remains" if program is None else f"a program of {len(program.source.splitlines())} lines"
            return f"plan ({event.reason}): {steps or rest}"
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
        case ev.ResourcesClaimed():
            why = f", {'; '.join(event.blocked_by)}" if event.blocked_by else ""
            return f"step {event.step_id} {event.state}: {', '.join(event.resources)}{why}"
        case ev.Note():
            return f"{event.level}: {event.message}"
        case ev.PlanStale():
            return f"step {event.step_id}: what it speaks of is not in view"
        case ev.GroundingFailed():
            return f"step {event.step_id} not grounded: {event.problem}"
        case ev.TransitFailed():
            return f"step {event.step_id} {event.purpose}: {event.message}"
        case ev.ProgramCalled() | ev.ProgramReturned() | ev.ProgramEnded() | ev.SceneSeen():
            return program_text(event)
        case ev.Paused():
            return f"held before '{event.decision}' takes effect"
        case ev.Resumed():
            return f"goes on with '{event.decision}' after {event.ticks} control ticks"
        case ev.CorrectionGiven():
            return f"{event.author} corrected '{event.decision}': {correction_text(event)}"
        case ev.Forked():
            return f"forked from {event.parent_run}"
        case ev.RunFinished():
            return f"run {words(event.outcome)}: {event.message}"
        case ev.ObservationTaken() | ev.SnapshotTaken() | ev.RecordSealed():
            return ""
        case _:
            return _generic(event)


def _generic(event: AnyEvent) -> str:
    """An event that has no sentence of its own: its type, and what of its fields is short."""
    fields = event.fields() if isinstance(event, UnknownEvent) else event.model_dump(mode="json")
    known = ev.EventBase.model_fields
    facts = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
        if name not in known and name != "type" and isinstance(value, str | int | float) and len(str(value)) <= 120
    ]
    return f"{words(event.type)}{': ' if facts else ''}{', '.join(facts)}"


def verdict_text(event: ev.VerdictGiven) -> str:
    """``grasped: yes (0.97)``."""
    return f"{event.verdict.name}: {event.verdict.value} ({event.verdict.confidence:.2f})"


def correction_text(event: ev.CorrectionGiven) -> str:
    """What takes the place of a decision, in words."""
    if event.text is not None:
        return f'"{event.text}"'
    if event.plan is not None:
        plan = event.plan
        return "; ".join(str(plan.step(s)) for s in plan.remaining)
    if event.step is not None:
        kinds = ", ".join(a.kind for a in event.step.artifacts)
        return f"{event.step} ({kinds or 'no artifacts'})"
    if event.verdict is not None:
        return f"{event.verdict.name}: {event.verdict.value}"
    return words(event.outcome) if event.outcome is not None else "another chunk"


def milliseconds(seconds: float) -> str:
    """A latency as people read it: ``0.4 ms``, ``12 ms``."""
    value = 1e3 * seconds
    return f"{value:.1f} ms" if value < 9.95 else f"{value:.0f} ms"


def words(outcome: str) -> str:
    """An outcome as words."""
    return outcome.replace("_", " ")
