"""Our own demonstrations as episodes, and back, bit for bit.

`hiervla collect` keeps what the flow policy sees at labelled moments, 0.2 s apart (0.4 s where a policy drives), and
the chunk that the expert would have done (`hiervla.training.demos`). As an episode, the chunk is the column
`expert_chunk`; `action` is the row of it that is due 0.2 s later, for readers that want one action a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec
from hiervla.training.data.errors import DatasetError
from hiervla.training.data.types import ACTION, ActionMeaning, DatasetSpec, Episode, Feature, Skip, Source
from hiervla.training.demos import FORMAT, DemoSet, load_demos, shards

ORIGIN = "hiervla-demos"
_RATE = {"expert": 5.0, "policy": 2.5}
"""Labelled moments a second, by who drives; see `episodes.demonstrate` and `episodes.attempt`."""
_ROW = 1
"""The chunk's rows are due every 0.1 s."""
_POSE = ("x", "y", "z", "sin_2yaw", "cos_2yaw", "gripper")
MEANING = ActionMeaning(
    "ee_pose",
    "keypoint",
    "open_1",
    text="position relative to the step's keypoint, world axes [m]; sine and cosine of twice the yaw; opening; due "
    "0.2 s after the frame",
)


def demo_features(points: int, horizon: int) -> tuple[Feature, ...]:
    """Columns of demonstrations with so many points a cloud and rows a chunk."""
    cloud = "x, y, z relative to the keypoint [m]; r, g, b -0.5..0.5; 0 front, 1 wrist camera; zeros beyond point_count"
    proprio = (
        "end effector relative to the keypoint [m]; sine, cosine of twice the yaw; gripper width [m], effort [N]; \
height of keypoint and end effector [m]; its velocity [m/s]"
    )
    return (
        Feature("observation.state", "float32", (12,), meaning=proprio),
        Feature(ACTION, "float32", (6,), _POSE, MEANING.text),
        Feature("expert_chunk", "float32", (horizon, 6), meaning="rows due every 0.1 s; see action"),
        Feature("point_cloud", "float32", (points, 7), meaning=cloud),
        Feature("point_count", "int64", (1,), meaning="points that are real"),
        Feature("next.done", "bool", (1,), meaning="nothing is left to do"),
        Feature("progress", "float32", (1,), meaning="share of the step that is done"),
        Feature("skill_index", "int64", (1,), meaning=", ".join(f"{i} {s}" for i, s in enumerate(SKILLS))),
        Feature("demo_index", "int64", (1,), meaning="identifies the episode across shards"),
    )


class DemoSource:
    """Shards of `hiervla collect`, opened for reading; one shard is in memory at a time.

    Attributes:
        spec: see :func:`demo_features`; headers and feature recipe are in ``spec.extra``.
        skipped: always empty: a damaged shard is an error, since its episodes cannot be told apart.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Read the headers.

        Raises:
            DemoError: a shard is unreadable, of another format, or made with another feature recipe.
        """
        self._files = shards(paths)
        self.skipped: list[Skip] = []
        headers: list[dict[str, Any]] = []
        sizes: set[tuple[int, int]] = set()
        for file in self._files:
            demos = load_demos([file])
            headers += demos.headers
            sizes.add((demos.points.shape[1], demos.actions.shape[1]))
        if len(sizes) > 1:
            raise DatasetError(paths[0], f"holds clouds and chunks of several sizes {sorted(sizes)}", "Read them apart")
        points, horizon = sizes.pop()
        extra = {"headers": headers, "demo_format": FORMAT}
        rates = {_RATE.get(h["recipe"].get("driver", "expert")) for h in headers}
        fps = rates.pop() if len(rates) == 1 else None
        episodes = sum(h["episodes"] for h in headers)
        self.spec = DatasetSpec(ORIGIN, demo_features(points, horizon), MEANING, fps, "panda", episodes, extra)

    def episodes(self) -> Iterator[Episode]:
        """Every episode, in the order of the shards."""
        for file in self._files:
            demos = load_demos([file])
            changes = (np.diff(demos.episode) != 0) | (np.diff(demos.skill) != 0)
            cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(demos)]
            for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
                if stop > start:
                    yield _episode(demos, slice(start, stop), file.name, self.spec.fps)


def _episode(demos: DemoSet, rows: slice, file: str, fps: float | None) -> Episode:
    skill = SKILLS[int(demos.skill[rows.start])]
    number = int(demos.episode[rows.start])
    columns: dict[str, Any] = {
        "observation.state": demos.proprio[rows],
        ACTION: demos.actions[rows, min(_ROW, demos.actions.shape[1] - 1)],
        "expert_chunk": demos.actions[rows],
        # A half is exactly a float, and few readers know halves.
        "point_cloud": demos.points[rows].astype(np.float32),
        "point_count": demos.count[rows].astype(np.int64)[:, None],
        "next.done": demos.done[rows][:, None],
        "progress": demos.progress[rows][:, None],
        "skill_index": demos.skill[rows].astype(np.int64)[:, None],
        "demo_index": demos.episode[rows][:, None],
    }
    said = tuple(demos.words[rows].tolist())
    words = next(filter(None, said), skill.replace("_", " "))
    subtasks = said if any(said) else ()
    facts = {"skill": skill, "demo": number}
    return Episode(f"{file}, episode {number}", words, columns, subtasks=subtasks, fps=fps, facts=facts)


def demo_set(source: Source) -> DemoSet:
    """The training samples of episodes that :class:`DemoSource` gave, perhaps by way of a LeRobot dataset.

    Raises:
        DatasetError: the episodes are others, some were skipped, or they are of another format or skill list.
    """
    path = getattr(source, "path", source.spec.format)
    headers = source.spec.extra.get("headers")
    if not headers or ORIGIN not in (source.spec.format, source.spec.extra.get("origin")):
        remedy = "Only demonstrations of `hiervla collect` (or a LeRobot dataset exported from them) train this policy"
        raise DatasetError(
            path, "lacks the point clouds, keypoints and chunks that the flow policy learns from", remedy
        )
    if source.spec.extra.get("demo_format") != FORMAT or any(h["skills"] != list(SKILLS) for h in headers):
        raise DatasetError(path, "is of another format or skill list", "Collect the demonstrations again")
    if any(h["features"] != headers[0]["features"] for h in headers):
        raise DatasetError(path, "was made with several feature recipes", "Collect all with one version")
    kinds = {
        "point_cloud": ("points", "f2"),
        "point_count": ("count", "i2"),
        "observation.state": ("proprio", "f4"),
        "expert_chunk": ("actions", "f4"),
        "next.done": ("done", "?"),
        "progress": ("progress", "f4"),
        "skill_index": ("skill", "i1"),
        "demo_index": ("episode", "i8"),
    }
    parts: dict[str, list[Any]] = {column: [] for column in kinds}
    words: list[str] = []
    for episode in source.episodes():
        words += episode.subtasks or ("",) * len(episode)
        for column, (_, dtype) in kinds.items():
            values = episode.columns[column]
            parts[column].append((values[:, 0] if values.shape[1:] == (1,) else values).astype(dtype))
    if source.skipped:
        first = source.skipped[0]
        problem = (
            f"{sum(s.episodes for s in source.skipped)} episodes cannot be read, first {first.place}: {first.reason}"
        )
        raise DatasetError(path, problem, "Export it again")
    arrays = {kinds[column][0]: np.concatenate(values) for column, values in parts.items()}
    features = FeatureSpec.from_json(headers[0]["features"])
    return DemoSet(**arrays, features=features, headers=tuple(headers), words=np.array(words, dtype="U"))
