"""Replays one golden run and says in words what is wrong with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hiervla.executor.config import LoopConfig
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import sentence
from hiervla.executor.replay.cursor import Divergence
from hiervla.executor.replay.decisions import DecisionReplay, replay_decisions
from hiervla.representations import HiervlaError
from hiervla.skills import SkillLibrary


@dataclass(frozen=True)
class Broken:
    """A golden run that cannot be replayed, or decides differently now.

    Attributes:
        message: for the person who broke it.
        replay: what the replay found; None when there was none.
    """

    message: str
    replay: DecisionReplay | None = None


def replay_golden(
    folder: Path, name: str, *, skills: SkillLibrary | None = None, config: LoopConfig | None = None
) -> DecisionReplay | Broken:
    """Replay one record.

    Args:
        folder: the record.
        name: what to call it in messages.
        skills: the library; by default everything installed.
        config: settings of the loop; by default the recorded ones.
    """
    try:
        record = RunRecord.open(folder)
        if not record.closed:
            return Broken(
                f"{name}\n  its record was not closed, so that it guards only a part of a run.\n"
                f"  Record it again: {_again(record, name)}"
            )
        found = replay_decisions(record, skills=skills, config=config)
    except HiervlaError as error:
        return Broken(f"{name}\n  {error}")
    if found.divergence is None:
        return found
    return Broken("\n".join(_explained(record, name, found, found.divergence)), found)


def _explained(record: RunRecord, name: str, found: DecisionReplay, at: Divergence) -> Iterator[str]:
    yield name
    where = f"line {at.line} of events.jsonl, event {at.event} ({at.type}, {at.time_s:.2f} s)" if at.event else at.type
    yield f"  {where}"
    yield f"    field     {at.field}"
    yield f"    expected  {_value(at.expected)}"
    yield f"    got       {_value(at.got)}"
    before = _before(record, at)
    yield f"  {found.decisions} decisions before it came out as recorded" + (f", the last: {before}" if before else "")
    if at.event and (text := sentence(record.event(at.event))):
        yield f"  recorded was: {text}"
    if at.field == "told" or at.field.startswith("told."):
        yield f"  What came after is not replayed: {_asked(at)} is told something else than when this run was recorded,"
        yield "  and might have answered otherwise."
    else:
        yield "  The loop, its settings or a skill decides differently than when this run was recorded."
    yield f"  If that is meant, record the run again and remove this record: {_again(record, name)}"
    yield f"  If it is not, fix what changed. Look at the run: hiervla inspect {shlex.quote(name)}"


def _asked(at: Divergence) -> str:
    """Who gave the answer that an event holds."""
    return {"verdict": "a check", "chunk": "the policy"}.get(at.type, "the planner")


def _before(record: RunRecord, at: Divergence) -> str:
    """The last event before a divergence that says something, in words."""
    for number in range(min(at.line - 1, len(record)), 0, -1):
        text = sentence(record.event(number))
        if text:
            return text
    return ""


def _value(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _again(record: RunRecord, name: str) -> str:
    manifest = record.manifest
    words = ["hiervla", "run", manifest.instruction, "--world", manifest.world, "--seed", str(manifest.seed)]
    return shlex.join([*words, "--record", str(Path(name).parent)])
