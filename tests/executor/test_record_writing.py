"""The writer: what is acknowledged is on disk, whole, in order, and nothing is ever overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hiervla.executor.record.errors import RecordExistsError, RecordWriteError
from hiervla.executor.record.manifest import Manifest, new_run_folder, new_run_id
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder, NullRecorder
from hiervla.executor.record.verify import verify
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import Event, JointCommand
from hiervla.representations import events as ev
from tests import records


def started(recorder: RunRecorder | MemoryRecorder | NullRecorder) -> ev.RunStarted:
    said = "put the red mug on the top shelf"
    return recorder.emit(
        ev.RunStarted, time_s=0.0, instruction=said, world="fake", planner="scripted", policy="line", seed=3
    )


def note(recorder: RunRecorder | MemoryRecorder | NullRecorder, text: str = "hello") -> ev.Note:
    return recorder.emit(ev.Note, time_s=1.0, level="info", message=text)


def test_a_record_is_a_folder_of_plain_files(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    assert {p.name for p in folder.iterdir()} == {"manifest.json", "events.jsonl", "blobs", "streams.mcap"}
    lines = [json.loads(line) for line in records.lines_of(folder)]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["event"]["id"] for line in lines] == [f"e{line['seq']}" for line in lines]
    assert [lines[0]["event"]["type"], lines[-2]["event"]["type"]] == ["run_started", "run_finished"]
    assert lines[-1]["event"]["type"] == "record_sealed"


def test_every_event_is_on_disk_when_emit_returns(tmp_path: Path) -> None:
    recorder = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    event = started(recorder)
    on_disk = RunRecord.open(tmp_path / "run")
    assert list(on_disk) == [event]
    assert not on_disk.closed
    recorder.close()


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RecordExistsError, match="never overwritten"):
        RunRecorder.create(folder, records.manifest())
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(RecordExistsError):
        RunRecorder.create(file, records.manifest())
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    records.make_record(tmp_path / "run")
    assert verify(tmp_path / "run").status == "whole"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordWriteError, match=r"file/run.*cannot be written"):
        RunRecorder.create(tmp_path / "file" / "run", records.manifest())


def test_equal_images_are_stored_once(tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        root = started(recorder)
        first = recorder.frame(records.frame(5))
        again = recorder.frame(records.frame(5))
        recorder.observation(records.observation(5), "plan", parent=root)
    assert first == again
    names = [p.name for p in (tmp_path / "run" / "blobs").iterdir()]
    assert len([n for n in names if n.endswith(".webp")]) == 2  # the front camera and the wrist camera
    assert len([n for n in names if n.endswith(".depth")]) == 2


def test_an_invalid_event_is_not_written_and_takes_no_number(tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        started(recorder)
        with pytest.raises(ValidationError):
            recorder.emit(ev.Note, time_s=0.0, level="loud", message="x")
        assert note(recorder).id == "e2"
    assert verify(tmp_path / "run").status == "whole"


def test_a_failing_subscriber_is_noted_and_steers_nothing(tmp_path: Path) -> None:
    seen: list[str] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no display")

    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        recorder.subscribe(broken)
        recorder.subscribe(lambda event: seen.append(event.id))
        started(recorder)
        note(recorder)
    events = list(RunRecord.open(tmp_path / "run"))
    notes = [e for e in events if isinstance(e, ev.Note)]
    assert "broken raised RuntimeError: no display" in notes[0].message
    assert notes[0].parent == "e1"
    assert len([n for n in notes if "raised" in n.message]) == 1
    assert sorted(seen) == sorted(e.id for e in events)


def test_a_subscriber_can_leave() -> None:
    recorder = MemoryRecorder()
    seen: list[str] = []
    leave = recorder.subscribe(lambda event: seen.append(event.id))
    started(recorder)
    leave()
    leave()
    note(recorder)
    assert seen == ["e1"]


def test_an_event_given_to_a_subscriber_cannot_be_changed() -> None:
    recorder = MemoryRecorder()
    errors: list[str] = []

    def meddle(event: Any) -> None:
        try:
            event.time_s = 5.0
        except ValidationError as error:
            errors.append(error.errors()[0]["type"])

    recorder.subscribe(meddle)
    started(recorder)
    assert errors == ["frozen_instance"]


@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (RuntimeError("boom"), "error", "RuntimeError: boom"),
        (KeyboardInterrupt(), "cancelled", "interrupted"),
    ],
)
def test_leaving_by_an_exception_closes_the_record_and_says_so(
    tmp_path: Path, error: BaseException, outcome: str, message: str
) -> None:
    made = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    with pytest.raises(type(error)), made as recorder:
        started(recorder)
        raise error
    finished = RunRecord.open(tmp_path / "run").finished
    assert finished is not None
    assert (finished.outcome, finished.message) == (outcome, message)
    assert RunRecord.open(tmp_path / "run").closed


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    recorder = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    started(recorder)
    recorder.close()
    recorder.close()
    with pytest.raises(RecordWriteError, match="closed"):
        note(recorder)
    assert verify(tmp_path / "run").status == "whole"


def test_a_full_disk_stops_the_run_and_leaves_the_record_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    started(recorder)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(RecordWriteError, match="No space left"):
            note(recorder)
        with pytest.raises(RecordWriteError, match="No space left"):
            recorder.tick(records.command(0), records.proprio(0))
    # There is room again: the record goes on where it was.
    assert note(recorder).id == "e2"
    recorder.tick(records.command(0), records.proprio(0))
    recorder.close()
    record = RunRecord.open(tmp_path / "run")
    assert [e.id for e in record] == ["e1", "e2", "e3", "e4"]
    assert len(list(record.ticks())) == 1


_VICTIM = """
import sys
sys.path.insert(0, sys.argv[2])
from tests import records
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import events as ev

recorder = RunRecorder.create(sys.argv[1], records.manifest(), durable=False)
play = records.Script(recorder)
for number in range(100000):
    recorder.observation(records.observation(number % 40), "act", parent=play.root)
    event = recorder.emit(ev.Note, time_s=0.0, parent=play.root, level="info", message="x" * (number % 977))
    recorder.tick(records.command(number), records.proprio(number))
    print(event.id, number + 1, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 30, 111])
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    folder = tmp_path / "run"
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(folder), root], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        for _ in range(acknowledged):
            line = victim.stdout.readline()
        victim.send_signal(signal.SIGKILL)
        # What it could still print before it died counts as acknowledged too.
        line = (line + victim.stdout.read()).splitlines()[-1]
    event_id, ticks = line.split() if line.count(" ") else (line, "0")
    record = RunRecord.open(folder)
    assert len(record) >= int(event_id[1:])
    assert len(list(record.ticks())) >= int(ticks)
    found = verify(folder)
    assert (found.status, found.problem) == ("unclosed", "")
    for event in record.of(ev.ObservationTaken):
        record.observation(event)


def test_ticks_read_back_as_the_same_float64(tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        started(recorder)
        for number in range(50):
            recorder.tick(records.command(number), records.proprio(number))
        open_ticks = list(RunRecord.open(tmp_path / "run").ticks())
    closed_ticks = list(RunRecord.open(tmp_path / "run").ticks())
    for ticks in (open_ticks, closed_ticks):
        assert len(ticks) == 50
        for number, tick in enumerate(ticks):
            state = records.proprio(number)
            assert tick.command == records.command(number)
            assert np.array_equal(tick.q, state.q)
            assert np.array_equal(tick.dq, state.dq)
            assert (tick.gripper_width_m, tick.gripper_effort_n) == (state.gripper_width_m, state.gripper_effort_n)
            assert tick.sensed_at_s == state.time_s


def test_a_nan_in_a_command_is_recorded_as_it_was(tmp_path: Path) -> None:
    command = JointCommand(q=np.array([np.nan, 1.0]), dq=np.array([np.inf, -np.inf]), gripper_width_m=0.0, time_s=0.0)
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        started(recorder)
        recorder.tick(command, records.proprio(0))
    (tick,) = RunRecord.open(tmp_path / "run").ticks()
    assert tick.command == command


def test_closed_streams_are_indexed_and_hold_log_and_images_for_viewers(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    folder = records.make_record(tmp_path / "run")
    with open(folder / "streams.mcap", "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.chunk_indexes
        assert summary.statistics is not None
        topics = {c.topic for c in summary.channels.values()}
        assert topics == {"/robot/state", "/robot/command", "/log", "/camera/front", "/camera/wrist"}
        times = [message.log_time for _, _, message in reader.iter_messages()]
        assert times == sorted(times)
        logs = [json.loads(m.data)["message"] for _, c, m in reader.iter_messages(topics=["/log"])]
    assert logs[0].startswith("asked: 'put the red mug")
    assert logs[-1] == "run succeeded: the red mug is on the top shelf"


def test_the_manifest_describes_the_run(tmp_path: Path) -> None:
    made = records.manifest(world_config={"scene": {"seed": 3, "x": (1, 2.5)}}, config={"a": None})
    assert made.packages["numpy"] == np.__version__
    assert made.python
    assert made.world_config == {"scene": {"seed": 3, "x": [1, 2.5]}}
    assert Manifest.model_validate_json(made.to_file()) == made


def test_run_ids_sort_by_time_and_tell_what_was_asked() -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
    assert new_run_id("Clear the dining table!", 3, now) == "20261123-101500-clear-the-dining-table-s3"
    assert new_run_id("", 0, now) == "20261123-101500-run-s0"
    long = new_run_id("put the mug left of the bowl onto the very top shelf please", 12, now)
    assert long == "20261123-101500-put-the-mug-left-of-the-bowl-onto-the-s12"
    assert new_run_id("räum auf", 1, now) == "20261123-101500-r-um-auf-s1"


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    first = new_run_folder(tmp_path, "a")
    first.mkdir()
    second = new_run_folder(tmp_path, "a")
    second.mkdir()
    assert [first.name, second.name, new_run_folder(tmp_path, "a").name] == ["a", "a-2", "a-3"]


def test_memory_and_null_recorders_number_events_like_the_real_one(tmp_path: Path) -> None:
    memory = MemoryRecorder()
    null = NullRecorder()
    ids: list[str] = []
    null.subscribe(lambda event: ids.append(event.id))
    records.script(memory)
    records.script(null)
    folder = records.make_record(tmp_path / "run")
    assert [e.id for e in memory.events] == ids
    assert [e.id for e in RunRecord.open(folder)][:-1] == ids
    assert len(memory.ticks) == null.ticks_written == 24
    assert [type(e) for e in memory.of(ev.StepFinished)] == [ev.StepFinished] * 4
    assert memory.path is None
