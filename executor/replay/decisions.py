"""Decision replay: the same orchestrator on the record, with everything else taken from the record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from hiervla.executor.activities import Parts
from hiervla.executor.config import LoopConfig
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.cursor import CheckingRecorder, Cursor, Divergence, ReplayStopped
from hiervla.executor.replay.recorded import (
    RecordedBody,
    RecordedControl,
    RecordedFallback,
    RecordedPlanner,
    RecordedPolicy,
    RecordedScreen,
    RecordedVerifier,
)
from hiervla.representations.events import ObservationTaken, PlannerFailed, RunStarted
from hiervla.skills import SkillLibrary


@dataclass(frozen=True)
class DecisionReplay:
    """What a decision replay found.

    Attributes:
        decisions: decisions that were the same.
        events: events that were the same, observations and snapshots among them.
        complete: whether the record was followed to its end; False for one whose run was killed.
        divergence: the first event that differs; None when there is none.
        robot_s: recorded time that was replayed [s].
        wall_s: time that the replay took [s].
    """

    decisions: int
    events: int
    complete: bool
    divergence: Divergence | None
    robot_s: float
    wall_s: float

    @property
    def identical(self) -> bool:
        """Did every decision come out as it was recorded?"""
        return self.divergence is None

    @property
    def speed(self) -> float:
        """How many times faster than the robot the replay went."""
        return self.robot_s / max(self.wall_s, 1e-9)


_UNKNOWN_THEN = {"check_arrival": False, "end_checks": 0}
"""Settings that older records lack, as the loop of those days behaved."""

Exchange = Callable[[Parts, Cursor, CheckingRecorder], None]
"""Puts other parts in the place of recorded ones before a replay begins."""


def recorded_parts(cursor: Cursor, recorder: CheckingRecorder, config: LoopConfig, *, exact: bool = False) -> Parts:
    """All parts of a run, as they were recorded."""
    policy = RecordedPolicy(cursor, recorder)
    another = any(event.then == "other" for event in cursor.record.of(PlannerFailed))
    return Parts(
        planner=RecordedPlanner(cursor, recorder),
        policy_for=lambda name: policy,
        body=RecordedBody(cursor, recorder, settle_ticks=config.settle_ticks, exact=exact),
        recorder=recorder,
        verifier=RecordedVerifier(cursor, recorder),
        screen=RecordedScreen(cursor, recorder),
        control=RecordedControl(cursor, recorder),
        fallback=RecordedFallback(cursor, recorder) if another else None,
    )


def replay_decisions(
    record: RunRecord,
    *,
    skills: SkillLibrary | None = None,
    config: LoopConfig | None = None,
    exchange: Exchange | None = None,
    exact: bool = False,
) -> DecisionReplay:
    """Run the orchestrator on a record, and compare every event that it writes.

    Args:
        record: what to replay.
        skills: the library; by default everything installed.
        config: settings of the loop; by default the recorded ones.
        exchange: puts other parts in the place of recorded ones; see :mod:`hiervla.executor.replay.shadow`.
        exact: read the arm's state from the streams where live checks need it.

    Raises:
        ReplayError: the record holds no run, or its settings are not understood here.
        RecordError: the record is damaged.
    """
    cursor = Cursor(record)
    recorder = CheckingRecorder(cursor)
    started = first_event(record)
    config = config or recorded_config(record)
    parts = recorded_parts(cursor, recorder, config, exact=exact)
    if exchange is not None:
        exchange(parts, cursor, recorder)
    loop = Orchestrator(
        parts,
        skills=skills if skills is not None else SkillLibrary.load(),
        config=config,
        seed=started.seed,
    )
    began = time.perf_counter()
    found: Divergence | None = None
    complete = True
    try:
        begin(started, parts)
        loop.run(started.instruction)
        if cursor.peek() is not None:
            raise recorder.surprise("end of the run")
    except ReplayStopped as stopped:
        found, complete = stopped.divergence, False
    finally:
        loop.policies.close()
    return DecisionReplay(
        decisions=recorder.decisions,
        events=recorder.compared,
        complete=complete,
        divergence=found,
        robot_s=cursor.now_s,
        wall_s=time.perf_counter() - began,
    )


def first_event(record: RunRecord) -> RunStarted:
    """What was asked of whom; in a fork's record that stands as its parent's record has it.

    Raises:
        ReplayError: the record holds no run, or is of an arm of which nothing was asked.
    """
    if is_idle(record):
        problem = f"nothing was asked of the {record.manifest.arm} arm, so that it decided nothing"
        raise ReplayError(record.path, problem, "Replay the record of the whole run, which is the folder around it")
    started = next(record.of(RunStarted), None)
    if started is None:
        raise ReplayError(record.path, "it holds no run: not even its first event was written", "Take another record")
    return started


def is_idle(record: RunRecord) -> bool:
    """Whether a record is of one of several arms, of which nothing was asked."""
    told = record.manifest.arm is not None and record.finished is not None
    return told and next(record.of(ObservationTaken), None) is None


def recorded_config(record: RunRecord) -> LoopConfig:
    """The settings of the loop that a run was recorded with.

    Raises:
        ReplayError: they are not understood here.
    """
    try:
        # What a setting switches on today did not happen before there was the setting.
        return LoopConfig.model_validate_json(json.dumps({**_UNKNOWN_THEN, **record.manifest.config}))
    except ValueError as error:
        problem = f"its settings are not understood by this version ({str(error).splitlines()[0]})"
        raise ReplayError(record.path, problem, "Replay it with the version that recorded it") from error
