"""Demonstrations on disk: features that the policy saw, and the chunk that the expert would have done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.representations.errors import HiervlaError

FORMAT = 1
_COLUMNS = ("points", "count", "proprio", "actions", "done", "progress", "skill", "episode")
COLUMNS = (*_COLUMNS, "words")
"""What a :class:`DemoSet` has a row a sample of; shards of before there were words lack the last."""


class DemoError(HiervlaError, ValueError):
    """Demonstrations that cannot be read or do not fit each other."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"demonstrations '{path}': {problem}. {remedy}.")


@dataclass(frozen=True)
class Sample:
    """One labelled moment of an episode.

    Attributes:
        inputs: what the policy sees.
        actions: (H, 6) float32, the expert's chunk relative to the keypoint; see `network.ACTION_DIM`.
        done: whether nothing is left to do.
        progress: estimated share of the step that is done.
    """

    inputs: PolicyInput
    actions: NDArray[np.float32]
    done: bool
    progress: float


@dataclass
class DemoWriter:
    """Collects episodes and writes them as one compressed shard."""

    recipe: dict[str, Any]
    features: FeatureSpec
    _rows: dict[str, list[Any]] = field(default_factory=lambda: {c: [] for c in COLUMNS})
    episodes: int = 0
    _frames: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        skill: str,
        samples: Sequence[Sample],
        episode: int,
        frame: dict[str, Any] | None = None,
        words: str = "",
    ) -> None:
        """Keep one episode; `episode` identifies it across shards (its seed), `words` are what its step said.

        With `frame`, which says where its thing was (`ObjectFrame.to_json`), the episode can be multiplied.
        """
        if frame is not None:
            self._frames.append({"episode": episode, "skill": skill, "frame": frame})
        for s in samples:
            values = (
                s.inputs.points.astype(np.float16),
                s.inputs.count,
                s.inputs.proprio,
                s.actions,
                s.done,
                s.progress,
                SKILLS.index(skill),
                episode,
                words,
            )
            for column, value in zip(COLUMNS, values, strict=True):
                self._rows[column].append(value)
        self.episodes += 1

    def __len__(self) -> int:
        return len(self._rows["skill"])

    def write(self, path: Path) -> None:
        """Write the shard and forget what was collected."""
        dtypes = ("f2", "i2", "f4", "f4", "?", "f4", "i1", "i8")
        arrays = {c: np.array(self._rows[c], dtype=d) for c, d in zip(_COLUMNS, dtypes, strict=True)}
        if any(self._rows["words"]):
            arrays["words"] = np.array(self._rows["words"], dtype="U")
        header = {
            "format": FORMAT,
            "skills": list(SKILLS),
            "features": asdict(self.features),
            "episodes": self.episodes,
            "recipe": self.recipe,
            "frames": self._frames,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
        partial.replace(path)
        self._rows = {c: [] for c in COLUMNS}
        self.episodes = 0
        self._frames = []


@dataclass(frozen=True)
class DemoSet:
    """Demonstrations in memory; every array has one row a sample (see :class:`Sample`).

    `words` are what the sample's step said of itself, empty where nothing is known.
    """

    points: NDArray[np.float16]
    count: NDArray[np.int16]
    proprio: NDArray[np.float32]
    actions: NDArray[np.float32]
    done: NDArray[np.bool_]
    progress: NDArray[np.float32]
    skill: NDArray[np.int8]
    episode: NDArray[np.int64]
    features: FeatureSpec
    headers: tuple[dict[str, Any], ...]
    words: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, dtype="U1"))

    def __post_init__(self) -> None:
        if len(self.words) == 0:
            object.__setattr__(self, "words", np.full(len(self.skill), "", dtype="U1"))

    def __len__(self) -> int:
        return len(self.skill)

    @property
    def worded(self) -> bool:
        """Whether any sample has words."""
        return bool((self.words != "").any())

    def some(self, episodes: int, seed: int) -> DemoSet:
        """A random part of the demonstrations, skills in the shares that they have here; a larger part holds a smaller.

        Raises:
            DemoError: there are not so many.
        """
        numbers, first = np.unique(self.episode, return_index=True)
        if len(numbers) < episodes:
            problem = f"are {len(numbers)}, and {episodes} are wanted"
            raise DemoError(f"{len(self.headers)} shards", problem, "Collect more with another --seed")
        rng, skill = np.random.default_rng([seed, 2]), self.skill[first]
        # Each skill's episodes are spread evenly over the order, so that every beginning of it holds all of them.
        place = np.empty(len(numbers))
        for s in np.unique(skill):
            mine = np.flatnonzero(skill == s)
            place[mine] = (rng.permutation(len(mine)) + rng.random()) / len(mine)
        kept = np.isin(self.episode, numbers[np.argsort(place, kind="stable")[:episodes]])
        return replace(self, **{c: getattr(self, c)[kept] for c in COLUMNS})


def shards(paths: Iterable[str | Path]) -> list[Path]:
    """Files named by `paths`; a folder stands for the shards in it, sorted.

    Raises:
        DemoError: a path does not exist, or there is no shard at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DemoError(str(path), "does not exist", "Make demonstrations with `hiervla collect`")
        found.extend(sorted(path.glob("**/*.npz")) if path.is_dir() else [path])
    if not found:
        raise DemoError(", ".join(map(str, paths)), "holds no shards", "Make demonstrations with `hiervla collect`")
    return found


def load_demos(paths: Iterable[str | Path]) -> DemoSet:
    """Read all shards under `paths`, and LeRobot datasets that `hiervla export` made of shards.

    Raises:
        DemoError: a shard is unreadable, of another format, or made with another feature recipe.
        DatasetError: a LeRobot dataset is damaged, or is not of our demonstrations.
        MissingDependencyError: there is a LeRobot dataset, and pyarrow is not installed.
    """
    named = [Path(p) for p in paths]
    datasets = [p for p in named if (p / "meta" / "info.json").is_file()]
    others = [p for p in named if p not in datasets]
    parts = [(file, _load_shard(file)) for file in (shards(others) if others or not datasets else ())]
    for folder in datasets:
        from hiervla.training.data.demos import demo_set
        from hiervla.training.data.lerobot.reader import LeRobotSource

        parts.append((folder, demo_set(LeRobotSource(folder))))
    for path, part in parts:
        if part.features != parts[0][1].features:
            raise DemoError(str(path), "was made with another feature recipe", "Collect all with one version")
    merged = {c: np.concatenate([getattr(part, c) for _, part in parts]) for c in COLUMNS}
    headers = tuple(h for _, part in parts for h in part.headers)
    return DemoSet(**merged, features=parts[0][1].features, headers=headers)


def _load_shard(file: Path) -> DemoSet:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            header = json.loads(str(data["header"]))
            arrays = {c: data[c] for c in _COLUMNS}
            words = words_in(data, len(arrays["skill"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DemoError(str(file), f"cannot be read ({error})", "Delete the file and collect it again") from error
    if header.get("format") != FORMAT or header.get("skills") != list(SKILLS):
        raise DemoError(str(file), "is of another format or skill list", "Collect the demonstrations again")
    return DemoSet(**arrays, features=FeatureSpec.from_json(header["features"]), headers=(header,), words=words)


def words_in(data: Mapping[str, NDArray[Any]], samples: int) -> NDArray[np.str_]:
    """(samples,) the words in a file's arrays; empty ones where it is from before there were any.

    Raises:
        ValueError: they are no texts, or not one a sample.
    """
    found = data["words"] if "words" in data else np.full(samples, "", dtype="U1")
    if found.dtype.kind != "U" or found.shape != (samples,):
        raise ValueError(f"its words are {found.dtype} {found.shape} and no text for each of {samples} samples")
    return found
