"""``blame``: which level made a run fail, with the evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hiervla.executor.blame import Blame
    from hiervla.executor.blame.trial import Witnesses
    from hiervla.executor.record.reader import RunRecord


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("blame")(blame)


def blame(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run record.", show_default=False)],
    budget: Annotated[
        float, typer.Option(metavar="S", min=0.0, help="Seconds for doing steps again with a part exchanged.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say which level made a run fail: world, planner, grounding, policy, controller, verifier or hand-off."""
    from hiervla.executor.blame import blame as judge
    from hiervla.executor.record.reader import RunRecord

    record = RunRecord.open(run)
    if record.manifest.arms:
        from hiervla.executor.record.physics_replay import of_one_robot

        of_one_robot(record)
    witnesses = _witnesses(record)
    try:
        found = judge(record, witnesses, budget_s=budget)
    finally:
        if witnesses.world is not None:
            witnesses.world.close()
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        _tell(found)
    return 1 if found.outcome == "undecided" else 0


def _tell(found: Blame) -> None:
    from hiervla.executor.blame.findings import NEXT

    if found.level is None:
        print(f"{'undecided: ' if found.outcome == 'undecided' else ''}{found.why}")
    else:
        step = f", step {found.step}" if found.step else ""
        second = f"; next likely: {found.runner_up}" if found.runner_up else ""
        print(f"{found.level}{step}, event {found.event} (confidence {found.confidence:.2f}{second})")
        print(f"  {found.why}")
        for finding in found.evidence[:4]:
            print(f"  - {finding}")
        print(f"  try next: {NEXT[found.level]}")
    for line in found.untested:
        print(f"  not tested: {line}")


def _witnesses(record: RunRecord) -> Witnesses:
    """The parts and the world of a record, as far as they are to be had here; what is missing is left out and said."""
    from hiervla.executor.agent import policies
    from hiervla.executor.blame.trial import Witnesses
    from hiervla.executor.policies.registry import names
    from hiervla.executor.presets import rebuild_world
    from hiervla.planner.base import Planner, make_planner
    from hiervla.representations import HiervlaError
    from hiervla.training.judging import TabletopJudge
    from hiervla.worlds.base import World

    manifest = record.manifest
    world: World | None = None
    planner: Planner | None = None
    try:
        world = rebuild_world(manifest.world, manifest.world_config)
    except (HiervlaError, KeyError, ValueError):
        world = None
    if manifest.planner.startswith("hiervla-embedded"):
        planner = make_planner("embedded")
    known = Path(manifest.policy).is_dir() or manifest.policy in names()
    policy_for = policies(manifest.policy if known else "flow")
    return Witnesses(planner, policy_for, world, TabletopJudge())
