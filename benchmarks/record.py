"""The run record: do replays decide the same, do they find changes, and what do recording and looking cost?

On recorded runs of the tabletop tasks (failures and refusals among them): the share whose decisions replay as recorded;
for each of a set of one-line changes of the orchestrator and each run in which it alters a decision, whether the replay
names an event at or before the first one that a run with the change would not have written (worked out from the record,
and for some runs held against the simulator, where the changed orchestrator really runs); the speed of replay; the time
to inspect a run of 36,000 control steps in a fresh process; and the cost of recording 50 control steps a second with
two RGB-D cameras at 5 Hz, beside a plain MCAP writer and a LeRobot-style table with videos. Further: whether a run that
is left at a random step and not edited goes on as it did, and whether the level of a fault is named (the cases of
benchmarks.blame).

    python -m benchmarks.record --quick              # records 4 runs, re-runs 1 of them, 1 fault a level
    python -m benchmarks.record --full               # records 100 runs, re-runs 5, forks 20, 20 faults a level
    python -m benchmarks.record --quick --runs DIR   # on records that are there already
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.blame import measure as measure_blame
from benchmarks.common import arguments, finish, rate
from benchmarks.recording.changes import CHANGES, applied
from benchmarks.recording.first_changed import Story
from benchmarks.recording.forks import forks
from benchmarks.recording.long import STEPS, inspect_cold, make_long
from benchmarks.recording.rerun import first_other_event
from benchmarks.recording.runs import WORLD, jobs, record_runs
from benchmarks.recording.writers import Cost, McapWriter, OwnWriter, ParquetVideoWriter, Writer, measure, moments_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.decisions import replay_decisions


def identical(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Replay the decisions of all records."""
    computing = time.process_time()
    found = [replay_decisions(record) for record in records]
    computing = time.process_time() - computing
    for record, one in zip(records, found, strict=True):
        if not (one.identical and one.complete):
            print(f"  not as recorded: {record.path.name}: {one.divergence}")
    same = sum(one.identical and one.complete for one in found)
    speed = sum(one.robot_s for one in found) / max(1e-9, sum(one.wall_s for one in found))
    outcomes = [record.finished.outcome if record.finished else "cut off" for record in records]
    print(f"\n{len(records)} runs: " + ", ".join(f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes))))
    print(f"  replay as recorded  {rate(same, len(found))}, {sum(one.decisions for one in found)} decisions")
    by_cpu = sum(one.robot_s for one in found) / max(1e-9, computing)
    print(f"  replay speed        {speed:.0f} x robot time, {by_cpu:.0f} x by computing time")
    return {
        "replay_identical": same / len(found),
        "runs": len(found),
        "runs_failed": sum(o in ("failed", "gave_up", "envelope_stop", "error") for o in outcomes),
        "replay_x_realtime": speed,
        "replay_x_realtime_cpu": by_cpu,
    }


def changes_found(records: Sequence[RunRecord], rerun: int) -> dict[str, Any]:
    """Replay all records with every change, and re-run some of them in the simulator."""
    stories = [Story(record) for record in records]
    found = total = exact = alarms = right = checked = 0
    # Runs in which much went wrong are altered by most changes.
    order = sorted(range(len(records)), key=lambda i: -sum(a.failed for a in stories[i].attempts))
    again = [i for i in order if records[i].manifest.world == WORLD][:rerun]
    for i in again:
        line = first_other_event(records[i])
        if line is not None:
            raise SystemExit(f"{records[i].path} does not repeat on this machine (line {line}); leave --rerun at 0")
    print("\nchanges of the orchestrator: found of the runs that they alter")
    for change in CHANGES:
        ours = theirs = 0
        for i, record in enumerate(records):
            first = change.first(stories[i])
            if i in again:
                truth = first_other_event(record, change)
                checked += 1
                right += truth == first
                if truth != first:
                    print(f"  worked out wrongly: {change.name}, {record.path.name}: {first}, really {truth}")
                first = truth
            with applied(change):
                at = replay_decisions(record).divergence
            if first is None:
                alarms += at is not None
                continue
            theirs += 1
            ours += at is not None and at.line <= first
            exact += at is not None and at.line == first
            if at is None or at.line > first:
                print(f"  missed: {change.name}, {record.path.name}: line {first}, replay says {at}")
        print(f"  {ours:4} of {theirs:4}  {change.name}")
        found, total = found + ours, total + theirs
    print(f"  {found:4} of {total:4}  all; {exact} at the very event; {alarms} false alarms")
    print(f"  first changed event as worked out from the record, held against the simulator: {right} of {checked}")
    return {
        "mutations": len(CHANGES),
        "mutations_found": found,
        "mutations_total": total,
        "mutations_exact": exact,
        "false_alarms": alarms,
        "reruns": checked,
        "reruns_as_worked_out": right,
    }


def unedited(records: Sequence[RunRecord], wanted: int) -> dict[str, Any]:
    """Fork runs at a random step, without a correction."""
    same, done = forks(records, wanted)
    print(f"\nforked at a random step, nothing edited: {rate(same, done)} go on as before")
    return {"forks": done, "forks_same": same / done if done else None}


def logging_cost(records: Sequence[RunRecord], seconds: float) -> dict[str, Any]:
    """Have three writers keep the same data."""
    moments = moments_of(records, seconds)
    robot_s = len(moments) * 0.02
    print(f"\nkeeping {robot_s:.0f} s of robot time, 50 control steps a second, two RGB-D cameras at 5 Hz")
    writers: dict[str, type[Writer]] = {"hiervla record": OwnWriter, "plain chunked MCAP": McapWriter}
    if find_spec("pyarrow") and find_spec("av"):
        writers["Parquet + H.264 (lossy)"] = ParquetVideoWriter
    else:
        print("  Parquet + H.264 is left out: pyarrow and av are not installed")
    costs: dict[type[Writer], Cost] = {}
    print(f"  {'':24} {'p50 ms':>8} {'p99 ms':>8} {'p99 CPU':>8} {'all CPU':>8} {'MB/min':>8}")
    for name, writer in writers.items():
        with tempfile.TemporaryDirectory(prefix="hiervla-writing-") as folder:
            cost = measure(writer(Path(folder)), Path(folder), moments)  # type: ignore[call-arg]  # all take a folder
        costs[writer] = cost
        row = f"{cost.median_ms:8.3f} {cost.p99_ms:8.2f} {cost.p99_cpu_ms:8.2f} {cost.mean_ms:8.2f}"
        row += f" {cost.mb_per_minute:8.1f}"
        print(f"  {name:24} {row}")
    figures: dict[str, Any] = {
        "log_ms_per_step": costs[OwnWriter].median_ms,
        "log_p99_ms": costs[OwnWriter].p99_ms,
        "log_p99_cpu_ms": costs[OwnWriter].p99_cpu_ms,
        "log_mean_ms": costs[OwnWriter].mean_ms,
        "mb_per_minute": costs[OwnWriter].mb_per_minute,
    }
    for key, writer in (("mcap", McapWriter), ("parquet_video", ParquetVideoWriter)):
        if writer in costs:
            figures |= {f"{key}_{name}": value for name, value in vars(costs[writer]).items()}
    return figures


def inspect_time(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Make a long record of a real one and look at it."""
    source = max(records, key=len)
    with tempfile.TemporaryDirectory(prefix="hiervla-long-") as folder:
        record = make_long(source, Path(folder) / "long")
        wall, cpu = inspect_cold(record)
        print(
            f"\ninspect of {STEPS} control steps, {len(record)} events, fresh process: {wall:.2f} s, {cpu:.2f} s of CPU"
        )
        return {"inspect_cold_s": wall, "inspect_cold_cpu_s": cpu, "inspect_events": len(record)}


def read_runs(folder: Path) -> list[RunRecord]:
    """All records in a folder, closed ones of this version."""
    return [RunRecord.open(path.parent) for path in sorted(folder.glob("*/manifest.json"))]


def main() -> None:
    """Command line."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="measure on the records in this folder")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="record into this folder and leave the runs there")
    parser.add_argument("--rerun", type=int, help="runs to repeat in the simulator, instead of 1 (quick) or 5 (full)")
    parser.add_argument("--forks", type=int, help="runs to fork unedited, instead of 1 (quick) or 20 (full)")
    parser.add_argument("--faults", type=int, help="faults a level to blame, instead of 1 (quick) or 20 (full)")
    parser.add_argument("--short", action="store_true", help="record tasks of one or two steps: a fifth of the time")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    rerun = args.rerun if args.rerun is not None else (5 if args.full else 1)
    with tempfile.TemporaryDirectory(prefix="hiervla-runs-") as scratch:
        folder = args.runs or args.keep or Path(scratch)
        if args.runs is None:
            record_runs(jobs(args.full), folder, args.workers, args.short)
        records = read_runs(folder)
        if not records:
            sys.exit(f"no run records in '{folder}'")
        figures = identical(records)
        # What is timed comes first, while little else is in memory.
        figures |= logging_cost(records, 60.0 if args.full else 20.0)
        figures |= inspect_time(records)
        figures |= changes_found(records, rerun)
        figures |= unedited(records, args.forks if args.forks is not None else (20 if args.full else 1))
    faults = args.faults if args.faults is not None else (20 if args.full else 1)
    if faults:
        blamed = measure_blame(faults)
        figures |= {"blame_right": blamed["blame_right"], "blame_runs": blamed["runs"], "blame_per_level": faults}
    finish(figures)


if __name__ == "__main__":
    main()
