"""What viewers such as Foxglove show beside the joints: events as a log, the cameras as a slow video."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hiervla.executor.record.streams import ExtraMessage
from hiervla.representations.events import EventBase, ObservationTaken

_VIDEO_PERIOD_S = 0.5
_TIME = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_LOG = json.dumps(
    {
        "title": "foxglove.Log",
        "type": "object",
        "properties": {
            "timestamp": _TIME,
            "level": {"type": "integer"},
            "message": {"type": "string"},
            "name": {"type": "string"},
            "file": {"type": "string"},
            "line": {"type": "integer"},
        },
    }
).encode()
_IMAGE = json.dumps(
    {
        "title": "foxglove.CompressedImage",
        "type": "object",
        "properties": {
            "timestamp": _TIME,
            "frame_id": {"type": "string"},
            "data": {"type": "string", "contentEncoding": "base64"},
            "format": {"type": "string"},
        },
    }
).encode()


def viewer_messages(folder: Path) -> Iterator[ExtraMessage]:
    """Log lines and JPEG images, at most two a second and camera, of a record whose events are all written."""
    from hiervla.executor.record.reader import RunRecord
    from hiervla.executor.record.view import sentence

    record = RunRecord.open(folder)
    shown: dict[str, float] = {}
    for line, event in enumerate(record, 1):
        if isinstance(event, ObservationTaken):
            for frame in event.frames:
                camera = frame.image.camera
                if event.time_s - shown.get(camera, -1.0) >= _VIDEO_PERIOD_S:
                    shown[camera] = event.time_s
                    yield _image(camera, event.time_s, record.image(frame.image))
            continue
        text = sentence(event)
        if text:
            yield _log(event, line, text)


def _log(event: EventBase, line: int, text: str) -> ExtraMessage:
    level = {"info": 2, "warning": 3, "error": 4}[getattr(event, "level", "info")]
    values = {
        "timestamp": _stamp(event.time_s),
        "level": level,
        "message": text,
        "name": getattr(event, "type", ""),
        "file": "events.jsonl",
        "line": line,
    }
    return ExtraMessage("/log", "foxglove.Log", _LOG, event.time_s, json.dumps(values).encode())


def _image(camera: str, time_s: float, rgb: Any) -> ExtraMessage:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=85)
    values = {
        "timestamp": _stamp(time_s),
        "frame_id": camera,
        "format": "jpeg",
        "data": base64.b64encode(buffer.getvalue()).decode(),
    }
    return ExtraMessage(f"/camera/{camera}", "foxglove.CompressedImage", _IMAGE, time_s, json.dumps(values).encode())


def _stamp(time_s: float) -> dict[str, int]:
    nanoseconds = max(0, round(time_s * 1e9))
    return {"sec": nanoseconds // 1_000_000_000, "nsec": nanoseconds % 1_000_000_000}
