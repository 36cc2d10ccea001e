"""What ``hiervla inspect`` and ``hiervla runs`` print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hiervla.cli.terminal import coloured, console, counts, outcome_text, run_tree
from hiervla.executor.record.describe import describe, evidence
from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt, RunView, StepRun, milliseconds, words
from hiervla.representations import UnknownNameError


def show_run(path: Path, *, as_json: bool = False) -> None:
    """Print a whole run.

    Raises:
        RecordError: it cannot be read.
    """
    record = RunRecord.open(path)
    view = view_of(record)
    if as_json:
        print(json.dumps(summary(record, view), indent=2))
        return
    out = console()
    m = record.manifest
    out.print(Text(m.run_id, style="bold"))
    out.print(Text(f'  "{m.instruction}"', style="italic"))
    out.print(Text(f"  world {m.world}, seed {m.seed}, planner {m.planner}, policy {m.policy}", style="dim"))
    out.print(Text("  ").append_text(outcome_text(view)))
    out.print(Text(f"  {counts(view)}, {len(record)} events", style="dim"))
    for notice in record.notices:
        out.print(Text(f"  note: {notice}", style="yellow"))
    out.print(run_tree(view, details=True))
    if view.steps:
        out.print(Text(f"what it saw and meant in a step: hiervla inspect {path} --step 1", style="dim"))


def show_step(
    path: Path, which: str, *, attempt: int | None = None, png: Path | None = None, as_json: bool = False
) -> None:
    """Print one step with its artifacts, and write the picture of them.

    Raises:
        RecordError: the record cannot be read.
        UnknownNameError: there is no such step or attempt.
    """
    record = RunRecord.open(path)
    view = view_of(record)
    try:
        run = view.find(which)
    except KeyError:
        known = [str(s.number) for s in view.steps]
        raise UnknownNameError("step", which, known, f"record '{path}'") from None
    number = len(run.attempts) if attempt is None else attempt
    if not 1 <= number <= len(run.attempts):
        known = [str(n) for n in range(1, len(run.attempts) + 1)]
        raise UnknownNameError("attempt", str(attempt), known, f"step {which}")
    chosen = run.attempts[number - 1]
    written = _write_pictures(record, chosen, png or Path(f"{record.manifest.run_id}-step{run.number}.png"))
    if as_json:
        values = {**_step_json(run), "attempt": number, "pictures": [str(p) for p in written]}
        values["artifacts"] = [a.model_dump(mode="json") for e in chosen.grounded for a in e.artifacts]
        print(json.dumps(values, indent=2))
        return
    _print_step(record, run, number, chosen)
    for picture in written:
        print(f"picture: {picture}")


def list_runs(folder: Path, *, as_json: bool = False) -> None:
    """Print the records in a folder, newest first."""
    rows: list[dict[str, Any]] = []
    for path in sorted((p.parent for p in folder.glob("*/manifest.json")), reverse=True):
        try:
            record = RunRecord.open(path)
            finished = record.finished
        except RecordError as error:
            rows.append({"run": str(path), "outcome": "unreadable", "message": str(error), "instruction": ""})
            continue
        rows.append(
            {
                "run": str(path),
                "outcome": finished.outcome if finished else "not closed",
                "message": finished.message if finished else "",
                "instruction": record.manifest.instruction,
                "seed": record.manifest.seed,
                "duration_s": finished.time_s if finished else None,
                "megabytes": round(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6, 2),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print(f"no run records in '{folder}'. Make one: hiervla run \"put the red mug on the top shelf\"")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "outcome", "robot time", "MB"):
        table.add_column(name, justify="right" if name in {"robot time", "MB"} else "left", overflow="fold")
    for row in rows:
        time = "" if row.get("duration_s") is None else f"{row['duration_s']:.1f} s"
        table.add_row(row["run"], words(row["outcome"]), time, str(row.get("megabytes", "")))
    console().print(table)


def summary(record: RunRecord, view: RunView) -> dict[str, Any]:
    """A run as plain values, for ``--json``."""
    m = record.manifest
    return {
        "run_id": m.run_id,
        "instruction": m.instruction,
        "world": m.world,
        "seed": m.seed,
        "planner": m.planner,
        "policy": m.policy,
        "outcome": view.finished.outcome if view.finished else None,
        "message": view.finished.message if view.finished else "",
        "closed": record.closed,
        "notices": list(record.notices),
        "duration_s": view.time_s,
        "events": len(record),
        "replans": view.replans,
        "retries": view.retries,
        "refusals": [r.model_dump(mode="json", exclude={"provenance"}) for r in view.refusals],
        "plans": [
            {
                "reason": chapter.reason,
                "goal": chapter.plan.goal,
                "steps": [{**_step_json(run), "state": view.state(chapter, run)} for run in chapter.entries()],
            }
            for chapter in view.chapters
        ],
    }


def _step_json(run: StepRun) -> dict[str, Any]:
    return {
        "number": run.number,
        "id": run.step.id,
        "skill": run.step.skill,
        "args": run.step.args,
        "text": str(run.step),
        "outcome": run.outcome,
        "reason": run.reason,
        "retries": run.retries,
        "duration_s": run.duration_s,
        "attempts": [
            {
                "outcome": a.outcome,
                "duration_s": a.finished.duration_s if a.finished else None,
                "chunks": len(a.chunks),
                "verdicts": [
                    {"phase": v.phase, **v.verdict.model_dump(mode="json")} for v in a.verdicts if v.phase != "during"
                ],
            }
            for a in run.attempts
        ],
    }


def _print_step(record: RunRecord, run: StepRun, number: int, attempt: Attempt) -> None:
    from hiervla.executor.record.draw import half_blocks, marks, plain_blocks
    from hiervla.executor.record.pictures import artifacts_of, step_pictures

    out = console()
    step = run.step
    out.print(Text(f"step {run.number} ({step.id}): {step}", style="bold"))
    out.print(f"  {step.skill}({', '.join(f'{k}={v}' for k, v in step.args.items())})")
    for name, conditions in (("before", step.preconditions), ("after", step.postconditions)):
        if conditions:
            out.print(f"  {name}: {', '.join(map(str, conditions))}")
    ended = words(attempt.outcome or "cut off")
    of = f"attempt {number} of {len(run.attempts)}: {ended}"
    out.print(f"  {of}{f', {attempt.finished.reason}' if attempt.finished and attempt.finished.reason else ''}")
    happened = [
        (t.time_s, f"{t.purpose} by {t.method}, {t.duration_s:.2f} s, planned in {milliseconds(t.wall_latency_s)}")
        for t in attempt.transits
    ]
    for verdict in attempt.verdicts:
        if verdict.phase != "during" or verdict is attempt.verdicts[-1] or verdict.verdict.yes:
            v = verdict.verdict
            shown = f" ({evidence(v.evidence)})" if v.evidence else ""
            happened.append((verdict.time_s, f"{verdict.phase}  {v.name}: {v.value} {v.confidence:.2f}{shown}"))
    for time_s, text in sorted(happened, key=lambda item: item[0]):
        out.print(Text(f"  {time_s:7.2f} s  {text}"))
    if attempt.chunks:
        latency = [c.wall_latency_s for c in attempt.chunks]
        stale = max(c.staleness_s for c in attempt.chunks)
        out.print(
            f"  {len(attempt.chunks)} chunks of '{attempt.chunks[0].policy}': {milliseconds(min(latency))} "
            f"to {milliseconds(max(latency))} each, executed at most {stale:.2f} s after their observation"
        )
    for artifact in artifacts_of(record, attempt):
        for line in describe(artifact):
            out.print(Text(f"  {line}"))
    pictures, missing = step_pictures(record, attempt)
    for text in missing:
        out.print(Text(f"  not drawn: {text}", style="yellow"))
    columns = min(96, out.width)
    for picture in pictures:
        out.print(Text(f"  camera '{picture.frame.name}' at {picture.frame.time_s:.2f} s", style="dim"))
        if out.is_terminal and out.color_system:
            out.print(coloured(half_blocks(picture.drawn(2), columns)), end="")
        else:
            for line in plain_blocks(picture.frame.rgb, marks(picture.frame, picture.artifacts), columns):
                print(line)


def _write_pictures(record: RunRecord, attempt: Attempt, path: Path) -> list[Path]:
    from PIL import Image

    from hiervla.executor.record.errors import OutputError
    from hiervla.executor.record.pictures import step_pictures

    pictures, _ = step_pictures(record, attempt)
    written = []
    for number, picture in enumerate(pictures):
        target = path if number == 0 else path.with_stem(f"{path.stem}-{picture.frame.name}-{number + 1}")
        try:
            Image.fromarray(picture.drawn()).save(target, "PNG")
        except OSError as error:
            raise OutputError(target, error.strerror or str(error)) from error
        written.append(target)
    return written
