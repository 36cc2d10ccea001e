"""Reads a LeRobotDataset v3, ours or another's, an episode at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.training.data.errors import DatasetError, EpisodeError
from hiervla.training.data.images import EncodedImages, ImageColumn
from hiervla.training.data.lerobot import layout
from hiervla.training.data.lerobot.video import VideoImages
from hiervla.training.data.types import ActionMeaning, Array, DatasetSpec, Episode, Feature, Skip


@dataclass(frozen=True)
class _Row:
    """What `meta/episodes` says of one episode."""

    index: int
    length: int
    file: tuple[int, int]
    values: dict[str, Any]


class LeRobotSource:
    """A dataset opened for reading.

    Attributes:
        spec: its columns; string columns, which no policy takes, are named in ``spec.extra["unread"]``.
        skipped: what the last pass left out.
        tasks: instructions by index.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the metadata.

        Raises:
            DatasetError: it is missing, malformed or of another version.
            MissingDependencyError: pyarrow is not installed.
        """
        layout.parquet()
        self.path = Path(path)
        self.skipped: list[Skip] = []
        self._info = self._json(layout.INFO)
        version = str(self._info.get("codebase_version"))
        if not version.startswith("v3"):
            remedy = "Convert it with LeRobot's convert_dataset_v21_to_v30, or export it again"
            raise DatasetError(path, f"is a LeRobot dataset of version {version}, and v3 is read here", remedy)
        ours = self._json(layout.OURS) if (self.path / layout.OURS).exists() else {}
        self._videos: set[str] = set()
        self.spec = self._spec(ours)
        self.tasks = self._words(layout.TASKS, "task_index")
        has_subtasks = layout.SUBTASK in self._info["features"] and (self.path / layout.SUBTASKS).exists()
        self._subtasks = self._words(layout.SUBTASKS, layout.SUBTASK) if has_subtasks else {}

    def _spec(self, ours: dict[str, Any]) -> DatasetSpec:
        try:
            fps, entries = float(self._info["fps"]), dict(self._info["features"])
            episodes = int(self._info["total_episodes"])
            meanings, action = ours.get("meanings", {}), ActionMeaning(**ours.get("action", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(self.path, f"{layout.INFO} lacks or garbles {error}", "Export it again") from error
        plain: list[Feature] = []
        cameras: list[Feature] = []
        unread: list[str] = []
        for name, entry in entries.items():
            if name in layout.FEATURES_OF_THE_FORMAT:
                continue
            if entry.get("dtype") in ("string", "language"):
                unread.append(name)
                continue
            feature = layout.feature_from(name, entry, meanings.get(name, ""), self.path)
            (cameras if feature.image else plain).append(feature)
            if entry["dtype"] == "video":
                self._videos.add(name)
        extra = {**ours.get("extra", {}), "origin": ours.get("origin", "lerobot")}
        if unread:
            extra["unread"] = unread
        robot = str(self._info.get("robot_type") or "unknown")
        return DatasetSpec("lerobot-v3", (*plain, *cameras), action, fps, robot, episodes, extra)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            remedy = "Name the folder that holds meta/, data/ and videos/"
            raise DatasetError(self.path, f"has no {name}", remedy) from None
        except (OSError, ValueError) as error:
            raise DatasetError(self.path, f"{name} cannot be read ({error})", "Export it again") from error
        if not isinstance(found, dict):
            raise DatasetError(self.path, f"{name} is no JSON object", "Export it again")
        return found

    def _words(self, name: str, column: str) -> dict[int, str]:
        try:
            return layout.words_from(layout.parquet().read_table(self.path / name), column)
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(self.path, f"{name} cannot be read ({error})", "Export it again") from error

    def episodes(self) -> Iterator[Episode]:
        """Every whole episode, in order; see :class:`hiervla.training.data.types.Source`."""
        self.skipped = []
        group: list[_Row] = []
        seen = 0
        for row in self._rows():
            seen += 1
            if group and row.file != group[0].file:
                yield from self._file(group)
                group = []
            group.append(row)
        if group:
            yield from self._file(group)
        missing = (self.spec.declared or 0) - seen
        if missing > 0:
            self.skipped.append(Skip("meta/episodes", "is named in meta/info.json only", missing))

    def _rows(self) -> Iterator[_Row]:
        folder = self.path / "meta" / "episodes"
        files = sorted(folder.glob("*/*.parquet"))
        if not files:
            raise DatasetError(self.path, "has no meta/episodes/*/*.parquet", "Export it again")
        for file in files:
            try:
                opened = layout.parquet().ParquetFile(file)
                columns = [c for c in opened.schema_arrow.names if not c.startswith("stats/")]
                for batch in opened.iter_batches(batch_size=256, columns=columns):
                    for values in batch.to_pylist():
                        place = int(values["data/chunk_index"]), int(values["data/file_index"])
                        yield _Row(int(values["episode_index"]), int(values["length"]), place, values)
            except (OSError, ValueError, KeyError, TypeError) as error:
                where = file.relative_to(self.path)
                raise DatasetError(self.path, f"{where} cannot be read ({error})", "Export it again") from error

    def _file(self, rows: list[_Row]) -> Iterator[Episode]:
        """Episodes of one data file; `rows` are what it should hold."""
        chunk, number = rows[0].file
        name = str(self._info.get("data_path") or layout.DATA).format(chunk_index=chunk, file_index=number)
        waiting = {row.index: row for row in rows}
        problem = "is not in its data file"
        tables = self._tables(self.path / name)
        try:
            for index, table in tables:
                row = waiting.pop(index, None)
                if row is None:
                    self.skipped.append(Skip(f"{name}, episode {index}", "is not in meta/episodes"))
                    continue
                try:
                    episode = self._episode(row, table, f"{name}, episode {index}")
                except EpisodeError as error:
                    self.skipped.append(Skip(f"{name}, episode {index}", error.problem))
                    continue
                yield episode
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, DatasetError):
                raise
            problem = f"cannot be read ({' '.join(str(error).split())[:160]})"
        if waiting:
            first = min(waiting)
            place = f"{name}, from episode {first} on" if len(waiting) > 1 else f"{name}, episode {first}"
            self.skipped.append(Skip(place, problem, len(waiting)))

    @staticmethod
    def _tables(path: Path) -> Iterator[tuple[int, Any]]:
        """(episode, its rows) in file order; holds one episode and one batch."""
        pa = layout.arrow()
        with layout.parquet().ParquetFile(path, page_checksum_verification=True) as opened:
            parts: list[Any] = []
            current: int | None = None
            for batch in opened.iter_batches(batch_size=256):
                index = batch.column("episode_index").to_numpy()
                cuts = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
                for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
                    if stop == start:
                        continue
                    if current is not None and index[start] != current:
                        yield current, pa.Table.from_batches(parts)
                        parts = []
                    current = int(index[start])
                    parts.append(batch.slice(start, stop - start))
            if current is not None:
                yield current, pa.Table.from_batches(parts)

    def _episode(self, row: _Row, table: Any, place: str) -> Episode:
        if len(table) != row.length:
            raise EpisodeError(place, f"has {len(table)} frames, and meta/episodes says {row.length}")
        order = self._column(table, Feature("frame_index", "int64", (1,)), place)[:, 0]
        if not np.array_equal(order, np.arange(row.length)):
            raise EpisodeError(place, "its frames are not numbered from 0 without gaps")
        columns = {f.name: self._column(table, f, place) for f in self.spec.features if not f.image}
        images = {f.name: self._camera(row, table, f, place) for f in self.spec.features if f.image}
        tasks = self._column(table, Feature("task_index", "int64", (1,)), place)[:, 0]
        unknown = sorted(set(tasks.tolist()) - set(self.tasks))
        if unknown:
            raise EpisodeError(place, f"its task {unknown[0]} is not in {layout.TASKS}")
        facts = json.loads(row.values.get("hiervla/facts") or "{}")
        if len(set(tasks.tolist())) > 1:
            facts["tasks"] = [self.tasks[int(t)] for t in dict.fromkeys(tasks.tolist())]
        fps = float(self.spec.fps or 0.0)
        return Episode(
            source=row.values.get("hiervla/source") or place,
            instruction=self.tasks[int(tasks[0])],
            columns=columns,
            images=images,
            subtasks=self._spoken(table, place),
            language=layout.language_from(table, fps),
            fps=fps,
            success=row.values.get("hiervla/success"),
            facts=facts,
        )

    def _spoken(self, table: Any, place: str) -> tuple[str, ...]:
        if not self._subtasks:
            return ()
        numbers = self._column(table, Feature(layout.SUBTASK, "int64", (1,)), place)[:, 0].tolist()
        unknown = sorted(set(numbers) - set(self._subtasks))
        if unknown:
            raise EpisodeError(place, f"its subtask {unknown[0]} is not in {layout.SUBTASKS}")
        words = tuple(self._subtasks[n] for n in numbers)
        return words if any(words) else ()

    @staticmethod
    def _column(table: Any, feature: Feature, place: str) -> Array:
        if feature.name not in table.column_names:
            raise EpisodeError(place, f"it lacks the column '{feature.name}'")
        try:
            return layout.column_values(table.column(feature.name), feature.dtype, feature.shape)
        except ValueError as error:
            raise EpisodeError(place, f"its '{feature.name}' {error}") from error

    def _camera(self, row: _Row, table: Any, feature: Feature, place: str) -> ImageColumn:
        if feature.name not in self._videos:
            if feature.name not in table.column_names:
                raise EpisodeError(place, f"it lacks the camera '{feature.name}'")
            data = [d["bytes"] if d else None for d in table.column(feature.name).to_pylist()]
            if None in data:
                raise EpisodeError(place, f"image {data.index(None)} of '{feature.name}' is not embedded")
            return EncodedImages([bytes(d) for d in data if d is not None], place, shape=feature.shape)
        head = f"videos/{feature.name}/"
        try:
            name = str(self._info["video_path"]).format(
                video_key=feature.name,
                chunk_index=int(row.values[f"{head}chunk_index"]),
                file_index=int(row.values[f"{head}file_index"]),
            )
            start = float(row.values[f"{head}from_timestamp"])
        except (KeyError, TypeError, ValueError) as error:
            raise EpisodeError(place, f"meta/episodes does not say where '{feature.name}' is ({error})") from error
        video = VideoImages(self.path / name, start, row.length, float(self.spec.fps or 0.0), feature.shape)
        video.check()
        return video
