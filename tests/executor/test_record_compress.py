"""Images are on the disk before the event that names them, and are compressed beside the control loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.record import codecs, compress
from hiervla.executor.record.errors import RecordWriteError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.verify import verify
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import CameraFrame
from hiervla.representations import events as ev
from tests import records


def scene(number: int, moving: int = 6) -> CameraFrame:
    """A frame of a camera that stands still: a few pixels differ from one number to the next."""
    still = records.frame(0)
    rgb, depth_m = np.array(still.rgb), np.array(still.require_depth())
    rgb[:moving, :moving] = number
    depth_m[:moving, :moving] = number / 10
    return CameraFrame(
        name="front", rgb=rgb, depth_m=depth_m, K=still.K, T_world_camera=still.T_world_camera, time_s=float(number)
    )


def begin(folder: Path, **options: Any) -> RunRecorder:
    recorder = RunRecorder.create(folder, records.manifest(), durable=options.get("durable", False))
    recorder.emit(ev.RunStarted, time_s=0.0, **{k: getattr(recorder.manifest, k) for k in STARTED})
    return recorder


STARTED = ("instruction", "world", "planner", "policy", "seed")


def see(recorder: RunRecorder, frame: CameraFrame) -> None:
    seen = records.observation(0).replace(frames=(frame,))
    recorder.observation(seen, "act", parent="e1")


def frames_of(record: RunRecord) -> list[CameraFrame]:
    return [record.observation(e).frames[0] for e in record.of(ev.ObservationTaken)]


def equal(a: CameraFrame, b: CameraFrame) -> bool:
    return a.rgb.tobytes() == b.rgb.tobytes() and a.require_depth().tobytes() == b.require_depth().tobytes()


def test_what_a_still_camera_sees_is_kept_as_changes_and_comes_back(tmp_path: Path) -> None:
    shown = [scene(n) for n in range(1, 7)]
    with begin(tmp_path / "run") as recorder:
        for frame in shown:
            see(recorder, frame)
    assert all(map(equal, frames_of(RunRecord.open(tmp_path / "run")), shown))
    sizes = {e: [p.stat().st_size for p in (tmp_path / "run" / "blobs").glob(f"*.{e}")] for e in ("webp", "rgb")}
    assert (len(sizes["webp"]), len(sizes["rgb"])) == (1, 5)
    assert max(sizes["rgb"]) < sizes["webp"][0] / 5
    assert verify(tmp_path / "run").status == "whole"


def test_a_camera_that_moves_is_kept_whole(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as recorder:
        for number in range(4):
            see(recorder, records.frame(number))
    assert len(list((tmp_path / "run" / "blobs").glob("*.webp"))) == 4
    assert not list((tmp_path / "run" / "blobs").glob("*.rgb"))


def test_whole_images_open_in_any_viewer(tmp_path: Path) -> None:
    from PIL import Image

    with begin(tmp_path / "run") as recorder:
        see(recorder, records.frame(1))
    with Image.open(next((tmp_path / "run" / "blobs").glob("*.webp"))) as image:
        assert np.array_equal(np.array(image), records.frame(1).rgb)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Compression stands still until this is set."""
    go = threading.Event()
    encode = codecs.encode_rgb

    def wait(rgb: Any) -> bytes:
        assert go.wait(30)
        return encode(rgb)

    monkeypatch.setattr(codecs, "encode_rgb", wait)
    return go


def test_an_image_can_be_read_before_it_is_compressed(tmp_path: Path, held: threading.Event) -> None:
    recorder = begin(tmp_path / "run")
    see(recorder, scene(1))
    assert not [p for p in (tmp_path / "run" / "blobs").glob("*.*") if p.suffix != ".depth"]
    assert (tmp_path / "run" / "blobs" / "waiting").stat().st_size > scene(1).rgb.nbytes
    assert equal(frames_of(RunRecord.open(tmp_path / "run"))[0], scene(1))
    assert verify(tmp_path / "run").status == "unclosed"
    held.set()
    recorder.close()
    assert verify(tmp_path / "run").status == "whole"
    assert not (tmp_path / "run" / "blobs" / "waiting").exists()
    assert verify(tmp_path / "run").notices == []
    assert equal(frames_of(RunRecord.open(tmp_path / "run"))[0], scene(1))


def test_who_is_too_fast_waits_and_nothing_is_dropped(
    tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compress, "_WAITING", 4)
    recorder = begin(tmp_path / "run")
    shown = [records.frame(n) for n in range(8)]

    def write() -> None:
        for frame in shown:
            see(recorder, frame)

    writing = threading.Thread(target=write)
    writing.start()
    writing.join(0.3)
    assert writing.is_alive()
    held.set()
    writing.join(30)
    assert not writing.is_alive()
    recorder.close()
    assert all(map(equal, frames_of(RunRecord.open(tmp_path / "run")), shown))


def test_an_image_that_cannot_be_compressed_is_told_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = threading.Event()

    def refuse(rgb: Any) -> bytes:
        # Sooner, the depth of the same frame would be told already.
        assert seen.wait(30)
        raise MemoryError("no room")

    monkeypatch.setattr(codecs, "encode_rgb", refuse)
    recorder = begin(tmp_path / "run", durable=True)
    see(recorder, scene(1))
    seen.set()
    with pytest.raises(RecordWriteError, match=r"camera 'front' cannot be compressed \(MemoryError: no room\)"):
        recorder.sync()
    see(recorder, scene(2))
    recorder.close()
    assert verify(tmp_path / "run").status == "whole"
    assert all(map(equal, frames_of(RunRecord.open(tmp_path / "run")), (scene(1), scene(2))))


def test_a_full_disk_is_told_by_the_next_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    recorder = begin(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        see(recorder, scene(1))
        see(recorder, scene(2))  # which has the one before compressed, as a control step does
        recorder._compressor._jobs.join()
        with pytest.raises(RecordWriteError, match="No space left"):
            see(recorder, scene(3))
    recorder.close()
    assert verify(tmp_path / "run").status == "whole"


def test_an_error_in_the_run_still_compresses_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begin(tmp_path / "run") as recorder:
        for number in range(1, 9):
            see(recorder, scene(number))
        raise KeyboardInterrupt
    assert verify(tmp_path / "run").status == "whole"
    assert len(list((tmp_path / "run" / "blobs").glob("*.webp"))) == 1
    assert not [t for t in threading.enumerate() if t.name == "hiervla-record"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.executor.test_record_compress import begin, see
from tests import records

recorder = begin(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    see(recorder, records.frame(number))
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_killed_process_loses_no_image_of_an_event_that_was_written(tmp_path: Path, count: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run"), str(count)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(done.stdout.split()) == count
    assert verify(tmp_path / "run").status == "unclosed"
    kept = frames_of(RunRecord.open(tmp_path / "run"))
    assert len(kept) == count
    assert all(equal(frame, records.frame(number)) for number, frame in enumerate(kept))


def test_a_control_step_hands_over_one_image(tmp_path: Path, held: threading.Event) -> None:
    recorder = begin(tmp_path / "run")
    see(recorder, scene(1))  # colours and depth
    assert not [t for t in threading.enumerate() if t.name == "hiervla-record"]
    for left in (1, 0):
        recorder.tick(records.command(0), records.proprio(0))
        assert len(recorder._compressor._held) == left
    assert [t for t in threading.enumerate() if t.name == "hiervla-record"]
    held.set()
    recorder.close()
    assert verify(tmp_path / "run").status == "whole"
