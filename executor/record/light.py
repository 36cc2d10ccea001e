"""Events of a record without what is heavy in them, for whoever looks at a whole run at once.

A plan carries an affordance map for every step that remains, and is written anew after each step: parsing them all is
nine tenths of reading a long record. Here maps stay undecoded, and an event of a type that this version does not know
is kept as it is instead of being an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from pydantic import ConfigDict
from pydantic_core import from_json, to_json

from hiervla.executor.record.lines import Line
from hiervla.representations import EVENT_ADAPTER, Event
from hiervla.representations.events import ChunkProposed, EventBase

MAP_KINDS = frozenset({"affordance_map", "value_map"})
"""Artifacts that hold an array, and are left out of light events."""

EVENT_CLASSES: dict[str, type[EventBase]] = {
    member.model_fields["type"].default: member for member in get_args(get_args(Event)[0])
}
"""The event classes that this version knows, by their ``type``."""

_HEAD = re.compile(
    rb'\{"id":"(e\d+)","parent":(?:null|"(e\d+)"),"time_s":([-+.\deE]+),"wall_time_s":([-+.\deE]+),'
    rb'"version":\d+,"type":"([a-z_\d]+)"'
)
_TYPE = re.compile(rb'"type":"([a-z_\d]+)"')
_WITH_MAPS = frozenset({b"plan_proposed", b"step_started", b"grounded"})
_ARRAY = b'"zlib_base64":"'

# A map up to its array, as pydantic writes it. Quotes inside a text are escaped, so that none of this stands in one.
_ARTIFACT = b'{"version":1,"provenance":'
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'\{(?:[^{}"]++|%b)*+\}' % _TEXT
_NESTED = rb'(?:[^{}"]++|%b|%b)' % (_TEXT, _FLAT)
_MAP = re.compile(
    rb'\{"version":1,"provenance":(?:null|\{%b*+\}),"kind":"(?:affordance_map|value_map)",%b*?"values":\{%b*?%b'
    % (_NESTED, _NESTED, _NESTED, _ARRAY)
)
_MAP_KINDS = tuple(f'"{kind}"'.encode() for kind in MAP_KINDS)


class UnknownEvent(EventBase):
    """An event whose ``type`` came with a later version, or from somebody else; its fields are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: str

    def fields(self) -> dict[str, Any]:
        """What it says beyond the fields that every event has."""
        return dict(self.model_extra or {})


AnyEvent = Event | UnknownEvent


class Head(NamedTuple):
    """What every event begins with, without parsing the rest."""

    id: str
    parent: str | None
    time_s: float
    wall_time_s: float
    type: str


def head(line: Line) -> Head:
    """The head of a line's event.

    Raises:
        ValueError: the line holds no event.
    """
    match = line.match(_HEAD)
    if match is not None:
        name, parent, time_s, wall_time_s, kind = match.groups()
        at = parent.decode() if parent else None
        return Head(name.decode(), at, float(time_s), float(wall_time_s), kind.decode())
    values = from_json(line.event)
    try:
        parent = values.get("parent")
        return Head(str(values["id"]), parent, float(values["time_s"]), float(values["wall_time_s"]), values["type"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no event: {error}") from None


def parse(line: Line) -> AnyEvent:
    """The event of a line, whole.

    Raises:
        pydantic.ValidationError: it breaks the schema of its type.
    """
    kind = line.search(_TYPE)
    if kind is None:
        return EVENT_ADAPTER.validate_json(line.event)
    return _class(kind[1].decode()).model_validate_json(line.event)  # type: ignore[return-value]  # classes of Event


def parse_light(line: Line) -> AnyEvent:
    """The event of a line; a plan, a step or what was grounded comes without its maps.

    Raises:
        pydantic.ValidationError: it breaks the schema of its type.
    """
    kind = line.search(_TYPE)
    if kind is None or kind[1] not in _WITH_MAPS:
        return parse(line)
    event_class, light = _class(kind[1].decode()), _without_maps(line)
    if light is None:
        values = from_json(_without_arrays(line))
        try:
            _strip(values)
        except (AttributeError, KeyError, TypeError):
            return parse(line)  # which says what is wrong with it
        event_class, light = _class(values["type"]), to_json(values)
    return event_class.model_validate_json(light)  # type: ignore[return-value]  # as above


def _class(kind: str) -> type[EventBase]:
    """The class of an event; asked by itself, it spares building the schemas of all others."""
    return EVENT_CLASSES.get(kind, UnknownEvent)


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """What a view tells of an action chunk, without its rows.

    Attributes:
        id: of its event, to get the whole chunk.
        horizon: rows.
        staleness_s: age of its observation when its tracking began [s].
        wall_latency_s: how long the policy took [s].
    """

    id: str
    time_s: float
    index: int
    policy: str
    horizon: int
    rate_hz: float
    staleness_s: float
    wall_latency_s: float
    done_prob: float | None
    progress: float | None

    @classmethod
    def of(cls, event: ChunkProposed) -> ChunkFacts:
        """The facts of a whole event."""
        chunk = event.chunk
        return cls(
            event.id,
            event.time_s,
            event.index,
            chunk.policy,
            chunk.horizon,
            chunk.rate_hz,
            event.staleness_s,
            event.wall_latency_s,
            chunk.done_prob,
            chunk.progress,
        )


def chunk_facts(line: Line) -> ChunkFacts:
    """The facts of the chunk on a line; its arrays stay undecoded.

    Raises:
        pydantic.ValidationError: the line holds no chunk of this version.
    """
    values = from_json(_without_arrays(line))
    try:
        chunk = values["chunk"]
        done, progress = chunk["done_prob"], chunk["progress"]
        return ChunkFacts(
            str(values["id"]),
            float(values["time_s"]),
            int(values["index"]),
            str(chunk["policy"]),
            int(chunk["positions"]["shape"][0]),
            float(chunk["rate_hz"]),
            float(values["staleness_s"]),
            float(values["wall_latency_s"]),
            None if done is None else float(done),
            None if progress is None else float(progress),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        event = EVENT_ADAPTER.validate_json(line.event)
        assert isinstance(event, ChunkProposed)
        return ChunkFacts.of(event)


def _without_arrays(line: Line) -> bytes:
    """An event's JSON with empty arrays: most of a plan's text, which nobody has to read to leave it out."""
    parts, start = [], line.start
    while (found := line.data.find(_ARRAY, start, line.stop)) >= 0:
        parts.append(line.data[start : found + len(_ARRAY)])
        start = line.data.find(b'"', found + len(_ARRAY), line.stop)
        if start < 0:
            return line.event
    return b"".join([*parts, line.data[start : line.stop]])


def _without_maps(line: Line) -> bytes | None:
    """An event's JSON without its maps, which are cut out as they stand; None if they have another form than ours.

    To parse a plan's JSON, leave them out of the values and write the rest again takes as long as to validate it.
    """
    data, start, parts = line.data, line.start, []
    while (array := data.find(_ARRAY, start, line.stop)) >= 0:
        array += len(_ARRAY)
        begin, end = data.rfind(_ARTIFACT, start, array), data.find(b'"', array, line.stop)
        if begin < 0 or not _MAP.fullmatch(data, begin, array) or not data.startswith(b'"}}', end):
            return None
        before, start = data[start:begin], end + len(b'"}}')
        if before.endswith(b","):
            before = before[:-1]
        elif data.startswith(b",", start):
            start += 1
        parts.append(before)
    text = b"".join([*parts, data[start : line.stop]])
    return None if any(kind in text for kind in _MAP_KINDS) else text


def _strip(values: dict[str, Any]) -> None:
    if values["type"] == "grounded":
        values["artifacts"] = _no_maps(values["artifacts"])
        return
    steps = [values["step"]] if values["type"] == "step_started" else values["plan"]["steps"]
    for step in steps:
        step["artifacts"] = _no_maps(step["artifacts"])
    if values["type"] == "plan_proposed":
        values["plan"]["scene"] = _no_maps(values["plan"]["scene"])


def _no_maps(artifacts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [a for a in artifacts if a["kind"] not in MAP_KINDS]
