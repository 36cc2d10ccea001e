"""``export`` to dataset formats and ``data info``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

data_app = typer.Typer(help="Datasets of demonstrations.", rich_markup_mode=None, no_args_is_help=True)

TARGETS = ("lerobot",)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("export")(export)
    app.add_typer(data_app, name="data")


def export(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Run records, folders of them, or a dataset.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The dataset's folder.", show_default=False)],
    to: Annotated[str, typer.Option(help="Format: lerobot (LeRobotDataset v3).")] = "lerobot",
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Frames a second; 10 for run records.", show_default=False)
    ] = None,
    images: Annotated[
        str,
        typer.Option(help="Of run records: rendered (executed again), recorded (the last one taken) or none."),
    ] = "rendered",
    images_as: Annotated[str, typer.Option(help="video (H.264) or png (every pixel kept).")] = "video",
    every: Annotated[bool, typer.Option("--all", help="Runs that did not succeed, too.")] = False,
    language: Annotated[
        bool, typer.Option(help="Plan, subtasks and points as language columns; LeRobot before 0.6 refuses those.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Write run records or demonstrations as a dataset for other software."""
    from hiervla.representations.errors import UnknownNameError
    from hiervla.training.data.export import export_lerobot

    for what, value, known in (
        ("export format", to, TARGETS),
        ("kind of images", images, ("rendered", "recorded", "none")),
        ("image storage", images_as, ("video", "png")),
    ):
        if value not in known:
            raise UnknownNameError(what, value, known)
    report = export_lerobot(
        sources,
        out,
        fps=fps,
        pictures=images,  # type: ignore[arg-type]  # one of the names checked above
        storage=images_as,  # type: ignore[arg-type]  # one of the names checked above
        every=every,
        language=language,
        on_episode=lambda n: print(f"episode {n}", file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(report.to_json()))
        return 0
    counts = f"{report.episodes} episodes, {report.frames} frames at {report.fps:g} Hz"
    print(f"{report.path}: {counts} ({report.seconds:.0f} s)")
    _print_skipped([s.to_json() for s in report.skipped])
    print(f"next: hiervla data info {report.path}")
    return 0


@data_app.command("info")
def info(
    path: Annotated[Path, typer.Argument(help="A dataset's file or folder.", show_default=False)],
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what the dataset says of itself; check nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say what a dataset holds: format, episodes, features, rate, tasks, and what in it is damaged."""
    from hiervla.training.data.summary import summarise

    found = summarise(path, check=not quick)
    if as_json:
        print(json.dumps(found))
        return 0
    fps = "unknown" if found["fps"] is None else f"{found['fps']:g}"
    print(f"{found['format']}, robot {found['robot']}, {fps} frames a second")
    if found["checked"]:
        print(f"{found['episodes']} episodes, {found['frames']} frames, {found['mean_length']:.0f} a mean episode")
    else:
        print(f"{found['declared'] if found['declared'] is not None else 'unknown number of'} episodes, unchecked")
    action = found["action"]
    print(f"action: {action['space']}, frame {action['frame']}, gripper {action['gripper']}. {action['text']}".rstrip())
    for feature in found["features"]:
        shape = "x".join(map(str, feature["shape"]))
        print(f"  {feature['name']:32} {feature['dtype']:8} {shape:12} {feature['meaning']}".rstrip())
    if found["unread"]:
        print(f"not read: {', '.join(found['unread'])}")
    tasks = found["tasks"]
    for task, count in list(tasks.items())[:10]:
        print(f"  {count:6} x {task or '(no instruction)'}")
    if len(tasks) > 10:
        print(f"  and {len(tasks) - 10} more instructions")
    _print_skipped(found["skipped"])
    return 0


def _print_skipped(skipped: list[dict[str, Any]]) -> None:
    if skipped:
        print(f"left out: {sum(s['episodes'] for s in skipped)} episodes")
    for skip in skipped[:10]:
        print(f"  {skip['place']}: {skip['reason']}" + (f" ({skip['episodes']})" if skip["episodes"] > 1 else ""))
    if len(skipped) > 10:
        print(f"  and {len(skipped) - 10} more")
