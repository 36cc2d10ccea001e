"""Draws artifacts on the exact frame that they were computed from, as an image and for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hiervla.executor.record.draw_space import Pixels, captions, paint_value_map, projected
from hiervla.representations import (
    AffordanceMap,
    Artifact,
    Boxes,
    CameraFrame,
    Constraints,
    Keypoints,
    LanguageMotion,
    SubtaskList,
    ValueMap,
    Waypoints2D,
    Waypoints3D,
)

Colour = tuple[int, int, int]

# Colour-blind safe, and rare among household things.
COLOURS: tuple[Colour, ...] = ((255, 0, 200), (0, 220, 255), (255, 220, 0), (120, 255, 60))
"""Artifacts of one step take turns with these."""
_GRIPPER: dict[str, Colour] = {"open": (120, 255, 60), "close": (255, 80, 40), "keep": (255, 255, 255)}
_RAMP = " .:-=+*#%@"


def draw(frame: CameraFrame, artifacts: Iterable[Artifact], scale: int = 3) -> Pixels:
    """The frame, enlarged, with all artifacts that speak of it drawn over it.

    Args:
        frame: the frame that they were computed from.
        artifacts: those of another image are left out; 3D ones are projected into this camera.
        scale: every pixel becomes ``scale * scale`` pixels.

    Returns:
        (H * scale, W * scale, 3) uint8.
    """
    mine = [a for a in artifacts if _speaks_of(a, frame)]
    rgb = np.repeat(np.repeat(frame.rgb, scale, axis=0), scale, axis=1)
    for artifact in mine:
        if isinstance(artifact, AffordanceMap):
            rgb = _heat(rgb, artifact)
        elif isinstance(artifact, ValueMap):
            rgb = paint_value_map(rgb, frame, artifact, scale)
    image = Image.fromarray(rgb)
    canvas = ImageDraw.Draw(image)
    pen = _Pen(canvas, scale, max(1.5, frame.width * scale / 256), (frame.width * scale, frame.height * scale))
    for number, artifact in enumerate(a for a in mine if not isinstance(a, AffordanceMap)):
        _outline(pen, frame, artifact, COLOURS[number % len(COLOURS)])
    pen.caption([line for artifact in mine for line in captions(artifact)])
    return np.asarray(image)


def draws(artifact: Artifact, frame: CameraFrame) -> bool:
    """Whether :func:`draw` shows anything of an artifact on a frame."""
    return _speaks_of(artifact, frame)


def is_words(artifact: Artifact) -> bool:
    """Whether an artifact is but words, which go with any frame."""
    return isinstance(artifact, LanguageMotion | SubtaskList)


def half_blocks(rgb: Pixels, columns: int = 80) -> list[list[tuple[Colour, Colour]]]:
    """An image for the terminal: rows of (upper, lower) colours, two image rows in each character."""
    height, width = rgb.shape[:2]
    columns = min(columns, width)
    rows = max(1, round(height * columns / width / 2))
    small = np.asarray(Image.fromarray(rgb).resize((columns, rows * 2), Image.Resampling.BOX))
    return [[(_rgb(u), _rgb(v)) for u, v in zip(small[2 * r], small[2 * r + 1], strict=True)] for r in range(rows)]


def plain_blocks(rgb: Pixels, points: Sequence[tuple[float, float]], columns: int = 80) -> list[str]:
    """An image for a terminal without colours: brightness as characters, and an ``X`` at each (u, v) point [px]."""
    height, width = rgb.shape[:2]
    columns = min(columns, width)
    rows = max(1, round(height * columns / width / 2))
    grey = np.asarray(Image.fromarray(rgb).convert("L").resize((columns, rows), Image.Resampling.BOX), dtype=float)
    low, high = np.percentile(grey, (2, 98))
    shade = ((grey - low) / max(high - low, 1.0)).clip(0.0, 0.999)
    lines = [[_RAMP[int(value * len(_RAMP))] for value in row] for row in shade]
    for u, v in points:
        row = min(rows - 1, max(0, int(v * rows / height)))
        column = min(columns - 1, max(0, int(u * columns / width)))
        lines[row][column] = "X"
    return ["".join(line).rstrip() for line in lines]


def marks(frame: CameraFrame, artifacts: Iterable[Artifact]) -> list[tuple[float, float]]:
    """(u, v) [px] of what :func:`draw` marks in a frame: keypoints, path points, peaks of affordance maps."""
    points: list[tuple[float, float]] = []
    for artifact in artifacts:
        if not _speaks_of(artifact, frame):
            continue
        match artifact:
            case Keypoints():
                points += [(p.u, p.v) for p in artifact.points]
            case Waypoints2D():
                points += [(p.u, p.v) for p in artifact.points]
            case AffordanceMap():
                i, j = np.unravel_index(int(artifact.values.argmax()), artifact.values.shape)
                h, w = artifact.values.shape
                points.append(((int(j) + 0.5) * frame.width / w, (int(i) + 0.5) * frame.height / h))
            case Boxes():
                points += [((b.u_min + b.u_max) / 2, (b.v_min + b.v_max) / 2) for b in artifact.boxes]
            case _:
                points += projected(frame, artifact)
    return points


def _speaks_of(artifact: Artifact, frame: CameraFrame) -> bool:
    image = getattr(artifact, "image", None)
    if image is not None:
        return bool(image.sha256 == frame.sha256)
    return is_words(artifact) or bool(projected(frame, artifact))


def _heat(rgb: Pixels, artifact: AffordanceMap) -> Pixels:
    height, width = rgb.shape[:2]
    peak = float(artifact.values.max())
    values = Image.fromarray(np.asarray(artifact.values / peak, dtype=np.float32))
    strength = np.asarray(values.resize((width, height), Image.Resampling.BILINEAR)).clip(0.0, 1.0)[..., None]
    # From blue over red to yellow as it gets stronger; transparent where there is nothing.
    ramp = np.concatenate([2 * strength, 2 * strength - 1, 1 - 2 * strength], axis=2).clip(0.0, 1.0) * 255
    # Below a twentieth of the peak nothing is drawn, so that the frame stays what it was.
    alpha = 0.75 * np.sqrt(((strength - 0.05) / 0.95).clip(0.0))
    return np.asarray(rgb * (1 - alpha) + ramp * alpha + 0.5, dtype=np.uint8)


@dataclass(frozen=True)
class _Pen:
    """Draws in pixels of the original frame; strokes are ``unit`` wide in the enlarged one."""

    canvas: ImageDraw.ImageDraw
    scale: int
    unit: float
    size: tuple[int, int]

    def cross(self, u: float, v: float, colour: Colour) -> None:
        x, y, size = u * self.scale, v * self.scale, 5 * self.unit
        # A dark rim keeps it visible on any background; the centre stays free.
        for width, ink in ((1.6 * self.unit, (0, 0, 0)), (0.7 * self.unit, colour)):
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                start = (x + dx * size * 0.3, y + dy * size * 0.3)
                self.canvas.line([start, (x + dx * size, y + dy * size)], fill=ink, width=max(1, round(width)))
        self.canvas.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=colour)

    def dot(self, u: float, v: float, colour: Colour) -> None:
        x, y, size = u * self.scale, v * self.scale, 1.5 * self.unit
        self.canvas.ellipse([x - size, y - size, x + size, y + size], fill=colour, outline=(0, 0, 0))

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
        """A short head at the end of a line, so that a path says which way it goes."""
        x0, y0, x1, y1 = (c * self.scale for c in (*start, *end))
        length = float(np.hypot(x1 - x0, y1 - y0))
        if length < 6 * self.unit:
            return
        dx, dy, size = (x1 - x0) / length, (y1 - y0) / length, 3.5 * self.unit
        mx, my = (x0 + x1) / 2, (y0 + y1) / 2
        wings = [(mx - size * (dx + s * dy), my - size * (dy - s * dx)) for s in (0.6, -0.6)]
        self.canvas.polygon([(mx, my), *wings], fill=colour)

    def caption(self, lines: Sequence[str]) -> None:
        """Lines of text in the upper left corner."""
        size = 4 * self.unit + 2
        font = ImageFont.load_default(size=size)
        for number, line in enumerate(lines):
            y = 3 + number * (size + 4)
            left, top, right, bottom = self.canvas.textbbox((4, y), line, font=font)
            self.canvas.rectangle([left - 2, top - 1, right + 2, bottom + 1], fill=(0, 0, 0))
            self.canvas.text((4, y), line, fill=(255, 255, 255), font=font)

    def path(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        if len(points) > 1:
            scaled = [(u * self.scale, v * self.scale) for u, v in points]
            self.canvas.line(scaled, fill=(0, 0, 0), width=round(self.unit) + 2)
            self.canvas.line(scaled, fill=colour, width=max(1, round(self.unit)))

    def box(self, u_min: float, v_min: float, u_max: float, v_max: float, colour: Colour) -> None:
        corners = [c * self.scale for c in (u_min, v_min, u_max, v_max)]
        self.canvas.rectangle(corners, outline=colour, width=max(1, round(self.unit / 2)))

    def label(self, u: float, v: float, text: str, colour: Colour) -> None:
        font = ImageFont.load_default(size=5 * self.unit + 1)
        left, top, right, bottom = self.canvas.textbbox((0, 0), text, font=font)
        width, height = right - left, bottom - top
        x = u * self.scale + 6 * self.unit
        if x + width > self.size[0]:
            x = max(0, u * self.scale - 6 * self.unit - width)
        y = min(max(v * self.scale - height / 2, 0), self.size[1] - height - 2)
        self.canvas.rectangle([x - 2, y - 1, x + width + 2, y + height + 2], fill=(0, 0, 0))
        self.canvas.text((x - left, y - top), text, fill=colour, font=font)


def _outline(pen: _Pen, frame: CameraFrame, artifact: Artifact, colour: Colour) -> None:
    match artifact:
        case Keypoints():
            for point in artifact.points:
                pen.cross(point.u, point.v, colour)
                pen.label(point.u, point.v, f"{point.label} {point.confidence:.2f}", colour)
        case Boxes():
            for box in artifact.boxes:
                pen.box(box.u_min, box.v_min, box.u_max, box.v_max, colour)
                pen.label(box.u_min, box.v_min, f"{box.label} {box.confidence:.2f}", colour)
        case Waypoints2D():
            _way(pen, [(p.u, p.v, p.gripper) for p in artifact.points], colour)
        case Waypoints3D():
            points = projected(frame, artifact)
            if len(points) == len(artifact.points):
                _way(pen, [(u, v, p.gripper) for (u, v), p in zip(points, artifact.points, strict=True)], colour)
            else:
                pen.path(points, colour)
        case Constraints():
            _relations(pen, frame, artifact, colour)
        case ValueMap():
            for u, v in projected(frame, artifact):
                pen.cross(u, v, colour)
                pen.label(u, v, artifact.label, colour)
        case _:
            pass


def _way(pen: _Pen, points: Sequence[tuple[float, float, str]], colour: Colour) -> None:
    """A path with its direction, and with what the gripper does in words where it does something."""
    pen.path([(u, v) for u, v, _ in points], colour)
    for (u0, v0, _), (u1, v1, _) in zip(points[:-1], points[1:], strict=True):
        pen.arrow((u0, v0), (u1, v1), colour)
    for u, v, gripper in points:
        pen.dot(u, v, _GRIPPER[gripper])
        if gripper != "keep":
            pen.label(u, v, gripper, _GRIPPER[gripper])


def _relations(pen: _Pen, frame: CameraFrame, artifact: Constraints, colour: Colour) -> None:
    """The keypoints by the names that the relations give them."""
    for index, point in enumerate(artifact.keypoints):
        at = projected(frame, artifact.replace(keypoints=(point,) * len(artifact.keypoints)))
        if not at:
            continue
        pen.cross(*at[0], colour)
        pen.label(*at[0], f"k{index} {point.label}", colour)


def _rgb(value: Any) -> Colour:
    return int(value[0]), int(value[1]), int(value[2])
