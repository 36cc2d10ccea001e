"""A run's programs as people look at them: the text, which calls were made, and which one is running."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hiervla.representations import Program
from hiervla.representations import events as ev

Mark = Literal["running", "succeeded", "failed", "answered", ""]


@dataclass(frozen=True)
class CallView:
    """One call of a program.

    Attributes:
        called: its event.
        returned: the answer's event; None while it is being carried out, or where the run was killed in it.
    """

    called: ev.ProgramCalled
    returned: ev.ProgramReturned | None = None

    @property
    def mark(self) -> Mark:
        """How it stands."""
        if self.returned is None:
            return "running"
        if self.returned.outcome is None:
            return "answered"
        return "succeeded" if self.returned.outcome == "succeeded" else "failed"


@dataclass
class ProgramView:
    """One text, as far as it ran.

    Attributes:
        source: the text.
        calls: in order, those inside of saved skills included.
        ended: its end; None for one that runs, was edited or was left.
    """

    source: str
    calls: list[CallView] = field(default_factory=list)
    ended: ev.ProgramEnded | None = None

    def lines(self) -> list[tuple[int, str, Mark, str]]:
        """Number, text, mark and a note for every line; the mark is that of the line's latest call."""
        latest: dict[int, CallView] = {}
        count: dict[int, int] = {}
        for call in self.calls:
            if not call.called.skill:
                latest[call.called.line] = call
                count[call.called.line] = count.get(call.called.line, 0) + 1
        rows: list[tuple[int, str, Mark, str]] = []
        for number, text in enumerate(self.source.splitlines(), 1):
            found = latest.get(number)
            if found is None:
                rows.append((number, text, "", ""))
                continue
            note = program_text(found.returned) if found.returned is not None else "running"
            times = f", {count[number]} calls" if count[number] > 1 else ""
            rows.append((number, text, found.mark, note.removeprefix("program is told ") + times))
        return rows


def program_views(events: Iterable[object]) -> list[ProgramView]:
    """The programs of a run, in the order in which they began; an edited text is another one."""
    views: list[ProgramView] = []
    for event in events:
        match event:
            case ev.PlanProposed():
                _begin(views, event.plan.program)
            case ev.CorrectionGiven():
                _begin(views, event.plan.program if event.plan is not None else None)
            case ev.ProgramCalled() if views:
                views[-1].calls.append(CallView(event))
            case ev.ProgramReturned() if views:
                calls = views[-1].calls
                for index, call in enumerate(calls):
                    if call.called.call == event.call:
                        calls[index] = CallView(call.called, event)
            case ev.ProgramEnded() if views:
                views[-1].ended = event
            case _:
                pass
    return views


def _begin(views: list[ProgramView], program: Program | None) -> None:
    if program is not None and (not views or views[-1].source != program.source or views[-1].ended is not None):
        views.append(ProgramView(program.source))


def program_text(event: ev.ProgramCalled | ev.ProgramReturned | ev.ProgramEnded | ev.SceneSeen) -> str:
    """What a program asked, was answered, and how it ended."""
    match event:
        case ev.ProgramCalled():
            where = f"{event.skill}, line {event.line}" if event.skill else f"line {event.line}"
            return f"program, {where}: {event.function}({', '.join(event.args.values())})"
        case ev.ProgramReturned(outcome=None):
            return f"program is told {list(event.value) if isinstance(event.value, tuple) else event.value!r}"
        case ev.ProgramReturned():
            return f"program is told {str(event.outcome).replace('_', ' ')}"
        case ev.ProgramEnded():
            where = f" in line {event.line}" if event.line else ""
            return f"program {event.how.replace('_', ' ')}{where}: {event.message}"
        case ev.SceneSeen():
            return f"in view: {', '.join(t.name for t in event.things) or 'nothing'}"
