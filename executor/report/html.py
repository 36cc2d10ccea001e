"""Builds the report: what was asked, what came of it, every step with its picture, verdicts and timing."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path

from PIL import Image

from hiervla.executor.record.describe import describe, evidence
from hiervla.executor.record.draw import Pixels
from hiervla.executor.record.errors import OutputError, RecordError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.pictures import artifacts_of, step_pictures
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt, RunView, State, StepRun, milliseconds, words
from hiervla.executor.report.style import STYLE
from hiervla.executor.report.svg import Span, bars, lines, timeline

_MARKS: dict[State, tuple[str, str]] = {
    "waiting": ("○", "soft"),
    "running": ("▶", "unsure"),
    "succeeded": ("✓", "good"),
    "failed": ("✗", "bad"),
    "not_begun": ("–", "soft"),
    "unfinished": ("?", "unsure"),
}
_VERDICT = {"yes": "good", "no": "bad", "unsure": "unsure"}
_GOOD = {"succeeded", "nothing_to_do"}
_CHUNK_LIMIT_MS = 200.0


def write_report(record: RunRecord, path: Path) -> None:
    """Write the report of a record to one file.

    Raises:
        RecordError: the record is damaged.
        OutputError: the file cannot be written.
    """
    text = report_html(record)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def report_html(record: RunRecord) -> str:
    """The report as a whole HTML document that loads nothing.

    Raises:
        RecordError: the record is damaged.
    """
    view = view_of(record)
    body = "".join(
        [
            *_header(record, view),
            *_timeline(view),
            *_plans(view),
            *_steps(record, view),
            *_motion(record, view),
            *_remarks(view),
            *_about(record),
        ]
    )
    title = escape(record.manifest.instruction or "a run without an instruction")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing can be loaded or run, whatever an instruction or a model wrote.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _header(record: RunRecord, view: RunView) -> Iterator[str]:
    m = record.manifest
    yield f"<header><h1>“{escape(m.instruction)}”</h1>"
    if view.finished is None:
        yield '<p class="outcome unsure">the run did not get to its end</p>'
    else:
        good = view.finished.outcome in _GOOD
        tone, mark = ("good", "✓") if good else ("bad", "✗")
        yield f'<p><span class="outcome {tone}">{mark} {words(view.finished.outcome)}</span> '
        yield f"{escape(view.finished.message)}</p>"
    for notice in record.notices:
        yield f'<p class="note">{escape(notice)}</p>'
    facts = {
        "robot time": f"{view.time_s:.1f} s",
        "steps": str(len(view.steps)),
        "retries": str(view.retries),
        "replans": str(view.replans),
        "world": m.world,
        "seed": str(m.seed),
        "planner": m.planner,
        "policy": m.policy,
    }
    yield '<dl class="facts">'
    for name, value in facts.items():
        yield f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl></header>"


def _timeline(view: RunView) -> Iterator[str]:
    spans = []
    for run in view.steps:
        for number, attempt in enumerate(run.attempts, 1):
            begin = attempt.started.time_s
            end = attempt.finished.time_s if attempt.finished else view.time_s
            tone = "good" if attempt.outcome == "succeeded" else "bad" if attempt.outcome else "unsure"
            title = f"attempt {number}: {words(attempt.outcome or 'cut off')}, {end - begin:.1f} s"
            spans.append(Span(f"{run.number} {run.step}", begin, end, tone, title))
    if spans:
        yield "<h2>Timeline</h2>"
        yield timeline(spans, view.time_s)


def _plans(view: RunView) -> Iterator[str]:
    if not view.chapters and not view.refusals and not view.rejected:
        return
    yield "<h2>Plan</h2>"
    for chapter in view.chapters:
        asked = len(chapter.answers)
        confirmed = f", confirmed {asked - 1} times" if asked > 2 else ", confirmed once" if asked == 2 else ""
        latency = max(a.wall_latency_s for a in chapter.answers)
        title = chapter.plan.goal if chapter.index == 0 else f"Replan {escape(chapter.reason)}"
        yield f"<h3>{escape(title)}</h3>"
        yield f'<p class="soft">planned in {latency:.2f} s{confirmed}</p><ol class="plan">'
        for run in chapter.entries():
            mark, tone = _MARKS[view.state(chapter, run)]
            yield f'<li><span class="mark {tone}">{mark}</span><span class="what">{_link(run)}</span>'
            yield f'<span class="soft">{escape(_brief(run))}</span></li>'
        yield "</ol>"
    if view.finished is None or view.finished.outcome not in _GOOD:
        for refusal in view.refusals:
            yield f'<p class="note">refused ({words(refusal.reason)}): {escape(refusal.message)}'
            if refusal.missing:
                yield f"<br>missing: {escape(', '.join(refusal.missing))}"
            if refusal.seen:
                yield f"<br>seen: {escape(', '.join(refusal.seen))}"
            yield "</p>"
    for rejected in view.rejected:
        yield f'<p class="note">an answer was rejected: {escape(rejected.problem)}</p>'


def _link(run: StepRun) -> str:
    text = escape(str(run.step))
    return f'<a href="#step-{run.number}" style="color:inherit">{run.number} {text}</a>' if run.number else text


def _brief(run: StepRun) -> str:
    facts = [f"{run.duration_s:.1f} s"] if run.attempts else []
    if run.retries:
        facts.append("1 retry" if run.retries == 1 else f"{run.retries} retries")
    if run.attempts and run.outcome != "succeeded":
        facts.append(words(run.outcome or "cut off"))
    return ", ".join(facts)


def _steps(record: RunRecord, view: RunView) -> Iterator[str]:
    if view.steps:
        yield "<h2>Steps</h2>"
    for run in view.steps:
        call = f"{run.step.skill}({', '.join(f'{k}={v}' for k, v in run.step.args.items())})"
        yield f'<section class="step" id="step-{run.number}"><h3>{run.number} {escape(str(run.step))}</h3>'
        yield f'<p class="soft"><code>{escape(call)}</code></p>'
        for number, attempt in enumerate(run.attempts, 1):
            yield from _attempt(record, run, number, attempt)
        yield "</section>"


def _attempt(record: RunRecord, run: StepRun, number: int, attempt: Attempt) -> Iterator[str]:
    tone = "good" if attempt.outcome == "succeeded" else "bad" if attempt.outcome else "unsure"
    of = f"attempt {number} of {len(run.attempts)}: " if len(run.attempts) > 1 else ""
    took = f" after {attempt.finished.duration_s:.1f} s" if attempt.finished else ""
    yield f'<div class="attempt"><p>{of}<span class="{tone}">{words(attempt.outcome or "cut off")}</span>{took}'
    if attempt.finished and attempt.finished.reason:
        yield f'<span class="soft"> · {escape(attempt.finished.reason)}</span>'
    yield '</p><div class="columns"><div>'
    pictures, missing = step_pictures(record, attempt)
    for picture in pictures:
        frame = picture.frame
        yield f'<figure><img alt="artifacts drawn on the frame of camera {escape(frame.name)}" '
        yield f'src="{_jpeg(picture.drawn(max(1, 768 // frame.width)))}">'
        yield f"<figcaption>camera {escape(frame.name)} at {frame.time_s:.2f} s, the frame that the artifacts "
        yield f"were computed from <code>{frame.sha256[:12]}</code></figcaption></figure>"
    for text in missing:
        yield f'<p class="note">{escape(text)}</p>'
    yield "</div><div>"
    artifacts = [line for artifact in artifacts_of(record, attempt) for line in describe(artifact)]
    if artifacts:
        yield f'<ul class="plain">{"".join(f"<li>{escape(line)}</li>" for line in artifacts)}</ul>'
    yield from _verdicts(attempt)
    yield "</div></div>"
    if attempt.chunks:
        latency = [1e3 * c.wall_latency_s for c in attempt.chunks]
        middle = milliseconds(sorted(latency)[len(latency) // 2] / 1e3)
        stale = max(c.staleness_s for c in attempt.chunks)
        yield f'<p class="soft">{len(latency)} action chunks of {escape(attempt.chunks[0].policy or "policy")}, '
        yield f"median {middle}; executed at most {stale:.2f} s after their observation</p>"
        limit = _CHUNK_LIMIT_MS if max(latency) > _CHUNK_LIMIT_MS else None
        yield bars(latency, label="time to compute each chunk", unit="ms", limit=limit)
    yield "</div>"


def _verdicts(attempt: Attempt) -> Iterator[str]:
    during = [v for v in attempt.verdicts if v.phase == "during"]
    shown = [v for v in attempt.verdicts if v.phase != "during" or v is during[-1]]
    if not shown:
        return
    yield "<table><thead><tr><th>when</th><th>verdict</th><th>evidence</th></tr></thead><tbody>"
    for event in shown:
        v = event.verdict
        yield f'<tr><td class="number">{event.time_s:.1f} s<br><span class="soft">{event.phase}</span></td>'
        yield f'<td>{escape(v.name)}: <span class="{_VERDICT[v.value]}">{v.value}</span> {v.confidence:.2f}</td>'
        yield f"<td>{escape(evidence(v.evidence))}</td></tr>"
    yield "</tbody></table>"


def _motion(record: RunRecord, view: RunView) -> Iterator[str]:
    try:
        ticks = list(record.ticks())
    except RecordError as error:
        yield f'<h2>Motion</h2><p class="note">{escape(str(error))}</p>'
        return
    if not ticks:
        return
    times = [t.sensed_at_s for t in ticks]
    joints = [[float(t.q[j]) for t in ticks] for j in range(len(ticks[0].q))]
    marks = [a.started.time_s for run in view.steps for a in run.attempts]
    yield "<h2>Motion</h2><p>Joint positions [rad]; dashed lines: a step begins.</p>"
    yield _legend([f"joint {j + 1}" for j in range(len(joints))], 0)
    yield lines(times, joints, label="joint positions over time", marks_s=marks)
    yield "<p>Gripper opening [mm], sensed and commanded.</p>"
    yield _legend(["sensed", "commanded"], 0)
    widths = [[1e3 * t.gripper_width_m for t in ticks], [1e3 * t.command.gripper_width_m for t in ticks]]
    yield lines(times, widths, label="gripper opening over time", marks_s=marks, height=140)


def _legend(names: list[str], first: int) -> str:
    items = (f'<span><i style="background:var(--c{(first + i) % 8})"></i>{n}</span>' for i, n in enumerate(names))
    return f'<div class="legend">{"".join(items)}</div>'


def _remarks(view: RunView) -> Iterator[str]:
    rows = [(e.time_s, f"safety envelope {e.action} ({e.check}): {e.message}") for e in view.envelope]
    rows += [(n.time_s, f"{n.level}: {n.message}") for n in view.notes]
    if not rows:
        return
    yield "<h2>Remarks</h2><table><tbody>"
    for time_s, text in sorted(rows):
        yield f'<tr><td class="number">{time_s:.2f} s</td><td>{escape(text)}</td></tr>'
    yield "</tbody></table>"


def _about(record: RunRecord) -> Iterator[str]:
    m = record.manifest
    rows = {
        "run": m.run_id,
        "made": m.created,
        "git revision": m.git_revision or "installed from a package",
        "python": f"{m.python}, {m.platform}",
        "packages": ", ".join(f"{n} {v}" for n, v in m.packages.items()),
        "events": f"{len(record)}, last hash {record.lines[-1].digest if record.lines else 'none'}",
    }
    yield "<h2>Record</h2><table><tbody>"
    for name, value in rows.items():
        yield f"<tr><th>{name}</th><td><code>{escape(value)}</code></td></tr>"
    yield "</tbody></table>"
    settings = ", ".join(f"{k} = {v}" for k, v in m.config.items())
    if settings:
        yield f"<details><summary>settings</summary><p><code>{escape(settings)}</code></p></details>"


def _jpeg(rgb: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
