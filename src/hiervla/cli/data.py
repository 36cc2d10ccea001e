"""``data info``, and what ``export --to lerobot`` does."""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

data_app = typer.Typer(help="Datasets of demonstrations.", rich_markup_mode=None, no_args_is_help=True)


class Pictures(enum.StrEnum):
    """Where the images of run records come from."""

    rendered = "rendered"
    recorded = "recorded"
    none = "none"


class Storage(enum.StrEnum):
    """How images are stored."""

    video = "video"
    png = "png"


_LEROBOT = "lerobot: "
Fps = Annotated[
    float | None,
    typer.Option(min=0.1, help=f"{_LEROBOT}frames a second; 10 for run records.", show_default=False),
]
Images = Annotated[
    Pictures,
    typer.Option(help=f"{_LEROBOT}of run records: executed and rendered again, the last one recorded, or none."),
]
ImagesAs = Annotated[Storage, typer.Option(help=f"{_LEROBOT}H.264 video, or png with every pixel.")]
Every = Annotated[bool, typer.Option("--all", help=f"{_LEROBOT}runs that did not succeed, too.")]
Language = Annotated[
    bool,
    typer.Option(help=f"{_LEROBOT}plan, subtasks, points as language columns; versions before 0.6 refuse those."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands; ``export`` itself is registered by :mod:`hiervla.cli.exporting`."""
    app.add_typer(data_app, name="data")


def to_lerobot(
    sources: list[Path],
    out: Path,
    *,
    fps: float | None,
    images: Pictures,
    images_as: Storage,
    every: bool,
    language: bool,
    as_json: bool,
) -> int:
    """Write run records or demonstrations as a LeRobotDataset v3, and say what was written."""
    from hiervla.training.data.export import export_lerobot

    report = export_lerobot(
        sources,
        out,
        fps=fps,
        pictures=images.value,
        storage=images_as.value,
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
    as_json: AsJson = False,
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
