"""``hiervla inspect`` of a step, an artifact, an event, a run that is going on; and of records that lack something."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hiervla.cli import main
from hiervla.cli.following import follow
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import ARTIFACT_ADAPTER, EVENT_ADAPTER
from hiervla.representations import events as ev
from tests import records


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record at the relative path ``run``."""
    records.make_record(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_an_artifact_is_shown_wherever_it_stands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run", "--artifact", "keypoints"]) == 0
    text = said(capsys)
    assert text.count("keypoint 'red mug' at (40.0, 12.0) px") == 4
    assert "grounded for step s1" in text
    assert re.search(r"in camera 'front' at 0\.00 s, image [0-9a-f]{12}…", text)
    assert main(["inspect", "run", "--artifact", "keypoints", "--step", "1", "--attempt", "2", "--json"]) == 0
    ((only),) = json.loads(said(capsys))
    record = RunRecord.open(run)
    event = record.event(only["event"])
    assert isinstance(event, ev.Grounded)
    assert ARTIFACT_ADAPTER.validate_json(json.dumps(only["artifact"])) in event.artifacts
    assert main(["inspect", "run", "--artifact", "program"]) == 0
    assert said(capsys) == "no program in the run\n"


def test_an_event_is_shown_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunRecord.open(run)
    grounded = next(record.of(ev.Grounded))
    assert main(["inspect", "run", "--event", grounded.id, "--png", "event.png"]) == 0
    text = said(capsys)
    assert text.startswith(f"{grounded.id}  0.00 s  grounded, in {grounded.parent}\n")
    assert "image path (8, 40) open (40, 12) px" in text
    assert "picture: event.png" in text
    assert Path("event.png").exists()
    chunk = next(record.of(ev.ChunkProposed))
    assert main(["inspect", "run", "--event", chunk.id]) == 0
    text = said(capsys)
    assert "chunk.positions: float64 array of 4 x 3" in text
    assert "staleness_s: 0.1" in text
    assert main(["inspect", "run", "--event", chunk.id, "--json"]) == 0
    assert EVENT_ADAPTER.validate_json(said(capsys)) == chunk


def test_an_attempt_has_its_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run", "--step", "1", "--attempt", "1", "--png", "a.png", "--json"]) == 0
    values = json.loads(said(capsys))
    assert (values["attempt"], values["attempts"][0]["outcome"], values["missing"]) == (1, "failed", [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attempt", "2"], "which attempt of which step? Give --step too"),
        (["--follow", "--event", "e1"], "are different questions: ask one"),
        (["--png", "a.png"], "only a step or an event has a picture"),
        (["--event", "e99"], "unknown event 'e99' in record 'run'. Known: e1 to e54."),
        (["--artifact", "keypoint"], "unknown artifact 'keypoint'. Did you mean 'keypoints'?"),
    ],
)
def test_mistakes_are_told(run: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["inspect", "run", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_replans_and_rejected_answers_stand_in_the_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        recorder.emit(ev.PlanRejected, time_s=0.0, raw_text="pick(\n mug", problem="line 2: no such skill")
        play.plan((records.PICK, records.PLACE))
        play.step(records.PICK, "failed")
        play.plan((records.PLACE.replace(id="s2", depends_on=()),), reason="after s1: failed")
        recorder.emit(ev.PlanRejected, time_s=0.0, raw_text="", problem="nothing came")
        play.finish("failed", "gave up")
    assert main(["inspect", str(tmp_path / "run")]) == 0
    lines = [line.strip("│├└─ ") for line in said(capsys).splitlines()]
    assert 'rejected answer: line 2: no such skill  it said "pick( mug"' in lines
    assert "- pick up the red mug" in lines
    assert "= 1 step kept" in lines
    assert lines[-2] == "rejected answer: nothing came"
    assert main(["inspect", str(tmp_path / "run"), "--json"]) == 0
    values = json.loads(said(capsys))
    assert [r["problem"] for r in values["rejected"]] == ["line 2: no such skill", "nothing came"]
    assert values["plans"][0]["rejected"] == ["line 2: no such skill"]
    assert values["plans"][1]["change"]["removed"] == ["pick up the red mug"]


# What lacks something.


def test_a_missing_image_is_named_and_the_rest_is_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for blob in (run / "blobs").glob("*.webp"):
        blob.unlink()
    assert main(["inspect", "run", "--step", "1"]) == 0
    text = said(capsys)
    assert re.search(r"not drawn: blobs/[0-9a-f]{64}\.webp is missing", text)
    assert "keypoint 'red mug' at (40.0, 12.0) px" in text
    assert main(["inspect", "run"]) == 0


def test_missing_depth_takes_no_picture_away(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for blob in (run / "blobs").glob("*.depth"):
        blob.unlink()
    assert main(["inspect", "run", "--step", "1", "--png", "a.png"]) == 0
    assert "not drawn" not in said(capsys)


def test_a_cut_record_is_shown_as_far_as_it_goes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (run / "events.jsonl").read_bytes()
    (run / "streams.mcap").unlink()
    # A record that lacks but the end of its last line is whole.
    for size in range(0, len(data) - 1, len(data) // 23):
        (run / "events.jsonl").write_bytes(data[:size])
        assert main(["inspect", "run"]) == 0
        text = said(capsys)
        assert "the record was not closed" in text
        assert ("the run did not get to its end" in text) == (b'"type":"run_finished"' not in data[:size])


# A run that is going on.


class Writer:
    """A run in another process, as far as the record can tell: one more event at every wait."""

    def __init__(self, folder: Path, lines: list[bytes]) -> None:
        self.path = folder / "events.jsonl"
        self.lines = lines

    def sleep(self, seconds: float) -> None:
        with open(self.path, "ab") as file:
            file.write(b"".join(self.lines[:3]))
        del self.lines[:3]


def growing(run: Path) -> Iterator[Writer]:
    lines = list(records.lines_of(run))
    (run / "events.jsonl").unlink()
    yield Writer(run, lines)


def test_follow_prints_what_happens_and_ends_with_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (writer,) = growing(run)
    follow(run, sleep=writer.sleep)
    lines = [line.rstrip() for line in said(capsys).splitlines()]
    assert lines[2:5] == [
        "    0.00 s  plan (initial)",
        "              1. pick up the red mug",
        "              2. put the red mug on the top shelf",
    ]
    assert "    0.12 s  step s1 failed after 0.1 s: the fingers closed on nothing" in lines
    assert "    0.12 s  step s1 done: grasped: no (0.93)" in lines
    at = lines.index("    0.36 s  plan 2 (after s2: unreachable)")
    assert lines[at + 1 : at + 4] == [
        "              - put the red mug on the top shelf",
        "              + put the red mug on the bottom shelf",
        "              1. put the red mug on the bottom shelf",
    ]
    assert lines[-2] == "✓ succeeded  the red mug is on the top shelf"
    assert not [line for line in lines if "chunk" in line]


def test_follow_speaks_json_lines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = list(RunRecord.open(run))
    (writer,) = growing(run)
    follow(run, as_json=True, sleep=writer.sleep)
    assert [EVENT_ADAPTER.validate_json(line) for line in said(capsys).splitlines()] == events


def test_follow_of_a_dead_run_says_so_and_waits(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (run / "events.jsonl").read_bytes()
    (run / "events.jsonl").write_bytes(data[: len(data) // 2])
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if sum(waits) > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(run, sleep=sleep)
    assert said(capsys).count("nothing new for 30 s: the run may have been killed") == 1


@pytest.fixture
def ctrl_c_heard() -> Iterator[None]:
    """A shell has its background jobs ignore Ctrl-C, and their children inherit that; here it has to be heard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_heard")
def test_ctrl_c_ends_following_another_process_with_130(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recorder = RunRecorder.create(folder, records.manifest(), durable=False)
    play = records.Script(recorder)
    command = [sys.executable, "-m", "hiervla.cli", "inspect", str(folder), "--follow"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        assert "asked: 'put the red mug" in process.stdout.readline()
        began = time.monotonic()
        play.plan((records.PICK, records.PLACE))
        assert process.stdout.readline().strip() == "0.00 s  plan (initial)"
        assert time.monotonic() - began < 5.0
        process.send_signal(signal.SIGINT)
        # Python ends itself by the signal when Ctrl-C falls into code that it runs from a string, as dataclasses do; a
        # shell reports both as 130.
        assert process.wait(timeout=20) in {130, -signal.SIGINT}
        assert "Traceback" not in process.stderr.read()
    recorder.close()


def test_the_records_in_a_folder_have_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", ".", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(said(capsys))
    assert [(r["run"], r["outcome"]) for r in rows] == [("run", "succeeded")]
