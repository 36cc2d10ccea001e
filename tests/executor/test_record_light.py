"""Reading long, growing and newer records: light events, unknown types, changes of plans, tails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.record import light
from hiervla.executor.record.changes import compare_steps, plan_change
from hiervla.executor.record.errors import CorruptRecordError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.light import UnknownEvent, chunk_facts, head, parse_light
from hiervla.executor.record.lines import Line, decode_line, digest, encode_line
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder
from hiervla.executor.record.tail import Tail
from hiervla.executor.record.view import RunView, sentence
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import (
    AffordanceMap,
    Boxes,
    Keypoint,
    Keypoints,
    Provenance,
    Step,
    Typed,
    ValueMap,
)
from hiervla.representations import events as ev
from tests import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


def pointed(step: Step, u: float, v: float, label: str = "") -> Step:
    """The step with the artifacts of a planner that points at (u, v)."""
    return step.replace(artifacts=records.artifacts(records.frame(0), label or step.args["object"], u, v))


def rewrite(folder: Path, *more: dict[str, Any], drop: int = 0) -> Path:
    """Put events at the end of a record, with a chain that holds."""
    events = [json.loads(line)["event"] for line in records.lines_of(folder)]
    events = events[: len(events) - drop]
    previous = digest((folder / "manifest.json").read_bytes())
    lines = []
    for number, event in enumerate([*events, *more], 1):
        named = {**event, "id": f"e{number}"}
        line = encode_line(number, previous, json.dumps(named, separators=(",", ":")).encode())
        previous = digest(line[:-1])
        lines.append(line)
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    return folder


NEWER = {"id": "", "parent": "e1", "time_s": 0.5, "wall_time_s": 1.0, "version": 1, "type": "human_asked"}


# Light events.


def test_the_view_of_a_record_is_the_view_of_its_events(whole: Path) -> None:
    record = RunRecord.open(whole)
    quick, full = view_of(record), RunView.of(record)
    assert (quick.events, quick.time_s, quick.retries, quick.replans) == (
        full.events,
        full.time_s,
        full.retries,
        full.replans,
    )
    assert quick.finished == full.finished
    assert [len(c.answers) for c in quick.chapters] == [2, 1]
    for mine, its in zip(quick.chapters, full.chapters, strict=True):
        assert [(a.id, a.plan.remaining) for a in mine.answers] == [(a.id, a.plan.remaining) for a in its.answers]
        assert mine.rejected == its.rejected
        assert [(str(e.step), e.outcome) for e in mine.entries()] == [(str(e.step), e.outcome) for e in its.entries()]
        assert [step.id for step in mine.before] == [step.id for step in its.before]
    for a, b in zip(quick.steps, full.steps, strict=True):
        for x, y in zip(a.attempts, b.attempts, strict=True):
            assert (x.finished, x.verdicts, x.transits, x.chunks) == (y.finished, y.verdicts, y.transits, y.chunks)
            assert list(x.observations) == list(y.observations)
            assert list(x.grounded) == list(y.grounded)


def test_a_light_plan_keeps_its_points_and_leaves_out_its_maps(tmp_path: Path) -> None:
    with RunRecorder.create(tmp_path / "run", records.manifest(), durable=False) as recorder:
        records.Script(recorder).plan((pointed(records.PICK, 40.0, 12.0), records.PLACE))
    record = RunRecord.open(tmp_path / "run")
    (number,) = (n for n, line in enumerate(record.lines, 1) if head(line).type == "plan_proposed")
    whole, light = record.event(number), parse_light(record.lines[number - 1])
    assert isinstance(whole, ev.PlanProposed)
    assert isinstance(light, ev.PlanProposed)
    kept = tuple(a for a in whole.plan.steps[0].artifacts if not isinstance(a, AffordanceMap))
    assert len(kept) == 3
    assert light.plan.steps[0].artifacts == kept
    assert light.plan.remaining == whole.plan.remaining


def test_heads_and_chunks_are_what_a_full_parse_says(whole: Path) -> None:
    record = RunRecord.open(whole)
    for number, line in enumerate(record.lines, 1):
        event = record.event(number)
        start = head(line)
        assert (start.id, start.parent, start.time_s, start.wall_time_s, start.type) == (
            event.id,
            event.parent,
            event.time_s,
            event.wall_time_s,
            event.type,
        )
        if isinstance(event, ev.ChunkProposed):
            facts = chunk_facts(line)
            assert (facts.index, facts.policy, facts.horizon) == (event.index, event.chunk.policy, 4)
            assert (facts.wall_latency_s, facts.done_prob) == (event.wall_latency_s, event.chunk.done_prob)


def test_a_line_that_holds_no_event_is_named(whole: Path, tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    rewrite(folder, {"id": "", "hello": 1})
    with pytest.raises(CorruptRecordError) as caught:
        view_of(RunRecord.open(folder))
    assert caught.value.line == len(RunRecord.open(whole)) + 1
    rewrite(folder, {**NEWER, "type": "step_started", "step": 3, "attempt": 0}, drop=1)
    with pytest.raises(CorruptRecordError, match="step"):
        view_of(RunRecord.open(folder))


# Types that this version does not know.


def test_an_event_of_an_unknown_type_is_kept_and_told(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    more = {**NEWER, "question": "which mug?", "score": 0.25, "nested": {"a": [1]}}
    record = RunRecord.open(rewrite(folder, more, drop=1))
    event = record.any_event(len(record))
    assert isinstance(event, UnknownEvent)
    assert event.fields()["nested"] == {"a": [1]}
    assert sentence(event) == "human asked: question which mug?, score 0.25"
    view = view_of(record)
    assert [(e.id, e.type) for e in view.other] == [(f"e{len(record)}", "human_asked")]
    assert len(list(record.any_events())) == len(record)
    with pytest.raises(CorruptRecordError):
        record.event(len(record))


# Changes of plans.


def test_what_a_replan_changed_is_a_small_diff() -> None:
    wipe = Step(id="s4", skill="wipe", args={"object": "table"}, text="wipe the table")
    old = (pointed(records.PICK, 40.0, 12.0), pointed(records.PLACE, 20.0, 30.0), wipe)
    new = (wipe, pointed(records.PICK, 43.0, 16.0), records.BOTTOM)
    change = compare_steps(old, new)
    assert change.added == ("put the red mug on the bottom shelf",)
    assert change.removed == ("put the red mug on the top shelf",)
    assert change.reordered in {("wipe the table",), ("pick up the red mug",)}
    (move,) = change.moved
    assert (move.label, move.camera, move.distance_px) == ("red mug", "front", 5.0)
    assert change.lines()[-2:] == [
        "~ pick up the red mug: 'red mug' moved by 5.0 px in camera 'front', from (40, 12) to (43, 16)",
        "= 2 steps kept",
    ]


def test_a_step_that_is_planned_twice_is_counted_twice() -> None:
    again = records.PICK.replace(id="s9")
    assert compare_steps((records.PICK, again), (records.PICK,)).removed == ("pick up the red mug",)
    assert compare_steps((records.PICK, again), (again, records.PICK)).lines() == ["= 2 steps kept"]


def test_points_in_another_camera_or_less_than_a_pixel_away_have_not_moved() -> None:
    near = compare_steps((pointed(records.PICK, 40.0, 12.0),), (pointed(records.PICK, 40.3, 12.0),))
    assert near.moved == ()
    wrist = records.image_ref(records.frame(5, "wrist"))
    elsewhere = records.PICK.replace(
        artifacts=(Keypoints(image=wrist, points=(Keypoint(label="red mug", u=1.0, v=1.0),)),)
    )
    assert compare_steps((pointed(records.PICK, 40.0, 12.0),), (elsewhere,)).moved == ()


def test_the_change_of_a_chapter_speaks_of_what_was_still_to_do() -> None:
    recorder = MemoryRecorder()
    play = records.Script(recorder)
    play.plan((pointed(records.PICK, 40.0, 12.0), pointed(records.PLACE, 20.0, 30.0)))
    play.step(records.PICK)
    play.plan((records.PICK, pointed(records.PLACE, 22.0, 30.0)), done=("s1",), reason="followed after s1: succeeded")
    play.step(records.PLACE, "unreachable")
    play.recorder.emit(ev.PlanRejected, time_s=play.now_s, raw_text="pick(", problem="it ends too early")
    wipe = Step(id="s5", skill="wipe", args={"object": "table"}, text="wipe the table")
    play.plan((records.PICK, wipe, pointed(records.PLACE, 25.0, 34.0)), done=("s1",), reason="after s2: unreachable")
    view = RunView.of(recorder.events)  # type: ignore[arg-type]  # it holds events of the union only
    assert view.replans == 1
    change = plan_change(*view.chapters)
    assert (change.added, change.removed, change.kept) == (("wipe the table",), (), 1)
    assert change.moved[0].before == (22.0, 30.0), "the latest answer, not the first, is what it moved from"
    assert change.moved[0].distance_px == 5.0
    assert [r.problem for r in view.chapters[1].rejected] == ["it ends too early"]


# A record that grows.


def test_a_tail_gives_every_line_once_and_only_when_it_is_whole(whole: Path, tmp_path: Path) -> None:
    lines = list(records.lines_of(whole))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    tail = Tail(folder)
    assert tail.poll() == []
    events = folder / "events.jsonl"
    got = []
    with open(events, "wb", buffering=0) as file:
        for line in lines:
            file.write(line[:20])
            assert tail.poll() == []
            file.write(line[20:])
            got += tail.poll()
    assert [line.seq for line in got] == list(range(1, len(lines) + 1))
    assert (tail.finished, tail.sealed) == (True, True)


def test_a_tail_names_the_line_that_does_not_follow(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    lines = list(records.lines_of(whole))
    (folder / "events.jsonl").write_bytes(lines[0] + lines[2])
    with pytest.raises(CorruptRecordError) as caught:
        Tail(folder).poll()
    assert caught.value.line == 2


def test_maps_are_not_decoded_for_a_view(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a long record quick to look at: none of its arrays is unpacked."""

    def refuse(value: Any) -> Any:
        raise AssertionError("an array was decoded")

    monkeypatch.setattr("hiervla.representations._arrays._decode", refuse)
    view = view_of(RunRecord.open(whole))
    assert len(view.steps[0].attempts[0].chunks) == 2
    with pytest.raises(CorruptRecordError, match="an array was decoded"):
        list(view.steps[0].attempts[0].grounded)


def spoil(folder: Path, number: int, change: Callable[[dict[str, Any]], object]) -> RunRecord:
    """The record with one event changed by somebody who knew how to keep the chain."""
    events = [json.loads(line)["event"] for line in records.lines_of(folder)]
    change(events[number - 1])
    return RunRecord.open(rewrite(folder, *events, drop=len(events)))


def test_every_answer_that_breaks_the_schema_is_named(tmp_path: Path) -> None:
    """Those too that only confirm what is being done, of which nothing is shown."""
    folder = records.make_record(tmp_path / "run")
    numbers = [int(e.id[1:]) for e in RunRecord.open(folder).of(ev.PlanProposed)]
    assert len(numbers) == 3
    for number in numbers:
        spoiled = spoil(records.make_record(tmp_path / f"{number}"), number, lambda event: event.update(reason=7))
        with pytest.raises(CorruptRecordError, match="reason: Input should be a valid string") as caught:
            view_of(spoiled)
        assert caught.value.line == number


def grounded(artifacts: Iterable[dict[str, Any]]) -> Line:
    """A line with these artifacts, as they are."""
    event = {"id": "e2", "parent": "e1", "time_s": 0.5, "wall_time_s": 1.0, "version": 1, "type": "grounded"}
    text = json.dumps({**event, "step_id": "s1", "artifacts": list(artifacts)}, separators=(",", ":"))
    return decode_line(encode_line(2, "0" * 64, text.encode())[:-1])


def plain(artifact: Typed) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(artifact.to_json())
    return values


MAP = AffordanceMap(
    image=records.image_ref(records.frame(0)),
    label='a "mug" {with \\ braces}',
    values=np.full((2, 2), 0.25, np.float32),
    provenance=Provenance(
        model="m", raw_text='{"kind":"affordance_map","values":{"zlib_base64":"', sampling={"t": "}"}
    ),
)
POINTS = Keypoints(image=MAP.image, points=(Keypoint(label="mug", u=40.0, v=12.0),))
BOXES = Boxes(image=MAP.image, boxes=())
VALUES = ValueMap(label="far", origin_w=(0.0, 0.0, 0.0), resolution_m=0.1, values=np.zeros((1, 1, 2), np.float32))


def test_maps_are_cut_out_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [order for n in range(5) for order in permutations((MAP, POINTS, VALUES, BOXES), n)]
    lines = [grounded(map(plain, order)) for order in orders]
    cut = [parse_light(line) for line in lines]
    assert None not in map(light._without_maps, lines)
    for event, order in zip(cut, orders, strict=True):
        assert isinstance(event, ev.Grounded)
        assert event.artifacts == tuple(a for a in order if a in (POINTS, BOXES))
    monkeypatch.setattr(light, "_without_maps", lambda line: None)
    assert [parse_light(line) for line in lines] == cut


def test_maps_of_another_form_are_left_out_too() -> None:
    for other in (dict(reversed(plain(MAP).items())), {"kind": "value_map"}):
        line = grounded([other, plain(POINTS)])
        assert light._without_maps(line) is None
        event = parse_light(line)
        assert isinstance(event, ev.Grounded)
        assert event.artifacts == (POINTS,)


def test_what_was_done_before_a_replan_is_not_taken_for_what_it_plans_again() -> None:
    recorder = MemoryRecorder()
    play = records.Script(recorder)
    play.plan((records.PICK, records.PLACE))
    play.step(records.PICK)
    again = records.PICK.replace(id="s3")
    put = records.BOTTOM.replace(id="s4", depends_on=("s3",))
    play.plan((records.PICK, again, put), done=("s1",), reason="after s2: lost_object")
    play.step(again)
    play.plan((records.PICK, again, put), done=("s1", "s3"), reason="followed after s3: succeeded")
    play.step(put)
    play.finish()
    view = RunView.of(recorder.events)  # type: ignore[arg-type]  # it holds events of the union only
    assert view.replans == 1
    assert [(r.number, r.step.id) for r in view.chapters[1].entries()] == [(2, "s3"), (3, "s4")]
