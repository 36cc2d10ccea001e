"""Motions cut out of demonstrations: from the last approach of the thing to the end, in the frame of that thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.policies.base import SKILLS
from hiervla.training.demos import DemoError, DemoSet, load_demos, shards
from hiervla.training.multiply.frames import ObjectFrame

ROWS = 2
"""Rows of each labelled chunk that are due before the next labelled moment."""
NEAR_M = 0.05
"""The segment begins where the tool was last farther than this from where it touches [m]."""
_OPEN = 0.25
"""Commanded openings above this count as open."""
_JUMP_M = 0.06
_LOW_M = 0.01
_SHORTEST = 4


@dataclass(frozen=True)
class Segment:
    """The part of a demonstration that belongs to one thing.

    Attributes:
        source: names the demonstration: its file and number.
        skill: what was done.
        frame: of the thing; the world's origin is the keypoint.
        rows: (T, 5) commanded x, y, z relative to `frame.origin`, world axes [m]; yaw [rad]; opening 0..1; 10 Hz.
        progress: (T,) the demonstrator's, 0..1.
        done: (T,) whether nothing was left to do.
    """

    source: str
    skill: str
    frame: ObjectFrame
    rows: NDArray[np.float64]
    progress: NDArray[np.float64]
    done: NDArray[np.bool_]


@dataclass(frozen=True)
class Skipped:
    """A demonstration that no motion was taken from.

    Attributes:
        source: its file, and its number where the file could be read.
        reason: why not.
    """

    source: str
    reason: str


@dataclass
class Sources:
    """What was found.

    Attributes:
        segments: in the order of the shards.
        skipped: what was left out, and why.
    """

    segments: list[Segment] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Segments by skill."""
        return Counter(s.skill for s in self.segments)


def read_sources(paths: Iterable[str | Path], skills: Sequence[str] = SKILLS) -> Sources:
    """Cut the motions out of shards, or of LeRobot datasets of them; what cannot be used is named.

    Raises:
        DemoError: a path does not exist or holds no demonstrations, or none of them can be used.
    """
    named = [Path(p) for p in paths]
    found, seen = Sources(), set[tuple[str, int]]()
    folders = [p for p in named if (p / "meta" / "info.json").is_file()]
    others = [p for p in named if p not in folders]
    for file in [*(shards(others) if others else ()), *folders]:
        try:
            demos = load_demos([file])
        except DemoError as error:
            found.skipped.append(Skipped(file.name, f"{error.problem}"))
            continue
        _take(demos, file.name, frozenset(skills), found, seen)
    if not found.segments:
        first = f"; the first, {found.skipped[0].source}: {found.skipped[0].reason}" if found.skipped else ""
        problem = f"hold nothing to multiply for {', '.join(skills)}{first}"
        raise DemoError(", ".join(map(str, named)), problem, "Collect some with `hiervla collect --episodes 10`")
    return found


def _take(demos: DemoSet, file: str, skills: frozenset[str], found: Sources, seen: set[tuple[str, int]]) -> None:
    frames = {(f["episode"], f["skill"]): f["frame"] for h in demos.headers for f in h.get("frames", ())}
    driven = any(h["recipe"].get("driver") == "policy" for h in demos.headers)
    changes = np.flatnonzero((np.diff(demos.episode) != 0) | (np.diff(demos.skill) != 0)) + 1
    for rows in np.split(np.arange(len(demos)), changes):
        number, skill = int(demos.episode[rows[0]]), SKILLS[int(demos.skill[rows[0]])]
        if skill not in skills:
            continue
        name = f"{file}, episode {number}"
        try:
            if driven:
                raise ValueError("a policy drove, so what the labels say was not done")
            if (skill, number) in seen:
                raise ValueError("is there twice")
            if (number, skill) not in frames:
                raise ValueError("does not say where its thing was: an older version collected it")
            seen.add((skill, number))
            found.segments.append(_cut(demos, rows, name, skill, ObjectFrame.from_json(frames[number, skill])))
        except (ValueError, KeyError, TypeError) as error:
            found.skipped.append(Skipped(name, f"{error}"))


def _cut(demos: DemoSet, rows: NDArray[np.int64], name: str, skill: str, frame: ObjectFrame) -> Segment:
    if len(rows) < _SHORTEST:
        raise ValueError(f"is {len(rows)} moments short")
    if not demos.done[rows[-1]]:
        raise ValueError("ends before it is done")
    labels = demos.actions[rows, :ROWS].reshape(-1, demos.actions.shape[2]).astype(np.float64)
    if not np.isfinite(labels).all() or not np.isfinite(demos.proprio[rows]).all():
        raise ValueError("holds NaN or infinity")
    yaw = np.unwrap(np.arctan2(labels[:, 3], labels[:, 4])) / 2.0
    path = np.column_stack([labels[:, :3] - frame.origin, yaw, labels[:, 5]])
    start = contact_begins(path)
    path = path[start:]
    jump = float(np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1).max())
    if jump > _JUMP_M:
        raise ValueError(f"jumps {jump * 100:.0f} cm between two rows")
    progress = np.repeat(demos.progress[rows].astype(np.float64), ROWS)[start:]
    return Segment(name, skill, frame, path, progress, np.repeat(demos.done[rows], ROWS)[start:])


def contact_begins(path: NDArray[np.float64]) -> int:
    """Index of the row where the last approach begins; what came before, with all its detours, is not the thing's.

    The tool touches where the fingers close for the last time; without that, where they open for the last time;
    without that, where the tool first comes as low as it ever does.

    Args:
        path: (T, 5) rows of x, y, z [m], yaw, opening.
    """
    turns = np.diff((path[:, 4] > _OPEN).astype(np.int8))
    closing, opening = np.flatnonzero(turns < 0), np.flatnonzero(turns > 0)
    if len(closing):
        touch = int(closing[-1]) + 1
    elif len(opening):
        touch = int(opening[-1]) + 1
    else:
        touch = int(np.argmax(path[:, 2] < path[:, 2].min() + _LOW_M))
    far = np.linalg.norm(path[: touch + 1, :3] - path[touch, :3], axis=1) > NEAR_M
    return int(np.flatnonzero(far)[-1]) if far.any() else 0
