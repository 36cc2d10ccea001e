"""MCAP for viewers: read back with the mcap package, every message against the schema that lies beside it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet
from jsonschema import Draft202012Validator
from mcap.reader import make_reader
from PIL import Image

from hiervla.executor.export.foxglove import TYPES, descriptor_set, encode, stamp
from hiervla.executor.export.mcap import SCHEMA_ATTACHMENT, export_mcap
from hiervla.executor.export.plain_schema import plain_schema
from hiervla.executor.record.errors import OutputError
from hiervla.executor.record.light import EVENT_CLASSES
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import json_schemas
from tests import records
from tests.executor.test_record_light import NEWER, rewrite


def decoder(data: bytes, name: str) -> Any:
    """The message class of a type, made from nothing but the bytes of a schema."""
    files = descriptor_pb2.FileDescriptorSet.FromString(data)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


class File:
    """An MCAP file read back: messages by topic, decoded by the schemas in it."""

    def __init__(self, path: Path) -> None:
        self.by_topic: dict[str, list[Any]] = {}
        self.raw: dict[str, list[bytes]] = {}
        self.times: list[int] = []
        classes: dict[int, Any] = {}
        with open(path, "rb") as stream:
            reader = make_reader(stream)
            self.summary = reader.get_summary()
            self.metadata = list(reader.iter_metadata())
            self.attachments = {a.name: a.data for a in reader.iter_attachments()}
            for schema, channel, message in reader.iter_messages(log_time_order=False):
                assert schema is not None
                if schema.id not in classes:
                    classes[schema.id] = (
                        decoder(schema.data, schema.name)
                        if schema.encoding == "protobuf"
                        else Draft202012Validator(json.loads(schema.data))
                    )
                self.times.append(message.log_time)
                self.raw.setdefault(channel.topic, []).append(message.data)
                if schema.encoding == "protobuf":
                    value = classes[schema.id].FromString(message.data)
                    assert len(list(UnknownFieldSet(value))) == 0
                else:
                    value = json.loads(message.data)
                    classes[schema.id].validate(value)
                self.by_topic.setdefault(channel.topic, []).append(value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("records") / "run")


@pytest.fixture(scope="module")
def file(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> File:
    path = tmp_path_factory.mktemp("out") / "out.mcap"
    report = export_mcap(RunRecord.open(whole), path)
    read = File(path)
    assert report.notices == []
    assert report.messages == {topic: len(messages) for topic, messages in read.by_topic.items()}
    return read


def test_every_event_is_there_byte_for_byte(file: File, whole: Path) -> None:
    record = RunRecord.open(whole)
    of_type: dict[str, list[bytes]] = {}
    for event, line in zip(record, record.lines, strict=True):
        of_type.setdefault(f"/events/{event.type}", []).append(line.event)
    assert {topic: data for topic, data in file.raw.items() if topic.startswith("/events/")} == of_type


def test_every_event_fits_the_schema_that_hiervla_prints_and_that_is_attached(file: File) -> None:
    attached = json.loads(file.attachments[SCHEMA_ATTACHMENT])
    assert attached == json_schemas("event")
    validator = Draft202012Validator(attached["event"])
    events = [m for topic, messages in file.by_topic.items() if topic.startswith("/events/") for m in messages]
    assert len(events) == 54
    for event in events:
        validator.validate(event)


def test_foxglove_reads_the_schema_of_every_event() -> None:
    """By the rules of its own parser: objects with properties, numbers, text, and flat arrays of these."""

    def read(schema: dict[str, Any], in_array: bool = False) -> None:
        assert not {"$ref", "anyOf", "oneOf"} & set(schema)
        assert schema["type"] in {"object", "boolean", "string", "number", "integer", *(() if in_array else ("array",))}
        if schema["type"] == "object":
            for value in schema["properties"].values():
                read(value)
        if schema["type"] == "array":
            read(schema["items"], in_array=True)

    for event_class in EVENT_CLASSES.values():
        schema = plain_schema(event_class.model_json_schema(mode="serialization"))
        read(schema)
        assert {"id", "time_s", "type"} <= set(schema["properties"])
    verdict = plain_schema(EVENT_CLASSES["verdict"].model_json_schema(mode="serialization"))
    assert set(verdict["properties"]["verdict"]["properties"]) == {"name", "value", "confidence"}


def test_joints_and_commands_have_all_their_digits(file: File, whole: Path) -> None:
    ticks = list(RunRecord.open(whole).ticks())
    assert [m["q"] for m in file.by_topic["/robot/state"]] == [t.q.tolist() for t in ticks]
    assert [m["q"] for m in file.by_topic["/robot/command"]] == [t.command.q.tolist() for t in ticks]


def test_cameras_come_with_image_depth_calibration_and_pose(file: File, whole: Path) -> None:
    frame = records.frame(0)
    image = file.by_topic["/camera/front/image"][0]
    assert (image.frame_id, image.format) == ("front", "jpeg")
    pixels = np.asarray(Image.open(io.BytesIO(image.data))).astype(int)
    # The noise of the test's frame is the worst that JPEG can be given.
    assert np.abs(pixels - frame.rgb).mean() < 6
    calibration = file.by_topic["/camera/front/calibration"][0]
    assert list(calibration.K) == frame.K.reshape(-1).tolist()
    assert (calibration.width, calibration.height) == (records.WIDTH, records.HEIGHT)
    depth = file.by_topic["/camera/front/depth"][0]
    assert (depth.encoding, depth.step) == ("32FC1", 4 * records.WIDTH)
    assert np.array_equal(np.frombuffer(depth.data, "<f4").reshape(frame.rgb.shape[:2]), frame.require_depth())
    pose = file.by_topic["/tf"][0]
    assert (pose.parent_frame_id, pose.child_frame_id) == ("world", "front")
    assert (pose.translation.x, pose.translation.z) == (0.5, 1.0)
    assert (abs(pose.rotation.x), pose.rotation.w) == (1.0, 0.0)


def test_artifacts_are_annotations_of_their_own_camera(file: File) -> None:
    grounded = [a for a in file.by_topic["/camera/front/annotations"] if a.circles]
    first = grounded[0]
    assert (first.circles[0].position.x, first.circles[0].position.y) == (40.0, 12.0)
    assert [t.text for t in first.texts] == ["red mug 0.97", "red mug 1.00"]
    assert [[(p.x, p.y) for p in shape.points] for shape in first.points] == [
        [(34.0, 6.0), (46.0, 6.0), (46.0, 18.0), (34.0, 18.0)],
        [(8.0, 40.0), (40.0, 12.0)],
    ]
    assert not file.by_topic["/camera/front/annotations"][-1].circles, "they are taken away when the step ends"


def test_the_log_speaks_of_lines_of_the_record(file: File) -> None:
    lines = {m.line: (m.level, m.message) for m in file.by_topic["/log"]}
    assert lines[1] == (2, "asked: 'put the red mug on the top shelf' in fake, seed 3")
    assert (3, "step s1 failed after 0.1 s: the fingers closed on nothing") in lines.values()


def test_the_file_is_chunked_indexed_and_in_order(file: File, whole: Path) -> None:
    assert file.summary is not None
    assert file.summary.statistics is not None
    assert file.summary.statistics.message_count == len(file.times)
    assert len(file.summary.chunk_indexes) >= 1
    assert file.times == sorted(file.times)
    assert file.metadata[0].metadata["run_id"] == RunRecord.open(whole).manifest.run_id


def test_what_the_record_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    folder = records.make_record(tmp_path / "run")
    (folder / "streams.mcap").unlink()
    record = RunRecord.open(folder)
    blob = record.frame_of(records.image_ref(records.frame(0))).rgb_blob
    (folder / "blobs" / f"{blob}.webp").unlink()
    rewrite(folder, {**NEWER, "question": "which?"}, drop=1)
    report = export_mcap(RunRecord.open(folder), tmp_path / "out.mcap")
    file = File(tmp_path / "out.mcap")
    assert f"e2, camera 'front': blobs/{blob}.webp is missing" in report.notices
    assert "joint states and commands are left out from there on: streams.mcap is missing" in report.notices
    assert "the record was not closed" in report.notices[0]
    assert file.by_topic["/events/human_asked"][0]["question"] == "which?"
    assert "/robot/state" not in file.by_topic
    assert len(file.by_topic["/camera/wrist/image"]) > len(file.by_topic["/camera/front/image"])


def test_a_place_that_cannot_be_written_is_named(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        export_mcap(RunRecord.open(whole), tmp_path / "no" / "out.mcap")


@pytest.mark.parametrize("name", [n for n in TYPES if n.startswith("foxglove.")])
def test_our_types_are_foxgloves_own(name: str) -> None:
    """Field by field, name, number, type and repetition, against Foxglove's package."""
    import importlib

    short = name.removeprefix("foxglove.")
    theirs = getattr(importlib.import_module(f"foxglove_schemas_protobuf.{short}_pb2"), short).DESCRIPTOR
    ours = decoder(descriptor_set(name), name).DESCRIPTOR
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, other.type)
        for a, b in ((field.message_type, other.message_type), (field.enum_type, other.enum_type)):
            assert (a and a.full_name) == (b and b.full_name)
        if field.enum_type:
            assert [(v.name, v.number) for v in field.enum_type.values] == [
                (v.name, v.number) for v in other.enum_type.values
            ]


def test_messages_are_read_by_foxgloves_own_package() -> None:
    from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration

    values = {"timestamp": stamp(12.5), "width": 640, "D": [], "K": [float(i) for i in range(9)], "frame_id": "front"}
    read = CameraCalibration.FromString(encode("foxglove.CameraCalibration", values))
    assert (read.timestamp.seconds, read.timestamp.nanos) == (12, 500_000_000)
    assert (read.width, list(read.K), read.frame_id) == (640, values["K"], "front")
    with pytest.raises(KeyError):
        encode("foxglove.CameraCalibration", {"widht": 3})
