"""Builds the report: what was asked, what came of it, every step with its picture, verdicts and timing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from hiervla.executor.record.changes import plan_change
from hiervla.executor.record.errors import OutputError, RecordError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Chapter, RunView, StepRun, sentence, words
from hiervla.executor.report.images import Images
from hiervla.executor.report.lanes import timeline
from hiervla.executor.report.pair import pair
from hiervla.executor.report.steps import MARKS, brief, steps
from hiervla.executor.report.style import STYLE
from hiervla.executor.report.svg import lines

_GOOD = {"succeeded", "nothing_to_do"}


def write_report(record: RunRecord, path: Path, other: RunRecord | None = None) -> None:
    """Write the report of a record, or of two side by side, to one file.

    Raises:
        RecordError: a record is damaged.
        OutputError: the file cannot be written.
    """
    text = report_html(record, other)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def report_html(record: RunRecord, other: RunRecord | None = None) -> str:
    """The report as a whole HTML document that loads nothing and runs no script.

    Args:
        record: the run.
        other: another run; its steps stand beside the same ones of ``record``.

    Raises:
        RecordError: a record is damaged.
    """
    view = view_of(record)
    images = Images()
    if other is None:
        parts = [
            *_header(record, view),
            *timeline(view),
            *_plans(view),
            *steps(record, view, images),
            *_motion(record, view),
            *_remarks(view),
            *_about(record),
        ]
    else:
        parts = list(pair(record, view, other, view_of(other), images))
    if images.left_out:
        parts.append(
            f'<p class="note">{images.left_out} images are left out, so that the page does not become too large; '
            "<code>hiervla inspect RUN --step N</code> shows those of a step</p>"
        )
    title = escape(record.manifest.instruction or "a run without an instruction")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing can be loaded or run, whatever an instruction or a model wrote.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main>{images.defs()}</body></html>\n"
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


def _plans(view: RunView) -> Iterator[str]:
    if not view.chapters and not view.refusals and not view.rejected:
        return
    yield "<h2>Plan</h2>"
    for chapter in view.chapters:
        asked = len(chapter.answers)
        confirmed = f", confirmed {asked - 1} times" if asked > 2 else ", confirmed once" if asked == 2 else ""
        latency = max(a.wall_latency_s for a in chapter.answers)
        title = chapter.plan.goal if chapter.index == 0 else f"Replan {chapter.reason}"
        yield f"<h3>{escape(title)}</h3>"
        yield f'<p class="soft">planned in {latency:.2f} s{confirmed}</p>'
        yield from _changed(view, chapter)
        yield '<ol class="plan">'
        for run in chapter.entries():
            mark, tone = MARKS[view.state(chapter, run)]
            yield f'<li><span class="mark {tone}">{mark}</span><span class="what">{_link(run)}</span>'
            yield f'<span class="soft">{escape(brief(run))}</span></li>'
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
        yield f'<p class="note">an answer was rejected at {rejected.time_s:.2f} s: {escape(rejected.problem)}'
        if rejected.raw_text:
            yield f"<br><code>{escape(rejected.raw_text[:400])}</code>"
        yield "</p>"


def _changed(view: RunView, chapter: Chapter) -> Iterator[str]:
    if chapter.index:
        change = plan_change(view.chapters[chapter.index - 1], chapter)
        tones = {"-": "bad", "+": "good", "~": "unsure", "=": "soft"}
        rows = (f'<li class="{tones[line[0]]}">{escape(line)}</li>' for line in change.lines())
        yield f'<ul class="diff">{"".join(rows)}</ul>'


def _link(run: StepRun) -> str:
    text = escape(str(run.step))
    return f'<a href="#step-{run.number}" style="color:inherit">{run.number} {text}</a>' if run.number else text


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
    rows += [(e.time_s, f"{e.id}: {sentence(e)}") for e in view.other]
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
