"""The view of a record, quickly: what a tree does not show is parsed when somebody looks at it, or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from hiervla.executor.record.light import AnyEvent, chunk_facts, head, parse_light
from hiervla.executor.record.view import RunView
from hiervla.representations.events import EventBase, Grounded, ObservationTaken

if TYPE_CHECKING:
    from hiervla.executor.record.lines import Line
    from hiervla.executor.record.reader import RunRecord

E = TypeVar("E", bound=EventBase)


def view_of(record: RunRecord) -> RunView:
    """The view of a whole record; plans and steps in it come without their maps.

    Raises:
        CorruptRecordError: a line holds no event.
    """
    view = RunView()
    for number, line in enumerate(record.lines, 1):
        try:
            take(record, view, number, line)
        except (ValidationError, ValueError) as error:
            raise record.corrupt(number, error) from None
    return view


def take(record: RunRecord, view: RunView, number: int, line: Line) -> AnyEvent | None:
    """Take one line of a record into a view; returns the event if it had to be parsed.

    Raises:
        ValueError: the line holds no event.
    """
    start = head(line)
    attempt = view.current
    match start.type:
        case "snapshot" | "record_sealed":
            view.pass_over(start.time_s)
        case "observation":
            view.pass_over(start.time_s)
            if attempt:
                attempt.observations.append(_later(record, number, ObservationTaken))
        case "grounded":
            view.pass_over(start.time_s)
            if attempt:
                attempt.grounded.append(_later(record, number, Grounded))
        case "chunk":
            view.pass_over(start.time_s)
            if attempt:
                attempt.chunks.append(chunk_facts(line))
        case _:
            event = parse_light(line)
            view.add(event)
            return event
    return None


def _later(record: RunRecord, number: int, kind: type[E]) -> Callable[[], E]:
    def load() -> E:
        event = record.event(number)
        assert isinstance(event, kind)
        return event

    return load
