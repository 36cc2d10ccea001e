"""``inspect``, ``verify``, ``report``, ``runs``: what can be done with a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run record.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("inspect")(inspect)
    app.command("verify")(verify)
    app.command("report")(report)
    app.command("runs")(runs)


def inspect(
    run: Run,
    step: Annotated[
        str | None,
        typer.Option(metavar="N", help="One step by its number in the tree, or by its id.", show_default=False),
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(help="Which attempt at the step; the last by default.", show_default=False)
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Where to write the picture of the step.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what happened in a run: plans, steps, retries, verdicts; with --step, what the robot saw and meant."""
    from hiervla.cli import inspecting

    if step is None:
        inspecting.show_run(run, as_json=as_json)
    else:
        inspecting.show_step(run, step, attempt=attempt, png=png, as_json=as_json)
    return 0


def verify(run: Run, as_json: AsJson = False) -> int:
    """Prove that a record is whole, or name the first line that is not what was written."""
    from hiervla.executor.record.verify import verify as check

    found = check(run)
    if as_json:
        values = {**vars(found), "path": str(found.path)}
        print(json.dumps(values))
    else:
        print(f"{found.status}: {found.events} events, {found.blobs} blobs, {found.ticks} control ticks")
        if found.problem:
            where = found.place if found.line is None else f"{found.place}, line {found.line}"
            print(f"  {where}: {found.problem}")
        for notice in found.notices:
            print(f"  {notice}")
        if found.status == "whole":
            print(f"  head {found.head}")
    return {"whole": 0, "broken": 1, "unclosed": 3}[found.status]


def report(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file; RUN.html beside the record by default.", show_default=False),
    ] = None,
) -> int:
    """Write one self-contained HTML file about a run."""
    from hiervla.executor.record.reader import RunRecord
    from hiervla.executor.report.html import write_report

    record = RunRecord.open(run)
    path = out or record.path.resolve().with_name(record.path.resolve().name + ".html")
    write_report(record, path)
    print(path)
    return 0


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder in which run records lie.")] = Path("runs"),
    as_json: AsJson = False,
) -> int:
    """List the run records in a folder, newest first."""
    from hiervla.cli import inspecting

    inspecting.list_runs(folder, as_json=as_json)
    return 0
