"""The report as a page: two runs, many steps, and a real browser where there is one."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hiervla.cli import main
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.report.html import report_html
from hiervla.executor.report.images import Images
from hiervla.executor.report.pair import aligned
from tests import records
from tests.executor.test_record_views import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "other"
    with RunRecorder.create(folder, records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        play.plan((records.PICK, records.BOTTOM))
        play.step(records.PICK)
        play.step(records.BOTTOM)
        play.finish()
    return folder


def test_two_runs_are_aligned_by_what_their_steps_do(whole: Path, other: Path, tmp_path: Path) -> None:
    a, b = view_of(RunRecord.open(whole)), view_of(RunRecord.open(other))
    assert [(x and x.number, y and y.number) for x, y in aligned(a.steps, b.steps)] == [(1, 1), (2, None), (3, 2)]
    assert main(["report", str(whole), str(other), "-o", str(tmp_path / "out.html")]) == 0
    parsed = page((tmp_path / "out.html").read_text())
    words = " ".join(parsed.text)
    assert parsed.open == []
    assert "not in this run" in words
    assert "line 3, plan.steps[1].id: 's2' against 's3'" in words
    assert parsed.tags.count("section") == 5


def test_five_hundred_steps_stay_small_and_folded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunRecorder.create(folder, records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        steps = tuple(records.PICK.replace(id=f"s{n}", args={"object": f"block {n}"}) for n in range(1, 501))
        play.plan(steps)
        for step in steps:
            play.step(step, ticks=2)
        play.finish()
    text = report_html(RunRecord.open(folder))
    assert len(text) < 20_000_000
    assert text.count('<section class="step"><details><summary>') == 500
    assert "a row for each of the 500 steps" in text


def test_images_beyond_the_budget_are_left_out_and_counted() -> None:
    images = Images(budget=7000)
    shown = [bool(images.figure(records.frame(n), (), "x")) for n in range(20)]
    assert shown[0]
    assert not shown[-1]
    assert images.left_out == shown.count(False)
    assert images.figure(records.frame(0), (), "x"), "one that is there can be shown again"


def test_what_is_missing_is_named_in_the_page(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    (folder / "streams.mcap").unlink()
    for blob in (folder / "blobs").glob("*.webp"):
        blob.unlink()
    words = " ".join(page(report_html(RunRecord.open(folder))).text)
    assert ".webp is missing" in words
    assert "streams.mcap: is missing" in words
    assert "the fingers closed on nothing" in words


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("width", [500, 1400])
def test_a_browser_draws_the_images_under_the_strict_policy(whole: Path, tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    path, shot = tmp_path / "out.html", tmp_path / "shot.png"
    path.write_text(report_html(RunRecord.open(whole)))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},4000", f"--screenshot={shot}"]
    subprocess.run([*command, path.as_uri()], check=True, capture_output=True, timeout=120)
    pixels = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    # The artifacts' first colour, magenta, is nowhere else in the page: overlays were drawn over the frames.
    magenta = (pixels[..., 0] > 200) & (pixels[..., 1] < 80) & (pixels[..., 2] > 150)
    assert magenta.sum() > 50
    # The frames are grey noise from 90 to 120: they are there, not only what is drawn over them.
    grey = ((pixels > 80) & (pixels < 130)).all(axis=2) & (np.ptp(pixels, axis=2) < 40)
    assert grey.sum() > 20_000
