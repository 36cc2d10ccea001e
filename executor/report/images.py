"""The camera images of a report: each is in the page once, and what was meant in it is drawn over it as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from hiervla.executor.export.entities import heat_png
from hiervla.executor.export.scene import Mark, image_marks, world_marks
from hiervla.representations import AffordanceMap, Artifact, CameraFrame

BUDGET_BYTES = 14_000_000
"""What all images of a page may take; a page stays below 20 MB with its text."""

_WIDEST_PX = 512
_QUALITY = 84


class Images:
    """Collects the images of one page.

    Attributes:
        left_out: images that were not taken in, because the page would have become too large.
    """

    def __init__(self, budget: int = BUDGET_BYTES) -> None:
        self.left_out = 0
        self._left = budget
        self._defs: dict[str, str] = {}

    def figure(self, frame: CameraFrame, artifacts: Sequence[Artifact], caption: str, *, small: bool = False) -> str:
        """A frame with artifacts over it; what speaks of another image is not drawn. Empty when the page is full."""
        name = self._take(frame)
        if name is None:
            return ""
        w, h = frame.width, frame.height
        mine = tuple(artifacts)
        heats = [a for a in mine if isinstance(a, AffordanceMap) and a.image.sha256 == frame.sha256]
        parts = [f'<use href="#{name}"/>', *(self._heat(heat, w, h) for heat in heats)]
        for mark in (*image_marks(mine, frame.sha256), *world_marks(mine, frame)):
            parts += _drawn(mark, w / 256, w)
        label = f"camera {frame.name} at {frame.time_s:.2f} s"
        head = f'<svg class="frame" viewBox="0 0 {w} {h}" role="img" aria-label="{escape(label)}">'
        kind = ' class="small"' if small else ""
        return f"<figure{kind}>{head}{''.join(parts)}</svg><figcaption>{caption}</figcaption></figure>"

    def defs(self) -> str:
        """The images themselves, for the end of the page."""
        images = "".join(self._defs.values())
        return f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{images}</defs></svg>'

    def _take(self, frame: CameraFrame) -> str | None:
        name = f"i{frame.sha256[:16]}"
        if name in self._defs:
            return name
        image = Image.fromarray(frame.rgb)
        if frame.width > _WIDEST_PX:
            image = image.resize((_WIDEST_PX, round(frame.height * _WIDEST_PX / frame.width)), Image.Resampling.BOX)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        data = base64.b64encode(buffer.getvalue()).decode()
        if not self._pay(len(data)):
            return None
        size = f'width="{frame.width}" height="{frame.height}"'
        self._defs[name] = f'<image id="{name}" {size} href="data:image/jpeg;base64,{data}"/>'
        return name

    def _heat(self, heat: AffordanceMap, width: int, height: int) -> str:
        rows, columns = heat.values.shape
        data = base64.b64encode(heat_png(heat, (columns, rows))).decode()
        if not self._pay(len(data)):
            return ""
        size = f'width="{width}" height="{height}" preserveAspectRatio="none" opacity="0.7"'
        return f'<image {size} href="data:image/png;base64,{data}"/>'

    def _pay(self, size: int) -> bool:
        if size > self._left:
            self.left_out += 1
            return False
        self._left -= size
        return True


def _drawn(mark: Mark, unit: float, width: int) -> list[str]:
    colour = f"rgb({','.join(map(str, mark.colour))})"
    parts = []
    match mark.kind:
        case "point":
            arm = 5 * unit
            for u, v in mark.points:
                cross = f"M{u - arm:.1f} {v:.1f}H{u + arm:.1f}M{u:.1f} {v - arm:.1f}V{v + arm:.1f}"
                for ink, stroke in (("#000", 2.4 * unit), (colour, 1.1 * unit)):
                    parts.append(f'<path d="{cross}" stroke="{ink}" stroke-width="{stroke:.2f}" fill="none"/>')
        case "box":
            (u0, v0), (u1, v1) = mark.points
            at = f'x="{u0:.1f}" y="{v0:.1f}" width="{u1 - u0:.1f}" height="{v1 - v0:.1f}"'
            parts.append(f'<rect {at} fill="none" stroke="{colour}" stroke-width="{unit:.2f}"/>')
        case _:
            line = "L".join(f"{u:.1f} {v:.1f}" for u, v in mark.points)
            for ink, stroke in (("#000", 2.6 * unit), (colour, 1.4 * unit)):
                parts.append(f'<path d="M{line}" stroke="{ink}" stroke-width="{stroke:.2f}" fill="none"/>')
    if mark.label:
        u, v = mark.points[0]
        size = 9 * unit
        # Near the right border the text goes to the left, and below the upper one it comes down.
        right = u > 0.6 * width
        at = f'x="{u - 7 * unit if right else u + 7 * unit:.1f}" y="{max(v - 4 * unit, size):.1f}"'
        anchor = ' text-anchor="end"' if right else ""
        style = f'font-size="{size:.1f}" fill="{colour}" stroke="#000" stroke-width="{1.6 * unit:.2f}"'
        parts.append(f'<text {at}{anchor} {style} paint-order="stroke">{escape(mark.label)}</text>')
    return parts
