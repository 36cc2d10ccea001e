"""``inspect``, ``verify``, ``report``, ``runs``: what can be done with a record."""

from __future__ import annotations

import atexit
import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"

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
    artifact: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="All artifacts of a kind, such as keypoints.", show_default=False),
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="ID", help="One event, such as e17, whole.", show_default=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what a running run does, until it ends.")
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Where to write the picture of the step or event.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what happened in a run: plans, steps, retries, verdicts; with --step, what the robot saw and meant."""
    if attempt is not None and step is None:
        raise typer.BadParameter("which attempt of which step? Give --step too", param_hint="'--attempt'")
    if sum((follow, event is not None, step is not None or artifact is not None)) > 1:
        raise typer.BadParameter("--follow, --event and --step or --artifact are different questions: ask one")
    if png is not None and (step is None or artifact is not None) and event is None:
        raise typer.BadParameter("only a step or an event has a picture. Give --step or --event", param_hint="'--png'")
    if follow:
        from hiervla.cli.following import follow as tail

        tail(run, as_json=as_json)
    elif event is not None:
        from hiervla.cli.details import show_event

        show_event(run, event, png=png, as_json=as_json)
    elif artifact is not None:
        from hiervla.cli.details import show_artifacts

        show_artifacts(run, artifact, step=step, attempt=attempt, as_json=as_json)
    elif step is not None:
        from hiervla.cli.details import show_step

        show_step(run, step, attempt=attempt, png=png, as_json=as_json)
    else:
        with _quickly():
            from hiervla.cli.inspecting import show_run

            show_run(run, as_json=as_json)
    return 0


@contextmanager
def _quickly() -> Iterator[None]:
    """Look for no garbage and for no plugins.

    What is read to be shown once stays until the end, which frees it all. pydantic asks every installed package for
    plugins before it builds the first type, and loads them; nothing that is shown needs one.
    """
    was, plugins = gc.isenabled(), os.environ.get(_NO_PLUGINS)
    atexit.register(gc.disable)
    gc.disable()
    os.environ.setdefault(_NO_PLUGINS, "__all__")
    try:
        yield
    finally:
        if plugins is None:
            os.environ.pop(_NO_PLUGINS, None)
        if was:
            gc.enable()


def verify(run: Run, as_json: AsJson = False) -> int:
    """Prove that a record is whole, or name the first line that is not what was written."""
    from hiervla.executor.record.verify import verify as check

    found = check(run)
    if found.arms:
        from hiervla.cli.arms import verify_arms

        verify_arms(run, found)
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
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="Another run, shown beside it.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file; RUN.html beside the record by default.", show_default=False),
    ] = None,
) -> int:
    """Write one self-contained HTML file about a run, or about two side by side."""
    from hiervla.executor.record.reader import RunRecord
    from hiervla.executor.report.html import write_report

    record = RunRecord.open(run)
    path = out or record.path.resolve().with_name(record.path.resolve().name + ".html")
    if other is None and record.manifest.arms:
        from hiervla.cli.arms import report_arms

        report_arms(record, path)
    else:
        write_report(record, path, None if other is None else RunRecord.open(other))
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
