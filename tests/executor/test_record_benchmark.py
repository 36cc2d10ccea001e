"""The changes that `benchmarks.record` makes to the orchestrator fit it, and replay finds them where they belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.recording.changes import CHANGES, Change, applied
from benchmarks.recording.first_changed import Story
from hiervla.executor.loop import Orchestrator
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay import decisions
from tests.testing.touching import library, record_run


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord.open(record_run(tmp_path_factory.mktemp("recorded")))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_replay_names_the_event_that_the_record_foretells(record: RunRecord, change: Change) -> None:
    with applied(change):
        found = decisions.replay_decisions(record, skills=library()).divergence
    assert vars(decisions)["Orchestrator"] is Orchestrator, "the right one is back"
    assert (None if found is None else found.line) == change.first(Story(record))


def test_some_of_them_alter_this_run(record: RunRecord) -> None:
    assert sum(change.first(Story(record)) is not None for change in CHANGES) >= 8
    assert decisions.replay_decisions(record, skills=library()).identical


def test_a_change_that_no_longer_fits_says_so() -> None:
    with pytest.raises(LookupError, match=r"'no way home at the start': .* stands 0 times in loop\.py"):
        with applied(replace(CHANGES[0], right="rewritten")):
            pass


def test_a_record_is_made_longer(record: RunRecord, tmp_path: Path) -> None:
    from benchmarks.recording.long import make_long

    made = make_long(record, tmp_path / "long", steps=1000)
    assert sum(1 for _ in made.ticks()) == 1000
    assert made.closed
