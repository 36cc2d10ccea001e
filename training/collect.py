"""Demonstrations from scripted experts, or from demonstrations: stories in random scenes, kept where they succeeded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec
from hiervla.representations.errors import UnknownNameError
from hiervla.training.demos import DemoWriter
from hiervla.training.episodes import Episode, Noise
from hiervla.training.multiply.replay import NOISE, UNMATCHED
from hiervla.training.multiply.sources import Segment, Skipped, read_sources
from hiervla.training.states import SavedState, StateError, saved_states
from hiervla.training.stories import STORIES, TELLS
from hiervla.training.workers import Job, played

RECIPE = "stories-1"


@dataclass
class CollectReport:
    """What a collection gave.

    Attributes:
        skills: which were wanted and, with sources, can be made of them.
        kept: episodes by skill.
        failed: episodes that failed, by skill; thrown away unless a policy drove.
        unmatched: tasks that no source was like enough for, by skill; only with sources.
        reasons: why, with counts.
        samples: labelled moments in all.
        seconds: wall time [s].
        shards: files written.
        sources: of each source that was done again, how often that succeeded and how often it was tried.
        skipped: sources that could not be used.
    """

    skills: tuple[str, ...] = ()
    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    unmatched: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    seconds: float = 0.0
    shards: list[Path] = field(default_factory=list)
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    def tried(self, skill: str) -> int:
        """Episodes of a skill that succeeded, failed, or had no source."""
        return self.kept[skill] + self.failed[skill] + self.unmatched[skill]

    def useless(self, tries: int = 5) -> list[str]:
        """Sources that were tried so often and never succeeded."""
        return sorted(name for name, (good, all_) in self.sources.items() if good == 0 and all_ >= tries)


def run_collect(
    out: str | Path,
    *,
    skills: Sequence[str] = SKILLS,
    episodes: int = 200,
    seed: int = 0,
    workers: int = 1,
    budget_s: float | None = None,
    policy: str | Path | None = None,
    sources: Sequence[str | Path] = (),
    attempts: int | None = None,
    stories: Mapping[str, float] | None = None,
    states: Sequence[str | Path] = (),
    point_off_m: float = 0.0,
    ray: str | None = None,
    on_progress: Callable[[CollectReport], None] | None = None,
) -> CollectReport:
    """Collect demonstrations into `out`.

    With `policy`, that policy drives, and the expert says at every moment what it would have done (DAgger,
    arXiv 1011.0686). Failures are then the most instructive episodes, and are kept. With `sources`, motions of those
    demonstrations are done again in new scenes (:mod:`hiervla.training.multiply`).

    However it ends, by Ctrl-C or by a worker's death, what was collected until then is in whole shards.

    Args:
        out: folder for the shards `demos-<seed>-<number>.npz`.
        skills: which skills are wanted; their stories may hold others, which are then not kept. Of `sources`, those
            skills that they hold.
        episodes: successful episodes wanted of each skill (pick and place give more on the way).
        seed: of scenes, tasks and errors; the same seed gives the same episodes, however many workers there are, unless
            `budget_s` cuts them off.
        workers: processes.
        budget_s: wall time after which no further scene is started [s].
        policy: folder of the weights that drive; None: the experts do.
        sources: demonstrations to multiply: shards or folders of them, or LeRobot datasets of them.
        attempts: tries of each skill after which it is given up; default, with sources, 50 and 10 an episode.
        stories: kinds of scene and their shares; default :data:`STORIES`.
        states: folders of saved moments (:mod:`hiervla.training.states`); every episode then begins in one of them.
        point_off_m: the point of a pick lies anywhere within that of its thing, for policies that read words; not from
            `states`, which have points of their own [m].
        ray: address of a Ray cluster whose workers play the scenes, "local" for one that is started here.
        on_progress: called with the report so far after every scene.

    Raises:
        UnknownNameError: a skill or story does not exist, or no story has the skills.
        CheckpointError: the policy's weights cannot be read.
        StateError: a saved moment cannot be read, or none is of the wanted skills.
        DemoError: no source can be used.
        WorkerError: a worker died, or the cluster is lost.
        MissingDependencyError: Ray is not installed.
    """
    for skill in skills:
        if skill not in SKILLS:
            raise UnknownNameError("skill", skill, SKILLS)
    shares = dict(stories or STORIES)
    for story in shares:
        if story not in STORIES:
            raise UnknownNameError("story", story, STORIES)
    folder, began = Path(out), time.monotonic()
    report = CollectReport()
    scenes = _state_seeds(seed, states, skills) if states else _scene_seeds(seed, skills, shares)
    wanted = _skills_of(states, skills)
    segments: tuple[Segment, ...] = ()
    if sources:
        found = read_sources(sources, wanted)
        segments, report.skipped = tuple(found.segments), tuple(found.skipped)
        wanted = [s for s in wanted if s in found.counts()]
        scenes = _state_seeds(seed, states, wanted) if states else _scene_seeds(seed, wanted, shares)
        attempts = 50 + 10 * episodes if attempts is None else attempts
    report.skills = tuple(wanted)
    off = {"point_off_m": point_off_m} if point_off_m else {}
    writer = DemoWriter(_recipe(seed, wanted, policy, segments, shares) | off, FeatureSpec())

    def flush() -> None:
        if len(writer):
            path = folder / f"demos-{seed}-{len(report.shards):03d}.npz"
            writer.write(path)
            report.shards.append(path)

    def enough(skill: str) -> bool:
        return report.kept[skill] >= episodes or (attempts is not None and report.tried(skill) >= attempts)

    job = Job(frozenset(wanted), policy, segments, point_off_m)
    try:
        for results in played(scenes, job, workers, ray):
            for episode, number in results:
                _keep(episode, number, writer, report, wanted, policy is not None)
            report.seconds = time.monotonic() - began
            if on_progress is not None:
                on_progress(report)
            if len(writer) > 6000:
                flush()
            late = budget_s is not None and report.seconds > budget_s
            if late or all(map(enough, wanted)):
                break
    finally:
        flush()
    return report


def _keep(
    episode: Episode, number: int, writer: DemoWriter, report: CollectReport, wanted: Sequence[str], failures: bool
) -> None:
    skill = episode.task.skill
    if episode.source:
        good, tries = report.sources.get(episode.source, (0, 0))
        report.sources[episode.source] = (good + episode.success, tries + 1)
    if episode.reason == UNMATCHED:
        report.unmatched[skill] += 1
    elif not episode.success:
        report.failed[skill] += 1
        report.reasons[f"{skill}: {episode.reason.split(' ')[0]}"] += 1
    if skill in wanted and episode.samples and (episode.success or failures):
        frame = None if episode.frame is None else episode.frame.to_json(episode.task.target_w)
        writer.add(skill, episode.samples, number, frame, episode.task.words)
        report.kept[skill] += 1
        report.samples += len(episode.samples)


def _recipe(
    seed: int,
    skills: Sequence[str],
    policy: str | Path | None,
    segments: Sequence[Segment],
    shares: Mapping[str, float],
) -> dict[str, Any]:
    from hiervla._version import __version__

    driver = "policy" if policy is not None else "replay" if segments else "expert"
    return {
        "name": RECIPE, "seed": seed, "skills": list(skills), "version": __version__, "driver": driver,
        "noise": asdict(NOISE if segments else Noise()), "stories": dict(shares),
        **({"sources": [s.source for s in segments]} if segments else {}),
    }  # fmt: skip


def _scene_seeds(seed: int, skills: Sequence[str], shares: Mapping[str, float]) -> Iterator[tuple[str, int]]:
    """Endless (story, scene seed); training scenes have even seeds above 10 million, benchmarks never do."""
    rng = np.random.default_rng([0xC011, seed])
    wanted = {k: w for k, w in shares.items() if TELLS[k] & set(skills)}
    if not wanted:
        raise UnknownNameError("story with skills", ", ".join(skills), STORIES)
    names, weights = list(wanted), np.array(list(wanted.values()))
    while True:
        story = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        yield story, 10_000_000 + 2 * int(rng.integers(0, 2**29))


def _state_seeds(seed: int, states: Sequence[str | Path], skills: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Endless (file of a saved moment, seed)."""
    files = saved_states(map(Path, states))
    files = [f for f in files if SavedState.load(f).task.skill in skills]
    if not files:
        raise StateError(", ".join(map(str, states)), f"none is of {', '.join(skills)}", "Ask for other skills")
    rng = np.random.default_rng([0x57A7, seed])
    while True:
        for index in rng.permutation(len(files)):
            yield str(files[index]), 10_000_000 + 2 * int(rng.integers(0, 2**29))


def _skills_of(states: Sequence[str | Path], skills: Sequence[str]) -> list[str]:
    """Which of the skills there is anything to collect of."""
    if not states:
        return list(skills)
    return sorted({SavedState.load(f).task.skill for f in saved_states(map(Path, states))} & set(skills))
