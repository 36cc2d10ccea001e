"""Long tasks from pixels: six families of three to eight steps and two of eight, on scenes and wordings not trained on.

Every run starts from a fresh scene and a sentence; planner, policies and verdicts see camera images only. Success is
the goal, checked on the simulator's ground truth after the run. Beside the loop of hiervla runs the naive loop: the
same planner and policies, planning once, with fixed timers and without checks.

    python -m benchmarks.tasks --quick     # 2 seeds a family
    python -m benchmarks.tasks --full      # 30 seeds a family
    python -m benchmarks.tasks --full --skip-naive --families clear_8 multi_8
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.common import arguments, finish, rate

if TYPE_CHECKING:
    from hiervla.executor.agent import Agent

FAMILIES = ("clear_table", "wipe", "shelf", "drawer", "stack", "swap")
LONG = {"clear_8": "clear_table", "multi_8": "multi"}
"""Families of eight steps: a table with four things on it, and two or three requests in one sentence."""
LONG_STEPS = 8
FIRST_SEED = 500_000
"""Training draws its scenes from other streams; this range is used by benchmarks alone."""
MAX_STEPS = 8


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        family: task family.
        seed: of scene, wording and sampling.
        naive: which loop ran.
        success: the goal holds in the world.
        claimed: the agent said that it succeeded.
        outcome: the agent's outcome.
        why: the last failed attempt, or the agent's message.
        steps: length of the expert's plan.
        sim_s: simulated time [s].
        wall_s: time on the computer's clock [s].
    """

    family: str
    seed: int
    naive: bool
    success: bool
    claimed: bool
    outcome: str
    why: str
    steps: int
    sim_s: float
    wall_s: float


@lru_cache(maxsize=2)
def _agent(naive: bool, planner: str, policy: str) -> Agent:
    import torch

    from hiervla.executor.agent import Agent
    from hiervla.executor.config import LoopConfig

    # Two workers share two cores; more threads than that only spin.
    torch.set_num_threads(1)
    config = LoopConfig.naive() if naive else LoopConfig()
    return Agent.from_preset("tabletop-random", planner=planner, policy=policy, config=config)


def run_trial(family: str, seed: int, naive: bool, planner: str, policy: str, record: str | None) -> Trial:
    """Run one task from its sentence to its end and judge it by ground truth."""
    from hiervla.training.tasks.tabletop import goal_reached, sample_scene_for
    from hiervla.worlds.tabletop.privileged import GroundTruth
    from hiervla.worlds.tabletop.world import TabletopWorld

    least = LONG_STEPS if family in LONG else 3
    scene, task = sample_scene_for(LONG.get(family, family), FIRST_SEED + seed, "test", least, MAX_STEPS)
    assert task.goal is not None
    started = time.perf_counter()
    with TabletopWorld(scene) as world:
        agent = _agent(naive, planner, policy)
        result = agent.run(task.instruction, seed=seed, scene=scene, world=world, record=record)
        success = goal_reached(GroundTruth(world), task.goal)
    failed = [f"{r.step.skill}: {r.outcome}" for r in result.steps if r.outcome != "succeeded"]
    why = "" if success else (failed[-1] if failed else result.outcome)
    return Trial(
        family=family,
        seed=seed,
        naive=naive,
        success=success,
        claimed=result.succeeded,
        outcome=result.outcome,
        why=why,
        steps=len(task.plan()),
        sim_s=result.duration_s,
        wall_s=time.perf_counter() - started,
    )


def trials(
    seeds: range, naive: bool, planner: str, policy: str, workers: int, record: str | None, families: tuple[str, ...]
) -> Iterator[Trial]:
    """All runs of one loop, as they finish."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(run_trial, family, seed, naive, planner, policy, record)
            for seed in seeds
            for family in families
        ]
        for job in as_completed(jobs):
            trial = job.result()
            mark = "ok  " if trial.success else "FAIL"
            words = f"{mark} {trial.family} {trial.seed} {trial.wall_s:.0f} s {trial.outcome} {trial.why}"
            print(words, file=sys.stderr, flush=True)
            yield trial


def _table(name: str, done: list[Trial]) -> None:
    print(f"\n{name}")
    by_family: dict[str, list[Trial]] = defaultdict(list)
    for trial in done:
        by_family[trial.family].append(trial)
    for family, group in sorted(by_family.items()):
        print(f"  {family:12} {rate(sum(t.success for t in group), len(group))}")
    print(f"  {'all':12} {rate(sum(t.success for t in done), len(done))}")
    for steps in sorted({t.steps for t in done}):
        group = [t for t in done if t.steps == steps]
        print(f"  {f'{steps} steps':12} {rate(sum(t.success for t in group), len(group))}")
    wrong = sum(t.claimed and not t.success for t in done)
    print(f"  claimed success without it: {wrong} of {len(done)}")
    for why, count in Counter(t.why for t in done if not t.success).most_common(8):
        print(f"  failed, {count} x {why}")


def _share(done: list[Trial]) -> float:
    return sum(t.success for t in done) / max(1, len(done))


def main() -> None:
    """Command line."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, help="seeds a family, instead of 2 (quick) or 30 (full)")
    parser.add_argument("--first", type=int, default=0, help="number of the first seed: another one gives other scenes")
    parser.add_argument("--planner", default="embedded")
    parser.add_argument("--policy", default="flow")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", help="keep the run records of the hiervla loop in this folder")
    parser.add_argument("--skip-naive", action="store_true", help="leave the baseline out")
    parser.add_argument("--families", nargs="+", default=[*FAMILIES, *LONG], choices=[*FAMILIES, *LONG])
    args = parser.parse_args()
    count = args.seeds or (30 if args.full else 2)
    seeds = range(args.first, args.first + count)
    families = tuple(args.families)
    ours = list(trials(seeds, False, args.planner, args.policy, args.workers, args.record, families))
    _table(f"hiervla loop, {count} seeds a family", ours)
    six = [t for t in ours if t.family not in LONG]
    figures = {"success": _share(six), "runs": len(ours), "sim_s": sum(t.sim_s for t in ours)}
    figures |= {f"success_{f}": _share([t for t in ours if t.family == f]) for f in families}
    for n in sorted({t.steps for t in ours}):
        figures[f"success_{n}_steps"] = _share([t for t in ours if t.steps == n])
    figures["claimed_wrongly"] = sum(t.claimed and not t.success for t in ours)
    shorter = tuple(f for f in families if f not in LONG)
    if not args.skip_naive and shorter:
        naive = list(trials(seeds, True, args.planner, args.policy, args.workers, None, shorter))
        _table("naive loop, same planner and policies", naive)
        figures["naive_success"] = _share(naive)
    finish(figures)


if __name__ == "__main__":
    main()
