"""Small plots as SVG text; colours come from the page, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 900
_LEFT, _RIGHT = 52, 12
_POINTS = 500


@dataclass(frozen=True)
class Span:
    """A bar of the timeline.

    Attributes:
        row: text at its left.
        start_s: on the world's clock [s].
        end_s: on the world's clock [s].
        tone: CSS variable without its dashes: ``good``, ``bad``, ``accent``, ``unsure``.
        title: shown when pointed at.
    """

    row: str
    start_s: float
    end_s: float
    tone: str
    title: str


def timeline(spans: Sequence[Span], end_s: float) -> str:
    """Bars over robot time, one row for each distinct ``row``."""
    rows = list(dict.fromkeys(span.row for span in spans))
    left, height = 210, 26
    bottom = len(rows) * height + 8
    scale = _scale(0.0, max(end_s, 1e-3), left, WIDTH - _RIGHT)
    parts = [_axis(0.0, end_s, scale, 4, bottom)]
    for number, row in enumerate(rows):
        y = number * height + 8
        parts.append(f'<text x="0" y="{y + 14}">{escape(_short(row, 32))}</text>')
        for span in spans:
            if span.row == row:
                x, x2 = scale(span.start_s), scale(span.end_s)
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{max(x2 - x, 2):.1f}" height="18" rx="3" '
                    f'fill="var(--{span.tone})"><title>{escape(span.title)}</title></rect>'
                )
    return _svg(bottom + 24, parts, "timeline of the run")


def lines(
    times_s: Sequence[float],
    series: Sequence[Sequence[float]],
    *,
    label: str,
    marks_s: Sequence[float] = (),
    height: int = 220,
    first_colour: int = 0,
) -> str:
    """Curves over robot time, with a dashed line at each of ``marks_s``; coloured ``--c0``, ``--c1``, and so on."""
    if not times_s or not series:
        return ""
    keep = _thin(len(times_s))
    low = min(min(values[i] for i in keep) for values in series)
    high = max(max(values[i] for i in keep) for values in series)
    pad = 0.05 * (high - low) or 0.05
    low, high = low - pad, high + pad
    x = _scale(times_s[0], max(times_s[-1], times_s[0] + 1e-3), _LEFT, WIDTH - _RIGHT)
    y = _scale(low, high, height - 24, 8)
    parts = [_axis(times_s[0], times_s[-1], x, 8, height - 24)]
    for value in _ticks(low, high, 4):
        parts.append(f'<path class="rule" d="M{_LEFT} {y(value):.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="soft" x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for mark in marks_s:
        parts.append(f'<path class="rule" stroke-dasharray="3 3" d="M{x(mark):.1f} 8V{height - 24}"/>')
    for number, values in enumerate(series):
        path = "L".join(f"{x(times_s[i]):.1f} {y(values[i]):.1f}" for i in keep)
        colour = (number + first_colour) % 8
        parts.append(f'<path d="M{path}" fill="none" stroke="var(--c{colour})" stroke-width="1.6"/>')
    return _svg(height, parts, label)


def bars(values: Sequence[float], *, label: str, unit: str, limit: float | None = None, height: int = 90) -> str:
    """One bar for each value, with the largest written out; those over ``limit`` stand out."""
    if not values:
        return ""
    top = max(*values, limit or 0.0, 1e-9)
    y = _scale(0.0, top, height - 6, 18)
    step = (WIDTH - _LEFT - _RIGHT) / max(len(values), 12)
    parts = [f'<text class="soft" x="{_LEFT - 6}" y="{y(top) + 4:.1f}" text-anchor="end">{top:.3g} {unit}</text>']
    for number, value in enumerate(values):
        tone = "bad" if limit is not None and value > limit else "accent"
        parts.append(
            f'<rect x="{_LEFT + number * step:.1f}" y="{y(value):.1f}" width="{max(step - 1.5, 1):.1f}" '
            f'height="{y(0) - y(value):.1f}" fill="var(--{tone})"><title>{number}: {value:.1f} {unit}</title></rect>'
        )
    if limit is not None:
        parts.append(f'<path class="rule" stroke-dasharray="4 3" d="M{_LEFT} {y(limit):.1f}H{WIDTH - _RIGHT}"/>')
        if limit < 0.7 * top:  # nearer, the two numbers would lie on each other
            at = f'x="{_LEFT - 6}" y="{y(limit) + 4:.1f}"'
            parts.append(f'<text class="soft" {at} text-anchor="end">{limit:.0f}</text>')
    parts.append(f'<path class="rule" d="M{_LEFT} {height - 6}H{WIDTH - _RIGHT}"/>')
    return _svg(height, parts, label)


class _scale:  # noqa: N801
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._slope = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._slope


def _axis(low: float, high: float, x: _scale, top: float, bottom: float) -> str:
    parts = []
    for value in _ticks(low, high, 8):
        parts.append(f'<path class="rule" d="M{x(value):.1f} {top}V{bottom}"/>')
        parts.append(f'<text class="soft" x="{x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{value:g} s</text>')
    return "".join(parts)


def _ticks(low: float, high: float, about: int) -> list[float]:
    span = max(high - low, 1e-9)
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _thin(count: int) -> list[int]:
    stride = max(1, math.ceil(count / _POINTS))
    keep = list(range(0, count, stride))
    return keep if keep[-1] == count - 1 else [*keep, count - 1]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    body = "".join(parts)
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return f'<div class="wide">{head}{body}</svg></div>'
