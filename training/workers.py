"""Who plays the scenes: this process, several here, or a Ray cluster; results come in the same order from all."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hiervla.executor.policies.features import FeatureSpec
from hiervla.representations.errors import HiervlaError
from hiervla.training.arena import Arena
from hiervla.training.episodes import Episode, attempt, demonstrate
from hiervla.training.experts.state import Task
from hiervla.training.multiply.replay import UNMATCHED, replay
from hiervla.training.multiply.sources import Segment
from hiervla.training.stories import Driver, tell

Told = list[tuple[Episode, int]]
"""Episodes of a scene, each with the number that identifies it."""


class WorkerError(HiervlaError, RuntimeError):
    """A process or cluster that played scenes is gone, or never was there.

    Attributes:
        problem: what happened.
        story: what was being played when that was noticed, or "".
        seed: of its scene.
    """

    def __init__(self, problem: str, remedy: str, story: str = "", seed: int = 0) -> None:
        self.problem = problem
        self.story = story
        self.seed = seed
        where = f" at the story '{story}' with scene seed {seed} or one near it" if story else ""
        kept = " What was collected until then is kept." if story else ""
        super().__init__(f"collecting stopped{where}: {problem}.{kept} {remedy}.")


@dataclass(frozen=True)
class Job:
    """What every worker has to know.

    Attributes:
        skills: which are wanted.
        policy: folder of the weights that drive, if a policy does; every worker reads it.
        segments: motions to do again, if that is what is wanted.
    """

    skills: frozenset[str]
    policy: str | Path | None = None
    segments: tuple[Segment, ...] = ()

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
        yield tell(story, seed, job.skills, driver)


def _played_in_processes(scenes: Iterator[tuple[str, int]], job: Job, workers: int) -> Iterator[Told]:
    if job.policy is not None:
        job.driver()  # what is wrong with the weights is said here; there it would only be a worker that died
    context = multiprocessing.get_context("spawn")
    under_way: deque[tuple[str, int, Future[Told]]] = deque()
    pool = ProcessPoolExecutor(workers, context, _begin, (job,))
    try:
        while True:
            while len(under_way) < 2 * workers:
                story, seed = next(scenes)
                under_way.append((story, seed, pool.submit(_tell, story, seed)))
            story, seed, result = under_way.popleft()
            try:
                told = result.result()
            except BrokenProcessPool as error:
                problem = "a worker process died, killed perhaps for want of memory"
                remedy = "Go on with another --seed, and fewer --workers if memory is short"
                raise WorkerError(problem, remedy, story, seed) from error
            yield told
    finally:
        # Nobody waits for scenes that nobody wants any more; the workers end by themselves after the present one.
        pool.shutdown(wait=False, cancel_futures=True)


_DRIVER: list[tuple[frozenset[str], Driver]] = []
"""The driver of a worker process, made once; empty elsewhere."""


def _begin(job: Job) -> None:
    # Ctrl-C goes to the whole group of processes; the one that writes the shards decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _DRIVER.append((job.skills, job.driver()))


def _tell(story: str, seed: int) -> Told:
    skills, driver = _DRIVER[0]
    return tell(story, seed, skills, driver)


__all__ = ["Job", "Told", "WorkerError", "played"]
