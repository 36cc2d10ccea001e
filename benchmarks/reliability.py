"""Measured reliability in planning: what it is, and a case in which it changes the plan and raises success.

First, how often things are picked up from each place, measured in scenes of their own. Then a request that leaves
open which of two look-alikes is meant ("put the red block on the plate", one on the table, one in the open drawer):
the same planner, policies and scenes with and without those rates. Success is ground truth: a block of that colour is
on a plate in the end.

    python -m benchmarks.reliability --quick     # 6 picks a place, 4 runs an arm
    python -m benchmarks.reliability --full      # 40 picks a place, 40 runs an arm
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.common import arguments, finish, rate
from hiervla.executor.agent import Agent
from hiervla.executor.choosing import CHOSEN
from hiervla.representations.events import PlanProposed
from hiervla.skills.reliability import Reliability
from hiervla.training.rates import difference
from hiervla.training.reliability import PLACES, measure_picks, write_rates
from hiervla.training.tasks.tabletop import true_facts
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.sampling import sample_scene
from hiervla.worlds.tabletop.scene import SceneSpec
from hiervla.worlds.tabletop.world import TabletopWorld

FIRST_SEED = 70_000_001
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple")


@dataclass(frozen=True)
class Run:
    """One run of an arm.

    Attributes:
        success: by ground truth.
        claimed: the agent said so.
        changed: the rates changed the plan.
        robot_s: length on the world's clock [s].
    """

    success: bool
    claimed: bool
    changed: bool
    robot_s: float


def twins(seed: int) -> tuple[SceneSpec, str]:
    """A scene with two blocks of one colour, and a request for one of them."""
    rng = np.random.default_rng([0x7717, seed])
    colour = COLOURS[int(rng.integers(len(COLOURS)))]
    scene = sample_scene(
        FIRST_SEED + 2 * seed, n_objects=(4, 6),
        require=[("block", colour, "drawer"), ("block", colour, "table"), ("plate", None, "table")],
        distinct=False, drawer_open=True, stacks=0, spill=False,
    )  # fmt: skip
    words = ("put the {} block on the plate", "place the {} cube on the plate", "move the {} block onto the plate")
    return scene, words[int(rng.integers(len(words)))].format(colour)


def run(agent: Agent, seed: int) -> Run:
    """One run of the case."""
    scene, instruction = twins(seed)
    changed = False

    def listen(event: object) -> None:
        nonlocal changed
        if isinstance(event, PlanProposed) and event.plan.provenance is not None:
            changed = changed or CHOSEN in event.plan.provenance.sampling

    with TabletopWorld(scene) as world:
        result = agent.run(instruction, seed=seed, scene=scene, world=world, on_event=listen)
        facts = true_facts(GroundTruth(world))
    blocks, plates = [o.id for o in scene.objects[:2]], [o.id for o in scene.objects if o.category == "plate"]
    success = any(("on", b, p) in facts for b in blocks for p in plates)
    return Run(success, result.succeeded, changed, result.duration_s)


def _arm(name: str, rates: Reliability, seeds: Iterable[int], known: Mapping[int, Run]) -> list[Run]:
    agent = Agent.from_preset("tabletop-random", reliability=rates)
    done = []
    for seed in seeds:
        done.append(known[seed] if seed in known else run(agent, seed))
        print(f"{name} {seed}: {done[-1]}", file=sys.stderr, flush=True)
    return done


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table, then one line of JSON."""
    import torch

    parser = arguments(__doc__)
    parser.add_argument("--picks", type=int, help="trials a place; default 6 or 40")
    parser.add_argument("--runs", type=int, help="runs an arm; default 4 or 40")
    parser.add_argument("--kinds", nargs="+", default=["block"], choices=("block", "mug", "can", "sponge"))
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=PLACES)
    parser.add_argument("--out", type=Path, help="count the rates into this file")
    parser.add_argument("--rates", type=Path, help="use the rates of this file, and measure none")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    picks, runs = args.picks or (40 if args.full else 6), args.runs or (40 if args.full else 4)
    with TemporaryDirectory() as folder:
        path = args.out or Path(folder) / "reliability.json"
        if args.rates is not None:
            known = Reliability.read(args.rates)
        else:
            known = write_rates(measure_picks(args.kinds, args.places, picks), path)
    for measured in known.rates:
        if measured.skill == "pick":
            print(f"pick {measured.kind:8} {measured.where:14} {rate(measured.successes, measured.trials)}", flush=True)
    by_rates = _arm("by measured rates", known, range(runs), {})
    # A run repeats under its seed: where the rates changed nothing, both arms are one and the same run.
    same = {seed: r for seed, r in enumerate(by_rates) if not r.changed}
    arms = {"as planned": _arm("as planned", Reliability(), range(runs), same), "by measured rates": by_rates}
    for name, done in arms.items():
        won, changed = sum(r.success for r in done), sum(r.changed for r in done)
        seconds = float(np.mean([r.robot_s for r in done]))
        print(f"{name:20}{rate(won, runs)}, plan changed {changed} times, {seconds:.0f} s each")
    by_arm = {name: (sum(r.success for r in done), len(done)) for name, done in arms.items()}
    low, high = difference(by_arm["by measured rates"], by_arm["as planned"])
    finish(
        {
            "benchmark": "reliability",
            "runs": runs,
            "picks": picks,
            "success_as_planned": by_arm["as planned"][0] / runs,
            "success_by_rates": by_arm["by measured rates"][0] / runs,
            "gain_low": low,
            "gain_high": high,
            "changed": sum(r.changed for r in arms["by measured rates"]),
            "robot_s_as_planned": float(np.mean([r.robot_s for r in arms["as planned"]])),
            "robot_s_by_rates": float(np.mean([r.robot_s for r in arms["by measured rates"]])),
        }
    )


if __name__ == "__main__":
    main()
