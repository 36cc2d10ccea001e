"""``run`` and ``demo``: from a sentence to motion, with live progress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

World = Annotated[str, typer.Option(help="World preset.")]
Planner = Annotated[str, typer.Option(help="embedded, transformers:NAME, openai:MODEL@URL, or a checkpoint's folder.")]
Policy = Annotated[
    str, typer.Option(help="Policy by name, openpi:ws://HOST:PORT, groot:HOST:PORT, or a checkpoint's folder.")
]
Record = Annotated[Path, typer.Option(metavar="DIR", help="Folder in which the run's record is made.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

DEMO = (
    "clear the dining table",
    "put the red mug on the top shelf",
    "pick up the sponge, wipe the table and throw the sponge away",
)
"""The tasks of ``hiervla demo``."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("run")(run)
    app.command("demo")(demo)


def run(
    instruction: Annotated[
        str, typer.Argument(help="What to do, in your words; may be left out with --program.", show_default=False)
    ] = "",
    world: World = "tabletop",
    planner: Planner = "embedded",
    policy: Policy = "flow",
    seed: Annotated[int, typer.Option(help="Seed of the scene and of all sampling.")] = 0,
    record: Record = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
    breaks: Annotated[
        list[str] | None,
        typer.Option(
            "--break",
            metavar="KIND",
            help="Stop before every decision of a kind and ask: plan, step, keypoints, ready, chunk, done or outcome. "
            "May be given again. The arm holds still meanwhile.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="Lines typed while it runs are said to the planner, which replans.")
    ] = False,
    program: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Run a program over the skills instead of the planner's plan; see docs/programs.md. Its types are "
            "checked before anything moves.",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A vision-language model (transformers:FOLDER or openai:MODEL@URL) that is asked whether a step "
            "worked where the skill's own check is in doubt.",
            show_default=False,
        ),
    ] = None,
    fallback: Annotated[
        str | None,
        typer.Option(
            metavar="PLANNER",
            help="Who plans, from there to the end, where the planner gives no answer any more: a name like those of "
            "--planner.",
            show_default=False,
        ),
    ] = None,
    ask: Annotated[
        bool | None,
        typer.Option(
            "--ask/--no-ask",
            help="Be asked what was not understood, and which of several things is meant; by default where somebody is "
            "at the terminal. Without it the planner takes one.",
            show_default=False,
        ),
    ] = None,
    emit: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Kind of intermediate that the planner shall say its steps as: keypoints, boxes, affordance_map, "
            "waypoints_2d, waypoints_3d, language_motion, value_map, constraints or subtasks.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Carry out an instruction in a world, and record everything."""
    if not instruction and program is None:
        raise typer.BadParameter("say what to do, or give --program FILE.py", param_hint="INSTRUCTION")
    from hiervla.cli.live import run_once

    return run_once(
        instruction,
        world=world,
        planner=planner,
        policy=policy,
        seed=seed,
        record=record,
        as_json=as_json,
        quiet=quiet,
        breaks=breaks or (),
        listen=listen,
        program=program,
        emit=emit,
        judge=judge,
        fallback=fallback,
        ask=ask,
    )


def demo(
    world: World = "tabletop",
    planner: Planner = "embedded",
    policy: Policy = "flow",
    seed: Annotated[int, typer.Option(help="Seed of the first task's scene.")] = 0,
    record: Record = Path("runs"),
    quiet: Quiet = False,
) -> int:
    """Run three household tasks from free text, and say what came of them."""
    from hiervla.cli.live import run_demo

    return run_demo(DEMO, world=world, planner=planner, policy=policy, seed=seed, record=record, quiet=quiet)
