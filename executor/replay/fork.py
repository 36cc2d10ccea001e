"""Leave a recorded run at a step: the same physical state, another decision, and live from there.

The orchestrator is run on the record up to the step, so that it is in the state in which it was; then the recorded
parts are exchanged for live ones and the world is set to the recorded snapshot. The fork's record repeats the parent's
events and ticks up to there, so that it can be inspected, replayed and forked by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hiervla.executor.activities import Parts, Verifier
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Answer, Control, Decision
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.patience import PlannerExchanged
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.physics_replay import of_one_robot
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.replay.corrections import Correction
from hiervla.executor.replay.cursor import CheckingRecorder, Cursor, ReplayStopped
from hiervla.executor.replay.decisions import first_event, recorded_config, recorded_parts
from hiervla.executor.replay.recorded import RecordedControl, RecordedPlanner
from hiervla.executor.screening import PlanScreen
from hiervla.executor.state import Ending, RunState
from hiervla.planner.base import Planner
from hiervla.representations import Step, UnknownNameError
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from hiervla.worlds.base import SnapshotWorld, World


@dataclass(frozen=True)
class ForkPoint:
    """Where a run is left: just before an attempt at a step, or where its planner failed for good.

    Attributes:
        started: the attempt's first event, or that of the failure; it does not happen any more.
        snapshot: the physical state in which the run is gone on with.
    """

    started: ev.StepStarted | ev.PlannerFailed
    snapshot: ev.SnapshotTaken

    @property
    def step(self) -> Step | None:
        """The step that would have begun; None where the planner failed."""
        return self.started.step if isinstance(self.started, ev.StepStarted) else None


@dataclass(frozen=True)
class LiveParts:
    """What takes over at the fork.

    Attributes:
        planner: who plans from there.
        policy_for: gives the policy of a name that a skill asks for.
        skills: the library.
        control: who may hold and correct the run from there.
        cancel: asks for a safe stop.
        verifier: who answers the questions of a skill's contract from there.
        fallback: who plans where that planner gives no answer any more.
    """

    planner: Planner
    policy_for: Callable[[str], Policy]
    skills: SkillLibrary
    control: Control
    cancel: CancelToken
    verifier: Verifier
    fallback: Planner | None = None


def fork_point(record: RunRecord, at: str, attempt: int | None = None) -> ForkPoint:
    """The place that a person means.

    Args:
        record: the run to leave.
        at: a step by its number in ``hiervla inspect``, by its id (the last of that id), or the id of any event: the
            attempt that is under way there, or else the next one; or the id of the planner's last failure.
        attempt: which attempt at the step, from 1; the first by default.

    Raises:
        UnknownNameError: the run has no such step.
        ReplayError: no physical state was recorded there, or several arms moved.
    """
    of_one_robot(record)
    lost = _lost(record)
    if lost is not None and at == lost.id:
        return _where_lost(record, lost)
    started = _started(record, at, attempt)
    snapshots = [s for s in record.of(ev.SnapshotTaken) if int(s.id[1:]) < int(started.id[1:])]
    if not snapshots or snapshots[-1].label == "start":
        problem = f"no physical state was recorded before {started.step.id}; its world cannot save one"
        raise ReplayError(record.path, problem, "Fork a run in a world that can, such as tabletop")
    return ForkPoint(started, snapshots[-1])


def _lost(record: RunRecord) -> ev.PlannerFailed | None:
    """The failure with which the planner ended a run."""
    failed = list(record.of(ev.PlannerFailed))
    return failed[-1] if failed and failed[-1].then == "end" else None


def _where_lost(record: RunRecord, lost: ev.PlannerFailed) -> ForkPoint:
    after = next((s for s in record.of(ev.SnapshotTaken) if int(s.id[1:]) > int(lost.id[1:])), None)
    if after is None:
        problem = "no physical state was recorded where its planner failed; its world cannot save one"
        raise ReplayError(record.path, problem, "Run its instruction again")
    return ForkPoint(lost, after)


def check_correction(record: RunRecord, point: ForkPoint, correction: object) -> None:
    """See that there is a decision to correct where a run is left.

    Raises:
        ReplayError: there is none.
    """
    if correction is not None and point.step is None:
        problem = f"its planner failed at {point.started.id}, so that there is no decision to correct"
        raise ReplayError(record.path, problem, "Go on from there with `hiervla resume`, or leave it at a step")


def place_to_resume(record: RunRecord) -> ev.StepStarted | ev.PlannerFailed:
    """Where a run that broke off is gone on with: where its planner failed, or before its last attempt at a step.

    Raises:
        ReplayError: the run came to its end, or broke off before its first step, or several arms moved in it.
    """
    of_one_robot(record)
    finished, lost = record.finished, _lost(record)
    if lost is not None and (finished is None or finished.outcome == "planner_failed"):
        return lost
    return last_attempt(record)


def last_attempt(record: RunRecord) -> ev.StepStarted:
    """The attempt that was under way, or the last one, when a run broke off.

    Raises:
        ReplayError: the run came to its end, or broke off before its first step, or several arms moved in it.
    """
    of_one_robot(record)
    finished = record.finished
    if finished is not None and finished.outcome not in {"cancelled", "envelope_stop", "error"}:
        problem = f"it came to its end ({finished.outcome}), so that there is nothing to go on with"
        raise ReplayError(record.path, problem, "Leave it at a step with `hiervla fork RUN --at STEP`")
    begun = list(record.of(ev.StepStarted))
    if not begun:
        raise ReplayError(record.path, "it broke off before its first step", "Run its instruction again")
    return begun[-1]


def _started(record: RunRecord, at: str, attempt: int | None) -> ev.StepStarted:
    begun = list(record.of(ev.StepStarted))
    if at[:1] == "e" and at[1:].isdigit():
        number = int(at[1:])
        under_way = [s for s in begun if int(s.id[1:]) <= number]
        ended = {f.parent: int(f.id[1:]) for f in record.of(ev.StepFinished)}
        if under_way and ended.get(under_way[-1].id, number) >= number:
            return under_way[-1]
        later = [s for s in begun if int(s.id[1:]) > number]
        if later and number <= len(record):
            return later[0]
        raise UnknownNameError("event", at, [s.id for s in begun], place=f"record '{record.path}' (starts of steps)")
    view = view_of(record)
    try:
        run = view.find(at)
    except KeyError:
        names = [str(r.number) for r in view.steps]
        raise UnknownNameError("step", at, names, place=f"record '{record.path}'") from None
    attempts = [a.started.id for a in run.attempts]
    if attempt is not None and not 1 <= attempt <= len(attempts):
        names = [str(n + 1) for n in range(len(attempts))]
        raise UnknownNameError("attempt", str(attempt), names, place=f"step {run.number} of record '{record.path}'")
    started = record.event(attempts[(attempt or 1) - 1])
    assert isinstance(started, ev.StepStarted)
    return started


class _LeaveLost(RecordedPlanner):
    """Repeats the recorded answers up to the last failure, where another planner is asked instead."""

    def __init__(self, cursor: Cursor, recorder: CheckingRecorder, point: ForkPoint, leave: Callable[[Any], Answer]):
        super().__init__(cursor, recorder)
        self._point = point
        self._leave = leave

    def fail(self, event: ev.PlannerFailed) -> None:
        """Fail as the recorded planner did, but for the last time."""
        if event.id != self._point.started.id:
            super().fail(event)
        self._leave(None)
        raise PlannerExchanged


class _Leave(RecordedControl):
    """Repeats the recorded run up to the fork, and there calls for what is to happen instead."""

    def __init__(self, cursor: Cursor, recorder: CheckingRecorder, point: ForkPoint, leave: Callable[[Any], Answer]):
        super().__init__(cursor, recorder)
        self._point = point
        self._leave = leave

    def review(self, decision: Decision, hold: Any) -> Answer:
        """See :class:`hiervla.executor.control.Control`."""
        if decision.kind == "step":
            event = self.cursor.peek()
            if isinstance(event, ev.StepStarted) and event.id == self._point.started.id:
                self.author = "person"
                return self._leave(decision.value)
        return super().review(decision, hold)


def rehearse(record: RunRecord, point: ForkPoint, skills: SkillLibrary) -> None:
    """See that the decisions up to the fork come out as they were recorded, before anything is written or moves.

    Raises:
        ReplayError: they do not.
    """
    there = False

    def reached(_: Any) -> Answer:
        nonlocal there
        there = True
        raise recorder.stop(None)

    cursor = Cursor(record)
    recorder = CheckingRecorder(cursor)
    loop = _loop(record, point, cursor, recorder, skills, reached)
    try:
        begin(first_event(record), loop.parts)
        loop.run(first_event(record).instruction)
    except ReplayStopped as stopped:
        if there:
            return
        problem = f"its decisions before {point.started.id} do not come out as they were recorded: {stopped.divergence}"
        raise ReplayError(record.path, problem, "Fork it with the version and skills that recorded it") from None
    raise ReplayError(record.path, f"a replay does not come to {point.started.id}", "Fork it at another step")


def run_fork(
    record: RunRecord,
    point: ForkPoint,
    correction: Correction | None,
    recorder: RunRecorder,
    world: World,
    live: LiveParts,
) -> tuple[Ending, RunState]:
    """Repeat a run up to a point and go on live from there.

    Args:
        record: the parent; it is only read.
        point: where to leave it.
        correction: what is done instead; None to do the same step anew.
        recorder: a fresh record for the fork.
        world: the world of the parent's manifest; it is set to the recorded state.
        live: what takes over.

    Returns:
        How the fork ended, and the state of its loop.

    Raises:
        ReplayError: the world cannot be set to a state.
        RecordError: the parent's record is damaged.
    """
    if not isinstance(world, SnapshotWorld):
        raise ReplayError(record.path, f"world '{world.name}' cannot be set to a recorded state", "Use a simulated one")
    cursor = Cursor(record)
    checking = CheckingRecorder(cursor, recorder)
    config = recorded_config(record)

    def leave(value: Any) -> Answer:
        line = record.lines[cursor.position - 1]
        for tick in record.ticks():
            if tick.index >= point.snapshot.ticks:
                break
            recorder.copy_tick(tick)
        body = Body(world, recorder, config, live.cancel, seed=first_event(record).seed)
        body.restore(record.snapshot(point.snapshot))
        parts = loop.parts
        parts.planner, parts.policy_for, parts.verifier = live.planner, live.policy_for, live.verifier
        parts.body, parts.recorder, parts.control = body, recorder, live.control
        parts.screen = PlanScreen(live.planner, body.reaches)
        parts.fallback = live.fallback
        recorder.emit(
            ev.Forked,
            time_s=body.now_s,
            parent_run=record.manifest.run_id,
            parent_line=line.digest,
            snapshot=point.snapshot.blob,
        )
        return value if correction is None else correction

    loop = _loop(record, point, cursor, checking, live.skills, leave)
    begin(first_event(record), loop.parts)
    return loop.run(first_event(record).instruction), loop.state


def _loop(
    record: RunRecord,
    point: ForkPoint,
    cursor: Cursor,
    recorder: CheckingRecorder,
    skills: SkillLibrary,
    leave: Callable[[Any], Answer],
) -> Orchestrator:
    config: LoopConfig = recorded_config(record)
    parts: Parts = recorded_parts(cursor, recorder, config)
    if point.step is None:
        parts.planner = _LeaveLost(cursor, recorder, point, leave)
    else:
        parts.control = _Leave(cursor, recorder, point, leave)
    return Orchestrator(parts, skills=skills, config=config, seed=first_event(record).seed)
