"""What the commands do with the texts of programs: read, check and show them."""

from __future__ import annotations

from pathlib import Path

from hiervla.cli.styled import Printer, Styled
from hiervla.executor.record.programs import Mark, program_views
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import events as ev
from hiervla.skills.programs import Problem, ProgramError, Vocabulary, check_program

_MARKS: dict[Mark, tuple[str, str]] = {
    "running": ("▶", "bold cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "answered": ("?", "cyan"),
    "": (" ", "none"),
}
_PROGRAM_EVENTS = (ev.PlanProposed, ev.CorrectionGiven, ev.ProgramCalled, ev.ProgramReturned, ev.ProgramEnded)


def read_program(path: Path) -> str:
    """A program's text.

    Raises:
        ProgramError: the file cannot be read.
    """
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"its file cannot be read ({getattr(error, 'strerror', None) or 'it is no text'})"
        raise ProgramError(str(path), (Problem(0, problem),), "Name a Python file") from error


def checked_program(path: Path) -> str:
    """A program's text, with its types checked against the installed skills.

    Raises:
        ProgramError: the file cannot be read, or the program may not run.
    """
    from hiervla.skills import SkillLibrary

    source = read_program(path)
    check_program(str(path), source, Vocabulary(SkillLibrary.load().signatures()))
    return source


def print_programs(out: Printer, record: RunRecord) -> None:
    """The run's programs line by line, with what became of each call; nothing for a run without one."""
    events = sorted((e for kind in _PROGRAM_EVENTS for e in record.of(kind)), key=lambda e: int(e.id[1:]))
    views = program_views(events)
    for number, view in enumerate(views, 1):
        which = "program" if len(views) == 1 else f"program {number} of {len(views)}"
        out.print(Styled(which, style="bold"))
        for line, text, mark, note in view.lines():
            sign, style = _MARKS[mark]
            row = Styled(f"  {sign} ", style=style)
            row.append(f"{line:3d}  ", style="dim")
            row.append(text, style="bold" if mark == "running" else "none")
            if note:
                row.append(f"  # {note}", style=style)
            out.print(row)
        printed = "".join([*(c.called.printed for c in view.calls), view.ended.printed if view.ended else ""])
        for text in printed.splitlines():
            out.print(Styled(f"  it printed: {text}", style="dim"))
        if view.ended is not None and view.ended.how != "finished":
            out.print(Styled(f"  {view.ended.how.replace('_', ' ')}: {view.ended.message}", style="yellow"))
