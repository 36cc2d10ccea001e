"""From any dataset that is read here to LeRobotDataset v3."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hiervla.training.data.errors import DatasetError
from hiervla.training.data.lerobot.writer import LeRobotWriter, Storage
from hiervla.training.data.opening import open_dataset
from hiervla.training.data.runs import Pictures, RunSource
from hiervla.training.data.types import Skip, Source


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the dataset.
        episodes: written.
        frames: written.
        fps: frames a second.
        skipped: what was left out, and why.
        seconds: wall time [s].
    """

    path: Path
    episodes: int
    frames: int
    fps: float
    skipped: tuple[Skip, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "path": str(self.path), "skipped": [s.to_json() for s in self.skipped]}


def export_lerobot(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    fps: float | None = None,
    pictures: Pictures = "rendered",
    storage: Storage = "video",
    every: bool = False,
    language: bool = True,
    on_episode: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write run records, demonstrations or one dataset of any known format as a LeRobotDataset v3.

    Args:
        sources: records or folders of records; or shards of `hiervla collect`; or one dataset.
        out: folder that does not exist yet.
        fps: frames a second; by default the source's, and 10 for records.
        pictures: where images of records come from; see :class:`RunSource`.
        storage: how images are stored; see :class:`LeRobotWriter`.
        every: take runs that did not succeed, too.
        language: write language columns, where there is language.
        on_episode: called with the number of episodes after each.

    Raises:
        DatasetError: nothing can be read, the sources do not go together, or `out` is taken.
        MissingDependencyError: pyarrow, PyAV or h5py is not installed.
    """
    began = time.monotonic()
    source = _open(sources, fps, pictures, every)
    # Point clouds of `hiervla collect` come without a word but their skill's name.
    spoken = language and source.spec.format not in ("hiervla-demos", "robomimic", "libero", "rlds")
    with LeRobotWriter(out, source.spec, fps=fps, images=storage, language=spoken) as writer:
        for episode in source.episodes():
            writer.add(episode)
            if on_episode is not None:
                on_episode(writer.episodes)
        if writer.episodes == 0 and source.skipped:
            first = source.skipped[0]
            raise DatasetError(sources[0], f"holds no whole episode: {first.place}: {first.reason}", "Repair it")
    return ExportReport(
        writer.path, writer.episodes, writer.frames, writer.fps, tuple(source.skipped), time.monotonic() - began
    )


def _open(sources: Sequence[str | Path], fps: float | None, pictures: Pictures, every: bool) -> Source:
    paths = [Path(s) for s in sources]
    records = [(p / "manifest.json").exists() or (p.is_dir() and any(p.glob("*/manifest.json"))) for p in paths]
    if all(records):
        return RunSource(paths, fps=fps or 10.0, images=pictures, every=every)
    if len(paths) == 1:
        return open_dataset(paths[0])
    if all(p.suffix == ".npz" or (p.is_dir() and any(p.glob("**/*.npz"))) for p in paths):
        from hiervla.training.data.demos import DemoSource

        return DemoSource(paths)
    problem = f"cannot be put together with {', '.join(map(str, paths[1:]))}"
    raise DatasetError(paths[0], problem, "Export run records together, or shards, or one dataset at a time")
