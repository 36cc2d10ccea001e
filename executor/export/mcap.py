"""A record as one MCAP file for Foxglove and Rerun: events, joints, cameras with what was meant in them.

Images, calibrations, annotations, frames and the log are Foxglove's protobuf types, which both programs draw; events
and joints are JSON. Beside each event channel lies as much of its schema as Foxglove reads; the whole of it, as
``hiervla schema event`` prints it, is the attachment ``hiervla.schema.json``. The file is chunked and indexed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from mcap.writer import CompressionType, Writer
from PIL import Image
from scipy.spatial.transform import Rotation

from hiervla._version import __version__
from hiervla.executor.export.foxglove import descriptor_set, encode, stamp
from hiervla.executor.export.plain_schema import plain_schema
from hiervla.executor.export.scene import CameraSeen, Item, Mark, Overlay, Said, scene
from hiervla.executor.record.errors import CorruptRecordError, OutputError
from hiervla.executor.record.light import EVENT_CLASSES, UnknownEvent
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import COMMAND_TOPIC, STATE_TOPIC, STREAM_SCHEMAS
from hiervla.representations import json_schemas

SCHEMA_ATTACHMENT = "hiervla.schema.json"
_CHUNK_BYTES = 1024 * 1024
_JPEG_QUALITY = 90


@dataclass
class ExportReport:
    """What came of an export.

    Attributes:
        path: the file.
        messages: how many, by topic.
        notices: what was left out, in sentences.
    """

    path: Path
    messages: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Message:
    topic: str
    schema: str
    time_ns: int
    data: bytes


def export_mcap(record: RunRecord, path: Path) -> ExportReport:
    """Write a record as an MCAP file.

    What is missing in the record is left out and named in the report's notices.

    Raises:
        CorruptRecordError: a line of the record holds no event.
        OutputError: the file cannot be written.
    """
    report = ExportReport(path, notices=list(record.notices))
    messages = [*_events(record), *_pictures(record, report), *_ticks(record, report)]
    # A reader that follows the file finds it in order; equal times keep the order in which things happened.
    messages.sort(key=lambda message: message.time_ns)
    try:
        with open(path, "wb") as file:
            _write(file, record, messages, report)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    return report


def _write(file: IO[bytes], record: RunRecord, messages: list[_Message], report: ExportReport) -> None:
    writer = Writer(file, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD, enable_data_crcs=True)
    writer.start(profile="", library=f"hiervla {__version__}")
    schemas: dict[str, int] = {}
    channels: dict[str, int] = {}
    for message in messages:
        if message.topic not in channels:
            encoding, schema = _schema(message.schema)
            if message.schema not in schemas:
                kind = "protobuf" if encoding == "protobuf" else "jsonschema"
                schemas[message.schema] = writer.register_schema(message.schema, kind, schema)
            channels[message.topic] = writer.register_channel(message.topic, encoding, schemas[message.schema])
        sequence = report.messages.get(message.topic, 0)
        report.messages[message.topic] = sequence + 1
        writer.add_message(
            channels[message.topic],
            log_time=message.time_ns,
            publish_time=message.time_ns,
            sequence=sequence,
            data=message.data,
        )
    schema_text = json.dumps(json_schemas("event"), indent=1).encode()
    writer.add_attachment(0, 0, SCHEMA_ATTACHMENT, "application/schema+json", schema_text)
    manifest = record.manifest
    writer.add_metadata(
        "hiervla",
        {
            "run_id": manifest.run_id,
            "instruction": manifest.instruction,
            "world": manifest.world,
            "seed": str(manifest.seed),
            "planner": manifest.planner,
            "policy": manifest.policy,
            "created": manifest.created,
        },
    )
    writer.finish()


def _schema(name: str) -> tuple[str, bytes]:
    """The message encoding and the schema of a type."""
    if name.startswith("foxglove."):
        return "protobuf", descriptor_set(name)
    if name in STREAM_SCHEMAS:
        return "json", STREAM_SCHEMAS[name]
    event_class = EVENT_CLASSES.get(name.removeprefix("hiervla."), UnknownEvent)
    return "json", json.dumps(plain_schema(event_class.model_json_schema(mode="serialization"))).encode()


def _events(record: RunRecord) -> Iterator[_Message]:
    for event, line in zip(record.any_events(), record.lines, strict=True):
        # The very bytes of the record: nothing can get lost on the way.
        yield _Message(f"/events/{event.type}", f"hiervla.{event.type}", _ns(event.time_s), line.event)


def _ticks(record: RunRecord, report: ExportReport) -> Iterator[_Message]:
    topics = {STATE_TOPIC: "hiervla.RobotState", COMMAND_TOPIC: "hiervla.JointCommand"}
    try:
        for topic, time_ns, data in record.stream_messages():
            yield _Message(topic, topics[topic], time_ns, data)
    except CorruptRecordError as error:
        report.notices.append(f"joint states and commands are left out from there on: {error.place} {error.problem}")


def _pictures(record: RunRecord, report: ExportReport) -> Iterator[_Message]:
    for item in scene(record, report.notices):
        yield from _messages(item)


def _messages(item: Item) -> Iterator[_Message]:
    match item:
        case CameraSeen(time_s, frame):
            at, where = stamp(time_s), f"/camera/{frame.name}"
            make = _maker(time_s)
            buffer = io.BytesIO()
            Image.fromarray(frame.rgb).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            image = {"timestamp": at, "frame_id": frame.name, "data": buffer.getvalue(), "format": "jpeg"}
            yield make(f"{where}/image", "foxglove.CompressedImage", image)
            yield make(f"{where}/calibration", "foxglove.CameraCalibration", _calibration(item))
            yield make("/tf", "foxglove.FrameTransform", _transform(item))
            if frame.depth_m is not None:
                yield make(f"{where}/depth", "foxglove.RawImage", _depth(item))
        case Overlay(time_s, camera, _, marks, _):
            yield _maker(time_s)(
                f"/camera/{camera}/annotations", "foxglove.ImageAnnotations", _annotations(time_s, marks)
            )
        case Said(time_s, level, text, event, line):
            values = {
                "timestamp": stamp(time_s),
                "level": level.upper(),
                "message": text,
                "name": event.type,
                "file": "events.jsonl",
                "line": line,
            }
            yield _maker(time_s)("/log", "foxglove.Log", values)
        case _:
            return


def _maker(time_s: float) -> Callable[[str, str, dict[str, Any]], _Message]:
    return lambda topic, schema, values: _Message(topic, schema, _ns(time_s), encode(schema, values))


def _calibration(seen: CameraSeen) -> dict[str, Any]:
    frame = seen.frame
    k = frame.K.reshape(-1).tolist()
    return {
        "timestamp": stamp(seen.time_s),
        "frame_id": frame.name,
        "width": frame.width,
        "height": frame.height,
        "K": k,
        "R": np.eye(3).reshape(-1).tolist(),
        "P": np.hstack([frame.K, np.zeros((3, 1))]).reshape(-1).tolist(),
    }


def _transform(seen: CameraSeen) -> dict[str, Any]:
    T = seen.frame.T_world_camera
    x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
    return {
        "timestamp": stamp(seen.time_s),
        "parent_frame_id": "world",
        "child_frame_id": seen.frame.name,
        "translation": dict(zip("xyz", T[:3, 3].tolist(), strict=True)),
        "rotation": {"x": x, "y": y, "z": z, "w": w},
    }


def _depth(seen: CameraSeen) -> dict[str, Any]:
    frame = seen.frame
    depth_m = np.nan_to_num(frame.require_depth(), nan=0.0).astype("<f4")
    return {
        "timestamp": stamp(seen.time_s),
        "frame_id": frame.name,
        "width": frame.width,
        "height": frame.height,
        "encoding": "32FC1",
        "step": 4 * frame.width,
        "data": depth_m.tobytes(),
    }


def _annotations(time_s: float, marks: tuple[Mark, ...]) -> dict[str, Any]:
    at = stamp(time_s)
    circles, points, texts = [], [], []
    for mark in marks:
        colour = {**dict(zip("rgb", (c / 255 for c in mark.colour), strict=True)), "a": 1.0}
        xy = [{"x": u, "y": v} for u, v in mark.points]
        if mark.kind == "point":
            circles += [
                {"timestamp": at, "position": p, "diameter": 8.0, "thickness": 1.5, "outline_color": colour} for p in xy
            ]
        elif mark.kind == "box":
            (u0, v0), (u1, v1) = mark.points
            corners = [{"x": u, "y": v} for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))]
            outline = {"type": "LINE_LOOP", "points": corners, "outline_color": colour, "thickness": 1.0}
            points.append({"timestamp": at, **outline})
        else:
            points.append(
                {"timestamp": at, "type": "LINE_STRIP", "points": xy, "outline_color": colour, "thickness": 2.0}
            )
        if mark.label:
            texts.append(
                {
                    "timestamp": at,
                    "position": xy[0],
                    "text": mark.label,
                    "font_size": 10.0,
                    "text_color": colour,
                    "background_color": {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.7},
                }
            )
    return {"timestamp": at, "circles": circles, "points": points, "texts": texts}


def _ns(time_s: float) -> int:
    return max(0, round(time_s * 1e9))
