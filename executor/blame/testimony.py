"""Hears every part of a recorded run: a decision replay that notes what each part was asked.

What comes out are the inputs of every recorded result, as the live run had them, so that each part can be asked again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.activities import Parts
from hiervla.executor.config import LoopConfig
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.cursor import CheckingRecorder, Cursor, Divergence, ReplayStopped, difference
from hiervla.executor.replay.decisions import recorded_config
from hiervla.executor.replay.recorded import (
    RecordedBody,
    RecordedControl,
    RecordedPlanner,
    RecordedPolicy,
    RecordedScreen,
    RecordedVerifier,
)
from hiervla.planner.base import GroundingError, PlannerContext
from hiervla.representations import ActionChunk, Observation, Plan, Refusal, Step, Verdict
from hiervla.representations import events as ev
from hiervla.skills import Approach, Skill, SkillContext, SkillLibrary

Phase = Literal["ready", "invariant", "during", "done"]


@dataclass(frozen=True)
class Asked:
    """The planner was asked for a plan, or to find the things of one again.

    Attributes:
        event: id of the event with the answer.
        observation: what it saw.
        context: what it was told.
        before: the plan to be followed; None where a new plan was asked for.
        answer: what it said; None for "what comes next is not in view".
        time_s: the world's clock [s].
        attempts: attempts that had been made by then.
    """

    event: str
    observation: Observation
    context: PlannerContext
    before: Plan | None
    answer: Plan | Refusal | None
    time_s: float
    attempts: int


@dataclass(frozen=True)
class Lift:
    """Keypoints were lifted to the world; ``answer`` is None where that was refused, with the reason in ``problem``."""

    event: str
    observation: Observation
    step: Step
    answer: Step | None
    problem: str
    time_s: float


@dataclass(frozen=True)
class Check:
    """A contract was asked."""

    event: str
    phase: Phase
    skill: Skill
    context: SkillContext
    verdict: Verdict
    time_s: float


@dataclass(frozen=True)
class Act:
    """The policy was asked for a chunk; the chunk that was tracked may be another one where somebody corrected it."""

    event: str
    observation: Observation
    step: Step
    chunk: ActionChunk
    time_s: float


@dataclass
class Attempt:
    """One attempt at a step.

    Attributes:
        number: attempts before it in this run.
        started: its first event.
        planned: what the planner was last asked before it.
        origin: which of the planner's new plans it follows.
        belief: what was believed to be in the hand, by the step's name for it.
        target: (3,) point and approach of the transit that was asked for; None when it did not come to that.
        seed: seed of the policy.
        finished: its last event; None where the run broke off.
    """

    number: int
    started: ev.StepStarted
    planned: Asked | None
    origin: Asked | None
    lifts: list[Lift] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    target: tuple[Approach, NDArray[np.float64], Observation] | None = None
    seed: int | None = None
    finished: ev.StepFinished | None = None

    @property
    def step(self) -> Step:
        """The step as it was started."""
        return self.started.step

    @property
    def outcome(self) -> str:
        """How it ended."""
        return self.finished.outcome if self.finished is not None else "cancelled"

    def check(self, phase: Phase) -> Check | None:
        """The last verdict of a phase."""
        return next((c for c in reversed(self.checks) if c.phase == phase), None)


@dataclass
class Testimony:
    """Everything that was heard.

    Attributes:
        record: the run.
        config: settings of its loop.
        skills: the library.
        asked: every question to the planner, in order.
        attempts: every attempt at a step, in order.
        divergence: the first decision that the orchestrator does not make as it is recorded; None when there is none.
        broken_at: where the hearing ended before the record's end; None when it did not.
        chosen: decisions that somebody corrected by hand, by event.
    """

    record: RunRecord
    config: LoopConfig
    skills: SkillLibrary
    asked: list[Asked] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    divergence: Divergence | None = None
    broken_at: Divergence | None = None
    chosen: list[ev.CorrectionGiven] = field(default_factory=list)


def hear(record: RunRecord, *, skills: SkillLibrary | None = None) -> Testimony:
    """Walk through a record with its orchestrator, and note what every part was asked.

    Raises:
        ReplayError: the record holds no run, or its settings are not understood here.
        RecordError: the record is damaged.
    """
    library = skills if skills is not None else SkillLibrary.load()
    said = Testimony(record, recorded_config(record), library)
    cursor = Cursor(record)
    if cursor.peek() is None:
        raise ReplayError(record.path, "it holds no events", "Name the record of a run")
    recorder = _Listener(cursor, said)
    policy = _Policy(cursor, recorder)
    parts = Parts(
        planner=_Planner(cursor, recorder),
        policy_for=lambda name: policy,
        body=_Body(cursor, recorder, settle_ticks=said.config.settle_ticks, exact=True),
        recorder=recorder,
        verifier=_Verifier(cursor, recorder),
        screen=RecordedScreen(cursor, recorder),
        control=RecordedControl(cursor, recorder),
    )
    loop = Orchestrator(parts, skills=library, config=said.config, seed=record.manifest.seed)
    try:
        begin(record.manifest, parts)
        loop.run(record.manifest.instruction)
    except ReplayStopped as stopped:
        said.broken_at = stopped.divergence
        said.divergence = said.divergence or stopped.divergence
    finally:
        loop.policies.close()
    return said


class _Listener(CheckingRecorder):
    """Goes on after an event that differs in a value, so that one odd decision does not hide all that follow."""

    def __init__(self, cursor: Cursor, said: Testimony) -> None:
        super().__init__(cursor)
        self.said = said

    def _write(self, event: ev.EventBase) -> None:
        expected = self.cursor.next_raw()
        if expected is None or isinstance(expected, ev.RecordSealed) or type(expected) is not type(event):
            raise self.surprise(str(type(event).model_fields["type"].default))
        found = difference(expected, event)
        if found is not None and self.said.divergence is None:
            self.said.divergence = Divergence(int(expected.id[1:]), expected.id, expected.time_s, expected.type, *found)
        self.compared += 1
        self._keep(expected)
        said = self.said
        if isinstance(expected, ev.StepStarted):
            new = [a for a in said.asked if a.before is None]
            last, origin = (said.asked[-1] if said.asked else None), (new[-1] if new else None)
            said.attempts.append(Attempt(len(said.attempts), expected, last, origin))
        elif isinstance(expected, ev.StepFinished) and said.attempts:
            said.attempts[-1].finished = expected
        elif isinstance(expected, ev.CorrectionGiven):
            said.chosen.append(expected)

    @property
    def at(self) -> str:
        """Id of the event that comes next."""
        event = self.cursor.peek()
        return event.id if event is not None else ""

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that is under way."""
        attempts = self.said.attempts
        return attempts[-1] if attempts and attempts[-1].finished is None else None


class _Hears:
    """What the listening parts share."""

    recorder: Any
    cursor: Cursor

    @property
    def listener(self) -> _Listener:
        listener = self.recorder
        assert isinstance(listener, _Listener)
        return listener


class _Planner(_Hears, RecordedPlanner):
    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        answer = super().plan(observation, instruction, context)
        ahead = 0
        while isinstance(event := self.cursor.peek(ahead), ev.PlanRejected) and event.plan is None:
            ahead += 1
        self._note(event.id if event is not None else "", observation, context, None, answer)
        return answer

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        answer = super().refresh(observation, plan, context)
        self._note(self.listener.at, observation, context, plan, answer)
        return answer

    def _note(
        self,
        event: str,
        observation: Observation,
        context: PlannerContext,
        before: Plan | None,
        answer: Plan | Refusal | None,
    ) -> None:
        said = self.listener.said
        made = len(said.attempts)
        said.asked.append(Asked(event, observation, context, before, answer, self.cursor.now_s, made))

    def ground(self, observation: Observation, step: Step) -> Step:
        event, now = self.listener.at, self.cursor.now_s
        attempt = self.listener.attempt
        try:
            answer = super().ground(observation, step)
        except GroundingError as error:
            if attempt is not None:
                attempt.lifts.append(Lift(event, observation, step, None, error.problem, now))
            raise
        if attempt is not None:
            attempt.lifts.append(Lift(event, observation, step, answer, "", now))
        return answer


class _Policy(_Hears, RecordedPolicy):
    def reset(self, step: Step, seed: int) -> None:
        if (attempt := self.listener.attempt) is not None:
            attempt.seed = seed

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        event = self.listener.at
        chunk = super().act(observation, step)
        if (attempt := self.listener.attempt) is not None:
            attempt.acts.append(Act(event, observation, step, chunk, self.cursor.now_s))
        return chunk


class _Verifier(_Hears, RecordedVerifier):
    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        return self._heard("ready", skill, context, super().ready)

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        return self._heard("during", skill, context, super().stop)

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        return self._heard("done", skill, context, super().done)

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        event, now = self.listener.at, self.cursor.now_s
        verdict = super().holds(skill, context)
        if verdict is not None and (attempt := self.listener.attempt) is not None:
            attempt.checks.append(Check(event, "invariant", skill, context, verdict, now))
        return verdict

    def _heard(self, phase: Phase, skill: Skill, context: SkillContext, answer: Any) -> Verdict:
        event, now = self.listener.at, self.cursor.now_s
        verdict: Verdict = answer(skill, context)
        if (attempt := self.listener.attempt) is not None:
            attempt.checks.append(Check(event, phase, skill, context, verdict, now))
        return verdict


class _Body(_Hears, RecordedBody):
    def approach(self, step: Step, approach: Approach, target_w: NDArray[np.float64], observation: Observation) -> None:
        if (attempt := self.listener.attempt) is not None:
            attempt.target = (approach, np.array(target_w), observation)
        super().approach(step, approach, target_w, observation)
