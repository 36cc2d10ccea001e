"""Experience makes it better: two generations of a policy, each measured against the last on the same seeds.

`hiervla improve`, run in the situation in which the shipped weights are weakest, and the paired figures of its
generations. Ground truth is the judge; see docs/improving.md. ``--full`` needs demonstrations of all skills beside it,
so that what is not in the experience is not forgotten.

    python -m benchmarks.improve --quick                       # a few rollouts and trials: does it run?
    hiervla collect --out demos --episodes 100
    python -m benchmarks.improve --full --demos demos --out improved
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import arguments, finish, positive
from hiervla.cli.improving import row
from hiervla.executor.policies.flow import DEFAULT_WEIGHTS
from hiervla.training.improve.generations import TRAIN, Generation, ImproveSpec, improve
from hiervla.training.improve.rollouts import Exploration
from hiervla.training.improve.situations import situation_of


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table, then one line of JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--skill", help="default: what the measured rates call weakest")
    parser.add_argument("--kind", help="kind of thing, for picks")
    parser.add_argument("--where", help="place, for picks")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, help="what to begin with")
    parser.add_argument("--from", dest="runs", nargs="*", type=Path, default=[], help="run records, or folders of them")
    parser.add_argument("--demos", nargs="*", type=Path, default=[], help="demonstrations of all skills")
    parser.add_argument("--rollouts", type=int, help="each generation; default 8 or 60")
    parser.add_argument("--trials", type=int, help="each generation; default 6 or 60")
    parser.add_argument("--steps", type=int, help="optimiser steps; default 60 or 2000")
    parser.add_argument("--workers", type=positive, default=1, help="processes for rollouts and trials; default 1")
    parser.add_argument("--device", default="cpu", help="torch device of the trainings; default cpu")
    parser.add_argument("--out", type=Path, help="keep everything here, and go on from it")
    args = parser.parse_args(argv)
    situation = situation_of(args.weights, args.skill, args.kind, args.where)
    spec = ImproveSpec(
        situation,
        rollouts=args.rollouts or (60 if args.full else 8),
        trials=args.trials or (60 if args.full else 6),
        exploration=Exploration(takeovers=0.8),
        train=replace(TRAIN, steps=args.steps or (2000 if args.full else 60)),
    )
    print(f"{situation}, from {args.weights.name}", flush=True)
    with TemporaryDirectory() as folder:
        made: list[Generation] = []
        for generation in improve(
            spec, args.out or Path(folder), args.weights, generations=2, runs=tuple(args.runs),
            demos=tuple(args.demos), command="python -m benchmarks.improve", tell=_tell,
            workers=args.workers, device=args.device,
        ):  # fmt: skip
            made.append(generation)
            print(row(generation), flush=True)
    last = made[-1].against_first
    assert last is not None, "two generations were made"
    finish(
        {
            "benchmark": "improve",
            "situation": str(situation),
            "trials": last.trials,
            **{f"success_generation_{g.number}": g.scores.rate[0] / g.scores.rate[1] for g in made},
            "gain": last.gain,
            "gain_low": last.low,
            "gain_high": last.high,
            "p": last.p,
            "better": last.better,
        }
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
