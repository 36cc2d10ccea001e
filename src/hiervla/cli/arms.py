"""What the commands do and show for worlds, and records, of several arms."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiervla.cli.inspecting import summary
from hiervla.cli.styled import Branch, Printer, Styled, printer
from hiervla.cli.terminal import console, counts, exit_status, loading, outcome_text, print_tree
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import sentence, words
from hiervla.representations import Event, HiervlaError, Plan
from hiervla.representations import events as ev

if TYPE_CHECKING:
    from hiervla.executor.record.verify import VerifyReport

_SHOWN = (ev.StepStarted, ev.StepFinished, ev.ResourcesClaimed, ev.PlanRejected, ev.PlanRefused, ev.EnvelopeFired)


class ArmsOptionError(HiervlaError):
    """An option that a world, or a record, of several arms does not have."""

    exit_code = 2

    def __init__(self, option: str, why: str, remedy: str) -> None:
        super().__init__(f"{option}: {why}. {remedy}.")
        self.option = option


def run_arms(
    instruction: str,
    *,
    world: str,
    planner: str,
    policy: str,
    seed: int,
    record: Path,
    as_json: bool,
    quiet: bool,
    judge: str | None = None,
    options: Sequence[str] = (),
) -> int:
    """``hiervla run`` in a world with several arms; returns the exit status.

    Args:
        instruction: what to do.
        world: name of the preset.
        planner: of each arm.
        policy: of each arm.
        seed: of scene and sampling.
        record: folder in which the run's record is made.
        as_json: print the result as JSON.
        quiet: show no progress.
        judge: a model that is asked where a skill's own check is in doubt.
        options: further options that were given; none of them works with several arms.

    Raises:
        ArmsOptionError: there are such options.
        HiervlaError: an unknown planner or policy, unreadable weights, an unusable folder.
    """
    if options:
        raise ArmsOptionError(options[0], f"world '{world}' has several arms", "Leave it out, or use --world tabletop")
    out = console(stderr=True)
    with loading(out, quiet=quiet):
        from hiervla.executor.arms.agent import ArmsAgent

        agent = ArmsAgent.from_preset(world, planner=planner, policy=policy, judge=judge)

    def told(arm: str, event: Event) -> None:
        if not quiet and isinstance(event, _SHOWN):
            out.print(Styled(f"{event.time_s:8.2f} s  {arm:5}  {sentence(event)}"), soft_wrap=True)

    result = agent.run(instruction, seed=seed, record=record, on_arm=told)
    if as_json:
        print(json.dumps(_result(result.outcome, result.message, result.duration_s, result.record, result.plan)))
    else:
        print(f"{words(result.outcome)}: {result.message}")
        print(f"{result.duration_s:.1f} s of robot time")
        print(f"record: {result.record}")
        print(f"look at it: hiervla inspect {shlex.quote(str(result.record))}")
    return exit_status(result.outcome)


def show_arms(record: RunRecord, *, as_json: bool) -> None:
    """Print a run of several arms: who was to do what, who waited for whom, and each arm's tree.

    Raises:
        RecordError: a record cannot be read.
    """
    from hiervla.executor.arms.records import parts_of

    parts = parts_of(record)
    views = {arm: view_of(part) for arm, part in parts.items()}
    whole = view_of(record)
    shared = whole.chapters and whole.chapters[-1].answers[-1].told is None
    plan = whole.chapters[-1].plan if shared else None
    claims = list(record.of(ev.ResourcesClaimed))
    if as_json:
        values: dict[str, Any] = _result(
            whole.finished.outcome if whole.finished else None,
            whole.finished.message if whole.finished else "",
            whole.time_s,
            record.path,
            plan,
        )
        values["claims"] = [c.model_dump(mode="json", exclude={"wall_time_s", "version"}) for c in claims]
        values["arms"] = {arm: summary(part, views[arm]) for arm, part in parts.items()}
        print(json.dumps(values, indent=2))
        return
    out, m = printer(), record.manifest
    out.print(Styled(m.run_id, style="bold"))
    out.print(Styled(f'  "{m.instruction}"', style="italic"))
    out.print(Styled(f"  world {m.world}, seed {m.seed}, planner {m.planner}, policy {m.policy}", style="dim"))
    out.print(Styled("  ").append(outcome_text(whole)))
    for notice in record.notices:
        out.print(Styled(f"  note: {notice}", style="yellow"))
    if plan is not None:
        _print_plan(out, plan)
    for claim in claims:
        if claim.state in ("waiting", "dropped"):
            out.print(Styled(f"{claim.time_s:8.2f} s  {claim.arm}: {sentence(claim)}", style="yellow"))
    for arm, part in parts.items():
        view = views[arm]
        out.print(Styled(f"\n{arm} arm  ", style="bold").append(outcome_text(view)))
        out.print(Styled(f'  "{part.manifest.instruction}", {counts(view)}', style="dim"))
        print_tree(out, view)
    first = next((arm for arm, view in views.items() if view.steps), None)
    if first is not None:
        folder = shlex.quote(str(record.path / first))
        out.print(Styled(f"what an arm saw and meant in a step: hiervla inspect {folder} --step 1", style="dim"))


def verify_arms(run: Path, found: VerifyReport) -> None:
    """Add to the report of a run of several arms what is wrong with their parts, or between them.

    Raises:
        RecordError: a part is missing, or was written in a version that is not read here.
    """
    from hiervla.executor.arms.records import broken_claim
    from hiervla.executor.record.verify import verify

    for arm in found.arms:
        part = verify(run / arm)
        found.events += part.events
        found.blobs += part.blobs
        found.ticks += part.ticks
        found.notices += [f"{arm}: {notice}" for notice in part.notices]
        if found.status != "broken" and part.status != "whole":
            found.status = part.status
            found.place, found.line, found.problem = f"{arm}/{part.place}", part.line, part.problem
    wrong = broken_claim(RunRecord.open(run)) if found.status != "broken" else None
    if wrong is not None:
        found.status, found.place, found.line, found.problem = "broken", "events.jsonl", None, wrong


def replay_arms(record: RunRecord, *, as_json: bool) -> int:
    """Run the decisions of all arms again; returns the exit status.

    Raises:
        RecordError: a record is damaged, or holds no run.
    """
    from hiervla.cli.travelling import as_plain, print_replay
    from hiervla.executor.arms.records import parts_of
    from hiervla.executor.arms.records import replay_arms as again

    found = again(record)
    if as_json:
        values = {
            "identical": found.identical,
            "sharing": None if found.sharing is None else str(found.sharing),
            "claims": found.claims,
            "arms": {arm: as_plain(replay, ()) for arm, replay in found.arms.items()},
        }
        print(json.dumps(values))
        return 0 if found.identical else 1
    print(f"plan of all arms: {'identical' if found.sharing is None else found.sharing}")
    if found.claims is not None:
        print(f"claims: {found.claims}")
    parts = parts_of(record)
    for arm, replay in found.arms.items():
        print(f"{arm}: ", end="")
        print_replay(parts[arm], replay, ())
    return 0 if found.identical else 1


def report_arms(record: RunRecord, out: Path) -> None:
    """Write one HTML file with the arms' parts side by side.

    Raises:
        RecordError: a record is damaged.
        OutputError: the file cannot be written.
    """
    from hiervla.executor.arms.records import parts_of
    from hiervla.executor.report.html import write_report

    first, *others = parts_of(record).values()
    write_report(first, out, others[0] if others else None)


def of_one_arm(record: RunRecord, option: str) -> None:
    """See that a question about a step is not asked of the record of a whole run.

    Raises:
        ArmsOptionError: it is; the arms' own records have the steps.
    """
    if record.manifest.arms:
        folders = " or ".join(shlex.quote(str(record.path / arm)) for arm in record.manifest.arms)
        raise ArmsOptionError(option, "each arm's steps are in a record of its own", f"Ask {folders}")


def _print_plan(out: Printer, plan: Plan) -> None:
    tree = Branch(Styled("plan of all arms", style="bold"))
    arm_of = {s.id: s.arm for s in plan.steps}
    for step in plan.steps:
        label = Styled(f"{step.arm}: {step}")
        foreign = [n for n in step.depends_on if arm_of[n] != step.arm]
        if foreign:
            label.append(f"  after {', '.join(foreign)}", style="dim")
        tree.add(label)
    out.print(tree)


def _result(
    outcome: str | None, message: str, duration_s: float, record: Path | None, plan: Plan | None
) -> dict[str, Any]:
    steps = () if plan is None else plan.steps
    return {
        "outcome": outcome,
        "message": message,
        "duration_s": duration_s,
        "record": None if record is None else str(record),
        "plan": [{"id": s.id, "arm": s.arm, "step": str(s), "depends_on": list(s.depends_on)} for s in steps],
    }


def replay_physics(record: RunRecord, *, as_json: bool) -> int:
    """Execute the recorded commands of all arms; returns the exit status.

    Raises:
        RecordError: a record is damaged, or its world cannot be rebuilt.
    """
    from hiervla.executor.arms.records import replay_physics as execute

    found = execute(record)
    if as_json:
        print(json.dumps({"agrees": found.agrees, **asdict(found)}))
    elif found.divergence is None:
        print(f"{found.ticks} recorded ticks of all arms executed in the world as the manifest describes it")
        print(f"agrees: every joint state and all {found.snapshots} snapshots are the same, bit for bit")
    else:
        print(f"parts: {found.divergence}")
    return 0 if found.agrees else 1
