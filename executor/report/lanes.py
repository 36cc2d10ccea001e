"""The timeline of a report as rows of bars that fit any width."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hiervla.executor.record.view import RunView, milliseconds, words

MANY = 40
"""With more steps than this, their rows are folded away under the overview."""


def timeline(view: RunView) -> Iterator[str]:
    """An overview of planner calls, attempts and chunks, and a row for every step."""
    if not view.steps:
        return
    end_s = max(view.time_s, 1e-3)
    yield '<h2>Timeline</h2><div class="lanes">'
    attempts = [(run, number, a) for run in view.steps for number, a in enumerate(run.attempts, 1)]
    calls = [answer for chapter in view.chapters for answer in chapter.answers]
    asked = (_tick(c.time_s, end_s, "accent", f"planner, {milliseconds(c.wall_latency_s)}: {c.reason}") for c in calls)
    yield _row("planner", "".join(asked))
    bars = []
    rows: list[list[str]] = [[] for _ in view.steps]
    for run, number, attempt in attempts:
        begin = attempt.started.time_s
        until = attempt.finished.time_s if attempt.finished else view.time_s
        tone = "good" if attempt.outcome == "succeeded" else "bad" if attempt.outcome else "unsure"
        text = f"attempt {number}: {words(attempt.outcome or 'cut off')}, {until - begin:.1f} s"
        left, width = 100 * begin / end_s, max(100 * (until - begin) / end_s, 0.15)
        bar = f'<i class="{tone}" style="left:{left:.2f}%;width:{width:.2f}%" title="'
        bars.append(f'{bar}{run.number} {escape(str(run.step))}, {text}"></i>')
        rows[run.number - 1].append(f'{bar}{text}"></i>')
    yield _row("steps", "".join(bars))
    chunks = (
        _tick(c.time_s, end_s, "unsure", f"chunk {c.index}, {milliseconds(c.wall_latency_s)}")
        for _, _, attempt in attempts
        for c in attempt.chunks
    )
    yield _row("chunks", "".join(chunks))
    yield f'<p class="scale"><span>0 s</span><span>{end_s / 2:.0f} s</span><span>{end_s:.0f} s</span></p>'
    many = len(view.steps) > MANY
    if many:
        yield f"<details><summary>a row for each of the {len(view.steps)} steps</summary>"
    for run, row in zip(view.steps, rows, strict=True):
        yield _row(f'<a href="#step-{run.number}">{run.number} {escape(str(run.step))}</a>', "".join(row))
    yield "</details></div>" if many else "</div>"


def _row(label: str, bars: str) -> str:
    return f'<div class="lane"><span class="name">{label}</span><span class="bar">{bars}</span></div>'


def _tick(time_s: float, end_s: float, tone: str, title: str) -> str:
    return f'<i class="{tone} tick" style="left:{100 * time_s / end_s:.2f}%" title="{escape(title)}"></i>'
