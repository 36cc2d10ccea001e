"""Two arms, one plan: the same scenes and words once with both arms at the same time, once with one after the other.

Planner, policies and verdicts see camera images only; success is the goal, checked on the simulator's ground truth
after the run, and after every control tick it is checked whether the arms touch each other. "Clear" asks for all that
stands on the table, six things in twelve steps; "pair" names one thing on either side in one sentence, two things in
four steps. The time saved is that of the robots, over the scenes in which both ways reached the goal. Runs that the
folder of --record holds already are not run again: their commands are, in the same physics, to judge them.

    python -m benchmarks.duo --quick     # 1 scene of each kind
    python -m benchmarks.duo --full      # 6 scenes of each kind
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import arguments, finish, rate

if TYPE_CHECKING:
    from hiervla.executor.arms.agent import ArmsAgent
    from hiervla.executor.record.reader import RunRecord
    from hiervla.representations import JointCommand, Plan
    from hiervla.representations.events import RunFinished
    from hiervla.worlds.tabletop_duo.scene import DuoScene

FAMILIES = ("clear", "pair")
FIRST_SEED = 700_000
_PUT_AWAY = ("bin", "top_shelf", "bottom_shelf", "drawer")


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        success: the goal holds in the world.
        outcome: the agent's outcome.
        robot_s: length of the run on the world's clock [s].
        collisions: control ticks after which the arms touched each other.
        plan: the steps, each with its arm.
        wall_s: time on the computer's clock [s].
    """

    success: bool
    outcome: str
    robot_s: float
    collisions: int
    plan: tuple[str, ...]
    wall_s: float


def run_trial(agent: ArmsAgent, family: str, seed: int, one_by_one: bool, record: str | None) -> Trial:
    """Run one scene and judge it by ground truth; one that is on record already is judged by its commands."""
    from hiervla.executor.arms.records import parts_of, ticks_of
    from hiervla.worlds.tabletop_duo.scene import sample_duo_scene

    scene = sample_duo_scene(seed)
    words, goal = task(family, scene)
    began = time.perf_counter()
    known = None if record is None else _on_record(Path(record), words, seed, one_by_one)
    with _watched(scene) as world:
        if known is None:
            result = agent.run(words, seed=seed, scene=scene, world=world, record=record, one_by_one=one_by_one)
            plan, outcome, robot_s = result.plan, str(result.outcome), result.duration_s
        else:
            run, shared, finished = known
            plan, outcome, robot_s = shared, str(finished.outcome), finished.time_s
            ticks = ticks_of(parts_of(run))
            for k in range(max(map(len, ticks.values()))):
                world.step({arm: told[k].command for arm, told in ticks.items() if k < len(told)})
        return Trial(
            success=all(world.truth.place(arm, thing) in places for arm, thing, places in goal),
            outcome=outcome,
            robot_s=robot_s,
            collisions=world.touched,
            plan=() if plan is None else tuple(f"{s.arm}: {s}" for s in plan.steps),
            wall_s=time.perf_counter() - began,
        )


def _watched(scene: DuoScene) -> Any:
    """A world that counts the control ticks after which the arms touch."""
    from hiervla.worlds.tabletop_duo.privileged import DuoTruth
    from hiervla.worlds.tabletop_duo.world import DuoWorld

    class Watched(DuoWorld):
        touched = 0
        truth: DuoTruth | None = None

        def step(self, commands: Mapping[str, JointCommand]) -> None:
            super().step(commands)
            if self.truth is not None:
                self.touched += bool(self.truth.collisions())

    world = Watched(scene)
    world.truth = DuoTruth(world)
    return world


def _on_record(
    folder: Path, words: str, seed: int, one_by_one: bool
) -> tuple[RunRecord, Plan | None, RunFinished] | None:
    """A run of this kind that the folder holds, with its plan and its end; None where there is none."""
    from hiervla.executor.arms.claims import CELL
    from hiervla.executor.record.reader import RunRecord
    from hiervla.representations.events import PlanProposed, ResourcesClaimed

    for path in sorted(p.parent for p in folder.glob("*/manifest.json")):
        run = RunRecord.open(path)
        if (run.manifest.instruction, run.manifest.seed) != (words, seed) or run.finished is None:
            continue
        if any(CELL in claim.resources for claim in run.of(ResourcesClaimed)) == one_by_one:
            plan = next((e.plan for e in reversed(list(run.of(PlanProposed))) if e.told is None), None)
            return run, plan, run.finished
    return None


def task(family: str, scene: DuoScene) -> tuple[str, list[tuple[str, str, tuple[str, ...]]]]:
    """What is asked for in a scene, and the goal: (arm, thing, places where it may be in the end)."""
    if family == "clear":
        halves = (("left", scene.left), ("right", scene.right))
        return "clear the table", [(arm, o.id, _PUT_AWAY) for arm, half in halves for o in half.objects]
    can, mug = scene.left.object("can_0"), scene.right.object("mug_0")
    words = f"throw the {can.name} away and put the {mug.name} on the top shelf"
    return words, [("left", can.id, ("bin",)), ("right", mug.id, ("top_shelf",))]


def main() -> None:
    """Command line."""
    parser = arguments(__doc__)
    parser.add_argument("--scenes", type=int, help="scenes of each kind, instead of 1 (quick) or 6 (full)")
    parser.add_argument("--planner", default="embedded")
    parser.add_argument("--policy", default="flow")
    parser.add_argument("--record", help="keep the runs' records in this folder, and go on from what it holds")
    args = parser.parse_args()
    from hiervla.executor.arms.agent import ArmsAgent

    agent = ArmsAgent.from_preset("tabletop-duo", planner=args.planner, policy=args.policy)
    done: list[tuple[str, Trial, Trial]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + (args.scenes or (6 if args.full else 1))):
        for family in FAMILIES:
            together, in_turn = (run_trial(agent, family, seed, one, args.record) for one in (False, True))
            done.append((family, together, in_turn))
            for way, t in (("together", together), ("in turn", in_turn)):
                mark = "ok  " if t.success else "FAIL"
                told = f"{mark} {family} {seed} {way}: {t.robot_s:.1f} s, {t.outcome}, {t.collisions} collisions"
                print(f"{told}, {t.wall_s:.0f} s of computing", file=sys.stderr, flush=True)
    finish(_figures(done))


def _figures(done: list[tuple[str, Trial, Trial]]) -> dict[str, float | int]:
    figures: dict[str, float | int] = {"scenes": len(done)}
    for name, index in (("together", 1), ("in_turn", 2)):
        ways: list[Trial] = [row[index] for row in done]  # type: ignore[misc]  # 1 and 2 are the trials
        print(f"{name:9} {rate(sum(t.success for t in ways), len(ways))}")
        figures[f"success_{name}"] = sum(t.success for t in ways) / len(ways)
        figures[f"robot_s_{name}"] = round(sum(t.robot_s for t in ways), 2)
        figures[f"collisions_{name}"] = sum(t.collisions for t in ways)
    figures["same_plans"] = sum(a.plan == b.plan for _, a, b in done)
    for family in ("", *FAMILIES):
        both = [(a.robot_s, b.robot_s) for f, a, b in done if f.startswith(family) and a.success and b.success]
        if both:
            saved = 1.0 - sum(a for a, _ in both) / sum(b for _, b in both)
            print(f"time saved, {family or 'all':5} {saved:.3f} over {len(both)} scenes")
            figures[f"time_saved{family and '_' + family}"] = round(saved, 4)
    return figures


if __name__ == "__main__":
    main()
