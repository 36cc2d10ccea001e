"""The reader: exact values back, clear words about what is wrong, and patience with a torn end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.executor.record.errors import (
    BlobError,
    CorruptRecordError,
    NotARecordError,
    RecordVersionError,
)
from hiervla.executor.record.lines import encode_line
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder
from hiervla.executor.record.streams import read_ticks
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import EVENT_ADAPTER
from hiervla.representations import events as ev
from tests import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_events_come_back_equal_and_typed(whole: Path) -> None:
    memory = MemoryRecorder()
    records.script(memory)
    read = list(RunRecord.open(whole))
    assert len(read) == len(memory.events) + 1
    for ours, theirs in zip(memory.events, read, strict=False):
        if not isinstance(ours, ev.SnapshotTaken | ev.ObservationTaken):
            assert theirs == ours.replace(wall_time_s=theirs.wall_time_s)


def test_an_observation_comes_back_exactly(whole: Path) -> None:
    record = RunRecord.open(whole)
    event = next(record.of(ev.ObservationTaken))
    assert record.observation(event) == records.observation(0)


def test_an_observation_without_depth_comes_back_exactly(tmp_path: Path) -> None:
    frame = records.frame(1, depth=False)
    seen = records.observation(0, ()).replace(frames=(frame,))
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        recorder.observation(seen, "plan")
    record = RunRecord.open(tmp_path / "run")
    assert record.observation(next(record.of(ev.ObservationTaken))) == seen


def test_a_snapshot_comes_back_exactly(whole: Path) -> None:
    record = RunRecord.open(whole)
    events = list(record.of(ev.SnapshotTaken))
    assert record.snapshot(events[0]) == b"state 0" * 50
    assert [e.ticks for e in events] == [0, 6, 12, 18]


def test_the_image_of_an_artifact_is_found_by_its_hash(whole: Path) -> None:
    record = RunRecord.open(whole)
    grounded = next(record.of(ev.Grounded))
    image = getattr(grounded.artifacts[0], "image")  # noqa: B009
    assert np.array_equal(record.image(image), records.frame(0).rgb)
    with pytest.raises(BlobError, match="never recorded"):
        record.image(image.replace(sha256="0" * 64))


def test_of_equal_images_the_one_of_the_right_time_is_meant(tmp_path: Path) -> None:
    early, late = records.frame(1), records.frame(1).replace(time_s=9.0)
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        for frame in (early, late):
            recorder.observation(records.observation(0, ()).replace(frames=(frame,)), "plan")
    record = RunRecord.open(tmp_path / "run")
    assert record.frame(record.frame_of(records.image_ref(early))) == early
    assert record.frame(record.frame_of(records.image_ref(late))) == late


def test_events_can_be_had_by_id_and_by_class(whole: Path) -> None:
    record = RunRecord.open(whole)
    assert record.event("e1") == record.event(1)
    assert isinstance(record.event("e1"), ev.RunStarted)
    assert {type(e) for e in record.of(ev.VerdictGiven)} == {ev.VerdictGiven}
    for wrong in (0, len(record) + 1, "e0", "x", "e01"):
        with pytest.raises(KeyError):
            record.event(wrong)


def test_a_closed_record_has_nothing_to_notice(whole: Path) -> None:
    record = RunRecord.open(whole)
    assert record.closed
    assert record.notices == ()
    assert record.finished is not None
    assert record.sealed is not None


def test_a_record_cut_anywhere_in_its_tail_opens_with_all_whole_lines(copy: Path) -> None:
    events = copy / "events.jsonl"
    data = events.read_bytes()
    lines = list(records.lines_of(copy))
    starts = np.cumsum([0, *(len(line) for line in lines)])
    for size in range(len(data), int(starts[-3]), -1):
        events.write_bytes(data[:size])
        record = RunRecord.open(copy)
        # A line that lacks only its newline is whole.
        expected = int(np.searchsorted(starts, size + 1, side="right")) - 1
        assert len(record) == expected, size
        torn = size not in starts and size + 1 not in starts
        assert (record.torn is not None) == torn
        if torn:
            assert f"line {expected + 1} was cut short" in record.notices[0]
        assert record.closed == (expected == len(lines))


def test_an_empty_file_of_events_is_an_unclosed_record(copy: Path) -> None:
    (copy / "events.jsonl").write_bytes(b"")
    record = RunRecord.open(copy)
    assert len(record) == 0
    assert not record.closed
    assert record.finished is None


def test_streams_cut_anywhere_keep_their_whole_ticks(tmp_path: Path) -> None:
    recorder = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    streams = tmp_path / "run" / "streams.mcap"
    sizes = [streams.stat().st_size]
    for tick in range(3):
        recorder.tick(records.command(tick), records.proprio(tick))
        sizes.append(streams.stat().st_size)
    data = streams.read_bytes()
    for size in range(sizes[0], len(data) + 1):
        streams.write_bytes(data[:size])
        assert len(list(read_ticks(streams))) == sum(size >= s for s in sizes[1:])
    recorder.close()


@pytest.mark.parametrize("path", ["nowhere", "empty", "file", "foreign"])
def test_what_is_no_record_is_called_so(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(NotARecordError, match=r"is no run record.*hiervla runs"):
        RunRecord.open(tmp_path / path)


@pytest.mark.parametrize(
    ("changes", "what", "reads"),
    [({"format_version": 7}, "record format", 2), ({"schema_version": 7}, "schemas", 1)],
)
def test_another_version_is_refused_before_the_rest_is_read(
    copy: Path, changes: dict[str, int], what: str, reads: int
) -> None:
    edit_manifest(copy, **changes, packages={"hiervla": "9.9.9"}, platform=17)
    (copy / "events.jsonl").write_bytes(b"not even lines\n")
    with pytest.raises(RecordVersionError) as error:
        RunRecord.open(copy)
    assert (error.value.found, error.value.supported, error.value.what) == (7, reads, what)
    assert "version 7" in str(error.value)
    assert f"reads version {reads}" in str(error.value)
    assert "hiervla 9.9.9" in str(error.value)


def test_a_damaged_manifest_names_its_field(copy: Path) -> None:
    edit_manifest(copy, seed="three")
    with pytest.raises(CorruptRecordError, match=r"manifest.json: seed:"):
        RunRecord.open(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(CorruptRecordError, match=r"manifest.json: not JSON"):
        RunRecord.open(copy)


def test_a_damaged_line_in_the_middle_is_named(copy: Path) -> None:
    lines = list(records.lines_of(copy))
    lines[6] = lines[6].replace(b"reachable", b"reachabel")
    (copy / "events.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(CorruptRecordError, match=r"events.jsonl, line 7: its bytes do not match its crc") as error:
        RunRecord.open(copy)
    assert error.value.line == 7


def test_a_line_that_holds_no_event_of_this_version_is_named(copy: Path) -> None:
    lines = list(records.lines_of(copy))
    last = json.loads(lines[-1])
    lines[-1] = encode_line(last["seq"], last["prev"], b'{"type":"teleported"}')
    (copy / "events.jsonl").write_bytes(b"".join(lines))
    record = RunRecord.open(copy)
    with pytest.raises(CorruptRecordError, match=rf"line {len(lines)}: .*teleported"):
        record.event(len(lines))


def test_a_missing_or_changed_blob_is_named(copy: Path) -> None:
    record = RunRecord.open(copy)
    event = next(record.of(ev.ObservationTaken))
    blob = copy / "blobs" / f"{event.frames[0].rgb_blob}.webp"
    data = bytearray(blob.read_bytes())
    blob.unlink()
    with pytest.raises(BlobError, match=rf"blobs/{event.frames[0].rgb_blob}.webp is missing"):
        record.observation(event)
    data[-20] ^= 1
    blob.write_bytes(data)
    with pytest.raises(BlobError, match="does not match its checksum"):
        record.observation(event)


def test_missing_streams_are_named(copy: Path) -> None:
    (copy / "streams.mcap").unlink()
    with pytest.raises(CorruptRecordError, match="streams.mcap: is missing"):
        list(RunRecord.open(copy).ticks())


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=40))
def test_numbers_and_text_of_an_event_survive_the_line(number: float, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    event = ev.Note(id="e1", time_s=number, level="info", message=text)
    assert EVENT_ADAPTER.validate_json(event.model_dump_json()) == event


def test_a_type_inside_a_text_does_not_fool_the_lazy_reader(tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        recorder.emit(ev.Note, time_s=0.0, parent='","type":"run_finished', level="info", message='"type":"chunk"')
    record = RunRecord.open(tmp_path / "run")
    assert [e.message for e in record.of(ev.Note)] == ['"type":"chunk"']
    assert record.finished is None
