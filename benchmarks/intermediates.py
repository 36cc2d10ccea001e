"""Kinds of intermediates compared: the same planner, scenes and sentences, said each time as another kind.

Every run is one task of two to four steps of picking up and putting down, in a fresh scene and with a wording that no
training saw; tasks that the planner plans wrongly are passed over, the same for all kinds. Nothing is tried twice, so
that the kind is measured and not the loop around it. Success is the goal, checked on the simulator's ground truth. Two
rows are text: `subtasks`, whose words are looked for in the image when their turn comes, and `text only`, where the
policy gets the step's skill in words and no place at all.

    python -m benchmarks.intermediates --quick     # 2 seeds a kind
    python -m benchmarks.intermediates --full      # 24 seeds a kind
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.common import arguments, finish, rate
from hiervla.planner.wrapping import PlannerWrapper

if TYPE_CHECKING:
    from hiervla.executor.agent import Agent
    from hiervla.representations import Observation, Step

TEXT_ONLY = "text only"
KINDS = (
    "keypoints", "waypoints_2d", TEXT_ONLY, "subtasks", "boxes", "affordance_map", "waypoints_3d", "language_motion",
    "value_map", "constraints",
)  # fmt: skip
FIRST_SEED = 900_000
"""Training draws its scenes from other streams; this range is used by this benchmark alone."""
SKILLS = frozenset({"pick", "place"})
"""Skills that take every kind, and whose outcome is clear at once: what falls into the bin may still roll."""
FAMILIES = ("shelf", "stack", "clear_table", "multi")


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        kind: how the steps were said.
        seed: of scene, wording and sampling.
        success: the goal holds in the world.
        why: the failed step, or the agent's message.
        steps: length of the expert's plan.
        sim_s: simulated time [s].
        plan_s: time of the first plan, artifacts included, on the computer's clock [s].
    """

    kind: str
    seed: int
    success: bool
    why: str
    steps: int
    sim_s: float
    plan_s: float


class Blind(PlannerWrapper):
    """The planner with its eyes shut for places: steps in words, and the middle of the table for every one of them."""

    kinds = ("keypoints",)

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step with the same point whatever it is about."""
        from hiervla.executor.policies.flow import BLANK_POINT_W
        from hiervla.planner.grounding import image_ref
        from hiervla.representations import Keypoint, Keypoints

        image = image_ref(observation.frame("front"))
        point = Keypoint(label="middle of the table", u=128.0, v=113.0, position_w=BLANK_POINT_W)
        return step.replace(artifacts=(Keypoints(image=image, points=(point,)),))


@lru_cache(maxsize=2)
def _agent(blind: bool) -> Agent:
    import torch

    from hiervla.executor.agent import Agent
    from hiervla.executor.config import LoopConfig

    torch.set_num_threads(1)
    agent = Agent.from_preset("tabletop-random", config=LoopConfig(max_retries=0))
    if blind:
        agent.planner = Blind(agent.planner)
    return agent


@lru_cache(maxsize=64)
def _task(seed: int) -> Any:
    """A scene and a task of picking up and putting down that the planner plans rightly; families take turns.

    What the planner does not understand would fail whatever kind its steps are said as.
    """
    from benchmarks.planner import Case, _labelled, plan_problem, true_ids
    from hiervla.planner.base import PlannerContext
    from hiervla.representations import Plan
    from hiervla.skills import SkillLibrary
    from hiervla.training.tasks.tabletop import sample_scene_for
    from hiervla.worlds.tabletop.privileged import GroundTruth
    from hiervla.worlds.tabletop.world import TabletopWorld

    context = PlannerContext(skills=SkillLibrary.load().signatures())
    for attempt in range(50):
        family, number = FAMILIES[(seed + attempt) % len(FAMILIES)], FIRST_SEED + 50 * seed + attempt
        try:
            scene, task = sample_scene_for(family, number, "test", 2, 4)
        except RuntimeError:
            continue
        if any(step.skill not in SKILLS for step in task.plan()):
            continue
        with TabletopWorld(scene) as world:
            observation = world.observe(["front"])
            segments = GroundTruth(world).segmentation("front")
        plan = _agent(False).planner.plan(observation, task.instruction, context)
        truth = _labelled(observation, scene, segments.ids, segments.names)
        if isinstance(plan, Plan) and plan.provenance is not None:
            case = Case(family, number, task, observation, truth)
            if not plan_problem(case, plan.provenance.raw_text or "", true_ids(plan, truth)):
                return scene, task
    raise RuntimeError(f"no task of {', '.join(sorted(SKILLS))} that the planner understands was found for seed {seed}")


def run_trial(kind: str, seed: int, record: str | None) -> Trial:
    """Run one task, its steps said as one kind, and judge it by ground truth."""
    from hiervla.representations.events import PlanProposed
    from hiervla.training.tasks.tabletop import goal_reached
    from hiervla.worlds.tabletop.privileged import GroundTruth
    from hiervla.worlds.tabletop.world import TabletopWorld

    scene, task = _task(seed)
    took: list[float] = []
    blind = kind == TEXT_ONLY
    with TabletopWorld(scene) as world:
        result = _agent(blind).run(
            task.instruction,
            seed=seed,
            scene=scene,
            world=world,
            record=record,
            emit="keypoints" if blind else kind,
            on_event=lambda e: took.append(e.wall_latency_s) if isinstance(e, PlanProposed) else None,
        )
        success = goal_reached(GroundTruth(world), task.goal)
    failed = [f"{r.step.skill}: {r.outcome}" for r in result.steps if r.outcome != "succeeded"]
    why = "" if success else (failed[-1] if failed else result.outcome)
    return Trial(kind, seed, success, why, len(task.plan()), result.duration_s, took[0] if took else 0.0)


def trials(kinds: Sequence[str], seeds: Sequence[int], workers: int, record: str | None) -> Iterator[Trial]:
    """All runs, as they finish; seed by seed, so that what is there after an interruption is comparable."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(run_trial, kind, seed, record) for seed in seeds for kind in kinds]
        for job in as_completed(jobs):
            trial = job.result()
            mark = "ok  " if trial.success else "FAIL"
            print(f"{mark} {trial.kind} {trial.seed} {trial.sim_s:.0f} s {trial.why}", file=sys.stderr, flush=True)
            yield trial


def main() -> None:
    """Command line."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, help="seeds a kind, instead of 2 (quick) or 24 (full)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", help="keep the run records in this folder")
    args = parser.parse_args()
    began = time.perf_counter()
    count = args.seeds or (24 if args.full else 2)
    done = list(trials(args.kinds, range(args.first, args.first + count), args.workers, args.record))
    print(f"\n{'kind':16} success of {count} tasks, nothing tried twice            robot   planning")
    figures: dict[str, Any] = {"runs": len(done), "wall_s": time.perf_counter() - began}
    for kind in args.kinds:
        group = [t for t in done if t.kind == kind]
        good = sum(t.success for t in group)
        robot = median(t.sim_s for t in group)
        print(f"{kind:16} {rate(good, len(group)):44} {robot:5.1f} s  {median(t.plan_s for t in group):5.2f} s")
        for why, n in Counter(t.why for t in group if not t.success).most_common(3):
            print(f"{'':16}   failed, {n} x {why}")
        figures[f"success_{kind.replace(' ', '_')}"] = good / len(group)
    finish(figures)


if __name__ == "__main__":
    main()
