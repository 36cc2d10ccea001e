"""Runs the controllers again on recorded inputs: the commands have to be those on record, tick by tick.

Nothing moves and no physics runs: the body gets the recorded sensor values and images, the recorded chunks and the
reference that the envelope had, so this works for records of real robots too, as long as they hold snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.controllers.kinematics import Kinematics
from hiervla.executor.activities import Parts
from hiervla.executor.blame.contracts import Ledger
from hiervla.executor.blame.testimony import Act, Attempt, Testimony
from hiervla.executor.body import Body, CancelToken, EnvelopeStop
from hiervla.executor.record.recorder import NullRecorder
from hiervla.executor.record.streams import Tick
from hiervla.executor.replay.seen import StateStream, lazy_observation
from hiervla.executor.segment import PolicyRunner
from hiervla.planner.base import PlannerContext, RejectedAttempt
from hiervla.representations import (
    ActionChunk,
    JointCommand,
    Observation,
    Plan,
    Proprioception,
    Refusal,
    Step,
    Verdict,
)
from hiervla.representations import events as ev
from hiervla.skills import Skill, SkillContext

JOINT_RAD, WIDTH_M = 2e-3, 1e-3
"""Commands that are made twice from the same inputs may differ by this much."""


class _EndOfRecord(Exception):
    """There are no more recorded ticks, images or answers to go on with."""


class _Sensors:
    """A world of recorded sensor values; it compares every command with the recorded one.

    Attributes:
        first: tick of the first command that differs; None when none does.
        radians: greatest difference of one joint [rad].
        width_m: greatest difference of the gripper's width [m].
        tool_m: greatest distance between the tool points of both commands [m].
    """

    name = "recorded"

    def __init__(self, states: StateStream, start: int, seen: Sequence[Observation]) -> None:
        self._states = states
        self._at = start
        self._seen = list(seen)
        self._kinematics = Kinematics()
        self.first: int | None = None
        self.radians = self.width_m = self.tool_m = 0.0

    @property
    def time_s(self) -> float:
        return self._tick.sensed_at_s

    def proprio(self) -> Proprioception:
        return self._states.at(self.time_s)

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        if not self._seen:
            raise _EndOfRecord
        return self._seen.pop(0)

    def step(self, command: JointCommand) -> None:
        told = self._tick.command
        radians = float(np.abs(command.q - told.q).max())
        width = abs(command.gripper_width_m - told.gripper_width_m)
        if radians > JOINT_RAD or width > WIDTH_M:
            self.first = self._at if self.first is None else self.first
            tools = [self._kinematics.forward(q)[:3, 3] for q in (command.q, told.q)]
            self.tool_m = max(self.tool_m, float(np.linalg.norm(tools[0] - tools[1])))
        self.radians, self.width_m = max(self.radians, radians), max(self.width_m, width)
        self._at += 1

    def snapshot(self) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> None:
        """Recorded values stay what they are."""

    def close(self) -> None:
        """Nothing to release."""

    @property
    def _tick(self) -> Tick:
        if self._at >= len(self._states.ticks):
            raise _EndOfRecord
        return self._states.ticks[self._at]


class _Player:
    """Gives the recorded chunks and verdicts once more; it is policy, verifier and planner of the run at once."""

    id = "recorded"
    rejected: tuple[RejectedAttempt, ...] = ()

    def __init__(self, chunks: Sequence[ActionChunk], attempt: Attempt) -> None:
        self._chunks = list(chunks)
        self._verdicts = {
            phase: [c.verdict for c in attempt.checks if c.phase == phase] for phase in ("invariant", "during")
        }

    def reset(self, step: Step, seed: int) -> None:
        """Nothing to begin."""

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        if not self._chunks:
            raise _EndOfRecord
        return self._chunks.pop(0)

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        return self._next("invariant")

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        verdict = self._next("during")
        if verdict is None:
            raise _EndOfRecord
        return verdict

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        raise _EndOfRecord

    def lasts(self, skill: Skill, context: SkillContext) -> Verdict | None:
        return None

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        raise _EndOfRecord

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        raise _EndOfRecord

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        raise _EndOfRecord

    def ground(self, observation: Observation, step: Step) -> Step:
        raise _EndOfRecord

    def _next(self, phase: str) -> Verdict | None:
        verdicts = self._verdicts[phase]
        return verdicts.pop(0) if verdicts else None


def repeat_commands(said: Testimony, states: StateStream, ledger: Ledger) -> None:
    """Make the commands of every attempt anew, and compare."""
    record = said.record
    snapshots = list(record.of(ev.SnapshotTaken))
    observations = list(record.of(ev.ObservationTaken))
    paused = [number(e) for e in record.of(ev.Paused)]
    for attempt in said.attempts:
        # An attempt without an end was broken off by the envelope, or by whoever runs it: as far as it goes, it counts.
        if attempt.target is None or (attempt.finished is not None and attempt.outcome == "cancelled"):
            continue
        begin = number(attempt.started)
        end = number(attempt.finished) if attempt.finished is not None else len(record.lines)
        before = [s for s in snapshots if number(s) < begin]
        index = states.index(attempt.started.time_s)
        if not before or before[-1].ticks != index:
            ledger.untested["commands made anew"] = "the record holds no snapshot where the step begins"
            continue
        if any(begin < p < end for p in paused):
            ledger.untested["commands made anew"] = "somebody held the arm meanwhile"
            continue
        seen = [lazy_observation(record, o) for o in observations if begin < number(o) < end]
        sensors = _Sensors(states, index, seen)
        found = _execute(said, attempt, sensors, record.snapshot(before[-1]))
        ledger.tested["commands made anew"] += 1
        _judge(said, attempt, sensors, states, found, ledger, range(begin, end))


def refusals(said: Testimony, ledger: Ledger) -> None:
    """Commands that the safety envelope had to refuse, wherever in the run."""
    for fired in said.record.of(ev.EnvelopeFired):
        if fired.action != "refused":
            continue
        inside = [a for a in said.attempts if number(a.started) < number(fired)]
        inside = [a for a in inside if a.finished is None or number(fired) < number(a.finished)]
        ledger.add(
            "controller",
            "the safety envelope",
            None,
            inside[-1] if inside else None,
            recorded=f"refused: {fired.message}",
            expected="commands inside of all limits",
            weight=0.75,
            event=fired.id,
            time_s=fired.time_s,
        )


def number(event: ev.EventBase) -> int:
    """Sequence number of an event."""
    return int(event.id[1:])


def _execute(said: Testimony, attempt: Attempt, sensors: _Sensors, snapshot: bytes) -> str:
    """Move as the attempt did; returns the message of a transit that was not found, or nothing."""
    assert attempt.target is not None
    recorder = NullRecorder()
    body = Body(sensors, recorder, said.config, CancelToken(), seed=said.record.manifest.seed)
    body.restore(snapshot)
    player = _Player(_tracked(said, attempt), attempt)
    parts = Parts(planner=player, policy_for=lambda name: player, body=body, recorder=recorder, verifier=player)
    runner = PolicyRunner(parts, said.config)
    approach, target_w, observation = attempt.target
    step = attempt.acts[0].step if attempt.acts else attempt.step
    failed = ""
    try:
        try:
            body.approach(step, approach, target_w, observation)
            if attempt.acts:
                ready = attempt.check("ready")
                context = ready.context if ready is not None else _context(attempt, body)
                skill = said.skills.get(attempt.step.skill)
                runner.run(skill, context, seed=attempt.seed or 0)
        except (NoPath, UnreachablePose) as error:
            failed = str(error)
        body.home(step.id)
        if said.config.verify and attempt.acts:
            body.look("verify")
    except (NoPath, UnreachablePose) as error:
        failed = failed or str(error)
    except (_EndOfRecord, EnvelopeStop):
        pass
    finally:
        runner.close()
    return failed


def _context(attempt: Attempt, body: Body) -> SkillContext:
    act = attempt.acts[0]
    return SkillContext(step=act.step, before=act.observation, proprio=body.proprio())


def _tracked(said: Testimony, attempt: Attempt) -> list[ActionChunk]:
    """The chunks that were tracked: the policy's, or what somebody put in their place."""
    marks = [int(a.event[1:]) for a in attempt.acts] + [len(said.record.lines)]
    chunks = []
    for act, begin, end in zip(attempt.acts, marks[:-1], marks[1:], strict=True):
        other = [c.chunk for c in said.chosen if c.chunk is not None and begin < number(c) < end]
        chunks.append(other[-1] if other else act.chunk)
    return chunks


def _judge(
    said: Testimony, attempt: Attempt, sensors: _Sensors, states: StateStream, failed: str, ledger: Ledger, span: range
) -> None:
    record = said.record
    not_found = [e for e in record.of(ev.TransitFailed) if number(e) in span]
    if bool(failed) != bool(not_found):
        recorded = not_found[0].message if not_found else "a path"
        ledger.add(
            "controller", "the transit planned anew on the recorded image", None, attempt,
            recorded=recorded, expected=failed or "a path", weight=0.85,
            event=not_found[0].id if not_found else attempt.started.id, time_s=attempt.started.time_s,
        )  # fmt: skip
    if sensors.first is None:
        return
    at = states.ticks[sensors.first].sensed_at_s
    act: Act | None = next((a for a in reversed(attempt.acts) if a.time_s <= at + 1e-6), None)
    wide = f", {sensors.width_m * 1e3:.0f} mm of the gripper's width" if sensors.width_m > WIDTH_M else ""
    ledger.add(
        "controller", "commands made anew from the recorded " + ("chunks" if act else "transit"), None, attempt,
        recorded=f"other commands from tick {sensors.first} on", expected="the recorded ones",
        distance=f"up to {np.rad2deg(sensors.radians):.1f} degrees, {sensors.tool_m * 1e3:.0f} mm at the tool{wide}",
        weight=0.95, event=act.event if act is not None else attempt.started.id, time_s=at,
    )  # fmt: skip


__all__ = ["number", "refusals", "repeat_commands"]
