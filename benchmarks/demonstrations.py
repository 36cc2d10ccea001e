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
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, positive, rate, wilson
from benchmarks.policies import Entrant, measure
from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.families import FAMILIES
from hiervla.training.policy import TrainReport, TrainSpec, train_policy
from hiervla.training.pool import DIED, WorkerError, Workers

NUMBERS = (10, 30, 100, 300, 1000)


def _train(
    data: list[Path], work: Path, spec: TrainSpec, minutes: float | None, device: str, number: int
) -> TrainReport:
    """Train on so many; what is finished already is read, and not trained again."""
    out, budget = work / f"{spec.family}-{number}", None if minutes is None else 60.0 * minutes
    return train_policy(data, out, spec, work=out / "work", budget_s=budget, device=device, episodes=number)


def _lost(number: int) -> WorkerError:
    remedy = "Give the same command again to go on from the checkpoints, with fewer --trainings-at-once"
    return WorkerError(DIED, remedy, f"{number} demonstrations", doing="training")


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
    parser.add_argument("--workers", type=positive, default=1, help="processes for the trials; default 1")
    parser.add_argument("--train-device", default="cpu", help="torch device of the trainings; default cpu")
    parser.add_argument("--trainings-at-once", type=positive, default=1, help="processes that train; default 1")
    args = parser.parse_args(argv)
    numbers = args.numbers or (NUMBERS if args.full else NUMBERS[:2])
    trials = args.trials or (50 if args.full else 1)
    spec = TrainSpec(family=args.family, steps=args.steps or (4000 if args.full else 150))
    tell = (lambda text: print(text, end="", file=sys.stderr, flush=True)) if sys.stderr.isatty() else (lambda _: None)
    print(
        f"{args.family}, {trials} held-out scenes a skill\n{'demonstrations':>14}  {'success [95 % interval]':34}steps"
    )
    curve: list[dict[str, Any]] = []
    make = partial(partial, _train, args.data, args.work, spec, args.minutes, args.train_device)
    with Workers(make, args.trainings_at_once, _lost) as pool:
        for number, report in pool.each(numbers):
            tally, _ = measure(Entrant(report.path), args.skills, trials, tell, args.workers)
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
