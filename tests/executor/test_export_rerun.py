"""What Rerun is given of a record: always checked without it, and handed over where it is installed."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hiervla.cli import main
from hiervla.executor.export import entities as e
from hiervla.executor.export import rerun as view
from hiervla.executor.export.scene import CameraSeen, Mark, Overlay
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import MissingDependencyError
from tests import records

installed = importlib.util.find_spec("rerun") is not None
needs_rerun = pytest.mark.skipif(not installed, reason="Rerun (0.7 GB) is not installed: pip install 'hiervla[view]'")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture(scope="module")
def items(whole: Path) -> list[e.Logged | e.Column]:
    notices: list[str] = []
    found = list(e.entities(RunRecord.open(whole), notices))
    assert notices == []
    return found


def at(items: list[e.Logged | e.Column], entity: str) -> list[e.Logged]:
    return [item for item in items if isinstance(item, e.Logged) and item.entity == entity]


def test_cameras_clouds_joints_plan_and_log_are_there(items: list[e.Logged | e.Column]) -> None:
    assert {item.entity for item in items} == {
        *(f"world/camera/{c}{part}" for c in ("front", "wrist") for part in ("", "/rgb", "/marks")),
        *(f"world/camera/front/marks/{part}" for part in ("heat", "points", "boxes", "paths")),
        *(f"world/cloud/{c}" for c in ("front", "wrist")),
        *(f"robot/joints/{side}/joint_{j}" for side in ("sensed", "commanded") for j in range(1, 8)),
        *(f"timing/{name}" for name in ("planner_s", "chunk_s", "staleness_s")),
        "robot/gripper/sensed_m",
        "robot/gripper/commanded_m",
        "world/tcp",
        "plan/text",
        "plan/step",
        "log",
    }


def test_everything_has_the_time_of_the_world(items: list[e.Logged | e.Column], whole: Path) -> None:
    record = RunRecord.open(whole)
    ends = max(event.time_s for event in record)
    # The test's wrist camera has a clock of its own.
    times = [i.time_s for i in items if isinstance(i, e.Logged) and "wrist" not in i.entity]
    assert all(0.0 <= time_s <= ends for time_s in times)
    (joint,) = (i for i in items if isinstance(i, e.Column) and i.entity == "robot/joints/sensed/joint_3")
    ticks = list(record.ticks())
    assert joint.times_s == tuple(t.sensed_at_s for t in ticks)
    assert joint.values["scalars"] == [t.q[2] for t in ticks]


def test_the_plan_and_the_step_change_together(items: list[e.Logged | e.Column]) -> None:
    states = [(i.time_s, i.values["state"]) for i in at(items, "plan/step")]
    assert states[:3] == [
        (0.0, "pick up the red mug"),
        (0.12, "between steps"),
        (0.12, "pick up the red mug (attempt 2)"),
    ]
    texts = at(items, "plan/text")
    assert "- ▶ pick up the red mug" in texts[1].values["text"]
    assert "- ✗ pick up the red mug: failed" in texts[2].values["text"]
    assert "**succeeded**: the red mug is on the top shelf" in texts[-1].values["text"]


def test_marks_are_cleared_before_others_are_drawn(items: list[e.Logged | e.Column]) -> None:
    marks = [i for i in items if isinstance(i, e.Logged) and i.entity.startswith("world/camera/front/marks")]
    names = [(i.entity.rpartition("/")[2], i.archetype) for i in marks[:6]]
    assert names == [
        ("marks", "Clear"),
        ("boxes", "Boxes2D"),
        ("marks", "Clear"),
        ("heat", "EncodedImage"),
        ("points", "Points2D"),
        ("boxes", "Boxes2D"),
    ]
    points = marks[4].values
    assert (points["positions"], points["labels"]) == ([(40.0, 12.0)], ["red mug 0.97"])


def test_the_heat_of_a_map_is_where_its_peak_is() -> None:
    frame = records.frame(0)
    heat: Any = records.artifacts(frame, "mug", u=40.0, v=12.0)[0]
    rgba = np.asarray(Image.open(io.BytesIO(e.heat_png(heat, (records.WIDTH, records.HEIGHT)))))
    assert rgba.shape == (records.HEIGHT, records.WIDTH, 4)
    assert rgba[14, 42, 3] > 200
    assert rgba[40, 5, 3] == 0


def test_the_cloud_is_depth_in_the_world_frame() -> None:
    frame = records.frame(0)
    points, colours = e.cloud(CameraSeen(0.0, frame))
    assert points.shape == colours.shape == (records.HEIGHT // 2 * records.WIDTH // 2, 3)
    # The camera looks straight down from 1 m above (0.5, 0); pixel (0, 0) lies to its left, which is -x, and up, +y.
    z = float(frame.require_depth()[0, 0])
    expected = (0.5 + (0.5 - 32) / 60 * z, -(0.5 - 24) / 60 * z, 1.0 - z)
    assert points[0] == pytest.approx(expected, abs=1e-6)
    assert colours[0].tolist() == frame.rgb[0, 0].tolist()


def test_an_overlay_without_marks_only_clears() -> None:
    cleared = list(e.logged(Overlay(1.0, "front", (64, 48), (), None)))
    assert [(i.entity, i.archetype) for i in cleared] == [("world/camera/front/marks", "Clear")]
    path = Mark("path", ((0.0, 0.0), (1.0, 1.0)), "", (255, 0, 0))
    assert [i.archetype for i in e.logged(Overlay(1.0, "front", (64, 48), (path,), None))] == ["Clear", "LineStrips2D"]


def test_what_is_missing_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    (folder / "streams.mcap").unlink()
    for blob in (folder / "blobs").glob("*.webp"):
        blob.unlink()
    notices: list[str] = []
    left = list(e.entities(RunRecord.open(folder), notices))
    assert {i.entity for i in left} >= {"plan/text", "plan/step", "log", "world/camera/front/marks/points"}
    assert notices[-1] == "joints are not shown: streams.mcap is missing"
    assert "camera 'front': blobs/" in notices[0]


# The viewer itself.


def test_its_window_is_for_this_computer_only_and_sends_nothing_home(tmp_path: Path) -> None:
    command = view.viewer_command(tmp_path / "a.rrd")
    assert command[command.index("--bind") + 1] == "127.0.0.1"
    assert view.PRIVATE == {"CI": "true"}


def test_without_the_extra_the_command_to_install_it_is_told(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError):
        view.save_rrd(RunRecord.open(whole), tmp_path / "a.rrd")
    assert main(["view", str(whole)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        "hiervla: Rerun is not available, but the viewer needs it. Install it (0.7 GB): pip install 'hiervla[view]'."
    )


@needs_rerun
def test_a_recording_is_written_that_rerun_verifies(whole: Path, tmp_path: Path) -> None:
    before = dict(os.environ)
    assert main(["view", str(whole), "--save", str(tmp_path / "out.rrd")]) == 0
    assert dict(os.environ) == before
    environment = {**os.environ, **view.PRIVATE, "HOME": str(tmp_path)}
    base = [sys.executable, "-m", "rerun_cli", "rrd"]
    subprocess.run([*base, "verify", str(tmp_path / "out.rrd")], env=environment, check=True, capture_output=True)
    done = subprocess.run(
        [*base, "stats", str(tmp_path / "out.rrd")], env=environment, check=True, capture_output=True, text=True
    )
    for entity in ("/world/camera/front/rgb", "/world/cloud/wrist", "/robot/joints/sensed/joint_7", "/plan/step"):
        assert f"{entity}: " in done.stdout


@needs_rerun
def test_every_archetype_takes_what_it_is_given(whole: Path, tmp_path: Path) -> None:
    """Rerun only warns about a wrong value; strict, it raises."""
    import rerun as rr

    rr.set_strict_mode(True)
    try:
        view.save_rrd(RunRecord.open(whole), tmp_path / "out.rrd")
    finally:
        rr.set_strict_mode(False)


@needs_rerun
def test_a_file_that_cannot_be_written_is_named(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(whole), "--save", str(tmp_path / "no" / "out.rrd")]) == 1
    assert "cannot be written: No such file or directory" in " ".join(capsys.readouterr().err.split())
