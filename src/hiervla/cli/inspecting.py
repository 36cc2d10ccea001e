"""What ``hiervla inspect RUN`` and ``hiervla runs`` print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hiervla.cli.styled import Styled, printer
from hiervla.cli.terminal import console, counts, outcome_text, print_tree
from hiervla.executor.record.changes import plan_change
from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import RunView, StepRun, sentence, words


def show_run(path: Path, *, as_json: bool = False) -> None:
    """Print a whole run.

    Raises:
        RecordError: it cannot be read.
    """
    record = RunRecord.open(path)
    if record.manifest.arms:
        from hiervla.cli.arms import show_arms

        show_arms(record, as_json=as_json)
        return
    view = view_of(record)
    if as_json:
        print(json.dumps(summary(record, view), indent=2))
        return
    out = printer()
    m = record.manifest
    out.print(Styled(m.run_id, style="bold"))
    out.print(Styled(f'  "{m.instruction}"', style="italic"))
    out.print(Styled(f"  world {m.world}, seed {m.seed}, planner {m.planner}, policy {m.policy}", style="dim"))
    out.print(Styled("  ").append(outcome_text(view)))
    out.print(Styled(f"  {counts(view)}, {len(record)} events", style="dim"))
    for notice in record.notices:
        out.print(Styled(f"  note: {notice}", style="yellow"))
    print_tree(out, view)
    if any(chapter.plan.program is not None for chapter in view.chapters):
        from hiervla.cli.programs import print_programs

        print_programs(out, record)
    if view.steps:
        out.print(Styled(f"what it saw and meant in a step: hiervla inspect {path} --step 1", style="dim"))


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
                "run_id": record.manifest.run_id,
                "parent": record.manifest.parent.run_id if record.manifest.parent else None,
                "forked_at": record.manifest.parent.event if record.manifest.parent else None,
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
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "outcome", "robot time", "MB"):
        table.add_column(name, justify="right" if name in {"robot time", "MB"} else "left", overflow="fold")
    for depth, row in family(rows):
        time = "" if row.get("duration_s") is None else f"{row['duration_s']:.1f} s"
        branch = f"{'   ' * (depth - 1)}└─ " if depth else ""
        at = f" (at {row['forked_at']} of {row['parent']})" if row.get("parent") and not depth else ""
        table.add_row(f"{branch}{row['run']}{at}", words(row["outcome"]), time, str(row.get("megabytes", "")))
    console().print(table)


def family(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Rows with forks below their parents, and how deep each stands; one whose parent is not here stands at the top."""
    here = {row.get("run_id") for row in rows} - {None}
    children: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("parent") in here:
            children.setdefault(row["parent"], []).append(row)
    ordered: list[tuple[int, dict[str, Any]]] = []

    def put(row: dict[str, Any], depth: int) -> None:
        ordered.append((depth, row))
        for child in children.get(row.get("run_id") or "", ()):
            put(child, depth + 1)

    for row in rows:
        if row.get("parent") not in here:
            put(row, 0)
    return ordered


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
        "rejected": [{"event": r.id, "problem": r.problem, "raw_text": r.raw_text} for r in view.rejected],
        "plans": [_chapter_json(view, index) for index in range(len(view.chapters))],
        "envelope": [{"event": e.id, "time_s": e.time_s, "text": sentence(e)} for e in view.envelope],
        "notes": [{"event": n.id, "time_s": n.time_s, "level": n.level, "text": n.message} for n in view.notes],
        "other": [{"event": e.id, "time_s": e.time_s, "type": e.type, "text": sentence(e)} for e in view.other],
    }


def step_json(run: StepRun) -> dict[str, Any]:
    """A step with all its attempts as plain values."""
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
                "event": a.started.id,
                "outcome": a.outcome,
                "reason": a.finished.reason if a.finished else "",
                "duration_s": a.finished.duration_s if a.finished else None,
                "chunks": len(a.chunks),
                "verdicts": [
                    {"phase": v.phase, **v.verdict.model_dump(mode="json")} for v in a.verdicts if v.phase != "during"
                ],
            }
            for a in run.attempts
        ],
    }


def _chapter_json(view: RunView, index: int) -> dict[str, Any]:
    chapter = view.chapters[index]
    values: dict[str, Any] = {
        "event": chapter.answers[0].id,
        "reason": chapter.reason,
        "goal": chapter.plan.goal,
        "confirmed": len(chapter.answers) - 1,
        "rejected": [r.problem for r in chapter.rejected],
        "steps": [{**step_json(run), "state": view.state(chapter, run)} for run in chapter.entries()],
    }
    if index:
        change = plan_change(view.chapters[index - 1], chapter)
        values["change"] = {
            "kept": change.kept,
            "added": change.added,
            "removed": change.removed,
            "reordered": change.reordered,
            "moved": [
                {
                    "step": m.step,
                    "label": m.label,
                    "camera": m.camera,
                    "from_px": m.before,
                    "to_px": m.after,
                    "distance_px": m.distance_px,
                }
                for m in change.moved
            ],
        }
    return values
