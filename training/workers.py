"""Who plays the scenes: this process, several here, or a Ray cluster; results come in the same order from all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hiervla.executor.policies.features import FeatureSpec
from hiervla.training.arena import Arena
from hiervla.training.episodes import Episode, attempt, demonstrate
from hiervla.training.experts.state import Task
from hiervla.training.multiply.replay import UNMATCHED, replay
from hiervla.training.multiply.sources import Segment
from hiervla.training.pool import DIED, WorkerError, Workers
from hiervla.training.stories import Driver, tell

Told = list[tuple[Episode, int]]
"""Episodes of a scene, each with the number that identifies it."""


@dataclass(frozen=True)
class Job:
    """What every worker has to know.

    Attributes:
        skills: which are wanted.
        policy: folder of the weights that drive, if a policy does; every worker reads it.
        segments: motions to do again, if that is what is wanted.
        point_off_m: how far the point of a pick may lie from its thing [m].
    """

    skills: frozenset[str]
    policy: str | Path | None = None
    segments: tuple[Segment, ...] = ()
    point_off_m: float = 0.0

    def driver(self) -> Driver:
        """Who does the tasks.

        Raises:
            CheckpointError: the policy's weights cannot be read.
        """
        features = FeatureSpec()
        if self.segments:
            return partial(_again, segments=self.segments, features=features)
        if self.policy is None:
            return partial(demonstrate, features=features)
        from hiervla.executor.policies.families import load_policy

        pilot = load_policy(self.policy)

        def drive(arena: Arena, task: Task, rng: np.random.Generator) -> Episode:
            return attempt(arena, task, pilot, int(rng.integers(2**31)), record=True, features=features)

        return drive


def _again(
    arena: Arena, task: Task, rng: np.random.Generator, segments: tuple[Segment, ...], features: FeatureSpec
) -> Episode:
    """One of the motions again; where there is none, the expert does the task, unseen, so that the story goes on."""
    own = any(s.skill == task.skill for s in segments)
    episode = replay(arena, task, rng, segments=segments, features=features) if own else Episode(task, reason=UNMATCHED)
    if episode.reason != UNMATCHED:
        return episode
    unseen = demonstrate(arena, task, rng, record=False)
    unseen.reason = UNMATCHED if unseen.success else unseen.reason
    unseen.frame = None
    return unseen


def played(scenes: Iterator[tuple[str, int]], job: Job, workers: int, ray: str | None = None) -> Iterator[Told]:
    """Episodes of one scene after the other, in the order of the scenes, as long as somebody asks.

    Raises:
        CheckpointError: the policy's weights cannot be read.
        WorkerError: a worker died, or the cluster cannot be reached or is lost.
        MissingDependencyError: Ray is wanted and not installed.
    """
    if ray is not None:
        from hiervla.training.ray_workers import played_on_ray

        yield from played_on_ray(scenes, job, ray, workers)
        return
    if workers > 1:
        yield from _played_in_processes(scenes, job, workers)
        return
    driver = job.driver()
    for story, seed in scenes:
        yield tell(story, seed, job.skills, driver, job.point_off_m)


def _played_in_processes(scenes: Iterator[tuple[str, int]], job: Job, workers: int) -> Iterator[Told]:
    with Workers(partial(_teller, job), workers, _lost) as pool:
        # No further ahead: what is under way when there is enough was played for nothing.
        for _, told in pool.each(scenes, ahead=2):
            yield told


def _teller(job: Job) -> Callable[[tuple[str, int]], Told]:
    return partial(_tell, job, job.driver())


def _tell(job: Job, driver: Driver, scene: tuple[str, int]) -> Told:
    return tell(*scene, job.skills, driver, job.point_off_m)


def _lost(scene: tuple[str, int]) -> WorkerError:
    return WorkerError(DIED, "Go on with another --seed, and fewer --workers if memory is short", *scene)


__all__ = ["Job", "Told", "WorkerError", "played"]
