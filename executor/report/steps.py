"""The steps of a report: every attempt with its frames, artifacts, verdicts and chunks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hiervla.executor.record.describe import describe, evidence
from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.pictures import artifacts_of, step_pictures
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt, RunView, State, StepRun, milliseconds, sentence, words
from hiervla.executor.report.images import Images
from hiervla.executor.report.svg import bars

MARKS: dict[State, tuple[str, str]] = {
    "waiting": ("○", "soft"),
    "running": ("▶", "unsure"),
    "succeeded": ("✓", "good"),
    "failed": ("✗", "bad"),
    "not_begun": ("–", "soft"),
    "unfinished": ("?", "unsure"),
}
_VERDICT = {"yes": "good", "no": "bad", "unsure": "unsure"}
_CHUNK_LIMIT_MS = 200.0
_OPEN_UP_TO = 12
"""With more steps than this, only those that failed or were retried are open when the page is."""


def steps(record: RunRecord, view: RunView, images: Images) -> Iterator[str]:
    """All steps of a run; a closed one costs the browser nothing until it is opened."""
    if view.steps:
        yield "<h2>Steps</h2>"
    # When a page has no room for all images, those that artifacts speak of come first: they are what was meant.
    drawn = {id(a): _drawn(record, a, images) for run in view.steps for a in run.attempts}
    for run in view.steps:
        shown = len(view.steps) <= _OPEN_UP_TO or run.retries > 0 or run.outcome != "succeeded"
        yield step(record, run, images, drawn, shown=shown)


def step(
    record: RunRecord, run: StepRun, images: Images, drawn: dict[int, list[str]], *, shown: bool, prefix: str = ""
) -> str:
    """One step as a section that opens and closes; ``prefix`` keeps the ids of two runs apart."""
    call = f"{run.step.skill}({', '.join(f'{k}={v}' for k, v in run.step.args.items())})"
    mark, tone = MARKS[outcome_state(run)]
    parts = [
        f'<section class="step"><details{" open" if shown else ""}>'
        f'<summary><h3><span class="{tone}">{mark}</span> {run.number} {escape(str(run.step))}</h3> '
        f'<span class="soft">{escape(brief(run))}</span></summary>'
        f'<div id="{prefix}step-{run.number}"><p class="soft"><code>{escape(call)}</code></p>'
    ]
    for number, attempt in enumerate(run.attempts, 1):
        parts += _attempt(record, run, number, attempt, images, drawn.get(id(attempt), []))
    return "".join([*parts, "</div></details></section>"])


def outcome_state(run: StepRun) -> State:
    """How a begun step ended."""
    return "unfinished" if run.outcome is None else "succeeded" if run.outcome == "succeeded" else "failed"


def brief(run: StepRun) -> str:
    """Time, retries and a bad outcome, in a few words."""
    facts = [f"{run.duration_s:.1f} s"] if run.attempts else []
    if run.retries:
        facts.append("1 retry" if run.retries == 1 else f"{run.retries} retries")
    if run.attempts and run.outcome != "succeeded":
        facts.append(words(run.outcome or "cut off"))
    return ", ".join(facts)


def drawn_frames(record: RunRecord, run: StepRun, images: Images) -> dict[int, list[str]]:
    """The figures of every attempt at a step, for :func:`step`."""
    return {id(attempt): _drawn(record, attempt, images) for attempt in run.attempts}


def _drawn(record: RunRecord, attempt: Attempt, images: Images) -> list[str]:
    pictures, missing = step_pictures(record, attempt)
    figures = []
    for picture in pictures:
        frame = picture.frame
        caption = (
            f"camera {escape(frame.name)} at {frame.time_s:.2f} s, the frame that the artifacts were computed from "
            f"<code>{frame.sha256[:12]}</code>"
        )
        figures.append(images.figure(frame, picture.artifacts, caption))
    return figures + [f'<p class="note">{escape(text)}</p>' for text in missing]


def _attempt(
    record: RunRecord, run: StepRun, number: int, attempt: Attempt, images: Images, figures: list[str]
) -> Iterator[str]:
    tone = "good" if attempt.outcome == "succeeded" else "bad" if attempt.outcome else "unsure"
    of = f"attempt {number} of {len(run.attempts)}: " if len(run.attempts) > 1 else ""
    took = f" after {attempt.finished.duration_s:.1f} s" if attempt.finished else ""
    yield f'<div class="attempt"><p>{of}<span class="{tone}">{words(attempt.outcome or "cut off")}</span>{took}'
    if attempt.finished and attempt.finished.reason:
        yield f'<span class="soft"> · {escape(attempt.finished.reason)}</span>'
    yield f'</p><div class="columns"><div>{"".join(figures)}</div><div>'
    artifacts = [line for artifact in artifacts_of(record, attempt) for line in describe(artifact)]
    if artifacts:
        yield f'<ul class="plain">{"".join(f"<li>{escape(line)}</li>" for line in artifacts)}</ul>'
    yield from _verdicts(attempt)
    yield "</div></div>"
    yield from _key_frames(record, attempt, images)
    for event in (*attempt.envelope, *attempt.other):
        yield f'<p class="note">{event.time_s:.2f} s: {escape(sentence(event))}</p>'
    if attempt.chunks:
        latency = [1e3 * c.wall_latency_s for c in attempt.chunks]
        middle = milliseconds(sorted(latency)[len(latency) // 2] / 1e3)
        stale = max(c.staleness_s for c in attempt.chunks)
        count = "1 action chunk" if len(latency) == 1 else f"{len(latency)} action chunks"
        yield f'<p class="soft">{count} of {escape(attempt.chunks[0].policy or "policy")}, '
        yield f"median {middle}; executed at most {stale:.2f} s after their observation</p>"
        limit = _CHUNK_LIMIT_MS if max(latency) > _CHUNK_LIMIT_MS else None
        yield bars(latency, label="time to compute each chunk", unit="ms", limit=limit)
    yield "</div>"


def _key_frames(record: RunRecord, attempt: Attempt, images: Images) -> Iterator[str]:
    """What the cameras saw when the attempt began to act and when it was judged."""
    seen = attempt.observations
    chosen = [seen[0], seen[-1]] if len(seen) > 1 else list(seen)
    figures = []
    for event in chosen:
        for frame in event.frames:
            caption = f"{escape(frame.image.camera)}, {event.time_s:.2f} s ({event.purpose})"
            try:
                figures.append(images.figure(record.frame(frame, depth=False), (), caption, small=True))
            except RecordError as error:
                figures.append(f'<p class="note">{escape(str(error))}</p>')
    if figures:
        yield f'<div class="strip">{"".join(figures)}</div>'


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
