"""Recorded runs to measure on: tasks of all families, refusals, and runs that fail because some part errs."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from benchmarks.tasks import FAMILIES, FIRST_SEED, MAX_STEPS
from hiervla.planner.wrapping import PlannerWrapper

if TYPE_CHECKING:
    from hiervla.executor.agent import Agent
    from hiervla.executor.config import LoopConfig
    from hiervla.executor.policies.base import Policy
    from hiervla.executor.record.reader import RunRecord
    from hiervla.representations import ActionChunk, Observation, Step

WORLD: Final = "tabletop-random"
Fault = Literal["", "misses", "drops", "beside"]
_ERRING_POLICIES: Final = {"misses": "clumsy-flow", "drops": "dropping-flow"}
_BESIDE: Final = "beside-"
_MISS_M: Final = np.array([0.0, 0.05, 0.0])
_BESIDE_M: Final = np.array([0.0, 0.08, 0.0])
_SHORT: Final = {"wipe": 3, "swap": 4}
"""Steps of the longest short task, where no task of a family has two."""


@dataclass(frozen=True)
class Job:
    """A run to record.

    Attributes:
        family: of the task; ``refuse`` for a request that cannot be carried out.
        seed: of scene, wording and sampling.
        fault: what errs: the hand ``misses`` everything by 5 cm; it opens and ``drops`` what it holds; the planner
            points 8 cm ``beside`` what it means; nothing.
        retries: further attempts at a step before giving up; None for the default.
        naive: whether the naive loop runs.
    """

    family: str
    seed: int
    fault: Fault = ""
    retries: int | None = None
    naive: bool = False


def jobs(full: bool) -> list[Job]:
    """A hundred runs, or four; of the hundred 40 are meant to go wrong or to end early, and others do."""
    if not full:
        return [Job("shelf", 0), Job("wipe", 1), Job("drawer", 2, "misses"), Job("refuse", 3)]
    whole = [Job(family, seed) for seed in range(10) for family in FAMILIES]
    faults: tuple[Fault, ...] = ("misses", "drops", "beside")
    carrying = ("shelf", "stack", "clear_table")
    erring = [Job(f, 100 + n, fault, retries=1) for n in range(2) for fault in faults for f in carrying]
    tight = [Job(family, 150, "misses", retries=0) for family in FAMILIES]
    naive = [Job(family, 200 + seed, naive=True) for seed in range(2) for family in FAMILIES[:4]]
    return [*whole, *erring, *tight, *naive, *(Job("refuse", 300 + seed) for seed in range(8))]


class ErringPolicy:
    """A policy whose hand misses, or opens when it should hold."""

    def __init__(self, below: Policy, fault: Fault) -> None:
        self._below = below
        self._fault = fault
        self.id = _ERRING_POLICIES[fault]
        self._chunks = 0

    def reset(self, step: Step, seed: int) -> None:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        self._chunks = 0
        self._below.reset(step, seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        chunk = self._below.act(observation, step)
        self._chunks += 1
        changed: dict[str, Any] = {"policy": self.id}
        if self._fault == "misses":
            changed["positions"] = chunk.positions + _MISS_M
        elif self._chunks > 2:
            changed["gripper"] = np.ones_like(chunk.gripper)
        return chunk.model_copy(update=changed)


class BesidePlanner(PlannerWrapper):
    """A planner whose points lie 8 cm beside what the planner below it means."""

    looks_over = False
    """What it put beside, it does not look at again."""

    @property
    def id(self) -> str:
        """See :class:`hiervla.planner.base.Planner`."""
        return f"{_BESIDE}{self.inner.id}"

    def ground(self, observation: Observation, step: Step) -> Step:
        """See :class:`hiervla.planner.base.Planner`."""
        from hiervla.executor.blame.exchange import moved
        from hiervla.executor.policies.base import target_point

        found = super().ground(observation, step)
        x, y, z = (float(v) for v in target_point(found) + _BESIDE_M)
        return moved(found, (x, y, z))


def make_agent(config: LoopConfig, fault: Fault) -> Agent:
    """An agent with the shipped parts, as the runs here are recorded and re-run with."""
    import torch

    from hiervla.executor.agent import Agent
    from hiervla.executor.policies.base import make_policy
    from hiervla.executor.presets import world_preset
    from hiervla.planner.base import make_planner

    # Two workers share two cores; more threads than that only spin.
    torch.set_num_threads(1)
    flow = make_policy("flow")
    planner = make_planner("embedded")
    policy: Policy = ErringPolicy(flow, fault) if fault in _ERRING_POLICIES else flow
    return Agent(
        world_preset(WORLD),
        BesidePlanner(planner) if fault == "beside" else planner,
        lambda name: policy,
        config=config,
        policy_id=policy.id,
    )


def record_run(job: Job, folder: str, short: bool = False) -> tuple[str, str]:
    """Record one run; returns its outcome and its folder."""
    from hiervla.executor.config import LoopConfig
    from hiervla.training.tasks.tabletop import sample_scene_for
    from hiervla.worlds.tabletop.world import TabletopWorld

    least, most = (1, _SHORT.get(job.family, 2)) if short else (3, MAX_STEPS)
    least = 0 if job.family == "refuse" else least
    scene, task = sample_scene_for(job.family, FIRST_SEED + job.seed, "test", min_steps=least, max_steps=most)
    config = LoopConfig.naive() if job.naive else LoopConfig()
    if job.retries is not None:
        config = config.replace(max_retries=job.retries)
    agent = make_agent(config, job.fault)
    with TabletopWorld(scene) as world:
        result = agent.run(task.instruction, seed=job.seed, scene=scene, world=world, record=folder)
    return result.outcome, str(result.record)


def record_runs(todo: list[Job], folder: Path, workers: int, short: bool) -> None:
    """Record all of them, in processes; short tasks have one or two steps where the longer ones have three to eight."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(record_run, job, str(folder), short): job for job in todo}
        for number, done in enumerate(as_completed(waiting), 1):
            outcome, path = done.result()
            print(f"recorded {number} of {len(todo)}: {waiting[done]} {outcome} {Path(path).name}", file=sys.stderr)


def agent_of(record: RunRecord) -> Agent:
    """An agent like the one of a record that was made here."""
    from hiervla.executor.replay.decisions import recorded_config

    erring = {policy: fault for fault, policy in _ERRING_POLICIES.items()}
    beside = record.manifest.planner.startswith(_BESIDE)
    fault: Any = "beside" if beside else erring.get(record.manifest.policy, "")
    return make_agent(recorded_config(record), fault)


def world_of(record: RunRecord) -> Any:
    """The world of a record, built anew from its scene."""
    from hiervla.worlds.tabletop.scene import SceneSpec
    from hiervla.worlds.tabletop.world import TabletopWorld

    return TabletopWorld(SceneSpec.model_validate_json(json.dumps(record.manifest.world_config["scene"])))
