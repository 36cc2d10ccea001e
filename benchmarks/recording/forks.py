"""Leaves recorded runs at a random step, changes nothing, and goes on live: does the same come of it?"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence

from benchmarks.recording.runs import agent_of, world_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.cursor import ASIDE, difference
from hiervla.representations.events import StepStarted


def unlike(record: RunRecord, seed: int) -> tuple[str, str | None] | None:
    """Fork a run at one of its steps, unedited; the step's event, and what differs up to the end of the run.

    None for a run without a step. Ids and parents are left out: the fork's own event moves them on by one.
    """
    starts = list(record.of(StepStarted))
    if not starts:
        return None
    at = random.Random(f"{record.manifest.run_id} {seed}").choice(starts).id
    with tempfile.TemporaryDirectory(prefix="hiervla-fork-") as folder, world_of(record) as world:
        result = agent_of(record).fork(record, at, world=world, record=folder)
        assert result.record is not None, "a fork that was given a folder keeps a record"
        pairs = [[e for e in r if not isinstance(e, ASIDE)] for r in (record, RunRecord.open(result.record))]
    for before, after in zip(*pairs, strict=False):
        found = difference(before.model_copy(update={"id": after.id, "parent": after.parent}), after)
        if found is not None:
            return at, f"{before.id}: {found}"
    if len(pairs[0]) != len(pairs[1]):
        return at, f"{len(pairs[0])} events, and {len(pairs[1])} in the fork"
    return at, None


def forks(records: Sequence[RunRecord], wanted: int) -> tuple[int, int]:
    """How many of so many runs go on as before when they are left at a random step and nothing is changed."""
    same = done = 0
    order = random.Random(0).sample(range(len(records)), len(records))
    for i in order:
        if done == wanted:
            break
        found = unlike(records[i], seed=0)
        if found is None:
            continue
        done += 1
        same += found[1] is None
        if found[1] is not None:
            print(f"  goes on otherwise: {records[i].path.name}, forked at {found[0]}: {found[1]}")
    return same, done
