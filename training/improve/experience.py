"""Experience on disk: moments that a policy or a person went through, and how it came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec
from hiervla.representations import HiervlaError
from hiervla.training.augment import into_frames
from hiervla.training.demos import COLUMNS, DemoSet, Sample, words_in

FORMAT = 1
SUFFIX = ".experience.npz"
Outcome = Literal[-1, 0, 1]
UNKNOWN: Final = -1
FAILED: Final = 0
SUCCEEDED: Final = 1
"""How what a moment belongs to came out; unknown where somebody else took over before one could tell."""

_DEMO = ("points", "count", "proprio", "actions", "done", "progress", "skill", "episode")
_OWN = ("outcome", "human", "time_s", "end_s")


class ExperienceError(HiervlaError, ValueError):
    """Experience that cannot be read, or is not enough to learn from.

    Attributes:
        source: the file, folder or situation.
        problem: what is wrong with it.
    """

    exit_code = 2

    def __init__(self, source: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"experience '{source}': {problem}. {remedy}.")
        self.source = str(source)
        self.problem = problem


@dataclass(frozen=True)
class Moment:
    """One moment of a trail.

    Attributes:
        sample: what was seen and the chunk that was done, relative to the keypoint, in the world's axes.
        time_s: since the trail began [s].
        human: whether a person, or the expert in a person's place, was driving.
        outcome: of the part of the trail that it belongs to.
    """

    sample: Sample
    time_s: float
    human: bool
    outcome: Outcome


@dataclass
class Trail:
    """One attempt at a step from its start to its end, whoever drove.

    Attributes:
        skill: of the step.
        origin: what identifies it, such as a run and the event of its start, or a situation and a seed.
        moments: in order of time.
        seconds: length [s].
        success: how it ended.
        words: what the step said of itself, if anything.
    """

    skill: str
    origin: str
    moments: list[Moment] = field(default_factory=list)
    seconds: float = 0.0
    success: bool = False
    words: str = ""

    @property
    def number(self) -> int:
        """Identifies it among others; negative, so that it cannot be a demonstration's."""
        return -1 - (int.from_bytes(hashlib.sha256(self.origin.encode()).digest()[:8], "big") >> 2)


@dataclass(frozen=True)
class Experience:
    """Moments in memory, one row each.

    Attributes:
        demos: what was seen and done.
        outcome: (N,) int8, see :data:`UNKNOWN`.
        human: (N,) bool.
        time_s: (N,) float32, since the attempt began [s].
        end_s: (N,) float32, length of the attempt [s].
    """

    demos: DemoSet
    outcome: NDArray[np.int8]
    human: NDArray[np.bool_]
    time_s: NDArray[np.float32]
    end_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.outcome)

    def framed(self) -> Experience:
        """With picks in the frame of their thing, as the policy sees them."""
        demos = replace(self.demos, **{c: getattr(self.demos, c).copy() for c in ("points", "proprio", "actions")})
        into_frames(demos)
        return replace(self, demos=demos)

    def counts(self) -> dict[str, int]:
        """How many trails and moments, by how they came out and who drove."""
        _, first = np.unique(self.demos.episode, return_index=True)
        return {
            "trails": len(first),
            "moments": len(self),
            "succeeded": int((self.outcome == SUCCEEDED).sum()),
            "failed": int((self.outcome == FAILED).sum()),
            "unknown": int((self.outcome == UNKNOWN).sum()),
            "human": int(self.human.sum()),
        }


def gather(trails: Iterable[Trail], features: FeatureSpec) -> Experience:
    """Trails as rows.

    Raises:
        ExperienceError: there is no moment in them.
    """
    rows: dict[str, list[Any]] = {c: [] for c in (*_DEMO, *_OWN, "words")}
    for trail in trails:
        for moment in trail.moments:
            sample = moment.sample
            values = (
                sample.inputs.points, sample.inputs.count, sample.inputs.proprio, sample.actions, sample.done,
                sample.progress, SKILLS.index(trail.skill), trail.number, moment.outcome, moment.human, moment.time_s,
                trail.seconds, trail.words,
            )  # fmt: skip
            for column, value in zip(rows, values, strict=True):
                rows[column].append(value)
    if not rows["skill"]:
        raise ExperienceError("trails", "hold no moment to learn from", "Collect more, or name other runs")
    types = ("f2", "i2", "f4", "f4", "?", "f4", "i1", "i8", "i1", "?", "f4", "f4", "U")
    arrays: dict[str, Any] = {c: np.array(rows[c], dtype=t) for c, t in zip(rows, types, strict=True)}
    demos = DemoSet(**{c: arrays[c] for c in _DEMO}, features=features, headers=(), words=arrays["words"])
    return Experience(demos, **{c: arrays[c] for c in _OWN})


def write(experience: Experience, path: Path, header: dict[str, Any]) -> None:
    """Write one file, whole or not at all; `header` says where it comes from.

    Raises:
        ExperienceError: it cannot be written.
    """
    facts = {"format": FORMAT, "skills": list(SKILLS), "features": asdict(experience.demos.features), **header}
    arrays = {c: getattr(experience.demos, c) for c in _DEMO} | {c: getattr(experience, c) for c in _OWN}
    if experience.demos.worded:
        arrays["words"] = experience.demos.words
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            np.savez_compressed(stream, header=np.array(json.dumps(facts)), **arrays)
        partial.replace(path)
    except OSError as error:
        raise ExperienceError(path, f"cannot be written ({error.strerror})", "Choose another folder") from error


def read(path: Path) -> tuple[Experience, dict[str, Any]]:
    """One file and its header.

    Raises:
        ExperienceError: it is damaged, or of another format.
    """
    remedy = "Delete it, and have it made again with the same command"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            header: dict[str, Any] = json.loads(str(data["header"]))
            arrays = {c: data[c] for c in (*_DEMO, *_OWN)}
            words = words_in(data, len(arrays["skill"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ExperienceError(path, f"cannot be read ({error})", remedy) from error
    if header.get("format") != FORMAT or header.get("skills") != list(SKILLS):
        raise ExperienceError(path, "is of another format or skill list", remedy)
    features = FeatureSpec.from_json(header["features"])
    demos = DemoSet(**{c: arrays[c] for c in _DEMO}, features=features, headers=(header,), words=words)
    return Experience(demos, **{c: arrays[c] for c in _OWN}), header


def merged(parts: Sequence[Experience]) -> Experience:
    """All of it together; an attempt that several parts hold is taken once.

    Raises:
        ExperienceError: there is none, or it was seen by policies that see differently.
    """
    if not parts:
        raise ExperienceError("parts", "there are none", "Collect some, or name runs")
    features, seen, kept = parts[0].demos.features, np.zeros(0, dtype=np.int64), []
    for part in parts:
        if part.demos.features != features or part.demos.actions.shape[1:] != parts[0].demos.actions.shape[1:]:
            problem = "was seen with another feature recipe, or has chunks of another length"
            raise ExperienceError("parts", problem, "Put experience of one kind of policy together only")
        fresh = ~np.isin(part.demos.episode, seen)
        kept.append(_rows(part, fresh))
        seen = np.concatenate([seen, np.unique(part.demos.episode[fresh])])
    demos = {c: np.concatenate([getattr(k.demos, c) for k in kept]) for c in COLUMNS}
    own = {c: np.concatenate([getattr(k, c) for k in kept]) for c in _OWN}
    headers = tuple(h for part in parts for h in part.demos.headers)
    return Experience(DemoSet(**demos, features=features, headers=headers), **own)


def _rows(part: Experience, kept: NDArray[np.bool_]) -> Experience:
    demos = replace(part.demos, **{c: getattr(part.demos, c)[kept] for c in COLUMNS})
    return Experience(demos, **{c: getattr(part, c)[kept] for c in _OWN})


__all__ = [
    "FAILED", "SUCCEEDED", "SUFFIX", "UNKNOWN", "Experience", "ExperienceError", "Moment", "Outcome", "Trail", "gather",
    "merged", "read", "write",
]  # fmt: skip
