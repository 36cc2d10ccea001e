"""``streams.mcap``: what happens every control tick, in a file that Foxglove and Rerun open.

While the run lasts the file is unchunked and each tick is one ``write``, so that a killed process loses nothing;
on closing it is rewritten with chunks, an index, and the events and camera images as extra channels for viewers.
A tick is the state in which the command was given, then the command. Numbers are JSON with all their digits: they
read back as the same float64.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Header, Schema
from mcap.stream_reader import MAGIC_SIZE, get_chunk_data_stream
from mcap.writer import MCAP0_MAGIC, CompressionType, Writer

from hiervla.representations import JointCommand, Proprioception

STREAMS_FILE = "streams.mcap"
STATE_TOPIC = "/robot/state"
COMMAND_TOPIC = "/robot/command"

_STATE_ID, _COMMAND_ID = 1, 2
_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_MAX_RECORD = 1 << 30


def _schema(title: str, fields: dict[str, str]) -> bytes:
    kinds: dict[str, Any] = {"number": {"type": "number"}, "array": {"type": "array", "items": {"type": "number"}}}
    properties = {name: {**kinds[kind.split()[0]], "description": kind} for name, kind in fields.items()}
    return json.dumps({"title": title, "type": "object", "properties": properties}).encode()


_SCHEMAS = {
    _STATE_ID: (
        "hiervla.RobotState",
        STATE_TOPIC,
        _schema(
            "RobotState",
            {
                "time_s": "number [s]",
                "q": "array [rad]",
                "dq": "array [rad/s]",
                "gripper_width_m": "number [m]",
                "gripper_effort_n": "number [N]",
                "ee_position_w": "array [m], tool centre point",
            },
        ),
    ),
    _COMMAND_ID: (
        "hiervla.JointCommand",
        COMMAND_TOPIC,
        _schema(
            "JointCommand",
            {"time_s": "number [s]", "q": "array [rad]", "dq": "array [rad/s]", "gripper_width_m": "number [m]"},
        ),
    ),
}


STREAM_SCHEMAS: dict[str, bytes] = {name: schema for name, _, schema in _SCHEMAS.values()}
"""JSON Schema of the messages of both topics, by their schema's name."""


@dataclass(frozen=True)
class Tick:
    """One control tick: the sensed state, and the command that was given in it."""

    index: int
    command: JointCommand
    q: np.ndarray[Any, np.dtype[np.float64]]
    dq: np.ndarray[Any, np.dtype[np.float64]]
    gripper_width_m: float
    gripper_effort_n: float
    ee_position_w: np.ndarray[Any, np.dtype[np.float64]]
    sensed_at_s: float


@dataclass(frozen=True)
class ExtraMessage:
    """A message that is added for viewers when the file is closed."""

    topic: str
    schema_name: str
    schema: bytes
    time_s: float
    data: bytes


class StreamWriter:
    """Appends ticks; not safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ticks = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        builder = RecordBuilder()
        Header(profile="", library="hiervla").write(builder)
        for number, (name, topic, schema) in _SCHEMAS.items():
            Schema(id=number, name=name, encoding="jsonschema", data=schema).write(builder)
            Channel(id=number, topic=topic, message_encoding="json", metadata={}, schema_id=number).write(builder)
        _write_all(self._fd, MCAP0_MAGIC + bytes(builder.end()))

    def tick(self, command: JointCommand, proprio: Proprioception) -> None:
        """Append one tick in one write.

        Raises:
            OSError: the disk refused; the file is cut back to whole ticks.
        """
        state = {
            "time_s": proprio.time_s,
            "q": proprio.q.tolist(),
            "dq": proprio.dq.tolist(),
            "gripper_width_m": proprio.gripper_width_m,
            "gripper_effort_n": proprio.gripper_effort_n,
            "ee_position_w": proprio.T_world_ee[:3, 3].tolist(),
        }
        order = {
            "time_s": command.time_s,
            "q": command.q.tolist(),
            "dq": command.dq.tolist(),
            "gripper_width_m": command.gripper_width_m,
        }
        _write_all(
            self._fd,
            _message(_STATE_ID, self.ticks, proprio.time_s, _dump(state))
            + _message(_COMMAND_ID, self.ticks, command.time_s, _dump(order)),
        )
        self.ticks += 1

    def sync(self) -> None:
        """Push the file to the disk; nothing is left to do once it is closed."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file as it is: readable in order, without an index."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_ticks(path: Path) -> Iterator[Tick]:
    """All whole ticks of a finished or unfinished file; a torn last one is left out.

    Raises:
        ValueError: the file is damaged before its end; the message says where.
        FileNotFoundError: there is none.
    """
    state: dict[str, Any] | None = None
    expected = 0
    for channel, sequence, _, data in _messages(path):
        if channel not in {_STATE_ID, _COMMAND_ID}:
            continue
        values = _load(data, sequence)
        if channel == _STATE_ID:
            state = values
            continue
        if state is None or sequence != expected:
            raise ValueError(f"tick {expected} is missing or out of order")
        yield _tick(sequence, state, values)
        state = None
        expected += 1


def stream_messages(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """(topic, log time [ns], JSON) of every state and command, as they were written.

    Raises:
        ValueError: the file is damaged before its end; the message says where.
        FileNotFoundError: there is none.
    """
    topics = {number: topic for number, (_, topic, _) in _SCHEMAS.items()}
    for channel, _, time_ns, data in _messages(path):
        if channel in topics:
            yield topics[channel], time_ns, data


def finish(path: Path, extra: Iterable[ExtraMessage] = ()) -> None:
    """Rewrite an unfinished file with chunks and an index, merged with ``extra`` by time."""
    temporary = path.with_suffix(".mcap.writing")
    merged = sorted(
        [(time, 0, number, channel, data) for number, (channel, _, time, data) in enumerate(_messages(path))]
        + [(_nanoseconds(m.time_s), 1, number, m, m.data) for number, m in enumerate(extra)],
        key=lambda item: item[:3],
    )
    with open(temporary, "wb") as file:
        writer = Writer(file, compression=CompressionType.ZSTD, enable_data_crcs=True)
        writer.start(profile="", library="hiervla")
        for name, topic, schema in _SCHEMAS.values():
            writer.register_channel(topic, "json", writer.register_schema(name, "jsonschema", schema))
        channels: dict[str, int] = {}
        schemas: dict[str, int] = {}
        counts: dict[int, int] = {}
        for time, _, _, source, data in merged:
            if isinstance(source, ExtraMessage):
                if source.topic not in channels:
                    if source.schema_name not in schemas:
                        schemas[source.schema_name] = writer.register_schema(
                            source.schema_name, "jsonschema", source.schema
                        )
                    channels[source.topic] = writer.register_channel(source.topic, "json", schemas[source.schema_name])
                channel = channels[source.topic]
            else:
                channel = source
            sequence = counts.get(channel, 0)
            counts[channel] = sequence + 1
            writer.add_message(channel, log_time=time, data=data, publish_time=time, sequence=sequence)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def is_finished(path: Path) -> bool:
    """Whether the file ends as a closed MCAP file does."""
    with open(path, "rb") as file:
        data = file.read(MAGIC_SIZE)
        if data != MCAP0_MAGIC or file.seek(0, os.SEEK_END) < 2 * MAGIC_SIZE:
            return False
        file.seek(-MAGIC_SIZE, os.SEEK_END)
        return file.read() == MCAP0_MAGIC


def _messages(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """(channel, sequence, log time [ns], data) of each whole message, in file order."""
    data = path.read_bytes()
    if data[:MAGIC_SIZE] != MCAP0_MAGIC:
        raise ValueError("it does not begin as an MCAP file")
    yield from _walk(data, MAGIC_SIZE, path)


def _walk(data: bytes, at: int, path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    while at + _RECORD.size <= len(data):
        opcode, length = _RECORD.unpack_from(data, at)
        if opcode == Opcode.FOOTER:
            return
        if opcode == 0 or opcode > Opcode.DATA_END or length > _MAX_RECORD:
            raise ValueError(f"no MCAP record at byte {at}")
        start = at + _RECORD.size
        at = start + length
        if at > len(data):
            return  # torn by the end of the process
        if opcode == Opcode.MESSAGE:
            channel, sequence, time, _ = _MESSAGE_HEAD.unpack_from(data, start)
            yield channel, sequence, time, data[start + _MESSAGE_HEAD.size : at]
        elif opcode == Opcode.CHUNK:
            yield from _walk(_chunk(data[start:at]), 0, path)


def _chunk(body: bytes) -> bytes:
    stream, length = get_chunk_data_stream(Chunk.read(ReadDataStream(io.BytesIO(body))), validate_crc=True)
    return stream.read(length)


def _tick(index: int, state: dict[str, Any], command: dict[str, Any]) -> Tick:
    return Tick(
        index=index,
        command=JointCommand(
            q=_array(command["q"]),
            dq=_array(command["dq"]),
            gripper_width_m=float(command["gripper_width_m"]),
            time_s=float(command["time_s"]),
        ),
        q=_array(state["q"]),
        dq=_array(state["dq"]),
        gripper_width_m=float(state["gripper_width_m"]),
        gripper_effort_n=float(state["gripper_effort_n"]),
        ee_position_w=_array(state["ee_position_w"]),
        sensed_at_s=float(state["time_s"]),
    )


def _array(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(v) for v in values], dtype=np.float64)


def _dump(values: dict[str, Any]) -> bytes:
    try:
        return json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        # JSON has no NaN; as a string it stays readable and comes back as it was.
        return json.dumps(
            {k: [_finite(x) for x in v] if isinstance(v, list) else _finite(v) for k, v in values.items()},
            separators=(",", ":"),
        ).encode()


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _load(data: bytes, sequence: int) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"a message of tick {sequence} is not JSON")
    return values


def _message(channel: int, sequence: int, time_s: float, data: bytes) -> bytes:
    time = _nanoseconds(time_s)
    length = _MESSAGE_HEAD.size + len(data)
    return _MESSAGE.pack(Opcode.MESSAGE, length, channel, sequence, time, time) + data


def _nanoseconds(time_s: float) -> int:
    return max(0, round(time_s * 1e9))


def _write_all(fd: int, data: bytes) -> None:
    size = os.fstat(fd).st_size
    try:
        written = os.write(fd, data)
        if written != len(data):
            raise OSError(28, os.strerror(28))
    except OSError:
        os.ftruncate(fd, size)
        raise
