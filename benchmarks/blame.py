"""Does blame name the level that was at fault? Runs with one fault each, put in at a known level, told to nobody.

For each task there is first a run without a fault; only tasks that succeed by ground truth go on. Then one part is
wrapped, so that it errs, and the run counts if it now fails, or says wrongly that it succeeded. Blame gets the record,
the shipped planner and policy, the world that the manifest describes, and the goal's judge; which fault was put in it
cannot see.

    python -m benchmarks.blame --quick     # 2 faults a level
    python -m benchmarks.blame --full      # 20 faults a level
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import arguments, finish, rate

if TYPE_CHECKING:
    from benchmarks.faults import Rig

LEVELS = ("world", "planner", "grounding", "policy", "controller", "verifier", "hand-off")
FAMILIES = ("shelf", "drawer")
FIRST_SEED = 900_000
"""This range is used by this benchmark alone."""
MAX_TRIES = 4
"""Tries to make a fault matter, as a multiple of the faults that are wanted."""


def main() -> None:
    """Command line."""
    parser = arguments(__doc__)
    parser.add_argument("--per-level", type=int, help="faults a level, instead of 2 (quick) or 20 (full)")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--first", type=int, default=0, help="number of the first task")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds for counterfactuals in each case")
    parser.add_argument("--seconds", type=float, help="begin no further case after so many seconds")
    args = parser.parse_args()
    wanted = args.per_level or (20 if args.full else 2)
    finish(measure(wanted, args.levels, first=args.first, budget=args.budget, seconds=args.seconds))


def measure(
    wanted: int,
    levels: Sequence[str] = LEVELS,
    *,
    first: int = 0,
    budget: float = 0.0,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Put faults in, have them blamed, and print the confusion matrix.

    Args:
        wanted: faults a level.
        levels: where they are put in.
        first: number of the first task.
        budget: time for counterfactuals in each case [s].
        seconds: begin no further case after so long [s].

    Returns:
        The figures.
    """
    import torch

    from benchmarks.faults import Rig

    torch.set_num_threads(1)
    began = time.perf_counter()
    table: Counter[tuple[str, str]] = Counter()
    walls: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), budget)
        for wall in _turns(levels, wanted, first, rig, table):
            if seconds is not None and time.perf_counter() - began > seconds:
                break
            walls.append(wall)
    _show(table, levels)
    right, total = sum(n for (a, b), n in table.items() if a == b), sum(table.values())
    figures: dict[str, Any] = {"blame_right": right / max(total, 1), "runs": total, "per_level": wanted}
    for level in levels:
        cases = sum(n for (a, _), n in table.items() if a == level)
        figures[f"right_{level}"] = table[level, level] / cases if cases else None
    figures["blame_wall_s"] = round(sorted(walls)[len(walls) // 2], 1) if walls else None
    figures["confusion"] = {f"{a} -> {b}": n for (a, b), n in sorted(table.items())}
    return figures


def _turns(levels: Sequence[str], wanted: int, first: int, rig: Rig, table: Counter[tuple[str, str]]) -> Any:
    """Go through tasks, a fault of every level in each, until there are enough of each; yields the time of each."""
    for n in range(first, first + MAX_TRIES * wanted):
        missing = [k for k in levels if sum(c for (a, _), c in table.items() if a == k) < wanted]
        if not missing:
            return
        task = rig.task(FAMILIES[n % len(FAMILIES)], FIRST_SEED + n)
        if task is None:
            continue
        for level in missing:
            case = rig.case(task, level, n)
            if case is None:
                print(f"{n} {level}: the fault did no harm", file=sys.stderr, flush=True)
                continue
            table[level, case.blamed] += 1
            mark = "ok   " if case.blamed == level else "WRONG"
            print(f"{mark} {n} {case.fault} -> {case.blamed} {case.confidence:.2f}: {case.why}", file=sys.stderr,
                  flush=True)  # fmt: skip
            yield case.wall_s


def _show(table: Counter[tuple[str, str]], levels: Sequence[str]) -> None:
    columns = [*LEVELS, "undecided", "nothing"]
    print("\nfault put in (rows), level blamed (columns)")
    print(f"{'':12}" + "".join(f"{c[:10]:>11}" for c in columns))
    for level in levels:
        print(f"{level:12}" + "".join(f"{table[level, c] or '.':>11}" for c in columns))
    for level in levels:
        print(f"{level:12} {rate(table[level, level], sum(n for (a, _), n in table.items() if a == level))}")
    right, total = sum(n for (a, b), n in table.items() if a == b), sum(table.values())
    print(f"{'all':12} {rate(right, total)}")


if __name__ == "__main__":
    main()
