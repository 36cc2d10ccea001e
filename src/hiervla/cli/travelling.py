"""What ``hiervla replay``, ``hiervla fork`` and ``hiervla resume`` do and say."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiervla.executor.record.physics_replay import replay as execute
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import HiervlaError, UnknownNameError

if TYPE_CHECKING:
    from hiervla.executor.replay.corrections import Correction
    from hiervla.executor.replay.decisions import DecisionReplay
    from hiervla.executor.replay.fork import ForkPoint
    from hiervla.executor.replay.shadow import Score

_SHOWN = 8


class EditorError(HiervlaError):
    """The editor did not end well; nothing is done with what it may have left."""

    exit_code = 2

    def __init__(self, command: str, problem: str) -> None:
        super().__init__(f"editor '{command}': {problem}. Set $EDITOR to one that waits, or use --edit with a file.")
        self.command = command


def replay_physics(run: Path, *, as_json: bool) -> int:
    """Execute the recorded commands; returns the exit status."""
    record = RunRecord.open(run)
    if record.manifest.arms:
        from hiervla.cli import arms

        return arms.replay_physics(record, as_json=as_json)
    found = execute(record)
    if as_json:
        print(json.dumps({"agrees": found.agrees, **asdict(found)}))
        return 0 if found.agrees else 1
    start = "the recorded initial snapshot" if found.restored else "the world as the manifest describes it"
    print(f"{found.ticks} of {found.ticks_recorded} recorded commands executed from {start}")
    if found.divergence is None:
        print(f"agrees: every joint state and all {found.snapshots} snapshots are the same, bit for bit")
        return 0
    print(f"parts: {found.divergence}")
    print(f"  until there, {found.snapshots} snapshots and every joint state were the same, bit for bit")
    _tell_versions(record)
    return 1


def replay_decisions(run: Path, live: Sequence[str], *, planner: str, policy: str, as_json: bool) -> int:
    """Run the decisions again, with live parts scored beside the recorded ones; returns the exit status.

    Raises:
        UnknownNameError: no such part, planner or policy.
        RecordError: the record is damaged, or holds no run.
    """
    from hiervla.executor.replay.shadow import LIVE_PARTS, shadow

    for part in live:
        if part not in LIVE_PARTS:
            raise UnknownNameError("part", part, LIVE_PARTS, place="--live")
    record = RunRecord.open(run)
    if record.manifest.arms:
        from hiervla.cli import arms

        if live:
            arms.of_one_arm(record, "--live")
        return arms.replay_arms(record, as_json=as_json)
    asked: dict[str, Any] = {"verifier": "verifier" in live, "controller": "controller" in live}
    if "planner" in live:
        from hiervla.planner.base import make_planner

        asked["planner"] = make_planner(planner)
    if "policy" in live:
        from hiervla.executor.agent import policies

        asked["policy_for"] = policies(policy)
    report = shadow(record, **asked)
    found = report.replay
    if as_json:
        print(json.dumps(as_plain(found, report.scores)))
    else:
        print_replay(record, found, report.scores)
    if not found.identical:
        return 1
    return 0 if all(not s.disagreements for s in report.scores) else 4


def fork(
    run: Path,
    at: str,
    *,
    edit: Path | None,
    editor: bool,
    say: str | None,
    attempt: int | None,
    planner: str,
    policy: str,
    record: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Leave a run at a step and go on live; returns the exit status.

    Raises:
        UnknownNameError: no such step, planner or policy.
        CorrectionFileError: the edited intermediate is none, or does not fit the step.
        RecordError: the record is damaged, or its world cannot be set to a state.
    """
    from hiervla.cli import live
    from hiervla.executor.replay.fork import check_correction, fork_point

    parent = RunRecord.open(run)
    point = fork_point(parent, at, attempt)
    if edit is not None and edit.suffix == ".py":
        from hiervla.cli.programs import checked_program
        from hiervla.executor.programs.editing import with_program

        correction: Correction | None = with_program(parent, point, checked_program(edit))
    else:
        check_correction(parent, point, edit or editor or say or None)
        correction = _correction(point, edit, editor=editor, say=say)
    return live.run_fork(
        parent,
        point.started.id,
        correction,
        planner=planner,
        policy=policy,
        record=record,
        as_json=as_json,
        quiet=quiet,
    )


def resume(run: Path, *, planner: str, policy: str, record: Path | None, as_json: bool, quiet: bool) -> int:
    """Go on with a run that broke off, or that its planner left; returns the exit status.

    Raises:
        ReplayError: it came to its end, or to no step.
        RecordError: the record is damaged, or its world cannot be set to a state.
    """
    from hiervla.cli import live
    from hiervla.executor.replay.fork import place_to_resume

    parent = RunRecord.open(run)
    return live.run_fork(
        parent,
        place_to_resume(parent).id,
        None,
        planner=planner,
        policy=policy,
        record=record,
        as_json=as_json,
        quiet=quiet,
    )


def _correction(point: ForkPoint, edit: Path | None, *, editor: bool, say: str | None) -> Correction | None:
    from hiervla.executor.control import Say
    from hiervla.executor.replay.corrections import parse_correction, read_correction

    step = point.step
    if say is not None:
        if not say.strip():
            raise UnknownNameError("correction", "", ["no, the blue one", "on the bottom shelf"], place="--say")
        return Say(say)
    if step is None:
        return None
    if edit is not None:
        return read_correction(edit, step)
    if editor:
        text = edit_text(json.dumps(json.loads(step.to_json()), indent=2))
        return None if text is None else parse_correction(text, step, "what the editor left")
    return None


def edit_text(text: str) -> str | None:
    """The text as somebody left it in their editor; None when they changed nothing.

    Raises:
        EditorError: there is no editor, or it failed.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.NamedTemporaryFile("w+", suffix=".json", prefix="hiervla-", delete=False) as file:
        file.write(text)
        path = Path(file.name)
    try:
        done = subprocess.run([*shlex.split(command), str(path)], check=False)
        if done.returncode != 0:
            raise EditorError(command, f"ended with status {done.returncode}")
        changed = path.read_text()
    except OSError as error:
        raise EditorError(command, error.strerror or str(error)) from error
    finally:
        path.unlink(missing_ok=True)
    return None if changed == text else changed


def print_replay(record: RunRecord, found: DecisionReplay, scores: Sequence[Score]) -> None:
    """Print what a decision replay found."""
    if found.divergence is not None:
        print(f"differs after {found.decisions} identical decisions: {found.divergence}")
        _tell_versions(record)
    elif found.complete:
        print(f"identical, {found.decisions} decisions ({found.robot_s:.1f} s of robot time in {found.wall_s:.2f} s)")
    else:
        print(f"identical, {found.decisions} decisions up to where the record ends: its run was killed there")
    for score in scores:
        print(f"live {score.part}: {score.agreement:.0%} of {score.asked} answers are the recorded ones")
        for name, (median, most) in score.summary().items():
            print(f"  {name}: median {median:.3g}, at most {most:.3g}")
        for d in score.disagreements[:_SHOWN]:
            print(f"  {d.event} at {d.time_s:.2f} s, {d.what}")
            print(f"    recorded: {d.recorded}")
            print(f"    live:     {d.live}")
        if len(score.disagreements) > _SHOWN:
            print(f"  and {len(score.disagreements) - _SHOWN} more; --json has all")


def as_plain(found: DecisionReplay, scores: Sequence[Score]) -> dict[str, Any]:
    """What a decision replay found, as plain values."""
    return {
        "identical": found.identical,
        "complete": found.complete,
        "decisions": found.decisions,
        "events": found.events,
        "robot_s": found.robot_s,
        "wall_s": found.wall_s,
        "divergence": None if found.divergence is None else _plain(asdict(found.divergence)),
        "live": [
            {
                "part": s.part,
                "asked": s.asked,
                "agreement": s.agreement,
                "distances": {name: {"median": m, "max": x} for name, (m, x) in s.summary().items()},
                "disagreements": [asdict(d) for d in s.disagreements],
            }
            for s in scores
        ],
    }


def _plain(values: dict[str, Any]) -> Any:
    """Values that JSON has no form for, as text."""
    return json.loads(json.dumps(values, default=str))


def _tell_versions(record: RunRecord) -> None:
    from hiervla.executor.record.manifest import package_versions

    here, recorded = package_versions(), record.manifest.packages
    names = [n for n in recorded if here.get(n) != recorded[n]]
    if names:
        then = ", ".join(f"{n} {recorded[n]}" for n in names)
        now = ", ".join(f"{n} {here.get(n, 'absent')}" for n in names)
        print(f"  recorded with {then}; here is {now}")
