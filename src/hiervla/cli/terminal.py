"""A run in the terminal: the tree of plans and steps, and pictures in half-block characters."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from hiervla.cli.styled import Branch, Printer, Styled
from hiervla.executor.record.view import (
    Attempt,
    Chapter,
    RunView,
    State,
    StepRun,
    milliseconds,
    sentence,
    verdict_text,
    words,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from hiervla.executor.record.draw import Colour
    from hiervla.representations import Refusal
    from hiervla.representations.events import PlanRejected

_MARKS: dict[State, tuple[str, str]] = {
    "waiting": ("○", "dim"),
    "running": ("▶", "bold cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "not_begun": ("–", "dim"),
    "unfinished": ("?", "yellow"),
}
_DIFF = {"-": "red", "+": "green", "~": "yellow", "=": "dim"}
_SAID = 160
GOOD = {"succeeded", "nothing_to_do"}
INTERRUPTED = 130


def exit_status(outcome: str) -> int:
    """The exit status of a command whose run ended so."""
    if outcome == "cancelled":
        return INTERRUPTED
    return 0 if outcome in GOOD else 1


def no_words(refusal: Refusal) -> str:
    """What kind of no a refusal is: not understood, ambiguous, or a judgement of the task."""
    if refusal.reason in ("not_understood", "ambiguous"):
        return words(refusal.reason)
    return "refused" if refusal.reason == "empty_instruction" else f"refused ({words(refusal.reason)})"


def loading(out: Console, *, quiet: bool) -> AbstractContextManager[object]:
    """Shows that something goes on: loading takes seconds, and silence looks like a hang."""
    if quiet or not out.is_terminal:
        return nullcontext()
    return out.status("loading the planner and the policies")


def console(*, stderr: bool = False) -> Console:
    """A console that writes plain lines when nobody looks."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
    if not stream.isatty():
        made.width = max(made.width, 100)
    return made


def print_tree(out: Printer, view: RunView) -> None:
    """Print plans and steps of a run with all details."""
    for part in run_tree(view, details=True):
        out.print(part)


def run_tree(view: RunView, *, details: bool = False) -> list[Branch | Styled]:
    """Plans and steps of a run; with ``details``, every attempt and verdict."""
    parts: list[Branch | Styled] = []
    for chapter in view.chapters:
        tree = Branch(_chapter_label(chapter))
        if details:
            for text in [*map(rejection, chapter.rejected), *change_lines(view, chapter)]:
                tree.add(text)
        for run in chapter.entries():
            branch = tree.add(_step_label(view, chapter, run))
            if details:
                for number, attempt in enumerate(run.attempts, 1):
                    _add_attempt(branch, run, number, attempt)
        parts.append(tree)
    if view.refusals and (view.finished is None or view.finished.outcome not in GOOD):
        parts += [Styled(f"{no_words(r)}: {r.message}", style="yellow") for r in view.refusals]
    if details:
        placed = {r.id for chapter in view.chapters for r in chapter.rejected}
        parts += [rejection(r) for r in view.rejected if r.id not in placed]
        parts += [
            Styled(f"safety envelope {e.action} ({e.check}) at {e.time_s:.2f} s: {e.message}", style="yellow")
            for e in view.envelope
        ]
        parts += [Styled(f"{n.level} at {n.time_s:.2f} s: {n.message}", style="yellow") for n in view.notes]
        parts += [Styled(f"{e.id} at {e.time_s:.2f} s: {sentence(e)}", style="dim") for e in view.other]
    return parts


def outcome_text(view: RunView) -> Styled:
    """The run's outcome in one line."""
    if view.finished is None:
        return Styled("the run did not get to its end", style="yellow")
    good = view.finished.outcome in GOOD
    text = Styled(f"{'✓' if good else '✗'} {words(view.finished.outcome)}", style="bold green" if good else "bold red")
    text.append(f"  {view.finished.message}", style="none")
    return text


def counts(view: RunView) -> str:
    """``3 steps, 1 retry, no replan, 12.3 s``."""
    return ", ".join(
        [
            _count(len(view.steps), "step"),
            _count(view.retries, "retry", "retries"),
            _count(view.replans, "replan"),
            f"{view.time_s:.1f} s of robot time",
        ]
    )


def coloured(rows: list[list[tuple[Colour, Colour]]]) -> Text:
    """Half-block characters, two pixels each."""
    from rich.text import Text

    text = Text(no_wrap=True)
    for row in rows:
        for upper, lower in row:
            text.append("▀", style=f"rgb({_csv(upper)}) on rgb({_csv(lower)})")
        text.append("\n")
    return text


def _chapter_label(chapter: Chapter) -> Styled:
    text = Styled("plan" if chapter.index == 0 else f"plan {chapter.index + 1}", style="bold")
    if chapter.index:
        text.append(f"  {chapter.reason}", style="none")
    elif chapter.plan.goal:
        text.append(f"  {chapter.plan.goal}", style="none")
    if chapter.index and not chapter.entries():
        text.append("  nothing remains", style="dim")
    return text


def rejection(rejected: PlanRejected) -> Styled:
    """A planner's answer that did not pass the checks, with the reason and the beginning of what it said."""
    said = " ".join(rejected.raw_text.split())
    text = Styled(f"rejected answer: {rejected.problem}", style="yellow")
    if said:
        text.append(f'  it said "{said[:_SAID]}{"…" if len(said) > _SAID else ""}"', style="dim")
    return text


def change_lines(view: RunView, chapter: Chapter) -> list[Styled]:
    """How a chapter's plan changed from the one before, as a small diff; none for the first."""
    from hiervla.executor.record.changes import plan_change

    if chapter.index == 0:
        return []
    change = plan_change(view.chapters[chapter.index - 1], chapter)
    return [Styled(line, style=_DIFF[line[0]]) for line in change.lines()]


def _step_label(view: RunView, chapter: Chapter, run: StepRun) -> Styled:
    state = view.state(chapter, run)
    mark, style = _MARKS[state]
    text = Styled(f"{mark} ", style=style)
    text.append(f"{run.number} " if run.number else "  ", style="dim")
    text.append(str(run.step), style="bold" if state == "running" else "none" if run.attempts else "dim")
    facts = []
    if run.attempts and state != "running":
        facts.append(f"{run.duration_s:.1f} s")
    if run.retries:
        facts.append(_count(run.retries, "retry", "retries"))
    if state == "failed":
        facts.append(words(str(run.outcome)))
    if state == "unfinished":
        facts.append("cut off")
    if state == "running":
        facts += _now(run.attempts[-1])
    if facts:
        text.append(f"  {', '.join(facts)}", style="red" if state == "failed" else "dim")
    return text


def _now(attempt: Attempt) -> list[str]:
    facts = []
    if attempt.chunks:
        facts.append(f"{attempt.chunks[-1].policy or 'policy'}, chunk {attempt.chunks[-1].index + 1}")
    elif attempt.transits:
        facts.append(f"{attempt.transits[-1].purpose} by {attempt.transits[-1].method}")
    if attempt.verdicts:
        last = attempt.verdicts[-1].verdict
        facts.append(f"{last.name}: {last.value}")
    return facts


def _add_attempt(branch: Branch, run: StepRun, number: int, attempt: Attempt) -> None:
    outcome = words(attempt.outcome or "cut off")
    text = Styled()
    if len(run.attempts) > 1:
        text.append(f"attempt {number} ", style="dim")
    text.append(outcome, style="green" if attempt.outcome == "succeeded" else "red")
    if attempt.finished:
        text.append(f"  {attempt.finished.duration_s:.1f} s", style="dim")
        if attempt.finished.reason:
            text.append(f"  {attempt.finished.reason}")
    node = branch.add(text)
    shown = [v for v in attempt.verdicts if v.phase != "during"]
    during = [v for v in attempt.verdicts if v.phase == "during"]
    for verdict in [*shown[:1], *during[-1:], *shown[1:]]:
        style = {"yes": "green", "no": "red", "unsure": "yellow"}[verdict.verdict.value]
        line = Styled(f"{verdict.phase} ", style="dim")
        line.append(verdict_text(verdict), style=style)
        node.add(line)
    if attempt.chunks:
        latencies = sorted(c.wall_latency_s for c in attempt.chunks)
        middle = milliseconds(latencies[len(latencies) // 2])
        node.add(Styled(f"{_count(len(attempt.chunks), 'chunk')}, {middle} each (median)", style="dim"))
    for event in attempt.envelope:
        node.add(Styled(f"envelope {event.action} ({event.check}): {event.message}", style="yellow"))


def _count(number: int, one: str, many: str = "") -> str:
    if number == 0:
        return f"no {one}"
    return f"{number} {one if number == 1 else many or one + 's'}"


def _csv(colour: Colour) -> str:
    return ",".join(map(str, colour))
