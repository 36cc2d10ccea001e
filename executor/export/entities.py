"""What Rerun is given of a record: which entity gets which archetype with which values at which time.

Knows Rerun's names (https://ref.rerun.io/docs/python) but does not import it, so that all of it is tested where Rerun
is not installed; :mod:`hiervla.executor.export.rerun` only hands it over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from hiervla.executor.export.scene import (
    CameraSeen,
    Doing,
    Item,
    Mark,
    Measured,
    Overlay,
    PlanState,
    Said,
    joints,
    scene,
)
from hiervla.executor.record.errors import CorruptRecordError
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import AffordanceMap

TIMELINE = "robot_time"
"""The one timeline, of durations on the world's clock."""

CAMERAS, CLOUDS, TCP = "world/camera", "world/cloud", "world/tcp"
PLAN, DOING, LOG, TIMING, JOINTS, GRIPPER = "plan/text", "plan/step", "log", "timing", "robot/joints", "robot/gripper"

_CLOUD_STRIDE = 2
_CLOUD_M = 4.0
_LEVELS = {"info": "INFO", "warning": "WARN", "error": "ERROR"}


@dataclass(frozen=True)
class Logged:
    """One archetype for one entity at one time.

    Attributes:
        archetype: its class in ``rerun``.
        values: its arguments.
    """

    entity: str
    time_s: float
    archetype: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One archetype for one entity at many times at once: ``values`` has a row for each of them."""

    entity: str
    times_s: tuple[float, ...]
    archetype: str
    values: dict[str, Any] = field(compare=False)


def entities(record: RunRecord, notices: list[str] | None = None) -> Iterator[Logged | Column]:
    """All that is shown of a record, decisions first and then the control ticks.

    Args:
        record: what to show.
        notices: gets a sentence for everything that cannot be shown.

    Raises:
        CorruptRecordError: a line holds no event.
    """
    for item in scene(record, notices):
        yield from logged(item)
    try:
        yield from _ticks(record)
    except CorruptRecordError as error:
        if notices is not None:
            notices.append(f"joints are not shown: {error.place} {error.problem}")


def logged(item: Item) -> Iterator[Logged]:
    """What Rerun is given for one thing to show."""
    match item:
        case CameraSeen():
            yield from _camera(item)
        case Overlay(time_s, camera, size, marks, heat):
            where = f"{CAMERAS}/{camera}"
            # What was drawn before belonged to another decision.
            yield Logged(f"{where}/marks", time_s, "Clear", {"recursive": True})
            if heat is not None:
                contents = heat_png(heat, size)
                values = {"contents": contents, "media_type": "image/png", "opacity": 0.6, "draw_order": 1.0}
                yield Logged(f"{where}/marks/heat", time_s, "EncodedImage", values)
            yield from _marks(f"{where}/marks", time_s, marks)
        case Said(time_s, level, text):
            yield Logged(LOG, time_s, "TextLog", {"text": text, "level": _LEVELS[level]})
        case PlanState(time_s, text):
            yield Logged(PLAN, time_s, "TextDocument", {"text": text, "media_type": "text/markdown"})
        case Doing(time_s, text):
            yield Logged(DOING, time_s, "StateChange", {"state": text or "between steps"})
        case Measured(time_s, name, value):
            yield Logged(f"{TIMING}/{name}", time_s, "Scalars", {"scalars": value})


def heat_png(heat: AffordanceMap, size: tuple[int, int]) -> bytes:
    """An affordance map as a transparent PNG of ``size`` (width, height) [px]: from blue over red to yellow."""
    strength = np.asarray(heat.values / max(float(heat.values.max()), 1e-12), dtype=np.float32)
    grown = np.asarray(Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR)).clip(0.0, 1.0)[..., None]
    ramp = np.concatenate([2 * grown, 2 * grown - 1, 1 - 2 * grown], axis=2).clip(0.0, 1.0)
    alpha = np.sqrt(((grown - 0.05) / 0.95).clip(0.0))
    rgba = np.asarray(np.concatenate([ramp, alpha], axis=2) * 255 + 0.5, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(buffer, "PNG")
    return buffer.getvalue()


def cloud(seen: CameraSeen) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Points (N, 3) in the world frame [m] and their colours (N, 3) uint8, from every second pixel of a depth image."""
    frame = seen.frame
    depth_m = frame.require_depth()
    v, u = (axis.reshape(-1) for axis in np.mgrid[0 : frame.height : _CLOUD_STRIDE, 0 : frame.width : _CLOUD_STRIDE])
    z = depth_m[v, u].astype(np.float64)
    # The backdrop of a scene lies far away, and would make its middle small.
    good = np.isfinite(z) & (z > 0) & (z < _CLOUD_M)
    u, v, z = u[good], v[good], z[good]
    pixels = np.stack([u + 0.5, v + 0.5, np.ones_like(z)])
    points_c = np.linalg.inv(frame.K) @ pixels * z
    points_w = frame.T_world_camera[:3, :3] @ points_c + frame.T_world_camera[:3, 3:]
    return points_w.T.astype(np.float32), frame.rgb[v, u]


def _camera(seen: CameraSeen) -> Iterator[Logged]:
    frame, where = seen.frame, f"{CAMERAS}/{seen.frame.name}"
    pose = {"translation": frame.T_world_camera[:3, 3], "mat3x3": frame.T_world_camera[:3, :3]}
    yield Logged(where, seen.time_s, "Transform3D", pose)
    lens = {"image_from_camera": frame.K, "width": frame.width, "height": frame.height, "image_plane_distance": 0.1}
    yield Logged(where, seen.time_s, "Pinhole", lens)
    buffer = io.BytesIO()
    Image.fromarray(frame.rgb).save(buffer, "JPEG", quality=90, subsampling=0)
    image = {"contents": buffer.getvalue(), "media_type": "image/jpeg", "draw_order": 0.0}
    yield Logged(f"{where}/rgb", seen.time_s, "EncodedImage", image)
    if frame.depth_m is not None:
        points, colours = cloud(seen)
        values = {"positions": points, "colors": colours, "radii": 0.003}
        yield Logged(f"{CLOUDS}/{frame.name}", seen.time_s, "Points3D", values)


def _marks(where: str, time_s: float, marks: tuple[Mark, ...]) -> Iterator[Logged]:
    points = [mark for mark in marks if mark.kind == "point"]
    boxes = [mark for mark in marks if mark.kind == "box"]
    paths = [mark for mark in marks if mark.kind == "path"]
    if points:
        values: dict[str, Any] = {"positions": [p for mark in points for p in mark.points]}
        values |= {"colors": [mark.colour for mark in points for _ in mark.points], "radii": 3.0, "draw_order": 3.0}
        values |= {"labels": [mark.label for mark in points for _ in mark.points]}
        yield Logged(f"{where}/points", time_s, "Points2D", values)
    if boxes:
        corners = [np.asarray(mark.points, dtype=np.float64) for mark in boxes]
        values = {"mins": [c[0] for c in corners], "sizes": [c[1] - c[0] for c in corners], "draw_order": 2.0}
        values |= {"colors": [mark.colour for mark in boxes], "labels": [mark.label for mark in boxes]}
        yield Logged(f"{where}/boxes", time_s, "Boxes2D", values)
    if paths:
        values = {"strips": [mark.points for mark in paths], "colors": [m.colour for m in paths], "draw_order": 2.0}
        yield Logged(f"{where}/paths", time_s, "LineStrips2D", values)


def _ticks(record: RunRecord) -> Iterator[Column]:
    ticks = list(record.ticks())
    if not ticks:
        return
    sensed = tuple(tick.sensed_at_s for tick in ticks)
    asked = tuple(tick.command.time_s for tick in ticks)
    for number, name in enumerate(joints(ticks[0].q)):
        yield Column(f"{JOINTS}/sensed/{name}", sensed, "Scalars", {"scalars": [tick.q[number] for tick in ticks]})
        commands = [tick.command.q[number] for tick in ticks]
        yield Column(f"{JOINTS}/commanded/{name}", asked, "Scalars", {"scalars": commands})
    widths = {"scalars": [tick.gripper_width_m for tick in ticks]}
    yield Column(f"{GRIPPER}/sensed_m", sensed, "Scalars", widths)
    yield Column(f"{GRIPPER}/commanded_m", asked, "Scalars", {"scalars": [t.command.gripper_width_m for t in ticks]})
    yield Column(TCP, sensed, "Points3D", {"positions": [tick.ee_position_w for tick in ticks]})
