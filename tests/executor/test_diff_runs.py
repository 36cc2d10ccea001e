"""`diff` of whole runs: the same, two of one instruction, a run and its fork, one that was cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hiervla.cli import main
from hiervla.executor.record.blobs import BlobStore
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.replay.diff.runs import diff_runs
from hiervla.representations import Event, Verdict
from hiervla.representations import events as ev
from tests import records
from tests.testing.touching import record_run


def rewritten(folder: Path, change: Callable[[Event], Event | None]) -> Path:
    """The scripted run, with events changed or left out."""
    memory = MemoryRecorder()
    records.script(memory)
    with RunRecorder.create(folder, records.manifest(run_id=folder.name), durable=False) as recorder:
        for event in memory.events:
            other: Any = change(event)  # type: ignore[arg-type]  # the union of all events is what it holds
            if other is not None:
                fields = {n: getattr(other, n) for n in type(other).model_fields}
                for name in ("id", "wall_time_s", "version", "type"):
                    fields.pop(name)
                recorder.emit(type(other), **{**fields, "parent": None})
    return folder


def same(event: Event) -> Event:
    return event


def test_two_recordings_of_one_run_decide_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = record_run(tmp_path / "a"), record_run(tmp_path / "b")
    assert main(["diff", str(a), str(b)]) == 0
    assert "the same decisions: all " in capsys.readouterr().out
    assert main(["diff", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True


def test_another_point_is_followed_through_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = record_run(tmp_path / "a"), record_run(tmp_path / "b", spot=(0.5, 0.07, 0.0))
    found = diff_runs(RunRecord.open(a), RunRecord.open(b))
    assert found.first is not None and found.first.a is not None
    assert (found.common, found.first.a.event.type) == (1, "plan_proposed")
    (point,) = found.first.findings
    assert point.distances is not None
    assert dict(point.distances) == {"world_mm": pytest.approx(20.0)}
    steps = [block for block in found.blocks if block.a is not None and block.a.kind == "step"]
    assert [b.status for b in steps] == ["differs", "differs", "differs"]
    chunks = [d for d in steps[0].differing if d.a is not None and d.a.event.type == "chunk"]
    assert chunks[0].findings[0].distances is not None
    # The line to the target parts from nothing at its first row to all of it at the last.
    assert 0 < chunks[0].findings[0].distances["mean_mm"] < chunks[0].findings[0].distances["max_mm"] < 20.1
    assert main(["diff", str(a), str(b)]) == 1
    out = capsys.readouterr().out
    assert "first different decision, after 1 that are the same" in out
    assert "approach target: 20.0 mm apart" in out
    assert "chunks: " in out


def test_one_verdict_is_named_where_it_stands(tmp_path: Path) -> None:
    def flip(event: Event) -> Event:
        if isinstance(event, ev.VerdictGiven) and event.verdict.name == "placed":
            return event.replace(verdict=Verdict(name="placed", value="unsure", confidence=0.93, evidence={}))
        return event

    a, b = rewritten(tmp_path / "a", same), rewritten(tmp_path / "b", flip)
    found = diff_runs(RunRecord.open(a), RunRecord.open(b))
    assert found.first is not None and found.first.a is not None and found.first.b is not None
    assert found.first.a.event.type == "verdict"
    assert found.first.a.line == found.first.b.line
    assert [f.field for f in found.first.findings] == ["value", "evidence width_m"]
    assert found.first.findings[0].text in {"no | unsure", "yes | unsure"}


def test_a_fork_shares_its_parents_decisions(tmp_path: Path) -> None:
    parent = RunRecord.open(records.make_record(tmp_path / "parent", run_id="parent"))
    at = 30
    folder = tmp_path / "fork"
    with RunRecorder.create(folder, records.manifest(run_id="fork"), durable=False) as recorder:
        for number in range(1, at + 1):
            recorder.copy(parent.event(number), BlobStore(parent.path))
        recorder.emit(
            ev.Forked,
            time_s=1.0,
            parent_run="parent",
            parent_line=parent.lines[at - 1].digest,
            snapshot="0" * 64,
        )
        recorder.emit(ev.RunFinished, time_s=1.0, outcome="failed", message="stopped")
    found = diff_runs(parent, RunRecord.open(folder))
    assert found.relation == f"B is a fork of A, made after line {at}"
    decided = [e for e in parent if isinstance(e, ev.EventBase) and e.type in {"plan_proposed", "step_started"}]
    assert found.common > 0 and decided
    assert found.last_common is not None and found.last_common.line <= at
    assert found.first is not None and found.first.a is not None and found.first.a.line > at


def test_a_run_that_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = records.make_record(tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    lines = list(records.lines_of(whole))
    (cut / "events.jsonl").write_bytes(b"".join(lines[:20]) + lines[20][:30])
    found = diff_runs(RunRecord.open(whole), RunRecord.open(cut))
    assert found.first is not None
    assert found.first.b is None
    assert found.common == found.counts[1]
    assert main(["diff", str(whole), str(cut)]) == 1
    assert "B its record was cut off here" in capsys.readouterr().out


def test_nothing_to_compare_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = records.make_record(tmp_path / "whole")
    assert main(["diff", str(whole), str(tmp_path / "none")]) != 0
    assert "hiervla: " in capsys.readouterr().err
