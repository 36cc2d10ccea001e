"""Run records as samples: what the planner was asked and shown, and the plan that was right.

A plan counts as right when its run succeeded and nobody objected to it, or when a person put it in the place of the
planner's. Plans that were only followed in a new image were not asked for, and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.manifest import MANIFEST_FILE
from hiervla.executor.record.reader import RunRecord, event_type
from hiervla.planner.base import PlannerContext, StepRecord
from hiervla.planner.vlm.answers import Point
from hiervla.representations import Event, ImageRef, Plan, SkillSignature, Step
from hiervla.representations import events as ev
from hiervla.training.data.errors import DatasetError
from hiervla.training.lora.answers import Deed, UnwritableError, deed, plan_draft, plan_seen, point_of
from hiervla.training.lora.samples import Origin, Sample, samples_of, without_repeats

_WANTED: Final = frozenset(
    ("run_started", "observation", "plan_proposed", "plan_refused", "step_started", "step_finished", "correction")
)
FOLLOWED: Final = "followed"
"""Reasons of plans that were only pointed at anew begin so."""


@dataclass(frozen=True)
class _Question:
    """What the planner was asked, and shown."""

    seen: ev.ObservationTaken
    history: tuple[StepRecord, ...]
    said: tuple[str, ...]


@dataclass(frozen=True)
class _Answered:
    question: _Question
    plan: Plan
    origin: Origin
    first: Plan | None = None
    """The planner's own plan where a person corrected it."""


@dataclass
class _Reading:
    """A record, read up to some event."""

    instruction: str = ""
    seen: ev.ObservationTaken | None = None
    current: Plan | None = None
    latest: int | None = None
    """Which of `answered` is the answer to the question of now."""
    in_force: int | None = None
    """Which of `answered` the robot follows."""
    history: list[StepRecord] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    started: dict[str, Step] = field(default_factory=dict)
    answered: list[_Answered | None] = field(default_factory=list)
    stale: int = 0
    """Corrections of plans that were made without a new look after a step."""


def run_samples(
    paths: Sequence[str | Path], skills: Sequence[SkillSignature], *, camera: str = "front"
) -> tuple[list[Sample], Counter[str]]:
    """Samples of run records.

    Args:
        paths: records, or folders of records.
        skills: the skills that the planner will be told of.
        camera: what the planner looks through.

    Returns:
        The samples, each question once, and how often something was left out and why.

    Raises:
        DatasetError: a path holds no record.
    """
    samples: list[Sample] = []
    left_out: Counter[str] = Counter()
    records = []
    for path in _folders(paths):
        try:
            records.append(RunRecord.open(path))
        except RecordError:
            left_out["damaged record"] += 1
    parents = {r.manifest.run_id: r.manifest.parent.run_id for r in records if r.manifest.parent is not None}
    for record in records:
        group = record.manifest.run_id
        while group in parents:
            group = parents[group]
        try:
            samples += _of_record(record, tuple(skills), camera, group, left_out)
        except RecordError:
            left_out["damaged record"] += 1
    return without_repeats(samples), left_out


def _of_record(
    record: RunRecord, skills: tuple[SkillSignature, ...], camera: str, group: str, left_out: Counter[str]
) -> list[Sample]:
    reading = _Reading()
    for event in _events(record):
        _take(reading, event)
    left_out["correction without a new image"] += reading.stale
    finished = record.finished
    succeeded = finished is not None and finished.outcome == "succeeded"
    samples: list[Sample] = []
    for answered in reading.answered:
        if answered is None:
            left_out["plan that a person objected to"] += 1
        elif answered.origin == "run" and not succeeded:
            left_out["plan of a run that did not succeed"] += 1
        else:
            try:
                samples += _samples(record, reading.instruction, answered, skills, camera, group)
            except UnwritableError as error:
                left_out[error.problem] += 1
    left_out += Counter()  # drops the zeros
    return samples


def _events(record: RunRecord) -> Iterator[Event]:
    for number, line in enumerate(record.lines, 1):
        if event_type(line) in _WANTED:
            yield record.event(number)


def _take(reading: _Reading, event: Event) -> None:
    match event:
        case ev.RunStarted():
            reading.instruction = event.instruction
        case ev.ObservationTaken(purpose="plan"):
            reading.seen = event
        case ev.PlanRefused():
            reading.current = reading.latest = None
        case ev.PlanProposed():
            reading.current, reading.latest = event.plan, None
            if not event.reason.startswith(FOLLOWED):
                _answer(reading, event.plan, "run")
        case ev.StepStarted():
            reading.started[event.id] = event.step
        case ev.StepFinished():
            step = reading.started.get(event.parent or "")
            if step is not None:
                source = step.args.get("source", "")
                reading.history.append(StepRecord(step=step, outcome=event.outcome, source=source))
            reading.seen = reading.latest = None
        case ev.CorrectionGiven():
            _correct(reading, event)
        case _:
            pass


def _correct(reading: _Reading, event: ev.CorrectionGiven) -> None:
    if event.text is not None:
        reading.said.append(event.text)
        _object(reading)
        return
    corrected = event.plan
    otherwise = corrected is not None
    if event.step is not None and reading.current is not None:
        changed = event.step
        before = next((s for s in reading.current.steps if s.id == changed.id), None)
        if before is not None:
            steps = tuple(changed if s is before else s for s in reading.current.steps)
            corrected = reading.current.replace(steps=steps)
            otherwise = (before.skill, before.args) != (changed.skill, changed.args)
    if corrected is not None:
        if otherwise and reading.latest is None:
            _object(reading)
        _answer(reading, corrected, "correction")
        reading.current = corrected


def _object(reading: _Reading) -> None:
    """The plan that is followed turned out wrong in a person's eyes, though maybe not in its first step."""
    k = reading.in_force
    answered = reading.answered[k] if k is not None else None
    if k is not None and answered is not None and answered.origin == "run":
        reading.answered[k] = None


def _answer(reading: _Reading, plan: Plan, origin: Origin) -> None:
    """Keep a plan as the answer to the question of now; a correction takes the place of what was answered to it."""
    if reading.seen is None:
        reading.stale += origin == "correction"
        return
    question = _Question(reading.seen, tuple(reading.history), tuple(reading.said))
    answered = _Answered(question, plan, origin, reading.current if origin == "correction" else None)
    if origin == "correction" and reading.latest is not None:
        reading.answered[reading.latest] = answered
    else:
        reading.answered.append(answered)
        reading.latest = reading.in_force = len(reading.answered) - 1


def _samples(
    record: RunRecord,
    instruction: str,
    answered: _Answered,
    skills: tuple[SkillSignature, ...],
    camera: str,
    group: str,
) -> list[Sample]:
    question = answered.question
    frame = next((f for f in question.seen.frames if f.image.camera == camera), None)
    if frame is None:
        raise UnwritableError(f"camera '{camera}' is not in the record")
    plan, first = answered.plan, answered.first
    seen = plan_seen(plan) or (plan_seen(first) if first is not None else [])
    known = _points(first, frame.image, skills) if first is not None else {}
    draft = plan_draft(plan, frame.image, skills, seen=seen, known=known)
    context = PlannerContext(history=question.history, skills=skills, said=question.said)
    image = record.frame(frame, depth=False).rgb
    return samples_of(instruction, context, image, draft, group=group, origin=answered.origin)


def _points(plan: Plan, image: ImageRef, skills: Sequence[SkillSignature]) -> dict[Deed, Point]:
    """Where the planner's own plan points: a person who writes another plan seldom writes pixels."""
    by_name = {s.name: s for s in skills}
    points: dict[Deed, Point] = {}
    for step in plan.steps:
        point = point_of(step, image)
        if point is not None and step.skill in by_name:
            try:
                points.setdefault(deed(step, by_name[step.skill]), point)
            except UnwritableError:
                continue
    return points


def _folders(paths: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        inside = (
            [path] if (path / MANIFEST_FILE).exists() else sorted(p.parent for p in path.glob(f"*/{MANIFEST_FILE}"))
        )
        if not inside:
            problem = "holds no run record" if path.exists() else "does not exist"
            raise DatasetError(path, problem, "List the records that exist with `hiervla runs`")
        found += inside
    return found
