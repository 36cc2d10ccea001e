"""Runs a record's task again in the simulator, with a changed orchestrator, until it does something else."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count

from benchmarks.recording.changes import Change, applied
from benchmarks.recording.runs import agent_of, world_of
from hiervla.executor.body import CancelToken
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.cursor import difference
from hiervla.representations import Event
from hiervla.representations.events import RecordSealed, RunFinished


@dataclass
class _Watch:
    """Compares a run with a record while it happens, and cancels it as soon as it is another one."""

    record: RunRecord
    cancel: CancelToken
    line: int | None = None
    numbers: count[int] = field(default_factory=lambda: count(1))
    over: bool = False

    def __call__(self, event: Event) -> None:
        number = next(self.numbers)
        if self.over:
            return
        if number > len(self.record) or difference(self.record.event(number), event) is not None:
            self.line = number
            self.over = True
            self.cancel.cancel()
        self.over = self.over or isinstance(event, RunFinished | RecordSealed)


def first_other_event(record: RunRecord, change: Change | None = None) -> int | None:
    """Line of the first recorded event that a real run with the change does not write; None when it writes them all.

    Same scene, seed, planner, policy and physics; nothing of it is taken from the record. Without a change it has to
    be None, or the machine is not the one that recorded.
    """
    agent = agent_of(record)
    token = CancelToken()
    watch = _Watch(record, token)
    with ExitStack() as stack:
        if change is not None:
            stack.enter_context(applied(change))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hiervla-rerun-"))
        world = stack.enter_context(world_of(record))
        try:
            agent.run(
                record.manifest.instruction,
                seed=record.manifest.seed,
                world=world,
                record=folder,
                on_event=watch,
                cancel=token,
            )
        except ValueError:
            # A change may make a plan that is none; the run tells so in its record before it breaks off.
            if not watch.over:
                raise
    return watch.line
