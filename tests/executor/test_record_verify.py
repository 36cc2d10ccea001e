"""`verify` finds whatever was changed, removed, added or reordered, and names the right line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hiervla.executor.record.errors import NotARecordError, RecordError, RecordVersionError
from hiervla.executor.record.lines import digest, encode_line
from hiervla.executor.record.verify import verify
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import events as ev
from tests import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def rewrite(folder: Path, edit: Callable[[list[Any]], list[Any]]) -> None:
    """Change the events and make seq, chain and crcs right again, as a clever forger would."""
    previous = digest((folder / "manifest.json").read_bytes())
    events = edit([json.loads(line)["event"] for line in records.lines_of(folder)])
    lines = []
    for seq, event in enumerate(events, 1):
        line = encode_line(seq, previous, json.dumps(event, separators=(",", ":")).encode())
        previous = digest(line[:-1])
        lines.append(line)
    (folder / "events.jsonl").write_bytes(b"".join(lines))


def test_a_whole_record_is_whole(whole: Path) -> None:
    found = verify(whole)
    assert (found.status, found.problem, found.notices) == ("whole", "", [])
    assert (found.events, found.blobs, found.ticks) == (54, 24, 24)
    assert found.head == digest(list(records.lines_of(whole))[-1][:-1])


def test_a_rewrite_that_changes_nothing_is_whole(copy: Path) -> None:
    rewrite(copy, lambda events: events)
    assert verify(copy).status == "whole"


@pytest.fixture(scope="module")
def scratch(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(whole, tmp_path_factory.mktemp("flips") / "run")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_byte_anywhere_in_the_events_is_found_on_its_line(scratch: Path, data: st.DataObject) -> None:
    path = scratch / "events.jsonl"
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(original)
    changed[place] ^= flip
    try:
        path.write_bytes(changed)
        found = verify(scratch)
    finally:
        path.write_bytes(original)
    assert found.status == "broken"
    assert (found.place, found.line) == ("events.jsonl", original[:place].count(b"\n") + 1)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_flipped_byte_in_any_other_file_is_found(scratch: Path, data: st.DataObject) -> None:
    files = sorted(p for p in scratch.rglob("*") if p.is_file() and p.name != "events.jsonl")
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        path.write_bytes(changed)
        found = verify(scratch)
        assert found.status == "broken"
        named = found.problem if "blobs" in str(path) else found.place
        assert path.name in named or (path.name == "manifest.json" and found.line == 1)
    except (NotARecordError, RecordVersionError):
        assert path.name == "manifest.json"
    finally:
        path.write_bytes(original)


def test_a_rewritten_line_with_a_right_crc_breaks_the_chain(copy: Path) -> None:
    lines = list(records.lines_of(copy))
    fields = json.loads(lines[4])
    fields["event"]["attempt"] = 5
    event = json.dumps(fields["event"], separators=(",", ":")).encode()
    lines[4] = encode_line(fields["seq"], fields["prev"], event)
    (copy / "events.jsonl").write_bytes(b"".join(lines))
    found = verify(copy)
    assert (found.status, found.line) == ("broken", 6)
    assert "does not follow line 5, one of the two was rewritten" in found.problem


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda lines: [*lines[:9], *lines[10:]], 10),
        (lambda lines: [*lines[:9], lines[9], lines[9], *lines[10:]], 11),
        (lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]], 10),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:20], b"\n", *lines[20:]], 21),
        (lambda lines: [*lines, lines[-1]], 55),
    ],
    ids=["removed", "doubled", "swapped", "beheaded", "blank", "appended"],
)
def test_removed_doubled_and_reordered_lines_are_found(
    copy: Path, edit: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    (copy / "events.jsonl").write_bytes(b"".join(edit(list(records.lines_of(copy)))))
    found = verify(copy)
    assert (found.status, found.place, found.line) == ("broken", "events.jsonl", line)


def test_something_added_after_closing_is_found(copy: Path) -> None:
    with open(copy / "events.jsonl", "ab") as file:
        file.write(b'{"seq":55,')
    found = verify(copy)
    assert (found.status, found.line) == ("broken", 55)


@pytest.mark.parametrize("keep", [53, 52, 20, 1, 0])
def test_a_record_that_ends_early_is_unclosed_but_whole(copy: Path, keep: int) -> None:
    (copy / "events.jsonl").write_bytes(b"".join(list(records.lines_of(copy))[:keep]) + b'{"seq":')
    found = verify(copy)
    assert (found.status, found.problem, found.events) == ("unclosed", "", keep)
    assert any("cut short" in n for n in found.notices)
    assert any("not closed" in n for n in found.notices)


def _set(index: int, **fields: Any) -> Callable[[list[Any]], list[Any]]:
    def edit(events: list[Any]) -> list[Any]:
        events[index].update(fields)
        return events

    return edit


def _artifact(events: list[Any]) -> list[Any]:
    for artifact in events[5]["artifacts"]:
        artifact["image"]["sha256"] = "0" * 64
    return events


@pytest.mark.parametrize(
    ("edit", "line", "problem"),
    [
        (_set(4, id="e9"), 5, "its id is e9, expected e5"),
        (_set(4, parent="e5"), 5, "its parent e5 is no earlier event"),
        (_set(4, parent="x"), 5, "its parent x is no earlier event"),
        (_set(4, attempt=-1), 5, "attempt"),
        (_set(4, type="teleported"), 5, "teleported"),
        (_set(0, seed=4), 1, "its seed is 4, the manifest says 3"),
        (lambda events: [events[1], events[0], *events[2:]], 1, "its id is e2"),
        (_set(-1, ticks=23), None, "holds 24 ticks, 23 were recorded"),
        (_set(-1, streams_sha256="0" * 64), None, "its hash is not the one on line 54"),
        (_artifact, 6, "image 000000000000…, which was not recorded before"),
        (lambda events: [*events[:-2], {**events[-1], "id": "e53"}], 53, "has to follow run_finished"),
    ],
)
def test_a_clever_forgery_still_has_to_make_sense(
    copy: Path, edit: Callable[[list[Any]], list[Any]], line: int | None, problem: str
) -> None:
    rewrite(copy, edit)
    found = verify(copy)
    assert found.status == "broken"
    assert found.line == line
    assert problem in found.problem.replace("to be the last line and to follow", "to follow")


def test_nothing_but_the_first_event_may_start_a_run(copy: Path) -> None:
    rewrite(copy, lambda e: [e[0], {**e[0], "id": "e2"}, *e[2:]])
    found = verify(copy)
    assert (found.line, found.problem) == (2, "the first event, and no other, has to be run_started")


def test_nothing_happens_after_the_end_of_a_run(tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        play.finish()
        recorder.emit(ev.PlanRejected, time_s=0.0, raw_text="", problem="late")
    found = verify(tmp_path / "run")
    assert (found.line, found.problem) == (3, "plan_rejected after run_finished")


def test_a_missing_blob_is_named_on_the_line_that_needs_it(copy: Path) -> None:
    blob = next((copy / "blobs").glob("*.snapshot"))
    blob.unlink()
    found = verify(copy)
    assert found.status == "broken"
    assert found.problem == f"blobs/{blob.name} is missing"
    lines = list(records.lines_of(copy))
    assert found.line is not None
    assert blob.stem.encode() in lines[found.line - 1]


def test_a_file_that_no_event_names_is_only_noticed(copy: Path) -> None:
    (copy / "blobs" / ".writing-1").write_bytes(b"half")
    found = verify(copy)
    assert found.status == "whole"
    assert found.notices == ["1 file(s) in blobs/ that no event names"]


def test_an_unclosed_record_says_that_its_streams_have_no_index(tmp_path: Path) -> None:
    recorder = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    records.Script(recorder).move(3)
    found = verify(tmp_path / "run")
    assert (found.status, found.ticks) == ("unclosed", 3)
    assert "streams.mcap has no index yet; it is read in order" in found.notices
    recorder.close()
    assert verify(tmp_path / "run").status == "whole"


def test_what_is_no_record_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        verify(tmp_path)
