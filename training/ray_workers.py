"""Scenes played on a Ray cluster, in the order of their seeds, so that the episodes are those of one process.

A scene is a task of one CPU. Ray runs it again elsewhere when its worker dies, three times in all; a scene that kills
every worker ends the collection with its seed named. All nodes need hiervla and, with `--policy`, the weights at the
same path. https://docs.ray.io/en/latest/ray-core/fault_tolerance/tasks.html
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from hiervla.representations.errors import HiervlaError, MissingDependencyError
from hiervla.training.stories import Driver, tell
from hiervla.training.workers import Job, Told, WorkerError

LOCAL = "local"
RETRIES = 2
_AHEAD = 2
"""Scenes under way for each CPU of the cluster."""


def need_ray() -> Any:
    """The module `ray`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    # Ray reports usage to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        what = "collecting on a Ray cluster"
        raise MissingDependencyError("ray", what, "Install it with `pip install 'hiervla[ray]'`") from error


def played_on_ray(scenes: Iterator[tuple[str, int]], job: Job, address: str, workers: int = 2) -> Iterator[Told]:
    """Episodes of one scene after the other, in the order of the scenes.

    Args:
        scenes: endless (story, seed).
        job: what the workers have to know.
        address: ``host:port`` or ``ray://host:port`` of a cluster, ``auto`` for the one of this machine, ``local`` for
            one that lives as long as the collection.
        workers: CPUs of a local cluster.

    Raises:
        MissingDependencyError: Ray is not installed.
        CheckpointError: the policy's weights cannot be read.
        WorkerError: the cluster cannot be reached, is lost, or a scene killed all workers that tried it.
    """
    ray = need_ray()
    if job.policy is not None:
        job.driver()  # what is wrong with the weights is said before anything is sent away
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, address, workers)
    try:
        yield from _in_order(ray, scenes, job)
    finally:
        if mine:
            ray.shutdown()


def _connect(ray: Any, address: str, workers: int) -> None:
    # Variables that decide how a scene is drawn and how fast; a worker elsewhere does not inherit them.
    passed = {k: os.environ[k] for k in ("MUJOCO_GL", "OMP_NUM_THREADS") if k in os.environ}
    options: dict[str, Any] = {"runtime_env": {"env_vars": passed}} if passed else {}
    if address == LOCAL:
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except Exception as error:  # a node that does not come up in time is a plain Exception of Ray's
        problem = f"there is no Ray cluster to be used at '{address}' ({_root(error)})"
        raise WorkerError(problem, "Start one with `ray start --head` and name it, or use --ray local") from error


def _root(error: BaseException) -> str:
    """The last line of what first went wrong: a wrong token, say, where Ray says only that it could not connect."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else type(error).__name__


def _in_order(ray: Any, scenes: Iterator[tuple[str, int]], job: Job) -> Iterator[Told]:
    play = ray.remote(num_cpus=1, max_retries=RETRIES)(_tell)
    shared, token = ray.put(job), uuid.uuid4().hex
    ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    under_way: deque[tuple[str, int, Any]] = deque()
    try:
        while True:
            while len(under_way) < ahead:
                story, seed = next(scenes)
                under_way.append((story, seed, play.remote(token, shared, story, seed)))
            story, seed, result = under_way.popleft()
            try:
                told: Told = ray.get(result)
            except ray.exceptions.RayTaskError as error:
                # Raised by our own code over there: it comes as what it was.
                if isinstance(error.cause, HiervlaError):
                    raise error.cause from error
                problem = f"a worker raised {error.cause!r}"
                raise WorkerError(problem, "That is a defect; report it", story, seed) from error
            except ray.exceptions.RayError as error:
                first = str(error).strip().splitlines()[0]
                problem = f"its workers died {RETRIES + 1} times, or the cluster is lost ({first})"
                remedy = "Look at the cluster, then go on with another --seed"
                raise WorkerError(problem, remedy, story, seed) from error
            yield told
    finally:
        for _, _, result in under_way:
            # The cluster may be what is gone.
            with suppress(ray.exceptions.RayError, ConnectionError, ValueError):
                ray.cancel(result)


_DRIVERS: dict[str, Driver] = {}
"""In a worker: the driver of the present collection, by that collection's token."""


def _tell(token: str, job: Job, story: str, seed: int) -> Told:
    driver = _DRIVERS.get(token)
    if driver is None:
        _DRIVERS.clear()
        driver = _DRIVERS[token] = job.driver()
    return tell(story, seed, job.skills, driver, job.point_off_m)
