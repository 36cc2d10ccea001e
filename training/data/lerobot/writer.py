"""Writes a LeRobotDataset v3, an episode at a time."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from hiervla.training.data.errors import DatasetError
from hiervla.training.data.images import EncodedImages, encode_png
from hiervla.training.data.lerobot import layout
from hiervla.training.data.lerobot.stats import RunningStats, Stats, image_stats, number_stats, sampled
from hiervla.training.data.lerobot.video import VideoWriter
from hiervla.training.data.types import Array, DatasetSpec, Episode, Feature

Storage = Literal["png", "video"]


class LeRobotWriter:
    """Writes into a hidden folder beside `path` and renames it when all is there: a dataset is whole or absent.

    Use it as a context manager; an exception inside removes what was written.
    """

    def __init__(
        self,
        path: str | Path,
        spec: DatasetSpec,
        *,
        fps: float | None = None,
        images: Storage = "video",
        language: bool = True,
        data_mb: float = 100.0,
        video_mb: float = 200.0,
        crf: int = 20,
    ) -> None:
        """Begin a dataset.

        Args:
            path: folder that does not exist yet, or is empty.
            spec: what the episodes are; `extra` goes to `meta/hiervla.json`.
            fps: frames a second, where `spec` has none.
            images: ``"png"`` keeps every pixel, ``"video"`` is twenty times smaller.
            language: write the columns `language_persistent` and `language_events`, which LeRobot reads from 0.6 on
                and older versions refuse.
            data_mb: size at which a parquet file is followed by another [MiB].
            video_mb: the same for videos [MiB].
            crf: quality of videos: 0 best, 51 worst.

        Raises:
            DatasetError: the path is taken, the rate is unknown, or a column has a name of the format's own.
            MissingDependencyError: pyarrow, or PyAV for videos, is not installed.
        """
        layout.parquet()
        self.path = Path(path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise DatasetError(path, "exists and is not an empty folder", "Name another folder, or move this one away")
        rate = fps or spec.fps
        if rate is None or not rate > 0:
            raise DatasetError(path, "the frames a second are not known", "Give them (--fps)")
        self.fps, self.spec, self.language = float(rate), spec, language
        taken = [f.name for f in spec.features if f.name in layout.FEATURES_OF_THE_FORMAT or "/" in f.name]
        if taken:
            raise DatasetError(path, f"columns cannot be called {taken} in a LeRobot dataset", "Rename them")
        self._root = self.path.with_name(f".{self.path.name}.partial")
        shutil.rmtree(self._root, ignore_errors=True)
        (self._root / "meta").mkdir(parents=True)
        self._storage, self._data_limit, self._limits = images, data_mb * 2**20, (data_mb, video_mb)
        self._videos = {
            f.name: VideoWriter(self._root, f.name, self.fps, video_mb, crf)
            for f in spec.features
            if f.image and images == "video"
        }
        self._tasks: dict[str, int] = {}
        self._subtasks: dict[str, int] = {}
        self._stats: dict[str, RunningStats] = {}
        self._data = _Table(self._root, layout.DATA)
        self._rows = _Table(self._root, layout.EPISODES)
        self.episodes = self.frames = 0

    def add(self, episode: Episode) -> None:
        """Write one episode.

        Raises:
            EpisodeError: its columns are not those of the dataset.
            DatasetError: a video cannot hold its images.
        """
        episode.require(self.spec)
        n = len(episode)
        encoded, stats = self._images(episode)
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        frame = np.arange(n, dtype=np.int64)
        columns: dict[str, Array] = {f.name: episode.columns[f.name] for f in self.spec.features if not f.image}
        columns |= {
            "timestamp": (frame / self.fps).astype(np.float32)[:, None],
            "frame_index": frame[:, None],
            "episode_index": np.full((n, 1), self.episodes),
            "index": self.frames + frame[:, None],
            "task_index": np.full((n, 1), task),
        }
        words = episode.subtasks or ("",) * n
        columns[layout.SUBTASK] = np.array(
            [[self._subtasks.setdefault(w, len(self._subtasks))] for w in words], dtype=np.int64
        )
        stats |= {name: number_stats(values) for name, values in columns.items()}
        for name, new in stats.items():
            self._stats.setdefault(name, RunningStats()).add(new)
        table = self._table(columns, encoded, episode)
        chunk, file = self._data.write(table, n, self._data_limit)
        row: dict[str, Any] = {
            "episode_index": self.episodes,
            "tasks": [episode.instruction],
            "length": n,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + n,
        }
        for video in self._videos.values():
            row |= video.end()
        # Every element of a matrix has statistics in meta/stats.json; by episode they would outweigh the data.
        small = {k: s for k, s in stats.items() if k in self._videos or k in encoded or columns[k].ndim == 2}
        row |= {f"stats/{k}/{name}": v.tolist() for k, s in small.items() for name, v in _counted(s).items()}
        row |= {"hiervla/source": episode.source, "hiervla/success": episode.success}
        row["hiervla/facts"] = json.dumps(dict(episode.facts), sort_keys=True)
        self._rows.write(self._episode_table(row), 1, self._data_limit, self._place_of_meta)
        self.episodes += 1
        self.frames += n

    def _images(self, episode: Episode) -> tuple[dict[str, list[bytes]], dict[str, Stats]]:
        encoded: dict[str, list[bytes]] = {}
        stats: dict[str, Stats] = {}
        wanted = sampled(len(episode))
        for name, column in episode.images.items():
            video = self._videos.get(name)
            if video is not None:
                video.begin(len(episode), column.shape)
            elif isinstance(column, EncodedImages):
                encoded[name] = list(column.data)
            else:
                encoded[name] = []
            kept = []
            for i, image in enumerate(column):
                if video is not None:
                    video.add(image)
                elif not isinstance(column, EncodedImages):
                    encoded[name].append(encode_png(image))
                if i in wanted:
                    kept.append(image)
            stats[name] = image_stats(kept)
        return encoded, stats

    def _table(self, columns: dict[str, Array], encoded: dict[str, list[bytes]], episode: Episode) -> Any:
        pa = layout.arrow()
        arrays = {name: layout.column_array(values) for name, values in columns.items()}
        kinds = {name: layout.column_type(str(v.dtype), v.shape[1:]) for name, v in columns.items()}
        for name, images in encoded.items():
            rows = [{"bytes": data, "path": f"frame-{i:06d}.png"} for i, data in enumerate(images)]
            kinds[name] = layout.image_type()
            arrays[name] = pa.array(rows, type=kinds[name])
        extra = {**layout.BOOKKEEPING, layout.SUBTASK: "int64"}
        metadata = layout.hub_metadata(self.spec.features, self._storage == "png", extra)
        if self.language:
            # `datasets` infers these nested types better than it reads them from metadata.
            metadata = {}
            spoken = layout.language_columns(episode.language, len(episode), self.fps)
            for name, array in zip(layout.LANGUAGE, spoken, strict=True):
                arrays[name], kinds[name] = array, array.type
        schema = pa.schema(list(kinds.items()), metadata=metadata)
        return pa.Table.from_arrays([arrays[name] for name in kinds], schema=schema)

    @staticmethod
    def _place_of_meta(table: Any, chunk: int, file: int) -> Any:
        pa = layout.arrow()
        for name, value in (("chunk_index", chunk), ("file_index", file)):
            table = table.append_column(f"meta/episodes/{name}", pa.array([value], pa.int64()))
        return table

    @staticmethod
    def _episode_table(row: dict[str, Any]) -> Any:
        pa = layout.arrow()
        kinds = {"hiervla/success": pa.bool_()}
        return pa.table({k: pa.array([v], type=kinds.get(k)) for k, v in row.items()})

    def close(self) -> Path:
        """Write what is known only now, and put the dataset in its place.

        Raises:
            DatasetError: there is no episode.
        """
        if self.episodes == 0:
            raise DatasetError(self.path, "no episode was given", "Nothing is written; look at what was skipped")
        parquet = layout.parquet()
        self._finish_files()
        for name, words, column in (
            (layout.TASKS, self._tasks, "task_index"),
            (layout.SUBTASKS, self._subtasks, layout.SUBTASK),
        ):
            parquet.write_table(layout.index_table(list(words), column), self._root / name)
        stats = {name: s.to_json() for name, s in self._stats.items()}
        ours = {
            "format": 1,
            "origin": self.spec.format,
            "action": asdict(self.spec.action),
            "meanings": {f.name: f.meaning for f in self.spec.features if f.meaning},
            "extra": dict(self.spec.extra),
        }
        for name, content in ((layout.STATS, stats), (layout.OURS, ours), (layout.INFO, self._info())):
            (self._root / name).write_text(json.dumps(content, indent=4) + "\n")
        if self.path.exists():
            self.path.rmdir()
        self._root.rename(self.path)
        return self.path

    def _finish_files(self) -> None:
        self._data.close()
        self._rows.close()
        for video in self._videos.values():
            video.close()

    def _info(self) -> dict[str, Any]:
        storage = "video" if self._storage == "video" else "image"
        features = {f.name: layout.describe(f, storage, self.fps) for f in self.spec.features}
        for name, dtype in {**layout.BOOKKEEPING, layout.SUBTASK: "int64"}.items():
            features[name] = layout.describe(Feature(name, dtype, (1,)), storage, self.fps)
        if self.language:
            features |= {name: {"dtype": "language", "shape": [1], "names": None} for name in layout.LANGUAGE}
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self.spec.robot,
            "total_episodes": self.episodes,
            "total_frames": self.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNK,
            "data_files_size_in_mb": layout.plain(self._limits[0]),
            "video_files_size_in_mb": layout.plain(self._limits[1]),
            "fps": layout.plain(self.fps),
            "splits": {"train": f"0:{self.episodes}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self._videos else None,
            "features": features,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self.close()
            finally:
                shutil.rmtree(self._root, ignore_errors=True)
            return
        self._finish_files()
        shutil.rmtree(self._root, ignore_errors=True)


def _counted(stats: Stats) -> dict[str, Array]:
    return {k: v.astype(np.int64) if k == "count" else v for k, v in stats.items()}


class _Table:
    """Parquet files that follow each other; what is written together stays together."""

    def __init__(self, root: Path, template: str) -> None:
        self._root, self._template = root, template
        self._chunk = self._file = self._frames = 0
        self._sink: Any = None
        self._writer: Any = None

    def write(self, table: Any, frames: int, limit: float, finish: Any = None) -> tuple[int, int]:
        """Append rows as a row group; returns chunk and file index."""
        if self._writer is not None:
            size = self._sink.tell()
            if size * (1 + frames / self._frames) >= limit:
                self.close()
                self._chunk, self._file = layout.following(self._chunk, self._file)
        if finish is not None:
            table = finish(table, self._chunk, self._file)
        if self._writer is None:
            path = self._root / self._template.format(chunk_index=self._chunk, file_index=self._file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = path.open("wb")
            self._writer = layout.parquet().ParquetWriter(
                self._sink, table.schema, compression="snappy", write_page_checksum=True
            )
            self._frames = 0
        self._writer.write_table(table)
        self._frames += frames
        return self._chunk, self._file

    def close(self) -> None:
        """Finish the file; may be called twice."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None
