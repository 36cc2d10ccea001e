"""Spans of a run, live and from its record, through OpenTelemetry's own in-memory exporter."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from hiervla.executor.export.otel import KIND, SpanSubscriber, export_otel, record_spans
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import MemoryRecorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import MissingDependencyError
from hiervla.representations import events as ev
from tests import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture(scope="module")
def spans(whole: Path) -> tuple[ReadableSpan, ...]:
    return record_spans(RunRecord.open(whole))


def value(span: ReadableSpan, name: str) -> Any:
    assert span.attributes is not None
    return span.attributes.get(name)


def path_of(span: ReadableSpan, spans: tuple[ReadableSpan, ...]) -> str:
    by_id = {s.context.span_id: s for s in spans if s.context}
    above = path_of(by_id[span.parent.span_id], spans) + "/" if span.parent else ""
    return above + span.name


def test_the_spans_make_the_tree_of_the_run(spans: tuple[ReadableSpan, ...]) -> None:
    assert Counter(path_of(s, spans) for s in spans) == {
        "run": 1,
        "run/plan": 3,
        "run/step s1": 1,
        "run/step s1/attempt 1": 1,
        "run/step s1/attempt 1/chunk 0": 1,
        "run/step s1/attempt 1/chunk 1": 1,
        "run/step s1/attempt 2": 1,
        "run/step s1/attempt 2/chunk 0": 1,
        "run/step s1/attempt 2/chunk 1": 1,
        "run/step s2": 1,
        "run/step s2/attempt 1": 1,
        "run/step s2/attempt 1/chunk 0": 1,
        "run/step s2/attempt 1/chunk 1": 1,
        "run/step s3": 1,
        "run/step s3/attempt 1": 1,
        "run/step s3/attempt 1/chunk 0": 1,
        "run/step s3/attempt 1/chunk 1": 1,
    }
    assert len({s.context.trace_id for s in spans if s.context}) == 1


def test_they_say_what_openinference_asks_for(spans: tuple[ReadableSpan, ...]) -> None:
    kinds = {path_of(s, spans): value(s, KIND) for s in spans}
    assert kinds["run"] == "AGENT"
    assert kinds["run/plan"] == "LLM"
    assert kinds["run/step s1"] == "CHAIN"
    assert kinds["run/step s1/attempt 2"] == "TOOL"
    by_path = {path_of(s, spans): s for s in spans}
    assert value(by_path["run"], "input.value") == "put the red mug on the top shelf"
    assert value(by_path["run"], "output.value") == "the red mug is on the top shelf"
    attempt = by_path["run/step s2/attempt 1"]
    assert value(attempt, "tool.name") == "place"
    assert json.loads(value(attempt, "input.value")) == records.PLACE.args
    assert value(attempt, "output.value") == "unreachable: the fingers closed on nothing"
    assert [e.name for e in attempt.events] == ["verdict", "transit", "verdict"]
    assert dict(attempt.events[0].attributes or {})["evidence.width_m"] == 0.031
    assert value(by_path["run/step s3/attempt 1/chunk 0"], "llm.model_name") == "line"


def test_times_are_those_of_the_computers_clock(spans: tuple[ReadableSpan, ...], whole: Path) -> None:
    plan = next(RunRecord.open(whole).of(ev.PlanProposed))
    span = next(s for s in spans if s.name == "plan")
    assert span.end_time == round(plan.wall_time_s * 1e9)
    assert span.start_time is not None
    assert span.end_time - span.start_time == 400_000_000
    by_id = {s.context.span_id: s for s in spans if s.context}
    for child in spans:
        assert child.start_time is not None
        assert child.end_time is not None
        assert child.end_time >= child.start_time
        if child.parent and child.name.startswith(("attempt", "step")):
            parent = by_id[child.parent.span_id]
            assert parent.start_time is not None
            assert parent.end_time is not None
            assert parent.start_time <= child.start_time <= child.end_time <= parent.end_time


def test_a_step_that_came_right_is_right(spans: tuple[ReadableSpan, ...]) -> None:
    codes = {path_of(s, spans): s.status.status_code for s in spans if not s.name.startswith(("chunk", "plan"))}
    assert codes == {
        "run": StatusCode.OK,
        "run/step s1": StatusCode.OK,
        "run/step s1/attempt 1": StatusCode.ERROR,
        "run/step s1/attempt 2": StatusCode.OK,
        "run/step s2": StatusCode.ERROR,
        "run/step s2/attempt 1": StatusCode.ERROR,
        "run/step s3": StatusCode.OK,
        "run/step s3/attempt 1": StatusCode.OK,
    }


def test_a_live_run_gives_the_same_spans(spans: tuple[ReadableSpan, ...]) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    recorder = MemoryRecorder()
    recorder.subscribe(SpanSubscriber(provider))
    records.script(recorder)
    live = tuple(memory.get_finished_spans())
    assert [path_of(s, live) for s in live] == [path_of(s, spans) for s in spans]
    assert not recorder.of(ev.Note), "a subscriber that raises would have been noted"


def test_rejected_and_refused_answers_are_failed_model_calls(tmp_path: Path) -> None:
    folder = records.make_refused(tmp_path / "refused")
    (plan,) = (s for s in record_spans(RunRecord.open(folder)) if s.name == "plan")
    assert (plan.status.status_code, plan.status.description) == (StatusCode.ERROR, "refused: not in scene")
    with RunRecorder.create(tmp_path / "rejected", records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        recorder.emit(ev.PlanRejected, time_s=0.0, raw_text="pick(", problem="it ends too early")
        play.plan((records.PICK,))
    first, second = (s for s in record_spans(RunRecord.open(tmp_path / "rejected")) if s.name == "plan")
    assert (first.status.description, value(first, "output.value")) == ("rejected: it ends too early", "pick(")
    assert second.status.status_code is StatusCode.OK


def test_a_run_that_was_cut_off_is_told_as_far_as_it_went(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    (folder / "events.jsonl").write_bytes(b"".join(list(records.lines_of(whole))[:8]))
    cut = record_spans(RunRecord.open(folder))
    assert [path_of(s, cut) for s in cut] == ["run/plan", "run/step s1/attempt 1", "run/step s1", "run"]
    assert cut[1].status.description == "cut off"


def test_the_file_is_otlp_json_lines(whole: Path, tmp_path: Path, spans: tuple[ReadableSpan, ...]) -> None:
    assert export_otel(RunRecord.open(whole), tmp_path / "spans.jsonl") == len(spans)
    lines = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    bodies = [line["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in lines]
    ids = {body["spanId"] for body in bodies}
    assert len(ids) == len(spans)
    (root,) = (body for body in bodies if "parentSpanId" not in body)
    assert root["name"] == "run"
    assert all(body["parentSpanId"] in ids for body in bodies if body is not root)
    assert {"key": KIND, "value": {"stringValue": "AGENT"}} in root["attributes"]
    assert {"key": "hiervla.seed", "value": {"intValue": "3"}} in root["attributes"]
    resource = lines[0]["resourceSpans"][0]["resource"]["attributes"]
    assert {"key": "service.name", "value": {"stringValue": "hiervla"}} in resource


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    for name in [n for n in sys.modules if n.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hiervla\[otel\]'"):
        SpanSubscriber()
    with pytest.raises(MissingDependencyError, match=r"pip install 'hiervla\[otel\]'"):
        record_spans(RunRecord.open(whole))
