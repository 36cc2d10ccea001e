"""``replay``, ``fork`` and ``resume``: run a record's decisions again, leave the run at a step, or go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run record.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Planner = Annotated[str, typer.Option(help="Planner by name, or the folder of a checkpoint.")]
Policy = Annotated[str, typer.Option(help="Policy by name, or the folder of a checkpoint.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("replay")(replay)
    app.command("fork")(fork)
    app.command("resume")(resume)


def replay(
    run: Run,
    live: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="Run this part live beside the recorded one and score it: planner, policy, verifier or controller. "
            "May be given again.",
            show_default=False,
        ),
    ] = None,
    physics: Annotated[
        bool, typer.Option("--physics", help="Execute the recorded commands in the recorded world instead.")
    ] = False,
    planner: Planner = "embedded",
    policy: Policy = "flow",
    as_json: AsJson = False,
) -> int:
    """Run the decisions of a record again: the same orchestrator, everything else as recorded. Same decisions?"""
    from hiervla.cli import travelling

    if physics:
        if live:
            raise typer.BadParameter("--physics executes recorded commands; nothing is decided, so --live has no place")
        return travelling.replay_physics(run, as_json=as_json)
    return travelling.replay_decisions(run, live or [], planner=planner, policy=policy, as_json=as_json)


def fork(
    run: Run,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="STEP",
            help="Step to leave before: its number, its id, or an event's id.",
            show_default=False,
        ),
    ],
    edit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An artifact, step or plan to go on with, as JSON, see `inspect --json`; or another text for the "
            "run's program, as FILE.py.",
            show_default=False,
        ),
    ] = None,
    editor: Annotated[
        bool, typer.Option("--editor", help="Edit the step in $VISUAL or $EDITOR, and go on with that.")
    ] = False,
    say: Annotated[
        str | None, typer.Option(help='Words to replan by, such as "no, the blue one".', show_default=False)
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt at the step; the first by default.", show_default=False)
    ] = None,
    planner: Planner = "embedded",
    policy: Policy = "flow",
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the fork's record; beside RUN by default.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Leave a run before a step, and go on live from the same physical state with another decision."""
    given = [name for name, value in (("--edit", edit), ("--editor", editor), ("--say", say)) if value]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} are two corrections of one decision; give one")
    from hiervla.cli import travelling

    return travelling.fork(
        run,
        at,
        edit=edit,
        editor=editor,
        say=say,
        attempt=attempt,
        planner=planner,
        policy=policy,
        record=record,
        as_json=as_json,
        quiet=quiet,
    )


def resume(
    run: Run,
    planner: Planner = "embedded",
    policy: Policy = "flow",
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the new record; beside RUN by default.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Go on with a run that broke off, in a record of its own: where its planner failed, or at its last step."""
    from hiervla.cli import travelling

    return travelling.resume(run, planner=planner, policy=policy, record=record, as_json=as_json, quiet=quiet)
