"""Recorded runs to measure on: tasks of all families, refusals, and runs that fail because the hand misses."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.tasks import FAMILIES, FIRST_SEED, MAX_STEPS

if TYPE_CHECKING:
    from hiervla.executor.agent import Agent
    from hiervla.executor.config import LoopConfig
    from hiervla.executor.policies.base import Policy
    from hiervla.executor.record.reader import RunRecord
    from hiervla.representations import ActionChunk, Observation, Step

WORLD: Final = "tabletop-random"
CLUMSY: Final = "clumsy-flow"
_MISS_M: Final = np.array([0.0, 0.05, 0.0])


@dataclass(frozen=True)
class Job:
    """A run to record.

    Attributes:
        family: of the task; ``refuse`` for a request that cannot be carried out.
        seed: of scene, wording and sampling.
        clumsy: whether the hand misses everything by 5 cm.
        naive: whether the naive loop runs.
    """

    family: str
    seed: int
    clumsy: bool = False
    naive: bool = False


def jobs(full: bool) -> list[Job]:
    """A hundred runs, or four; of the hundred 18 are meant to go wrong, and others do."""
    if not full:
        return [Job("shelf", 0), Job("wipe", 1), Job("drawer", 2, clumsy=True), Job("refuse", 3)]
    whole = [Job(family, seed) for seed in range(13) for family in FAMILIES]
    clumsy = [Job(family, 100 + seed, clumsy=True) for seed in range(2) for family in FAMILIES]
    naive = [Job(family, 200, naive=True) for family in FAMILIES[:4]]
    return [*whole, *clumsy, *naive, *(Job("refuse", 300 + seed) for seed in range(6))]


class Clumsy:
    """A policy whose hand misses: its chunks lie 5 cm beside what the policy below it wants."""

    id = CLUMSY

    def __init__(self, below: Policy) -> None:
        self._below = below

    def reset(self, step: Step, seed: int) -> None:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        self._below.reset(step, seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        chunk = self._below.act(observation, step)
        return chunk.model_copy(update={"positions": chunk.positions + _MISS_M, "policy": self.id})


def make_agent(config: LoopConfig, *, clumsy: bool) -> Agent:
    """An agent with the shipped parts, as the runs here are recorded and re-run with."""
    import torch

    from hiervla.executor.agent import Agent
    from hiervla.executor.policies.base import make_policy
    from hiervla.executor.presets import world_preset
    from hiervla.planner.base import make_planner

    # Two workers share two cores; more threads than that only spin.
    torch.set_num_threads(1)
    flow = make_policy("flow")
    policy: Policy = Clumsy(flow) if clumsy else flow
    return Agent(
        world_preset(WORLD),
        make_planner("embedded"),
        lambda name: policy,
        config=config,
        policy_id=CLUMSY if clumsy else "flow",
    )


def record_run(job: Job, folder: str) -> tuple[str, str]:
    """Record one run; returns its outcome and its folder."""
    from hiervla.executor.config import LoopConfig
    from hiervla.training.tasks.tabletop import sample_scene_for
    from hiervla.worlds.tabletop.world import TabletopWorld

    shortest = 0 if job.family == "refuse" else 3
    scene, task = sample_scene_for(job.family, FIRST_SEED + job.seed, "test", min_steps=shortest, max_steps=MAX_STEPS)
    agent = make_agent(LoopConfig.naive() if job.naive else LoopConfig(), clumsy=job.clumsy)
    with TabletopWorld(scene) as world:
        result = agent.run(task.instruction, seed=job.seed, scene=scene, world=world, record=folder)
    return result.outcome, str(result.record)


def record_runs(todo: list[Job], folder: Path, workers: int) -> None:
    """Record all of them, in processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(record_run, job, str(folder)): job for job in todo}
        for number, done in enumerate(as_completed(waiting), 1):
            outcome, path = done.result()
            print(f"recorded {number} of {len(todo)}: {waiting[done]} {outcome} {Path(path).name}", file=sys.stderr)


def agent_of(record: RunRecord) -> Agent:
    """An agent like the one of a record that was made here."""
    from hiervla.executor.replay.decisions import recorded_config

    return make_agent(recorded_config(record), clumsy=record.manifest.policy == CLUMSY)


def world_of(record: RunRecord) -> Any:
    """The world of a record, built anew from its scene."""
    from hiervla.worlds.tabletop.scene import SceneSpec
    from hiervla.worlds.tabletop.world import TabletopWorld

    return TabletopWorld(SceneSpec.model_validate_json(json.dumps(record.manifest.world_config["scene"])))
