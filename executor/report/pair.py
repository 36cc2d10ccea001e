"""Two runs side by side, aligned by what their steps do."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from html import escape

from hiervla.executor.record.compare import first_difference
from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import RunView, StepRun, what, words
from hiervla.executor.report.images import Images
from hiervla.executor.report.steps import drawn_frames, outcome_state, step

_OPEN_UP_TO = 12


def pair(a: RunRecord, view_a: RunView, b: RunRecord, view_b: RunView, images: Images) -> Iterator[str]:
    """The body of a report about two runs.

    Raises:
        RecordError: a record is damaged.
    """
    yield f"<header><h1>“{escape(a.manifest.instruction)}”</h1>"
    yield '<p class="soft">two runs side by side, aligned by what their steps do</p>'
    for name, record in (("A", a), ("B", b)):
        for notice in record.notices:
            yield f'<p class="note">{name}: {escape(notice)}</p>'
    yield "<table><thead><tr><th></th><th>A</th><th>B</th></tr></thead><tbody>"
    for label, left, right in _facts(a, view_a, b, view_b):
        tone = "" if left == right else ' class="unsure"'
        yield f"<tr><th>{label}</th><td{tone}>{escape(left)}</td><td{tone}>{escape(right)}</td></tr>"
    yield "</tbody></table></header><h2>First difference</h2>"
    try:
        found = first_difference(a, b)
        text = "none but wall-clock times: the two runs did the same" if found is None else str(found)[:600]
    except RecordError as error:
        text = f"cannot be told: {error}"
    yield f"<p>{escape(text)}</p><h2>Steps</h2>"
    rows = aligned(view_a.steps, view_b.steps)
    for x, y in rows:
        shown = len(rows) <= _OPEN_UP_TO or _differ(x, y)
        yield '<div class="pair">'
        for name, record, run in (("A", a, x), ("B", b, y)):
            yield f'<div><p class="run">{name}</p>'
            if run is None:
                yield '<p class="soft">not in this run</p>'
            else:
                figures = drawn_frames(record, run, images)
                yield step(record, run, images, figures, shown=shown, prefix=f"{name.lower()}-")
            yield "</div>"
        yield "</div>"


def aligned(a: list[StepRun], b: list[StepRun]) -> list[tuple[StepRun | None, StepRun | None]]:
    """Pairs of the same steps in order; a step that only one run has stands alone."""
    matcher = SequenceMatcher(a=[what(r.step) for r in a], b=[what(r.step) for r in b], autojunk=False)
    rows: list[tuple[StepRun | None, StepRun | None]] = []
    for kind, i0, i1, j0, j1 in matcher.get_opcodes():
        if kind == "equal":
            rows += zip(a[i0:i1], b[j0:j1], strict=True)
        else:
            rows += [(run, None) for run in a[i0:i1]] + [(None, run) for run in b[j0:j1]]
    return rows


def _differ(a: StepRun | None, b: StepRun | None) -> bool:
    return a is None or b is None or (outcome_state(a), a.retries) != (outcome_state(b), b.retries)


def _facts(a: RunRecord, view_a: RunView, b: RunRecord, view_b: RunView) -> Iterator[tuple[str, str, str]]:
    def both(record: RunRecord, view: RunView) -> dict[str, str]:
        m, end = record.manifest, view.finished
        return {
            "run": m.run_id,
            "asked": m.instruction,
            "outcome": f"{words(end.outcome)}: {end.message}" if end else "did not get to its end",
            "robot time": f"{view.time_s:.1f} s",
            "steps": str(len(view.steps)),
            "retries": str(view.retries),
            "replans": str(view.replans),
            "world, seed": f"{m.world}, {m.seed}",
            "planner": m.planner,
            "policy": m.policy,
        }

    left, right = both(a, view_a), both(b, view_b)
    yield from ((label, left[label], right[label]) for label in left)
