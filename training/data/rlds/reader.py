"""Reads an RLDS dataset as tfds wrote it, an episode at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.training.data.errors import DatasetError, EpisodeError
from hiervla.training.data.images import EncodedImages
from hiervla.training.data.rlds.example import Value, WireError, read_example
from hiervla.training.data.rlds.presets import Preset, preset_for
from hiervla.training.data.rlds.schema import Leaf, dataset_name, read_features, read_shards
from hiervla.training.data.rlds.tfrecord import RecordError, read_records
from hiervla.training.data.types import ACTION, IMAGE_PREFIX, Array, DatasetSpec, Episode, Feature, Skip

_STEPS = "steps/"


class RldsSource:
    """A dataset opened for reading.

    Attributes:
        spec: its columns: `observation/x` is called `observation.x`, a camera `observation.images.x`.
        skipped: what the last pass left out.
        preset: how its fields are understood.
    """

    def __init__(self, path: str | Path, *, split: str | None = None, preset: Preset | None = None) -> None:
        """Read the metadata.

        Args:
            path: folder with `features.json`, `dataset_info.json` and the TFRecord files.
            split: only this one, such as ``"train"``; all by default.
            preset: how its fields are understood; found by its name by default.

        Raises:
            DatasetError: the metadata is missing or malformed, lacks the preset's fields, or there is no such split.
        """
        self.path = Path(path)
        self.skipped: list[Skip] = []
        leaves, unread = read_features(self.path)
        self._leaves = {leaf.key: leaf for leaf in leaves}
        self.preset = preset or preset_for(dataset_name(self.path))
        every = read_shards(self.path)
        self._shards = [s for s in every if split in (None, s.split)]
        if not self._shards:
            raise DatasetError(path, f"has no split '{split}'", f"Choose one of {[s.split for s in every]}")
        self._action = self._parts(self.preset.action)
        if not self._action:
            missing = ", ".join(self.preset.action)
            raise DatasetError(path, f"features.json lacks {missing}", "Give a preset that names its action")
        self._state = self._parts(self.preset.state) if self.preset.state else []
        self._plain = [leaf for leaf in leaves if leaf.stepwise and leaf.kind == "number" and leaf not in self._action]
        self._plain = [leaf for leaf in self._plain if leaf not in self._state]
        self._cameras = [leaf for leaf in leaves if leaf.stepwise and leaf.kind == "image"]
        self.spec = self._spec(unread, sum(n for s in self._shards for _, n in s.files))

    def _parts(self, keys: Sequence[str]) -> list[Leaf]:
        """The numeric leaves at or below the keys, in order; none if a key has none."""
        parts: list[Leaf] = []
        for key in keys:
            full = _STEPS + key
            found = [v for k, v in self._leaves.items() if k == full or k.startswith(full + "/")]
            found = [leaf for leaf in found if leaf.kind == "number" and len(leaf.shape) <= 1]
            if not found:
                return []
            parts += found
        return parts

    def _spec(self, unread: list[str], declared: int) -> DatasetSpec:
        plain = [_joined("observation.state", self._state)] if self._state else []
        plain += [
            replace(_joined(_name(leaf), [leaf]), shape=leaf.shape or (1,), dtype=leaf.dtype) for leaf in self._plain
        ]
        cameras = [
            Feature(_camera(leaf), "uint8", (*leaf.shape[:2], 3), meaning=leaf.doc, image=True)
            for leaf in self._cameras
        ]
        features = (*plain, _joined(ACTION, self._action), *cameras)
        extra: dict[str, Any] = {"preset": self.preset.name, "dataset": dataset_name(self.path)}
        if unread:
            extra["unread"] = unread
        told = declared if all(n >= 0 for s in self._shards for _, n in s.files) else None
        return DatasetSpec("rlds", features, self.preset.meaning, self.preset.fps, self.preset.robot, told, extra)

    def episodes(self) -> Iterator[Episode]:
        """Every whole episode, in order; see :class:`hiervla.training.data.types.Source`."""
        self.skipped = []
        for shards in self._shards:
            for file, expected in shards.files:
                yield from self._file(file, expected)

    def _file(self, file: Path, expected: int) -> Iterator[Episode]:
        count = 0
        try:
            for record in read_records(file):
                place = f"{file.name}, record {count}"
                count += 1
                if isinstance(record, RecordError):
                    lost = max(1, expected - count + 1) if record.last else 1
                    self.skipped.append(Skip(place, str(record), lost))
                    count += lost - 1
                    continue
                try:
                    episode = self._episode(read_example(record), place)
                except WireError as error:
                    self.skipped.append(Skip(place, f"is no tf.train.Example: {error}"))
                    continue
                except EpisodeError as error:
                    self.skipped.append(Skip(place, error.problem))
                    continue
                yield episode
        except OSError as error:
            self.skipped.append(
                Skip(file.name, f"cannot be read ({error.strerror or error})", max(1, expected - count))
            )
            return
        if count < expected:
            reason = f"the file ends after {count} of {expected} records"
            self.skipped.append(Skip(f"{file.name}, record {count}", reason, expected - count))

    def _episode(self, example: dict[str, Value], place: str) -> Episode:
        action = [self._numbers(example, leaf, place) for leaf in self._action]
        frames = len(action[0])
        columns = {ACTION: _stack(action, place)}
        if self._state:
            columns["observation.state"] = _stack([self._numbers(example, v, place) for v in self._state], place)
        for leaf in self._plain:
            columns[_name(leaf)] = self._numbers(example, leaf, place)
        images = {}
        for leaf in self._cameras:
            data = example.get(leaf.key)
            if not isinstance(data, list) or (not data and frames):
                raise EpisodeError(place, f"it lacks the camera '{leaf.key}'")
            fixed = all(n > 0 for n in leaf.shape)
            images[_camera(leaf)] = EncodedImages(data, place, shape=(*leaf.shape[:2], 3) if fixed else None)
        facts = {
            k.removeprefix("episode_metadata/"): _fact(example[k])
            for k, leaf in self._leaves.items()
            if not leaf.stepwise and k in example
        }
        words = self._words(example, frames, place)
        # Some datasets change the instruction within an episode; those are its subtasks.
        subtasks = tuple(words) if len(set(words)) > 1 else ()
        first = next((w for w in words if w), "")
        return Episode(place, first, columns, images, subtasks, fps=self.spec.fps, facts=facts)

    def _words(self, example: dict[str, Value], frames: int, place: str) -> list[str]:
        for key in self.preset.language:
            data = example.get(_STEPS + key)
            if not isinstance(data, list) or not any(data):
                continue
            if len(data) != frames:
                raise EpisodeError(place, f"'{key}' has {len(data)} texts for {frames} frames")
            try:
                return [text.decode().strip() for text in data]
            except UnicodeDecodeError as error:
                raise EpisodeError(place, f"'{key}' is not UTF-8") from error
        return []

    @staticmethod
    def _numbers(example: dict[str, Value], leaf: Leaf, place: str) -> Array:
        """(N, *shape) of a feature, undoing tfds' flattening."""
        if leaf.key not in example:
            raise EpisodeError(place, f"it lacks the field '{leaf.key}'")
        values = example[leaf.key]
        if isinstance(values, list) and values:
            raise EpisodeError(place, f"'{leaf.key}' holds bytes where numbers should be")
        shape = leaf.shape or (1,)
        flat = np.asarray(values, dtype=leaf.dtype)
        if flat.size % int(np.prod(shape)):
            raise EpisodeError(place, f"'{leaf.key}' has {flat.size} numbers, no multiple of its shape {shape}")
        return flat.reshape(-1, *shape)


def _stack(parts: list[Array], place: str) -> Array:
    if len({len(p) for p in parts}) > 1:
        raise EpisodeError(place, f"the parts of an action or state have {[len(p) for p in parts]} frames")
    return np.concatenate([p.astype(np.float32) for p in parts], axis=1)


def _joined(name: str, leaves: list[Leaf]) -> Feature:
    sizes = [int(np.prod(leaf.shape)) for leaf in leaves]
    names = tuple(
        f"{leaf.key.rsplit('/', 1)[-1]}_{i}" if size > 1 else leaf.key.rsplit("/", 1)[-1]
        for leaf, size in zip(leaves, sizes, strict=True)
        for i in range(size)
    )
    meaning = "; ".join(dict.fromkeys(leaf.doc for leaf in leaves if leaf.doc))
    return Feature(name, "float32", (sum(sizes),), names if len(names) <= 64 else (), meaning)


def _name(leaf: Leaf) -> str:
    name = leaf.key.removeprefix(_STEPS).replace("/", ".")
    # The preset may have chosen other fields for the action than the one of that name.
    return "rlds_action" if name == ACTION else name


def _camera(leaf: Leaf) -> str:
    return IMAGE_PREFIX + leaf.key.removeprefix(_STEPS).removeprefix("observation/").replace("/", ".")


def _fact(value: Value) -> Any:
    if isinstance(value, list):
        texts = [v.decode(errors="replace") for v in value]
        return texts[0] if len(texts) == 1 else texts
    numbers = value.tolist()
    return numbers[0] if len(numbers) == 1 else numbers
