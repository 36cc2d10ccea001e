"""Skills after one another: every pair that occurs in the task families, from clean states and from real end states.

The first skill runs as it does in a task: learned policy, transit, checks and the way home of the agent's own loop.
Where the loop goes on, the second is tried there, and in the same scene as the first should have left it. Success is
judged by ground truth that the policy cannot see. `worst_gap` is the largest difference, clean minus chained.

    python -m benchmarks.handoff --quick     # 2 scenes a pair
    python -m benchmarks.handoff --full      # 40 scenes a pair
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, rate
from hiervla.training.handoffs import HandoffReport, HandoffTrial, handoff
from hiervla.training.rates import difference
from hiervla.training.seams import Seam, occurring

QUICK, FULL = 2, 40
FIRST_SEED = 1_000


def measure(seams: Sequence[Seam], trials: int, policy: str, workers: int, first_seed: int) -> list[HandoffReport]:
    """A report for each pair, printed as it comes."""

    def tell(trial: HandoffTrial) -> None:
        words = "not reached" if trial.chained is None else trial.chained.wrong or "ok"
        print(f"{trial.seam} {trial.seed}: {words}", file=sys.stderr, flush=True)

    reports = []
    for seam in seams:
        reports.append(handoff(seam, trials, first_seed, policy=policy, workers=workers, on_trial=tell))
        print(reports[-1], flush=True)
    return reports


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table, then one line of JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--policy", default="flow", help="name, or folder of weights")
    parser.add_argument("--trials", type=int, help=f"scenes a pair; default {QUICK} or {FULL}")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="the first scene")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--reliability", type=Path, help="write measured rates to this file")
    args = parser.parse_args(argv)
    trials = args.trials or (FULL if args.full else QUICK)
    met = occurring()
    print(f"policy {args.policy}, {len(met)} pairs, {trials} scenes each\n")
    reports = measure(list(met), trials, args.policy, args.workers, args.seed)
    clean = tuple(sum(r.clean[k] for r in reports) for k in (0, 1))
    chained = tuple(sum(r.chained[k] for r in reports) for k in (0, 1))
    worst = max(reports, key=lambda r: r.gap)
    low, high = difference((clean[0], clean[1]), (chained[0], chained[1]))
    print(f"\nall pairs: clean {rate(*clean)}, chained {rate(*chained)}, gap in [{low:+.3f}, {high:+.3f}]")
    print(f"worst: {worst.seam}, {worst.gap:+.3f}")
    if args.reliability is not None:
        from hiervla.training.reliability import rates_of, write_rates

        write_rates(rates_of(reports), args.reliability, policy=args.policy)
        print(f"rates by skill, kind and place: {args.reliability}")
    figures: dict[str, Any] = {
        "benchmark": "handoff",
        "pairs": len(reports),
        "trials": trials,
        "worst_gap": round(worst.gap, 4),
        "worst_pair": str(worst.seam),
        "clean_success": round(clean[0] / max(1, clean[1]), 4),
        "chained_success": round(chained[0] / max(1, chained[1]), 4),
        "not_reached": sum(sum(r.stopped.values()) for r in reports),
        "slipped": sum(r.slipped for r in reports),
        "mistaken": sum(r.mistaken for r in reports),
    }
    finish(figures)


if __name__ == "__main__":
    main()
