"""A run as OpenTelemetry spans: run -> plan calls and steps -> attempts -> chunks.

Attributes are OpenInference's (https://github.com/Arize-ai/openinference, ``spec/semantic_conventions.md``), so that
viewers of language-model traces know what is an agent, a model call and a tool. Times are the computer's clock.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiervla._version import __version__
from hiervla.executor.record.errors import OutputError
from hiervla.executor.record.light import AnyEvent
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import sentence, what, words
from hiervla.representations import MissingDependencyError
from hiervla.representations import events as ev

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span, TracerProvider

KIND = "openinference.span.kind"
SCOPE = "hiervla"


class SpanSubscriber:
    """Turns events into spans as they come: ``agent.run(..., on_event=SpanSubscriber())``.

    A span is ended when what it stands for has ended, and all are when the run has; call :meth:`close` where a run
    may never say so.

    Args:
        provider: where the spans go; by default the one that the program has set for itself.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        """Find the tracer.

        Raises:
            MissingDependencyError: the extra ``otel`` is not installed.
        """
        try:
            from opentelemetry import trace
        except ImportError:
            raise _missing() from None
        self._trace = trace
        self._tracer = trace.get_tracer(SCOPE, __version__, provider)
        self._run: Span | None = None
        self._step: Span | None = None
        self._step_key = ""
        self._attempt: Span | None = None
        self._last_ns = 0
        self._attempt_ended_ns = 0

    def __call__(self, event: AnyEvent) -> None:
        """Take in the next event."""
        now = _ns(event.wall_time_s)
        self._last_ns = max(self._last_ns, now)
        match event:
            case ev.RunStarted():
                self._run = self._tracer.start_span(
                    "run",
                    start_time=now,
                    attributes={
                        KIND: "AGENT",
                        "input.value": event.instruction,
                        "agent.name": "hiervla",
                        "llm.model_name": event.planner,
                        "hiervla.world": event.world,
                        "hiervla.policy": event.policy,
                        "hiervla.seed": event.seed,
                    },
                )
            case ev.PlanProposed():
                self._end_step()
                self._plan(event, json.dumps([str(event.plan.step(s)) for s in event.plan.remaining]), None)
            case ev.PlanRefused():
                self._end_step()
                self._plan(event, event.refusal.message, f"refused: {words(event.refusal.reason)}")
            case ev.PlanRejected():
                self._plan(event, event.raw_text, f"rejected: {event.problem}")
            case ev.StepStarted():
                self._start(event, now)
            case ev.StepFinished():
                self._finish(event, now)
            case ev.ChunkProposed():
                self._chunk(event, now)
            case ev.RunFinished():
                if self._run is not None:
                    self._run.set_attributes({"output.value": event.message, "hiervla.outcome": event.outcome})
                    self._status(self._run, event.outcome in {"succeeded", "nothing_to_do"}, event.message)
                self.close()
            case ev.ObservationTaken() | ev.SnapshotTaken() | ev.Grounded() | ev.RecordSealed():
                pass
            case _:
                self._remark(event, now)

    def close(self) -> None:
        """End what is still open at the time of the last event: a run that was cut off."""
        if self._attempt is not None:
            self._status(self._attempt, False, "cut off")
            self._attempt.end(self._last_ns)
            self._attempt, self._attempt_ended_ns = None, self._last_ns
        self._end_step()
        if self._run is not None:
            self._run.end(self._last_ns)
            self._run = None

    def _plan(self, event: ev.PlanProposed | ev.PlanRefused | ev.PlanRejected, said: str, problem: str | None) -> None:
        now = _ns(event.wall_time_s)
        took = _ns(event.wall_latency_s) if isinstance(event, ev.PlanProposed) else 0
        attributes: dict[str, Any] = {KIND: "LLM", "output.value": said, "hiervla.event": event.id}
        made = None
        if isinstance(event, ev.PlanProposed):
            attributes |= {
                "input.value": f"{event.plan.goal} ({event.reason})",
                "hiervla.steps": len(event.plan.remaining),
            }
            made = event.plan.provenance
        elif isinstance(event, ev.PlanRefused):
            made = event.refusal.provenance
        if made is not None:
            attributes["llm.model_name"] = made.model
            if made.sampling:
                attributes["llm.invocation_parameters"] = json.dumps(made.sampling)
            if made.raw_text:
                attributes["output.value"] = made.raw_text
        span = self._child("plan", self._run, now - took, attributes)
        self._status(span, problem is None, problem or "")
        span.end(now)

    def _start(self, event: ev.StepStarted, now: int) -> None:
        key = f"{event.step.id} {what(event.step)}"
        if self._step is None or key != self._step_key:
            self._end_step()
            self._step_key = key
            attributes = {KIND: "CHAIN", "input.value": str(event.step), "hiervla.step": event.step.id}
            self._step = self._child(f"step {event.step.id}", self._run, now, attributes)
        arguments = json.dumps(event.step.args)
        self._attempt = self._child(
            f"attempt {event.attempt + 1}",
            self._step,
            now,
            {
                KIND: "TOOL",
                "tool.name": event.step.skill,
                "tool.parameters": arguments,
                "input.value": arguments,
                "input.mime_type": "application/json",
                "hiervla.event": event.id,
                "hiervla.time_s": event.time_s,
            },
        )

    def _finish(self, event: ev.StepFinished, now: int) -> None:
        good = event.outcome == "succeeded"
        said = f"{words(event.outcome)}{f': {event.reason}' if event.reason else ''}"
        for span in (self._attempt, self._step):
            if span is not None:
                span.set_attributes({"output.value": said, "hiervla.outcome": event.outcome})
                self._status(span, good, said)
        if self._attempt is not None:
            self._attempt.set_attribute("hiervla.duration_s", event.duration_s)
            self._attempt.end(now)
        self._attempt, self._attempt_ended_ns = None, now
        if good:
            self._end_step()

    def _chunk(self, event: ev.ChunkProposed, now: int) -> None:
        attributes = {
            KIND: "CHAIN",
            "llm.model_name": event.chunk.policy or "policy",
            "input.value": f"step {event.step_id}",
            "output.value": f"{event.chunk.horizon} rows at {event.chunk.rate_hz:g} Hz",
            "hiervla.event": event.id,
            "hiervla.staleness_s": event.staleness_s,
        }
        if event.chunk.done_prob is not None:
            attributes["hiervla.done_prob"] = event.chunk.done_prob
        span = self._child(f"chunk {event.index}", self._attempt, now - _ns(event.wall_latency_s), attributes)
        span.end(now)

    def _remark(self, event: AnyEvent, now: int) -> None:
        span = self._attempt or self._run
        if span is None:
            return
        attributes: dict[str, Any] = {"message": sentence(event), "hiervla.event": event.id}
        if isinstance(event, ev.VerdictGiven):
            attributes |= {f"evidence.{name}": value for name, value in event.verdict.evidence.items()}
        span.add_event(event.type, attributes, timestamp=now)

    def _child(self, name: str, parent: Span | None, start_ns: int, attributes: dict[str, Any]) -> Span:
        above = parent or self._run
        context = None if above is None else self._trace.set_span_in_context(above)
        return self._tracer.start_span(name, context=context, start_time=start_ns, attributes=attributes)

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.end(self._attempt_ended_ns or self._last_ns)
        self._step = None

    def _status(self, span: Span, good: bool, message: str) -> None:
        codes = self._trace.StatusCode
        # A later attempt may put right what an earlier one got wrong: OK overrules ERROR, and a step ends with it.
        span.set_status(self._trace.Status(codes.OK) if good else self._trace.Status(codes.ERROR, message))


def record_spans(record: RunRecord) -> tuple[ReadableSpan, ...]:
    """The finished spans of a record, in the order in which they ended.

    Raises:
        MissingDependencyError: the extra ``otel`` is not installed.
        CorruptRecordError: a line of the record holds no event.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    except ImportError:
        raise _missing() from None
    memory = InMemorySpanExporter()
    manifest = record.manifest
    resource = Resource({"service.name": "hiervla", "service.version": __version__, "hiervla.run_id": manifest.run_id})
    # A long attempt has more verdicts than the default limit keeps, and a record is read to be complete.
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_events=SpanLimits.UNSET))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    subscriber = SpanSubscriber(provider)
    for event in record.any_events():
        subscriber(event)
    subscriber.close()
    return tuple(memory.get_finished_spans())


def export_otel(record: RunRecord, path: Path) -> int:
    """Write the spans of a record as OTLP JSON lines, which an OpenTelemetry collector's file receiver reads.

    Returns:
        How many spans were written.

    Raises:
        MissingDependencyError: the extra ``otel`` is not installed.
        CorruptRecordError: a line of the record holds no event.
        OutputError: the file cannot be written.
    """
    spans = record_spans(record)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(otlp_line(span) + "\n" for span in spans)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    return len(spans)


def otlp_line(span: ReadableSpan) -> str:
    """One span as an OTLP ``TracesData`` JSON object (opentelemetry.io/docs/specs/otel/protocol/file-exporter)."""
    assert span.context is not None
    body: dict[str, Any] = {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes((span.attributes or {}).items()),
        "events": [
            {
                "timeUnixNano": str(event.timestamp),
                "name": event.name,
                "attributes": _attributes((event.attributes or {}).items()),
            }
            for event in span.events
        ],
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
    }
    if span.parent is not None:
        body["parentSpanId"] = f"{span.parent.span_id:016x}"
    scope = {"name": SCOPE, "version": __version__}
    resource = {"attributes": _attributes(span.resource.attributes.items())}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": [body]}]}]})


def _attributes(items: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in items]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case Sequence() if not isinstance(value, str):
            return {"arrayValue": {"values": [_value(item) for item in value]}}
        case _:
            return {"stringValue": str(value)}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _missing() -> MissingDependencyError:
    return MissingDependencyError("OpenTelemetry", "spans", "Install it: pip install 'hiervla[otel]'")
