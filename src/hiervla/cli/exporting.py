"""``view`` and ``export``: a record in other programs."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from hiervla.cli import data

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run record.", show_default=False)]


class Format(enum.StrEnum):
    """What ``export`` can write."""

    lerobot = "lerobot"
    mcap = "mcap"
    otel = "otel"
    rrd = "rrd"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("view")(view)
    app.command("export")(export)


def view(
    run: Run,
    save: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write an .rrd file instead of opening a window.", show_default=False),
    ] = None,
) -> int:
    """Show a run in Rerun: cameras, point clouds, artifacts, joints and the plan on one timeline (extra: view)."""
    from hiervla.executor.export.rerun import save_rrd, show
    from hiervla.executor.record.reader import RunRecord

    record = RunRecord.open(run)
    if save is None:
        show(record)
        return 0
    _tell(save, save_rrd(record, save))
    return 0


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folder of a run record; for lerobot also several, folders of them, demonstrations, or a dataset.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Format,
        typer.Option(help="lerobot: LeRobotDataset v3; mcap: Foxglove, Rerun; otel: OpenTelemetry spans; rrd: Rerun."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File or folder; RUN.FORMAT beside the record by default.", show_default=False
        ),
    ] = None,
    fps: data.Fps = None,
    images: data.Images = data.Pictures.rendered,
    images_as: data.ImagesAs = data.Storage.video,
    every: data.Every = False,
    language: data.Language = True,
    as_json: data.AsJson = False,
) -> int:
    """Write runs for other programs: a LeRobot dataset, an MCAP file, OpenTelemetry spans, a Rerun recording."""
    if to is Format.lerobot:
        folder = out or runs[0].resolve().with_name(runs[0].resolve().name + ".lerobot")
        return data.to_lerobot(
            runs,
            folder,
            fps=fps,
            images=images,
            images_as=images_as,
            every=every,
            language=language,
            as_json=as_json,
        )
    if len(runs) > 1:
        raise typer.BadParameter(f"--to {to.value} takes one run, and {len(runs)} were given")
    run = runs[0]
    from hiervla.executor.record.reader import RunRecord

    record = RunRecord.open(run)
    suffix = ".spans.jsonl" if to is Format.otel else f".{to.value}"
    path = out or record.path.resolve().with_name(record.path.resolve().name + suffix)
    match to:
        case Format.mcap:
            from hiervla.executor.export.mcap import export_mcap

            done = export_mcap(record, path)
            _tell(path, done.notices, f"{sum(done.messages.values())} messages on {len(done.messages)} topics")
        case Format.otel:
            from hiervla.executor.export.otel import export_otel

            count = export_otel(record, path)
            _tell(path, list(record.notices), f"{count} spans")
        case Format.rrd:
            from hiervla.executor.export.rerun import save_rrd

            _tell(path, save_rrd(record, path))
    return 0


def _tell(path: Path, notices: list[str], what: str = "") -> None:
    for notice in notices:
        print(f"note: {notice}")
    print(f"{path}{f': {what}' if what else ''}")
