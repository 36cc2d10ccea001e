"""One-line changes of the orchestrator, and which recorded event each of them changes first.

A change is made to the source of a module, which is then loaded a second time beside the right one. What it changes
first is worked out from the record alone, by what the changed line means, without running the orchestrator: that is
the answer that a decision replay of the changed orchestrator has to find. :mod:`benchmarks.recording.rerun` holds
those answers against runs of the changed orchestrator in the simulator.

The last few alter only what planner, policy or checks are told: their answers come from the record, and what shows the
change is what the record keeps of the questions. Records of format 1 do not keep it, so there they change nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Final
from unittest.mock import patch

from benchmarks.recording.first_changed import (
    Story,
    attempt_counts_all,
    failure_counts_double,
    first_after_success_asks,
    first_belief,
    first_done_prob,
    first_done_swapped,
    first_going_home_to_give_up,
    first_history,
    first_home,
    first_home_after_policy,
    first_longer_chunk,
    first_look,
    first_of_several_steps,
    first_other_seed,
    first_ready,
    first_retry_too_many,
    first_second_pointing,
    first_snapshot_before,
    first_timeout,
    first_unsure,
)


@dataclass(frozen=True)
class Change:
    """A change of one line.

    Attributes:
        name: what goes wrong.
        module: name of the module under ``hiervla.executor``.
        right: the text as it is; it stands there once.
        wrong: what takes its place.
        first: line of the first recorded event that a run with the change would not write; None where it would write
            all of them.
    """

    name: str
    module: str
    right: str
    wrong: str
    first: Callable[[Story], int | None]


CHANGES: Final = (
    Change("no way home at the start", "loop", '        self.body.home("start")\n', "", first_home),
    Change("no settling before the planner looks", "loop", 'body.look("plan")', 'body.observe("plan")', first_look),
    Change("the last remaining step first", "loop", "remaining[0])\n", "remaining[-1])\n", first_of_several_steps),
    Change(
        "no snapshot before a step",
        "loop",
        '                self.body.snapshot(f"before {step.id}")\n',
        "",
        first_snapshot_before,
    ),
    Change(
        "attempts of all steps counted as this one's",
        "loop",
        "self.attempts.run(step, state.failures.get(key, 0))",
        "self.attempts.run(step, state.attempts)",
        attempt_counts_all,
    ),
    Change(
        "no check of readiness",
        "attempt",
        "        if self.config.verify:\n            ready",
        "        if not self.config.verify:\n            ready",
        first_ready,
    ),
    Change(
        "no way home after the policy",
        "attempt",
        "review=self.review.chunks(attempt))\n            self.body.home(step.id)\n",
        "review=self.review.chunks(attempt))\n",
        first_home_after_policy,
    ),
    Change(
        "unsure taken as no",
        "attempt",
        'if done.value != "no" and not (done.value == "unsure" and ended != "succeeded"):',
        'if done.value == "yes":',
        first_unsure,
    ),
    Change(
        "done steps in the wrong order",
        "loop",
        "done=(*plan.done, step.id)",
        "done=(step.id, *plan.done)",
        first_done_swapped,
    ),
    Change(
        "asks for a new plan after a success that changed the hand",
        "loop",
        "again = ok or (same_hand",
        "again = (same_hand",
        first_after_success_asks,
    ),
    Change(
        "one pointing too few",
        "loop",
        "<= repeats)",
        "< repeats)",
        first_second_pointing,
    ),
    Change(
        "a failure counted twice",
        "loop",
        "state.failures.get(key, 0) + 1",
        "state.failures.get(key, 0) + 2",
        failure_counts_double,
    ),
    Change(
        "one retry too few",
        "loop",
        "state.failures[key] > config.max_retries",
        "state.failures[key] >= config.max_retries",
        first_retry_too_many,
    ),
    Change("gives up on the spot", "loop", '        self.body.home("giving up")\n', "", first_going_home_to_give_up),
    Change(
        "a row more of each chunk",
        "segment",
        "max(1, config.chunk_rows * round(",
        "max(1, (config.chunk_rows + 1) * round(",
        first_longer_chunk,
    ),
    Change(
        "the planner is not told what was done",
        "loop",
        "history=tuple(self.state.history)",
        "history=()",
        first_history,
    ),
    Change(
        "one seed for all attempts",
        "attempt",
        "seed = self.seed + 1009 * self.state.attempts + attempt",
        "seed = self.seed",
        first_other_seed,
    ),
    Change(
        "checks are not told what is held",
        "attempt",
        "proprio=self.body.proprio(), belief=self.state.belief)",
        "proprio=self.body.proprio())",
        first_belief,
    ),
    Change(
        "the policy's belief that it is done is kept from the termination",
        "segment",
        "                done_prob=chunk.done_prob,\n",
        "",
        first_done_prob,
    ),
    Change("a timeout taken as an end", "segment", 'return "timed_out", f', 'return "succeeded", f', first_timeout),
)


class _Changed(SourceLoader):
    """Loads a module from its own file, with one text in place of another."""

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._source.encode()


@contextmanager
def applied(change: Change) -> Iterator[None]:
    """While this lasts, replays and agents use the changed orchestrator.

    Raises:
        LookupError: the text to change does not stand there once: the orchestrator was rewritten, and the change has
            to be written anew.
    """
    import hiervla.executor.agent
    import hiervla.executor.attempt
    import hiervla.executor.loop
    import hiervla.executor.replay.decisions

    module = _load(change)
    with ExitStack() as stack:
        if change.module == "segment":
            stack.enter_context(patch.object(hiervla.executor.attempt, "PolicyRunner", module.PolicyRunner))
        elif change.module == "attempt":
            stack.enter_context(patch.object(hiervla.executor.loop, "Attempts", module.Attempts))
        else:
            for user in (hiervla.executor.agent, hiervla.executor.replay.decisions):
                stack.enter_context(patch.object(user, "Orchestrator", module.Orchestrator))
        yield


def _load(change: Change) -> ModuleType:
    right = importlib.import_module(f"hiervla.executor.{change.module}")
    path = Path(str(right.__file__))
    source = path.read_text()
    if source.count(change.right) != 1:
        raise LookupError(f"'{change.name}': {change.right!r} stands {source.count(change.right)} times in {path.name}")
    name = f"hiervla.executor.changed_{change.module}"
    spec = importlib.util.spec_from_loader(name, _Changed(path, source.replace(change.right, change.wrong)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses looks its own module up while it is being made.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module
