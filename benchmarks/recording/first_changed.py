"""Which recorded event a change of the orchestrator changes first, from the record and the meaning of the change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from hiervla.executor.config import LoopConfig
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.cursor import ASIDE
from hiervla.executor.replay.decisions import recorded_config
from hiervla.representations import Event, Plan
from hiervla.representations import events as ev

E = TypeVar("E", bound=ev.EventBase)
_CHANGES_HAND = frozenset(("pick", "place", "throw_away"))


@dataclass(frozen=True)
class Attempt:
    """An attempt at a step.

    Attributes:
        started: its first event.
        finished: its last event; None in a run that broke off.
        events: all of it, first and last included.
        plan: the plan that it belongs to.
        failures: failed attempts at the same step, this one included.
    """

    started: ev.StepStarted
    finished: ev.StepFinished | None
    events: tuple[Event, ...]
    plan: Plan
    failures: int

    @property
    def failed(self) -> bool:
        """Did it end in something else than success?"""
        return self.finished is not None and self.finished.outcome != "succeeded"


class Story:
    """A record as these questions look at it: the events that the orchestrator is the cause of."""

    def __init__(self, record: RunRecord) -> None:
        """Read it.

        Raises:
            ValueError: somebody corrected the run; what a change then does is not worked out here.
        """
        self.config: LoopConfig = recorded_config(record)
        self.events: list[Event] = [e for e in record if not isinstance(e, ASIDE)]
        if any(isinstance(e, ev.CorrectionGiven) for e in self.events):
            raise ValueError(f"{record.path}: corrected runs are not measured here")
        self._place = {e.id: index for index, e in enumerate(self.events)}
        self.attempts = list(self._attempts())

    def next(self, event: Event, ahead: int = 1) -> Event | None:
        """The event that comes so many later."""
        index = self._place[event.id] + ahead
        return self.events[index] if index < len(self.events) else None

    def of(self, kind: type[E]) -> Iterator[E]:
        """The events of a class."""
        return (e for e in self.events if isinstance(e, kind))

    def of_answers(self) -> Iterator[ev.PlanProposed | ev.PlanRefused | ev.PlanStale]:
        """The planner's answers."""
        return (e for e in self.events if isinstance(e, ev.PlanProposed | ev.PlanRefused | ev.PlanStale))

    def answer_after(self, event: Event) -> Event | None:
        """What the planner answered next; None when the run ends before."""
        for later in self.events[self._place[event.id] + 1 :]:
            if isinstance(later, ev.PlanProposed | ev.PlanRefused | ev.PlanStale | ev.PlanRejected):
                return later
            if isinstance(later, ev.StepStarted | ev.RunFinished):
                return None
        return None

    def _attempts(self) -> Iterator[Attempt]:
        plan: Plan | None = None
        failures: Counter[str] = Counter()
        start: int | None = None
        for index, event in enumerate(self.events):
            if isinstance(event, ev.PlanProposed):
                plan = event.plan
            elif isinstance(event, ev.StepStarted):
                start = index
            elif start is not None and plan is not None and isinstance(event, ev.StepFinished | ev.RunFinished):
                started = self.events[start]
                assert isinstance(started, ev.StepStarted)
                finished = event if isinstance(event, ev.StepFinished) else None
                if finished is not None and finished.outcome != "succeeded":
                    failures[str(started.step)] += 1
                within = tuple(self.events[start : index + 1])
                yield Attempt(started, finished, within, plan, failures[str(started.step)])
                start = None


def _line(event: Event | None) -> int | None:
    return None if event is None else int(event.id[1:])


def _followed(event: Event | None) -> bool:
    """Was the old plan followed, or found stale, where a changed loop would ask for a new one?"""
    return isinstance(event, ev.PlanStale) or (
        isinstance(event, ev.PlanProposed) and event.reason.startswith("followed after ")
    )


def first_home(story: Story) -> int | None:
    """The image that the first way home is planned from."""
    return next((_line(e) for e in story.of(ev.ObservationTaken) if e.purpose == "move"), None)


def first_look(story: Story) -> int | None:
    """The first image for the planner, which is taken too early."""
    if story.config.settle_ticks == 0:
        return None
    return next((_line(e) for e in story.of(ev.ObservationTaken) if e.purpose == "plan"), None)


def first_of_several_steps(story: Story) -> int | None:
    """What follows on the first plan that leaves a choice."""
    for event in story.of(ev.PlanProposed):
        after = story.next(event)
        if len(event.plan.remaining) > 1 and isinstance(after, ev.SnapshotTaken | ev.StepStarted):
            return _line(after)
    return None


def first_snapshot_before(story: Story) -> int | None:
    """The first snapshot before a step."""
    return next((_line(e) for e in story.of(ev.SnapshotTaken) if e.label.startswith("before ")), None)


def attempt_counts_all(story: Story) -> int | None:
    """The first step that is begun after another number of attempts than its own."""
    for number, attempt in enumerate(story.attempts):
        if attempt.started.attempt != number:
            return _line(attempt.started)
    return None


def first_ready(story: Story) -> int | None:
    """The first verdict about readiness, which is not given; in the naive loop one is given that was not."""
    if story.config.verify:
        return next((_line(e) for e in story.of(ev.VerdictGiven) if e.phase == "ready"), None)
    return next((_line(story.next(e)) for e in story.of(ev.Grounded)), None)


def first_home_after_policy(story: Story) -> int | None:
    """The image from which the way home is planned when a policy has ended."""
    for attempt in story.attempts:
        ended = [
            e
            for e in attempt.events
            if isinstance(e, ev.ChunkProposed)
            or (isinstance(e, ev.VerdictGiven) and e.phase in {"during", "invariant"})
        ]
        after = story.next(ended[-1]) if ended else None
        if isinstance(after, ev.ObservationTaken) and after.purpose == "move":
            return _line(after)
    return None


def first_unsure(story: Story) -> int | None:
    """The first success on a verdict of unsure."""
    for attempt in story.attempts:
        unsure = any(
            isinstance(e, ev.VerdictGiven) and e.phase == "done" and e.verdict.value == "unsure" for e in attempt.events
        )
        if unsure and attempt.finished is not None and not attempt.failed:
            return _line(attempt.finished)
    return None


def first_done_swapped(story: Story) -> int | None:
    """The first place that tells of two done steps in the orchestrator's order."""
    kept = not story.config.verify
    for attempt in story.attempts:
        if attempt.finished is None or (attempt.failed and not kept) or not attempt.plan.done:
            continue
        if set(attempt.started.step.depends_on) & set(attempt.plan.done):
            # No plan can have a step done before one that it depends on: the run breaks off.
            return _line(story.next(attempt.finished))
        answer = story.answer_after(attempt.finished)
        if isinstance(answer, ev.PlanProposed) and _followed(answer):
            return _line(answer)
        after = story.next(attempt.finished)
        if isinstance(after, ev.RunFinished) and len(attempt.plan.remaining) == 1:
            return _line(after)
    if story.config.replan == "never":
        return _naive_done_swapped(story)
    return None


def _naive_done_swapped(story: Story) -> int | None:
    # Of a plan that is never told again, the end of the run tells.
    finished = [a for a in story.attempts if a.finished is not None]
    return next((_line(e) for e in story.of(ev.RunFinished)), None) if len(finished) > 1 else None


def first_after_success_asks(story: Story) -> int | None:
    """The first time that the old plan goes on after a success that changed what is held."""
    if story.config.replan != "on_failure":
        return None
    for attempt in story.attempts:
        changed = attempt.started.step.skill in _CHANGES_HAND or attempt.failures > story.config.repeats
        if attempt.finished is None or attempt.failed or not changed:
            continue
        after = story.next(attempt.finished)
        if isinstance(after, ev.RunFinished):
            return _line(after) if after.outcome == "succeeded" else None
        answer = story.answer_after(attempt.finished)
        if _followed(answer):
            return _line(answer)
    return None


def first_second_pointing(story: Story) -> int | None:
    """The first time that a step is pointed at anew after its last permitted failure."""
    for attempt in story.attempts:
        if attempt.failed and attempt.failures == story.config.repeats and story.config.verify:
            answer = story.answer_after(attempt.events[-1])
            if _followed(answer):
                return _line(answer)
    return None


def failure_counts_double(story: Story) -> int | None:
    """The first event that depends on how often a step has failed: pointing anew, its next attempt, giving up."""
    if not story.config.verify:
        return _naive_counts(story)
    counts: Counter[str] = Counter()
    for attempt in story.attempts:
        key = str(attempt.started.step)
        if counts[key]:
            return _line(attempt.started)
        if not attempt.failed:
            continue
        counts[key] += 1
        if story.config.max_retries == 0:
            # It gives up all the same, and says after how many attempts.
            return next((_line(e) for e in story.of(ev.RunFinished)), None)
        if story.config.max_retries == 1:
            return _line(story.next(attempt.events[-1]))
        answer = story.answer_after(attempt.events[-1])
        if story.config.repeats < 2 and _followed(answer):
            return _line(answer)
    return None


def _naive_counts(story: Story) -> int | None:
    failed: set[str] = set()
    for attempt in story.attempts:
        if str(attempt.started.step) in failed:
            return _line(attempt.started)
        if attempt.failed:
            failed.add(str(attempt.started.step))
    return None


def first_retry_too_many(story: Story) -> int | None:
    """What follows on the failure after which a step is tried once more, for the last time."""
    for attempt in story.attempts:
        if attempt.failed and story.config.verify and attempt.failures == story.config.max_retries:
            return _line(story.next(attempt.events[-1]))
    return None


def first_going_home_to_give_up(story: Story) -> int | None:
    """The image from which the last way home is planned when the run is given up."""
    finished = next(story.of(ev.RunFinished), None)
    if finished is None or finished.outcome not in ("failed", "gave_up"):
        return None
    last = [e for e in story.events if isinstance(e, ev.StepFinished | ev.PlanProposed | ev.PlanRefused)][-1]
    after = story.next(last)
    return _line(after) if isinstance(after, ev.ObservationTaken) and after.purpose == "move" else None


def first_longer_chunk(story: Story) -> int | None:
    """The second image of the first policy's part, which is taken a chunk's row later."""
    for attempt in story.attempts:
        images = [e for e in attempt.events if isinstance(e, ev.ObservationTaken) and e.purpose == "act"]
        if len(images) > 1:
            return _line(images[1])
    return None


def first_timeout(story: Story) -> int | None:
    """The first attempt that ended as timed out."""
    for attempt in story.attempts:
        if attempt.finished is not None and attempt.finished.outcome == "timed_out":
            return _line(attempt.finished)
    return None


def first_history(story: Story) -> int | None:
    """The first answer of a planner that was told of attempts."""
    return next((_line(e) for e in story.of_answers() if e.told and e.told.get("history", "0") != "0"), None)


def first_other_seed(story: Story) -> int | None:
    """The first chunk of an attempt after the first one, which has another seed than the run."""
    for number, attempt in enumerate(story.attempts):
        chunks = [e for e in attempt.events if isinstance(e, ev.ChunkProposed) and e.told]
        if chunks and (number or attempt.started.attempt):
            return _line(chunks[0])
    return None


def first_belief(story: Story) -> int | None:
    """The first verdict of a check that was told of something in the hand."""
    told = (e for e in story.of(ev.VerdictGiven) if e.told)
    return next((_line(e) for e in told if e.told and e.told["held"] != "nothing"), None)


def first_done_prob(story: Story) -> int | None:
    """The first verdict of a termination or an invariant that was told what the policy believes."""
    return next((_line(e) for e in story.of(ev.VerdictGiven) if e.told and "done_prob" in e.told), None)
