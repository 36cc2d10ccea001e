"""Differences of two decisions of one kind."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from hiervla.executor.record.compare import parting
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.diff.artifacts import artifact_findings
from hiervla.executor.replay.diff.edits import changed_arguments, plan_edits, what
from hiervla.executor.replay.diff.finding import Finding, against
from hiervla.executor.replay.diff.measures import angle
from hiervla.representations import ActionChunk, Event, Plan, Step, Verdict
from hiervla.representations import events as ev

DECISIONS: Final = (
    ev.PlanProposed,
    ev.PlanRejected,
    ev.PlanRefused,
    ev.PlanStale,
    ev.StepStarted,
    ev.Grounded,
    ev.GroundingFailed,
    ev.VerdictGiven,
    ev.TransitPlanned,
    ev.TransitFailed,
    ev.ChunkProposed,
    ev.StepFinished,
    ev.ProgramCalled,
    ev.ProgramReturned,
    ev.ProgramEnded,
    ev.CorrectionGiven,
    ev.RunFinished,
)
"""Events that say what somebody decided; the others say what was seen, or that a computer took its time."""

_ASIDE: Final = frozenset(
    # Who decided it and from which picture, when, and under which number: not what was decided.
    ("id", "parent", "version", "time_s", "wall_time_s", "provenance", "sha256", "observed_at_s", "staleness_s")
    + ("policy", "step_id", "depends_on", "wall_latency_s", "latency_s")
)
_SAME_TIME_S: Final = 1e-6
_MM: Final = 1e3


def is_decision(kind: str) -> bool:
    """Does an event of that type say what somebody decided?"""
    return kind in _TYPES


_TYPES: Final = frozenset(str(c.model_fields["type"].default) for c in DECISIONS)


def decision_key(event: Event) -> tuple[str, str]:
    """What has to be the same for two decisions to be compared: the type, and which question was answered."""
    return event.type, next((str(v) for n in ("phase", "purpose", "decision") if (v := getattr(event, n, None))), "")


def findings(a: Event, b: Event) -> list[Finding]:
    """What differs between two decisions with one key; nothing where they decide the same."""
    found = _specific(a, b)
    if not found:
        # Whatever no measure above looks at is a difference all the same.
        rest = parting(_decided(a), _decided(b), "")
        if rest is not None:
            found = [against(*rest)]
    return found


def _specific(a: Event, b: Event) -> list[Finding]:
    match a, b:
        case ev.PlanProposed(), ev.PlanProposed():
            return _plans(a.plan, b.plan) + _unlike("asked because", a.reason, b.reason)
        case ev.StepStarted(), ev.StepStarted():
            return _steps(a.step, b.step) + _unlike("attempt", a.attempt + 1, b.attempt + 1)
        case ev.Grounded(), ev.Grounded():
            return artifact_findings(a.artifacts, b.artifacts)
        case ev.VerdictGiven(), ev.VerdictGiven():
            return _verdicts(a.verdict, b.verdict)
        case ev.TransitPlanned(), ev.TransitPlanned():
            return _transits(a, b)
        case ev.ChunkProposed(), ev.ChunkProposed():
            return _chunks(a.chunk, b.chunk)
        case ev.StepFinished(), ev.StepFinished():
            found = _unlike("outcome", a.outcome, b.outcome) or _unlike("reason", a.reason, b.reason)
            return found + _durations(a.duration_s, b.duration_s)
        case ev.CorrectionGiven(), ev.CorrectionGiven():
            return _corrections(a, b)
        case ev.RunFinished(), ev.RunFinished():
            found = _unlike("outcome", a.outcome, b.outcome) + _unlike("message", a.message, b.message)
            return found + _unlike("done", a.done, b.done) + _unlike("remaining", a.remaining, b.remaining)
        case _:
            return []


def _unlike(field: str, a: Any, b: Any) -> list[Finding]:
    return [] if a == b else [against(field, a, b)]


def _plans(a: Plan, b: Plan) -> list[Finding]:
    found = _unlike("goal", a.goal, b.goal)
    found += artifact_findings(*((p.program,) if p.program is not None else () for p in (a, b)))
    edits = plan_edits(a, b)
    found += edits.findings
    states = [[f"{plan.step(i)}" for i in plan.done] for plan in (a, b)]
    found += _unlike("done steps", *states)
    for x, y in edits.kept:
        found += artifact_findings(x.artifacts, y.artifacts)
        if what(x) != what(y):
            continue  # words and conditions follow from the arguments
        found += _unlike(f"step '{x}', text", x.text, y.text)
        for name in ("preconditions", "postconditions"):
            found += _unlike(f"step '{x}', {name}", *([str(c) for c in getattr(s, name)] for s in (x, y)))
        needs = [sorted(str(plan.step(i)) for i in s.depends_on) for plan, s in ((a, x), (b, y))]
        found += _unlike(f"step '{x}', comes after", *needs)
    return found + [
        Finding(f"scene: {f.field}", f.text, f.a, f.b, f.distances) for f in artifact_findings(a.scene, b.scene)
    ]


def _steps(a: Step, b: Step) -> list[Finding]:
    said = changed_arguments(a, b) or _unlike("text", a.text, b.text)
    return said + artifact_findings(a.artifacts, b.artifacts)


def _verdicts(a: Verdict, b: Verdict) -> list[Finding]:
    found = _unlike("check", a.name, b.name) + _unlike("value", a.value, b.value)
    if a.confidence != b.confidence:
        words = f"{a.confidence:.2f} | {b.confidence:.2f}"
        found.append(Finding("confidence", words, a.confidence, b.confidence))
    for name in [*a.evidence, *(n for n in b.evidence if n not in a.evidence)]:
        found += _unlike(f"evidence {name}", a.evidence.get(name), b.evidence.get(name))
    return found


def _transits(a: ev.TransitPlanned, b: ev.TransitPlanned) -> list[Finding]:
    found = []
    if a.target_position_w != b.target_position_w:
        if a.target_position_w is None or b.target_position_w is None:
            found.append(against("target", a.target_position_w, b.target_position_w))
        else:
            mm = float(np.linalg.norm(np.subtract(a.target_position_w, b.target_position_w))) * _MM
            words = f"{mm:.1f} mm apart"
            found.append(Finding("target", words, a.target_position_w, b.target_position_w, {"world_mm": mm}))
    return found + _unlike("method", a.method, b.method) + _durations(a.duration_s, b.duration_s)


def _chunks(a: ActionChunk, b: ActionChunk) -> list[Finding]:
    found = _unlike("rows", a.horizon, b.horizon) + _unlike("rate [Hz]", a.rate_hz, b.rate_hz)
    rows = min(a.horizon, b.horizon)
    apart = np.linalg.norm(a.positions[:rows] - b.positions[:rows], axis=1) * _MM
    if apart.max() > 0:
        distances = {"mean_mm": float(apart.mean()), "max_mm": float(apart.max())}
        words = f"{distances['mean_mm']:.1f} mm apart on average, {distances['max_mm']:.1f} mm at most"
        found.append(Finding("positions", words, distances=distances))
    turned = max(angle(x, y) for x, y in zip(a.yaws[:rows], b.yaws[:rows], strict=True))
    if turned > 0:
        degrees = float(np.degrees(turned))
        found.append(Finding("yaw", f"up to {degrees:.1f} degrees apart", distances={"max_deg": degrees}))
    opened = float(np.abs(a.gripper[:rows] - b.gripper[:rows]).max())
    if opened > 0:
        found.append(Finding("gripper", f"opening up to {opened:.2f} apart", distances={"max": opened}))
    for name in ("done_prob", "progress"):
        found += _unlike(name.replace("_prob", ""), getattr(a, name), getattr(b, name))
    return found


def _corrections(a: ev.CorrectionGiven, b: ev.CorrectionGiven) -> list[Finding]:
    if a.plan is not None and b.plan is not None:
        return _plans(a.plan, b.plan)
    if a.step is not None and b.step is not None:
        return _steps(a.step, b.step)
    if a.chunk is not None and b.chunk is not None:
        return _chunks(a.chunk, b.chunk)
    if a.verdict is not None and b.verdict is not None:
        return _verdicts(a.verdict, b.verdict)
    return []


def _durations(a: float, b: float) -> list[Finding]:
    if abs(a - b) <= _SAME_TIME_S:
        return []
    return [Finding("duration", f"{a:.2f} s | {b:.2f} s", a, b, {"seconds": abs(a - b)})]


def _decided(event: Event) -> Any:
    values = _bare(json.loads(event.model_dump_json()))
    for name in ("duration_s", "ticks"):
        values.pop(name, None)
    if isinstance(event, ev.ProgramCalled):
        # Where a call stands in the text, and the sandbox's own bytes, are not what was decided.
        for name in ("call", "line", "start", "end", "snapshot"):
            values.pop(name)
    if isinstance(event, ev.ProgramReturned):
        values.pop("call")
    for holder in (values, values.get("step"), *(values.get("plan") or {}).get("steps", ())):
        if isinstance(holder, dict):
            holder.pop("id", None)
    for name in ("done", "remaining"):
        (values.get("plan") or {}).pop(name, None)
    return values


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items() if k not in _ASIDE}
    return [_bare(v) for v in value] if isinstance(value, list) else value


def headers(a: RunRecord, b: RunRecord) -> list[Finding]:
    """What was known before the two runs and differs: who was asked, for what, with which settings."""
    x, y = a.manifest, b.manifest
    found: list[Finding] = []
    for name in ("instruction", "world", "planner", "policy", "seed"):
        found += _unlike(name, getattr(x, name), getattr(y, name))
    for name in [*x.config, *(n for n in y.config if n not in x.config)]:
        found += _unlike(f"setting {name}", x.config.get(name), y.config.get(name))
    if x.world_config != y.world_config:
        found.append(Finding("scene", "another scene", None, None))
    return found
