"""The record of a run of several arms: one of the whole run, and in its folder one of each arm's part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hiervla.controllers.envelope import world_snapshot
from hiervla.executor.arms.run import SHARED_OUT, place_of
from hiervla.executor.arms.sharing import Shared, share_out, shared
from hiervla.executor.presets import arms_preset
from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.physics_replay import Divergence as Parting
from hiervla.executor.record.physics_replay import ReplayReport, compare
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.executor.replay.cursor import Divergence, difference
from hiervla.executor.replay.decisions import DecisionReplay, is_idle, replay_decisions
from hiervla.representations import Plan, Refusal
from hiervla.representations.events import PlanProposed, PlanRefused, ResourcesClaimed, RunStarted, SnapshotTaken
from hiervla.skills import SkillLibrary
from hiervla.worlds.tabletop_duo.scene import DuoScene


def parts_of(record: RunRecord) -> dict[str, RunRecord]:
    """The records of the arms' parts.

    Raises:
        RecordError: one is missing or damaged.
    """
    return {arm: RunRecord.open(record.path / arm) for arm in record.manifest.arms}


def ticks_of(parts: Mapping[str, RunRecord]) -> dict[str, list[Tick]]:
    """Every control tick of each arm; the first of all arms was the same tick of their world, and so on.

    Raises:
        CorruptRecordError: a stream is damaged.
    """
    return {arm: list(part.ticks()) for arm, part in parts.items()}


def scene_of(record: RunRecord) -> DuoScene:
    """The scene that a run was carried out in.

    Raises:
        ReplayError: the record tells of none.
    """
    try:
        return DuoScene.model_validate_json(json.dumps(record.manifest.world_config["scene"]))
    except (KeyError, ValueError) as error:
        raise ReplayError(record.path, f"its scene cannot be read ({error})", "Replay a run that has one") from error


def broken_claim(record: RunRecord) -> str | None:
    """Where two arms had the same at the same time, in a sentence; None where they never had."""
    held: dict[str, tuple[str, str]] = {}
    for event in record.of(ResourcesClaimed):
        for resource in event.resources if event.state in ("granted", "released") else ():
            arm, granted = held.get(resource, (event.arm, event.id))
            if arm != event.arm:
                return f"{resource} was {event.state} for {event.arm} in {event.id} while {arm} had it since {granted}"
            if event.state == "granted":
                held[resource] = (event.arm, event.id)
            else:
                held.pop(resource, None)
    return None


@dataclass(frozen=True)
class ArmsReplay:
    """What a decision replay of a run of several arms found.

    Attributes:
        sharing: where the plan of all arms comes out as another one from the same answers; None where it does not.
        claims: where two arms had the same at the same time; None where they never had.
        arms: replay of each arm's part; those of which nothing was asked are left out.
    """

    sharing: Divergence | None
    claims: str | None
    arms: Mapping[str, DecisionReplay]

    @property
    def identical(self) -> bool:
        """Did every decision come out as it was recorded?"""
        return self.sharing is None and self.claims is None and all(r.identical for r in self.arms.values())


def replay_arms(record: RunRecord, *, skills: SkillLibrary | None = None) -> ArmsReplay:
    """Share the work out again from the recorded answers, and run each arm's loop on its record.

    Raises:
        ReplayError: a record holds no run, or its settings are not understood here.
        RecordError: a record is damaged.
    """
    library = skills if skills is not None else SkillLibrary.load()
    busy = {arm: part for arm, part in parts_of(record).items() if not is_idle(part)}
    found = {arm: replay_decisions(part, skills=library) for arm, part in busy.items()}
    return ArmsReplay(_sharing(record), broken_claim(record), found)


def _sharing(record: RunRecord) -> Divergence | None:
    answers: dict[tuple[str, str], Plan | Refusal] = {}
    final: PlanProposed | PlanRefused | None = None
    for event in record:
        if isinstance(event, PlanProposed | PlanRefused):
            if event.told is None:
                final = event
            else:
                answer = event.plan if isinstance(event, PlanProposed) else event.refusal
                answers[event.told["arm"], event.told["instruction"]] = answer
    if final is None:
        return None  # the run was killed before there was a plan
    found = _shared_again(record, answers, final)
    at, now_s = final.id, final.time_s
    again: PlanProposed | PlanRefused
    if isinstance(found, Shared):
        again = PlanProposed(id=at, time_s=now_s, plan=found.plan, reason=SHARED_OUT)
    else:
        again = PlanRefused(id=at, time_s=now_s, refusal=found)
    differs = difference(final, again)
    return (
        None if differs is None else Divergence(record.number(final.id), final.id, final.time_s, final.type, *differs)
    )


def _shared_again(
    record: RunRecord, answers: Mapping[tuple[str, str], Plan | Refusal], final: PlanProposed | PlanRefused
) -> Shared | Refusal:
    arms = record.manifest.arms
    if not answers and isinstance(final, PlanProposed):
        return shared(final.plan, arms)
    started = next(record.of(RunStarted))
    bases = {arm: np.array(pose) for arm, pose in record.manifest.world_config["bases"].items()}

    def ask(arm: str, words: str) -> Plan | Refusal:
        missing = Refusal(reason="cannot_do", message=f"The record does not tell what {arm} answers to '{words}'.")
        return answers.get((arm, words), missing)

    return share_out(started.instruction, arms, ask, place_of(bases))


def replay_physics(record: RunRecord) -> ReplayReport:
    """Execute the recorded commands of all arms in one world, tick by tick, and compare every state, bit for bit.

    Raises:
        ReplayError: the record has no commands, or its world cannot be rebuilt.
        RecordError: a record is damaged.
    """
    parts = parts_of(record)
    ticks = ticks_of(parts)
    length = max(len(t) for t in ticks.values())
    if not length:
        raise ReplayError(record.path, "it holds no commands", "Replay a run in which the robot moved")
    snapshots = [(e.ticks, arm, e) for arm, part in parts.items() for e in part.of(SnapshotTaken)]
    world = arms_preset(record.manifest.world).build(scene_of(record))
    compared = 0
    try:
        views = {arm: world.arm(arm) for arm in ticks}
        for index in range(length + 1):
            for _, arm, event in (s for s in snapshots if s[0] == index):
                saved = getattr(views[arm], "snapshot", None)
                if saved is not None and saved() != world_snapshot(parts[arm].snapshot(event)):
                    what = f"snapshot '{event.label}' of {arm}"
                    found = Parting(index, event.time_s, what, None, "")
                    return ReplayReport(index, length, compared, False, found)
                compared += 1
            now = {arm: t[index] for arm, t in ticks.items() if index < len(t)}
            for arm, tick in now.items():
                parting = compare(tick, views[arm].proprio())
                if parting is not None:
                    return ReplayReport(index, length, compared, False, parting)
            if now:
                world.step({arm: tick.command for arm, tick in now.items()})
    finally:
        world.close()
    return ReplayReport(length, length, compared, False, None)
