"""What ``hiervla inspect RUN --follow`` prints while another process runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from hiervla.cli.styled import Styled
from hiervla.cli.terminal import change_lines, console, counts, outcome_text, rejection
from hiervla.executor.record.errors import CorruptRecordError
from hiervla.executor.record.light import AnyEvent, parse_light
from hiervla.executor.record.lines import EVENTS_FILE, Line
from hiervla.executor.record.tail import Tail
from hiervla.executor.record.view import RunView, sentence
from hiervla.representations import events as ev

PERIOD_S = 0.2
SEALING_S = 5.0
"""How long to wait for the closing line once the run has ended."""
SILENCE_S = 30.0
"""After so long without an event it is said that the run may be dead."""

# A tree of the run has them; a line for each would hide the decisions.
_QUIET = (ev.ChunkProposed, ev.Grounded, ev.TransitPlanned, ev.ObservationTaken, ev.SnapshotTaken)


def follow(path: Path, *, as_json: bool = False, sleep: Callable[[float], object] = time.sleep) -> None:
    """Print what a run does as it happens, until it ends.

    Args:
        path: the record, which may have begun long ago or be about to begin.
        as_json: print every event as it is on record, one a line, instead of words.
        sleep: waits between two looks at the file.

    Raises:
        RecordError: it is no record, or a line of it is damaged.
    """
    tail = Tail(path)
    out = console()
    view = RunView()
    if not as_json:
        out.print(Styled(tail.manifest.run_id, style="bold"))
    for line in _lines(tail, out, sleep, as_json=as_json):
        if as_json:
            sys.stdout.write(line.event.decode() + "\n")
            sys.stdout.flush()
            continue
        try:
            event = parse_light(line)
        except ValueError as error:
            raise CorruptRecordError(path, EVENTS_FILE, line.seq, str(error).splitlines()[0]) from None
        known = len(view.chapters)
        view.add(event)
        _say(out, view, event, new_chapter=len(view.chapters) > known)
    if not as_json:
        out.print(outcome_text(view))
        out.print(Styled(counts(view), style="dim"))


def _lines(tail: Tail, out: Console, sleep: Callable[[float], object], *, as_json: bool) -> Iterator[Line]:
    quiet_s, told = 0.0, False
    while not tail.sealed:
        lines = tail.poll()
        yield from lines
        if lines:
            quiet_s, told = 0.0, False
            continue
        if tail.finished and quiet_s >= SEALING_S:
            return
        if quiet_s >= SILENCE_S and not told and not as_json:
            out.print(
                Styled(
                    f"nothing new for {SILENCE_S:.0f} s: the run may have been killed; Ctrl-C ends this", style="yellow"
                )
            )
            told = True
        sleep(PERIOD_S)
        quiet_s += PERIOD_S


def _say(out: Console, view: RunView, event: AnyEvent, *, new_chapter: bool) -> None:
    match event:
        case ev.PlanRejected():
            out.print(_at(event).append(rejection(event)), soft_wrap=True)
            return
        case ev.PlanProposed():
            if not new_chapter:
                return  # it only confirms what is being done
            chapter = view.chapters[-1]
            name = "plan" if chapter.index == 0 else f"plan {chapter.index + 1}"
            out.print(_at(event).append(f"{name} ({event.reason})", style="bold"), soft_wrap=True)
            for text in change_lines(view, chapter):
                out.print(Styled("              ").append(text), soft_wrap=True)
            for number, step_id in enumerate(event.plan.remaining, 1):
                out.print(Styled(f"              {number}. {event.plan.step(step_id)}"), soft_wrap=True)
            return
        case ev.VerdictGiven() if event.phase == "during" and not event.verdict.yes:
            return
        case _ if isinstance(event, _QUIET):
            return
    said = sentence(event)
    if said:
        style = ""
        if isinstance(event, ev.StepFinished):
            style = "green" if event.outcome == "succeeded" else "red"
        out.print(_at(event).append(said, style=style), soft_wrap=True)


def _at(event: AnyEvent) -> Styled:
    return Styled(f"{event.time_s:8.2f} s  ")
