"""``diff``: what two runs decided differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hiervla.executor.replay.diff.words import Tone


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("diff")(diff)


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run record.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder of another one.", show_default=False)],
    every: Annotated[
        bool, typer.Option("--all", help="Show every chunk and check by itself, not in one line a step.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare the decisions of two runs: where they first part, then plans, points, checks, chunks and outcomes.

    Exit status 0: the same decisions; 1: others.
    """
    from hiervla.executor.record.reader import RunRecord
    from hiervla.executor.replay.diff.runs import diff_runs

    found = diff_runs(RunRecord.open(a), RunRecord.open(b))
    if as_json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return 0 if found.same else 1
    from rich.text import Text

    from hiervla.cli.terminal import console
    from hiervla.executor.replay.diff.words import lines

    styles: dict[Tone, str] = {
        "title": "bold",
        "plain": "",
        "dim": "dim",
        "same": "green",
        "differs": "yellow",
        "only": "magenta",
    }
    out = console()
    for tone, text in lines(found, every=every):
        out.print(Text(text, style=styles[tone]))
    return 0 if found.same else 1
