"""What ``hiervla run`` and ``hiervla demo`` do and show while the robot works."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hiervla.cli.terminal import (
    GOOD,
    INTERRUPTED,
    console,
    counts,
    exit_status,
    loading,
    no_words,
    outcome_text,
    run_tree,
)
from hiervla.executor.presets import arms_presets
from hiervla.executor.record.view import RunView, sentence, words
from hiervla.planner.kinds import emitted_kind
from hiervla.representations import Event
from hiervla.representations import events as ev

if TYPE_CHECKING:
    from hiervla.executor.agent import Agent
    from hiervla.executor.record.reader import RunRecord
    from hiervla.executor.replay.corrections import Correction
    from hiervla.executor.result import RunResult

_QUIET_EVENTS = (ev.ChunkProposed, ev.Grounded, ev.TransitPlanned, ev.ObservationTaken, ev.SnapshotTaken)


class Progress:
    """Follows a run and draws it: a tree that stays in place on a terminal, lines elsewhere, nothing when quiet."""

    def __init__(self, instruction: str, out: Console, *, quiet: bool, lines: bool = False) -> None:
        self.view = RunView()
        self._lines = lines or not out.is_terminal
        self._instruction = instruction
        self._out = out
        self._quiet = quiet
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._live: Live | None = None

    def on_event(self, event: Event) -> None:
        """Take in an event; called by the agent."""
        with self._lock:
            self.view.add(event)
        if not self._quiet and self._lines:
            self._line(event)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs."""
        self._began = time.monotonic()
        if self._quiet or self._lines:
            yield
            return
        with Live(
            get_renderable=self._draw, console=self._out, refresh_per_second=5, vertical_overflow="visible"
        ) as self._live:
            yield
        self._live = None

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Leave the terminal to a question while the block runs."""
        live = self._live
        if live is None:
            yield
            return
        live.stop()
        try:
            yield
        finally:
            live.start(refresh=True)

    def _draw(self) -> RenderableType:
        with self._lock:
            view = self.view
            head = Text(self._instruction, style="bold")
            clock = f"  {time.monotonic() - self._began:.0f} s, robot {view.time_s:.0f} s"
            head.append(clock, style="dim")
            if view.finished is not None:
                return Group(head, *run_tree(view), outcome_text(view))
            waiting = Text(f"  {self._doing()}", style="cyan")
            return Group(head, *run_tree(view), waiting)

    def _doing(self) -> str:
        view = self.view
        if view.started is None:
            return "loading"
        attempt = view.current
        if attempt is None:
            return "looking and planning"
        if attempt.chunks:
            return f"acting: {attempt.started.step}"
        return f"approaching: {attempt.started.step}" if attempt.transits else f"checking: {attempt.started.step}"

    def _line(self, event: Event) -> None:
        during = isinstance(event, ev.VerdictGiven) and (
            event.phase == "during" or (event.phase == "invariant" and event.verdict.yes)
        )
        text = sentence(event)
        if text and not during and not isinstance(event, _QUIET_EVENTS):
            self._out.print(Text(f"{event.time_s:8.2f} s  {text}"), soft_wrap=True)


def run_once(
    instruction: str,
    *,
    world: str,
    planner: str,
    policy: str,
    seed: int,
    record: Path,
    as_json: bool,
    quiet: bool,
    breaks: Sequence[str] = (),
    listen: bool = False,
    program: Path | None = None,
    emit: str | None = None,
    judge: str | None = None,
    fallback: str | None = None,
    ask: bool | None = None,
) -> int:
    """``hiervla run``; returns the exit status.

    Raises:
        ProgramError: the program may not run, or its file cannot be read.
        EmitError: the planner cannot make the kind that was asked for, or no skill takes it.
        HiervlaError: an unknown world, planner or policy, unreadable weights, an unusable folder.
    """
    out = console(stderr=True)
    if any(p.name == world for p in arms_presets()):
        from hiervla.cli.arms import run_arms

        asked = {
            "--program": program is not None,
            "--break": bool(breaks),
            "--listen": listen,
            "--emit": bool(emit),
            "--fallback": bool(fallback),
            "--ask": ask is not None,
        }
        return run_arms(
            instruction,
            world=world,
            planner=planner,
            policy=policy,
            seed=seed,
            record=record,
            as_json=as_json,
            quiet=quiet,
            judge=judge,
            options=tuple(name for name, given in asked.items() if given),
        )
    source = None
    if program is not None:
        from hiervla.cli.programs import checked_program
        from hiervla.skills.programs.text import title_of

        source = checked_program(program)
        instruction = instruction or title_of(source)
    control = None
    if emit is not None:
        # Told before seconds are spent on loading.
        emitted_kind(emit)
    if ask is None:
        # Somebody is there who sees the question and can type.
        ask = out.is_terminal and sys.stdin.isatty() and not (quiet or as_json)
    progress = Progress(instruction, out, quiet=quiet, lines=bool(breaks or listen))
    if breaks or listen or ask:
        from hiervla.cli.breaking import TerminalControl

        control = TerminalControl(out, breaks, listen=listen, answers=ask, apart=progress.apart)
    agent = _load(world, planner, policy, out, quiet=quiet, judge=judge, fallback=fallback)
    with progress.shown():
        result = agent.run(
            instruction,
            program=source,
            seed=seed,
            record=record,
            on_event=progress.on_event,
            control=control,
            emit=emit,
        )
    return _finish(result, progress, out, as_json=as_json, quiet=quiet)


def run_fork(
    parent: RunRecord,
    at: str,
    correction: Correction | None,
    *,
    planner: str,
    policy: str,
    record: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """``hiervla fork``; returns the exit status.

    Raises:
        HiervlaError: a run that cannot be left there, an unknown planner or policy, an unusable folder.
    """
    out = console(stderr=True)
    agent = _load(parent.manifest.world, planner, policy, out, quiet=quiet)
    progress = Progress(parent.manifest.instruction, out, quiet=quiet)
    with progress.shown():
        result = agent.fork(parent, at, correction, record=record, on_event=progress.on_event)
    return _finish(result, progress, out, as_json=as_json, quiet=quiet)


def _finish(result: RunResult, progress: Progress, out: Console, *, as_json: bool, quiet: bool) -> int:
    if as_json:
        print(json.dumps(_result_json(result, progress.view)))
    else:
        if quiet or not out.is_terminal:
            no = result.refusal if result.outcome == "refused" else None
            print(f"{words(result.outcome) if no is None else no_words(no)}: {result.message}")
        print(counts(progress.view))
        if result.record is not None:
            print(f"record: {result.record}")
            print(f"look at it: hiervla inspect {shlex.quote(str(result.record))}")
            for hint in hints(result):
                print(hint)
    return exit_status(result.outcome)


def hints(result: RunResult) -> list[str]:
    """What can be done about how a run ended, a command a line."""
    run, refusal = shlex.quote(str(result.record)), result.refusal
    if result.outcome == "planner_failed":
        return [f"go on from there: hiervla resume {run} --planner NAME"]
    if refusal is None or not refusal.can_be_said_otherwise:
        return []
    says = shlex.quote(refusal.candidates[0]) if refusal.candidates else "WORDS"
    if result.steps:
        return [f"say it otherwise from there: hiervla fork {run} --at {result.steps[-1].step.id} --say {says}"]
    return ["say it otherwise: hiervla run WORDS; with --ask you are asked what is not clear"]


@dataclass(frozen=True)
class _Done:
    instruction: str
    seed: int
    result: RunResult
    view: RunView
    seconds: float


def run_demo(
    tasks: Sequence[str], *, world: str, planner: str, policy: str, seed: int, record: Path, quiet: bool
) -> int:
    """``hiervla demo``; returns 0 when all tasks succeeded, 1 otherwise, 130 when interrupted.

    Raises:
        HiervlaError: an unknown world, planner or policy, unreadable weights, an unusable folder.
    """
    out = console(stderr=True)
    agent = _load(world, planner, policy, out, quiet=quiet)
    done: list[_Done] = []
    for number, instruction in enumerate(tasks):
        if not quiet:
            out.rule(Text(f"task {number + 1} of {len(tasks)}"), style="dim")
        progress = Progress(instruction, out, quiet=quiet)
        began = time.monotonic()
        with progress.shown():
            result = agent.run(instruction, seed=seed + number, record=record, on_event=progress.on_event)
        done.append(_Done(instruction, seed + number, result, progress.view, time.monotonic() - began))
        if result.outcome == "cancelled":
            break
    _print_demo(done)
    if done[-1].result.outcome == "cancelled":
        return INTERRUPTED
    return 0 if all(d.result.outcome in GOOD for d in done) else 1


def _print_demo(done: Sequence[_Done]) -> None:
    out = console()
    print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("task", "outcome", "steps", "retries", "replans", "robot", "wall"):
        table.add_column(name, justify="left" if name in {"task", "outcome"} else "right", overflow="fold")
    for d in done:
        good = d.result.outcome in GOOD
        table.add_row(
            d.instruction,
            Text(f"{'✓' if good else '✗'} {words(d.result.outcome)}", style="green" if good else "red"),
            str(len(d.view.steps)),
            str(d.view.retries),
            str(d.view.replans),
            f"{d.view.time_s:.0f} s",
            f"{d.seconds:.0f} s",
        )
    out.print(table)
    for d in done:
        if d.result.outcome not in GOOD:
            print(f"{d.instruction}: {d.result.message}")
    print("\nrecords:")
    for d in done:
        print(f"  {d.result.record}")
    last = shlex.quote(str(done[-1].result.record))
    print("\nnext:")
    commands: tuple[tuple[str, Callable[[], str] | str], ...] = (
        (f"hiervla inspect {last}", "plans, steps, verdicts"),
        (f"hiervla inspect {last} --step 1", "what the planner meant, drawn on what it saw"),
        (f"hiervla replay {last}", "the same decisions from the same record"),
        (f'hiervla fork {last} --at 1 --say "no, the blue one"', "another decision from the same moment"),
        (f"hiervla report {last}", "one HTML file"),
        ('hiervla run "put the sponge in the drawer" --seed 7', "another task"),
    )
    for command, what in commands:
        print(f"  {command}\n      {what}")


def _load(
    world: str,
    planner: str,
    policy: str,
    out: Console,
    *,
    quiet: bool,
    judge: str | None = None,
    fallback: str | None = None,
) -> Agent:
    with loading(out, quiet=quiet):
        from hiervla.executor.agent import Agent

        return Agent.from_preset(world, planner=planner, policy=policy, judge=judge, fallback=fallback)


def _result_json(result: RunResult, view: RunView) -> dict[str, object]:
    sys.stdout.flush()
    return {
        "instruction": result.instruction,
        "outcome": result.outcome,
        "message": result.message,
        "refusal": None if result.refusal is None else json.loads(result.refusal.to_json()),
        "record": None if result.record is None else str(result.record),
        "plan": None if result.plan is None else [str(step) for step in result.plan.steps],
        "steps": [{"step": str(s.step), "skill": s.step.skill, "outcome": s.outcome} for s in result.steps],
        "retries": view.retries,
        "replans": view.replans,
        "duration_s": result.duration_s,
    }
