"""Success of a policy against the number of demonstrations that it was trained on.

For each number, a policy is trained from nothing on so many of the demonstrations in `--data` (the smaller sets are
parts of the larger), for the same number of optimiser steps, and tried in held-out scenes as in benchmarks.policies.
Nothing is started from other weights: those would bring along what they had learned from more. Weights and checkpoints
stay in `--work`, so that an interrupted curve goes on where it was.

    hiervla collect --out runs/demos --episodes 300
    python -m benchmarks.demonstrations --full --data runs/demos --minutes 20
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, rate, wilson
from benchmarks.policies import measure
from benchmarks.skills import Timed
from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.families import FAMILIES, load_policy
from hiervla.training.policy import TrainSpec, train_policy

NUMBERS = (10, 30, 100, 300, 1000)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, try, and print a table, then one line of JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="folders of demonstrations")
    parser.add_argument("--work", type=Path, default=Path("runs/curve"), help="where weights and checkpoints are kept")
    parser.add_argument("--family", default="flow", choices=FAMILIES)
    parser.add_argument("--numbers", nargs="*", type=int, default=None, help="default: 10 30, or with --full to 1000")
    parser.add_argument("--steps", type=int, default=None, help="optimiser steps; default 150 or 4000")
    parser.add_argument("--minutes", type=float, default=None, help="stop each training after so long")
    parser.add_argument("--trials", type=int, default=None, help="scenes of each skill; default 1 or 50")
    parser.add_argument("--skills", nargs="*", default=list(SKILLS), choices=SKILLS)
    args = parser.parse_args(argv)
    numbers = args.numbers or (NUMBERS if args.full else NUMBERS[:2])
    trials = args.trials or (50 if args.full else 1)
    spec = TrainSpec(family=args.family, steps=args.steps or (4000 if args.full else 150))
    tell = (lambda text: print(text, end="", file=sys.stderr, flush=True)) if sys.stderr.isatty() else (lambda _: None)
    print(
        f"{args.family}, {trials} held-out scenes a skill\n{'demonstrations':>14}  {'success [95 % interval]':34}steps"
    )
    curve: list[dict[str, Any]] = []
    for number in numbers:
        out = args.work / f"{args.family}-{number}"
        budget = None if args.minutes is None else 60.0 * args.minutes
        report = train_policy(args.data, out, spec, work=out / "work", budget_s=budget, episodes=number)
        tally = measure(Timed(load_policy(out)), args.skills, trials, tell)
        won, of = sum(tally.won.values()), sum(tally.trials.values())
        curve.append({
            "demonstrations": number,
            "success": round(won / of, 4),
            "interval": [round(v, 4) for v in wilson(won, of)],
            "skills": {s: round(tally.won[s] / tally.trials[s], 4) for s in tally.won},
            "steps": report.steps,
        })  # fmt: skip
        print(f"{number:14}  {rate(won, of):34}{report.steps}", flush=True)
    finish({"benchmark": "demonstrations", "family": args.family, "trials": trials, "curve": curve})


if __name__ == "__main__":
    main()
