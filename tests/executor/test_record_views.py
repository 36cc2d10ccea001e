"""What is shown of a record: the fold into steps, drawings, words, the report, the comparison of two runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.record import fold
from hiervla.executor.record.compare import first_difference
from hiervla.executor.record.describe import describe
from hiervla.executor.record.draw import draw, half_blocks, marks, plain_blocks
from hiervla.executor.record.pictures import step_pictures
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder
from hiervla.executor.record.view import RunView, sentence
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.report.html import report_html, write_report
from hiervla.representations import (
    Constraint,
    Constraints,
    Keypoint,
    LanguageMotion,
    Program,
    SubtaskList,
    ValueMap,
    Waypoint3D,
    Waypoints3D,
)
from hiervla.representations import events as ev
from tests import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


def view_of(play: Any) -> RunView:
    recorder = MemoryRecorder()
    play(recorder)
    return RunView.of(recorder.events)  # type: ignore[arg-type]


# The fold.


def test_a_run_folds_into_chapters_steps_and_attempts() -> None:
    view = view_of(records.script)
    assert (view.replans, view.retries, len(view.steps)) == (1, 1, 3)
    assert [[(r.number, r.step.id, view.state(c, r)) for r in c.entries()] for c in view.chapters] == [
        [(1, "s1", "succeeded"), (2, "s2", "failed")],
        [(3, "s3", "succeeded")],
    ]
    assert [a.outcome for a in view.steps[0].attempts] == ["failed", "succeeded"]
    assert [len(c.answers) for c in view.chapters] == [2, 1]
    first = view.steps[0].attempts[0]
    assert (len(first.chunks), len(first.verdicts), len(first.grounded), len(first.transits)) == (2, 2, 1, 1)
    assert view.steps[0].duration_s == pytest.approx(0.24)


def test_the_view_of_a_run_in_progress_says_what_is_waiting_and_running() -> None:
    def play(recorder: Any) -> None:
        script = records.Script(recorder)
        script.plan((records.PICK, records.PLACE))
        recorder.emit(ev.StepStarted, time_s=0.0, step=records.PICK, attempt=0)

    view = view_of(play)
    (chapter,) = view.chapters
    assert [view.state(chapter, r) for r in chapter.entries()] == ["running", "waiting"]


def test_the_view_of_a_killed_run_says_what_was_cut_off_and_never_begun() -> None:
    def play(recorder: Any) -> None:
        script = records.Script(recorder)
        script.plan((records.PICK, records.PLACE))
        recorder.emit(ev.StepStarted, time_s=0.0, step=records.PICK, attempt=0)
        script.finish("error", "boom")

    view = view_of(play)
    (chapter,) = view.chapters
    assert [view.state(chapter, r) for r in chapter.entries()] == ["unfinished", "not_begun"]


def test_a_planner_that_renumbers_its_steps_only_confirms_them() -> None:
    def play(recorder: Any) -> None:
        script = records.Script(recorder)
        script.plan((records.PICK, records.PLACE))
        script.step(records.PICK)
        script.plan((records.PLACE.replace(id="s1", depends_on=()),), reason="after s1: succeeded")
        script.step(records.PLACE.replace(id="s1", depends_on=()))
        script.finish()

    view = view_of(play)
    assert view.replans == 0
    assert [r.step.skill for r in view.chapters[0].entries()] == ["pick", "place"]


def test_the_same_step_planned_twice_is_two_steps() -> None:
    def play(recorder: Any) -> None:
        script = records.Script(recorder)
        wipe = records.PICK.replace(id="s2", args={"object": "sponge"})
        again = records.PICK.replace(id="s3")
        script.plan((records.PICK, wipe, again))
        for step in (records.PICK, wipe, again):
            script.step(step)
        script.finish()

    view = view_of(play)
    assert [r.number for r in view.chapters[0].entries()] == [1, 2, 3]
    assert view.retries == 0


def test_steps_are_found_by_number_and_by_id() -> None:
    view = view_of(records.script)
    assert view.find("3").step.id == "s3"
    assert view.find("s1").number == 1
    with pytest.raises(KeyError):
        view.find("9")


def test_every_event_has_a_sentence_or_only_data() -> None:
    recorder = MemoryRecorder()
    records.script(recorder)
    silent = {type(e).__name__ for e in recorder.events if not sentence(e)}  # type: ignore[arg-type]
    assert silent == {"ObservationTaken", "SnapshotTaken"}


# Drawings.


def test_the_overlay_is_where_the_artifact_says() -> None:
    frame = records.frame(0)
    heat, point, box, path = records.artifacts(frame, "red mug", u=40.0, v=12.0)
    plain = np.repeat(np.repeat(frame.rgb, 4, 0), 4, 1).astype(int)

    def changed(artifact: Any) -> Any:
        return np.abs(draw(frame, [artifact], scale=4).astype(int) - plain).sum(axis=2) > 60

    at_peak = changed(heat)[4 * 12 : 4 * 16, 4 * 40 : 4 * 44]
    assert at_peak.mean() > 0.9
    assert changed(heat)[100:, :100].mean() == 0.0
    assert changed(point)[4 * 12, 4 * 40]
    assert changed(point)[4 * 12, 4 * 40 + 5]
    assert not changed(point)[120:, :].any()
    edges = changed(box)
    assert edges[4 * 6, 4 * 36 : 4 * 44].any()
    assert edges[4 * 18, 4 * 36 : 4 * 44].all()
    assert not edges[4 * 18 + 8 :, :].any()
    assert changed(path)[4 * 40, 4 * 8]
    assert changed(path)[4 * 26, 4 * 24]


def test_the_drawing_is_enlarged_and_the_frame_stays_as_it_was() -> None:
    frame = records.frame(0)
    before = frame.rgb.copy()
    drawn = draw(frame, records.artifacts(frame, "mug"), scale=3)
    assert drawn.shape == (frame.height * 3, frame.width * 3, 3)
    assert np.array_equal(frame.rgb, before)


def test_artifacts_of_another_image_are_not_drawn() -> None:
    frame, other = records.frame(0), records.frame(1)
    untouched = np.repeat(np.repeat(frame.rgb, 2, 0), 2, 1)
    assert np.array_equal(draw(frame, records.artifacts(other, "mug"), scale=2), untouched)
    assert marks(frame, records.artifacts(other, "mug")) == []


def test_points_in_the_world_are_projected_into_the_frame() -> None:
    frame = records.frame(0)
    # The camera looks straight down from 1 m above (0.5, 0); 0.1 m along y is 6 px against the image's rows.
    path = Waypoints3D(points=(Waypoint3D(position_w=(0.5, 0.0, 0.0)), Waypoint3D(position_w=(0.5, 0.1, 0.0))))
    assert marks(frame, [path]) == [pytest.approx((32.0, 24.0)), pytest.approx((32.0, 18.0))]
    behind = Waypoints3D(points=(Waypoint3D(position_w=(0.5, 0.0, 2.0)),))
    assert marks(frame, [behind]) == []
    assert draw(frame, [path], 4)[4 * 21, 4 * 32].tolist() != [0, 0, 0]


def test_the_terminal_drawing_marks_the_keypoint() -> None:
    frame = records.frame(0)
    _, point, *_ = records.artifacts(frame, "mug", u=40.0, v=12.0)
    lines = plain_blocks(frame.rgb, marks(frame, [point]), columns=64)
    assert len(lines) == 24
    assert [(r, line.index("X")) for r, line in enumerate(lines) if "X" in line] == [(6, 40)]


def test_half_blocks_hold_two_pixels_in_each_character() -> None:
    rgb = np.zeros((4, 2, 3), np.uint8)
    rgb[0] = (255, 0, 0)
    rgb[1] = (0, 0, 255)
    rows = half_blocks(rgb, columns=2)
    assert len(rows) == 2
    assert rows[0] == [((255, 0, 0), (0, 0, 255))] * 2
    assert len(half_blocks(np.zeros((192, 256, 3), np.uint8), columns=80)) == 30


def test_the_pictures_of_a_step_show_the_exact_recorded_frame(whole: Path) -> None:
    record = RunRecord.open(whole)
    view = fold.view_of(record)
    ((picture,), missing) = step_pictures(record, view.steps[0].attempts[0])
    assert missing == ()
    assert np.array_equal(picture.frame.rgb, records.frame(0).rgb)
    assert picture.frame.sha256 == records.frame(0).sha256
    assert len(picture.artifacts) == 4


def test_a_picture_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    record = RunRecord.open(folder)
    view = fold.view_of(record)
    blob = record.frame_of(records.image_ref(records.frame(0))).rgb_blob
    (folder / "blobs" / f"{blob}.webp").unlink()
    pictures, missing = step_pictures(record, view.steps[0].attempts[0])
    assert pictures == ()
    assert missing == (f"blobs/{blob}.webp is missing",)


def test_every_kind_of_artifact_is_described() -> None:
    frame = records.frame(0)
    others = (
        SubtaskList(subtasks=("pick", "place")),
        Waypoints3D(points=(Waypoint3D(position_w=(0.1, 0.2, 0.3), gripper="close"),)),
        LanguageMotion(text="move left"),
        ValueMap(label="near", origin_w=(0.0, 0.0, 0.0), resolution_m=0.01, values=np.zeros((2, 3, 4), np.float32)),
        Constraints(
            keypoints=(Keypoint(label="k", u=1.0, v=1.0),),
            constraints=(Constraint(stage=0, during="subgoal", relation="above", keypoint=0, distance_m=0.1),),
        ),
        Program(source="pick()\nplace()"),
    )
    text = [line for a in (*records.artifacts(frame, "mug"), *others) for line in describe(a)]
    assert text == [
        "affordance map 'mug', 16 x 12 cells, peak 0.84 at (42, 14) px",
        "keypoint 'mug' at (40.0, 12.0) px = (0.500, 0.100, 0.040) m in the world, confidence 0.97",
        "box 'mug' from (34, 6) to (46, 18) px, confidence 1.00",
        "image path (8, 40) open (40, 12) px",
        "subtasks: 1. pick; 2. place",
        "path (0.100, 0.200, 0.300) close m in the world",
        "motion 'move left'",
        "value map 'near', 2 x 3 x 4 voxels of 10 mm",
        "constraint of stage 0 (subgoal): end effector above k0 by 0.1 m, within 0.005 m",
        "program:",
        "  pick()",
        "  place()",
    ]


# The report.


class Page(HTMLParser):
    """Collects the tags of a page and whether they are closed in order."""

    VOID = frozenset({"meta", "img", "br", "path", "rect", "use", "image"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(text: str) -> Page:
    parsed = Page()
    parsed.feed(text)
    parsed.close()
    return parsed


def test_the_report_is_one_file_that_loads_nothing(whole: Path, tmp_path: Path) -> None:
    record = RunRecord.open(whole)
    write_report(record, tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    parsed = page(text)
    assert parsed.open == []
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    allowed = ("data:image/jpeg;base64,", "data:image/png;base64,", "#step-", "#i")
    assert all(s.startswith(allowed) for s in parsed.sources)
    images = [s for s in parsed.sources if s.startswith("data:image/jpeg")]
    assert len(images) == len(set(images)), "an image is in the page once, however often it is shown"
    assert parsed.tags.count("use") > len(images)
    assert not re.search(r"https?://|url\(", text)
    assert "default-src 'none'" in text
    assert parsed.tags.count("section") == 3


def test_the_report_tells_what_happened(whole: Path) -> None:
    words = " ".join(page(report_html(RunRecord.open(whole))).text)
    for said in (
        "put the red mug on the top shelf",
        "succeeded",
        "Replan after s2: unreachable",
        "the fingers closed on nothing",
        "joint 4 asked for 2.31 rad/s",
        "keypoint 'red mug' at (40.0, 12.0) px",
        "joint 7",
    ):
        assert said in words


def test_the_report_of_a_hostile_instruction_is_only_text(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    nasty = "<script>alert(1)</script>\" onload='x'"
    with RunRecorder.create(folder, records.manifest(nasty), durable=False) as recorder:
        records.Script(recorder, instruction=nasty).finish("failed", "<img src=x>")
    parsed = page(report_html(RunRecord.open(folder)))
    assert not {"script", "img"} & set(parsed.tags)
    assert nasty in " ".join(parsed.text)


def test_refused_and_unclosed_runs_have_a_report(tmp_path: Path) -> None:
    refused = page(report_html(RunRecord.open(records.make_refused(tmp_path / "refused"))))
    assert "missing: red mug" in " ".join(refused.text)
    recorder = RunRecorder.create(tmp_path / "open", records.manifest(), durable=False)
    records.Script(recorder).plan((records.PICK,))
    text = " ".join(page(report_html(RunRecord.open(tmp_path / "open"))).text)
    assert "the run did not get to its end" in text
    assert "the record was not closed" in text
    recorder.close()


# Two runs.


def test_two_runs_of_the_same_script_differ_in_times_only(whole: Path, tmp_path: Path) -> None:
    again = records.make_record(tmp_path / "again")
    assert first_difference(RunRecord.open(whole), RunRecord.open(again)) is None


def test_the_first_difference_of_two_runs_is_named(whole: Path, tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "other", records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        play.plan((records.PICK, records.BOTTOM))
    found = first_difference(RunRecord.open(whole), RunRecord.open(tmp_path / "other"))
    assert found is not None
    assert (found.place, found.field) == ("line 3", "plan.steps[1].id")
    assert str(found) == "line 3, plan.steps[1].id: 's2' against 's3'"


def test_a_difference_in_the_motion_alone_is_found(whole: Path, tmp_path: Path) -> None:
    def run(folder: Path, shift: int) -> RunRecord:
        with RunRecorder.create(folder, records.manifest(), durable=False) as recorder:
            play = records.Script(recorder)
            play.move(3)
            recorder.tick(records.command(3 + shift), records.proprio(3))
            play.finish()
        return RunRecord.open(folder)

    found = first_difference(run(tmp_path / "a", 0), run(tmp_path / "b", 1))
    assert found is not None
    assert (found.place, found.field) == ("tick 3", "command.q")


def test_json_of_events_needs_no_python(whole: Path) -> None:
    events = [json.loads(line)["event"] for line in records.lines_of(whole)]
    plans = [e for e in events if e["type"] == "plan_proposed"]
    assert [s["text"] for s in plans[0]["plan"]["steps"]][0] == "pick up the red mug"
