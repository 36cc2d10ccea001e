"""``blame(record)``: every test in turn, counterfactuals while the budget lasts, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hiervla.controllers.envelope import world_snapshot
from hiervla.executor.blame import contracts, joints, verdict
from hiervla.executor.blame.commands import number, refusals, repeat_commands
from hiervla.executor.blame.contracts import Ledger
from hiervla.executor.blame.exchange import Bench, Rollout
from hiervla.executor.blame.findings import Blame, Judge
from hiervla.executor.blame.physics import look_at_images, repeat_physics
from hiervla.executor.blame.testimony import Attempt, Testimony, hear
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.seen import StateStream
from hiervla.planner.base import Planner
from hiervla.representations import Plan, SnapshotError
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from hiervla.worlds.base import SnapshotWorld, World

QUICK_S = 30.0
"""Time for counterfactuals that is given by default [s]."""
_STRONG = 0.8
_SEEDS = 3


@dataclass(frozen=True)
class Witnesses:
    """What there is beside the record; each may be missing, and what cannot be tested without it is said.

    Attributes:
        planner: asked again where it is the recorded one, by id.
        policy_for: gives policies by name; asked again where they are the recorded ones, by id.
        world: the recorded world; it is set to recorded states.
        judge: who knows what is true in that world.
    """

    planner: Planner | None = None
    policy_for: Callable[[str], Policy] | None = None
    world: World | None = None
    judge: Judge | None = None


def blame(
    record: RunRecord,
    witnesses: Witnesses | None = None,
    *,
    skills: SkillLibrary | None = None,
    budget_s: float = QUICK_S,
) -> Blame:
    """Say which level made a run fail, and by what evidence.

    Args:
        record: the run; it needs to be whole, not to have been closed.
        witnesses: live parts, world and judge; without them only what the record itself shows is tested.
        skills: the library; by default everything installed.
        budget_s: time for counterfactuals on the computer's clock; 0 for none. The tests are always made [s].

    Returns:
        The verdict. A run that succeeded, as far as anybody can tell, has nothing to blame.

    Raises:
        ReplayError: the record holds no run, or its settings are not understood here.
        RecordError: the record is damaged.
    """
    began = time.perf_counter()
    given = witnesses or Witnesses()
    ledger = Ledger()
    said = hear(record, skills=skills)
    if said.broken_at is not None:
        ledger.untested["what follows"] = f"the orchestrator leaves the record at {said.broken_at}"
    states = StateStream(record)
    world = given.world if isinstance(given.world, SnapshotWorld) else None
    if world is None:
        ledger.untested["commands executed again"] = "the world cannot be set to a recorded state here"
    finished = record.finished
    claimed = finished is not None and finished.outcome == "succeeded"
    problem = f"the run ended as '{finished.outcome}': {finished.message}" if finished else "the run broke off"
    if world is not None and given.judge is not None:
        goal = _judged(said, states, world, given.judge, ledger)
        if claimed:
            problem = f"the agent says that it succeeded, but {goal}" if goal else ""
    elif claimed:
        problem = ""
    harmless = finished is not None and finished.outcome in {"cancelled", "nothing_to_do", "planner_failed"}
    if not problem or (harmless and not any(f.weight >= _STRONG for f in ledger.findings)):
        why = "the run succeeded" if claimed else problem
        return verdict.nobody(ledger, "nothing", f"nothing to blame: {why}", time.perf_counter() - began)
    _test(said, states, given, world, ledger)
    if finished is not None and finished.outcome == "refused" and not ledger.findings:
        why = f"nothing to blame: the planner refused, and refuses again: {finished.message}"
        return verdict.nobody(ledger, "nothing", why, time.perf_counter() - began)
    fatal = verdict.decisive(said)
    if not claimed and fatal and not _strong(said, ledger, claimed):
        joints.own_ending(said, fatal[-1], ledger)
    if world is not None and given.policy_for is not None and fatal and budget_s > 0:
        bench = Bench(said, world, given.policy_for, given.planner, given.judge)
        _exchange(said, bench, ledger, claimed, time.perf_counter() + budget_s)
    wall = time.perf_counter() - began
    return verdict.conclude(said, ledger, claimed=claimed, problem=problem, wall_s=wall)


def _test(said: Testimony, states: StateStream, given: Witnesses, world: SnapshotWorld | None, ledger: Ledger) -> None:
    look_at_images(said, ledger)
    if world is not None:
        repeat_physics(said, states, world, ledger)
    contracts.ask_planner(said, given.planner, ledger)
    contracts.follow_plans(said, ledger)
    contracts.lift_points(said, given.planner, ledger)
    contracts.ask_policy(said, given.policy_for, ledger)
    repeat_commands(said, states, ledger)
    refusals(said, ledger)
    contracts.ask_checks(said, ledger)
    joints.hand_offs(said, ledger)


def _judged(said: Testimony, states: StateStream, world: SnapshotWorld, judge: Judge, ledger: Ledger) -> str:
    """Ask the judge about plans, about steps that were taken as done, and about the goal in the end."""
    record = said.record
    snapshots = list(record.of(ev.SnapshotTaken))
    wrong = False
    try:
        for asked in (a for a in said.asked if a.before is None and isinstance(a.answer, Plan)):
            if not snapshots:
                break
            at = int(asked.event[1:])
            near = min(snapshots, key=lambda s: (abs(number(s) - at), number(s)))
            world.restore(world_snapshot(record.snapshot(near)))
            assert isinstance(asked.answer, Plan)
            ledger.tested["plan judged"] += 1
            why = judge.plan_problem(world, asked.answer)
            if why is not None:
                recorded = "; ".join(contracts.calls_of(asked.answer))
                ledger.add("planner", "the plan against the goal", asked, None, recorded=recorded, expected=why,
                           weight=0.88)  # fmt: skip
        for attempt in said.attempts:
            if attempt.outcome != "succeeded":
                continue
            _state_after(said, states, world, attempt)
            ledger.tested["step judged"] += 1
            why = judge.step_problem(world, attempt.step)
            if why is not None:
                wrong = True
                joints.declared(attempt, why, ledger)
        _to_the_end(said, states, world)
        goal = judge.goal_problem(world)
    except SnapshotError as error:
        ledger.untested["judged by the simulator"] = str(error).rstrip(".")
        return ""
    last = said.asked[-1] if said.asked else None
    if goal and last is not None and said.attempts and not wrong:
        finished = record.finished
        if finished is not None and finished.outcome == "succeeded":
            ledger.add("planner", "the goal when all steps had their effect", last, None,
                       recorded="nothing is left to do", expected=goal, weight=0.8)  # fmt: skip
    if wrong and not goal:
        first = next(f for f in ledger.findings if f.level == "verifier")
        return f"after step {first.step}: {first.expected}"
    return goal or ""


def _state_after(said: Testimony, states: StateStream, world: SnapshotWorld, attempt: Attempt) -> None:
    """Set the world to the first state on record after an attempt, or to the end of the run."""
    assert attempt.finished is not None
    after = [s for s in said.record.of(ev.SnapshotTaken) if number(s) > number(attempt.finished)]
    if after:
        world.restore(world_snapshot(said.record.snapshot(after[0])))
    else:
        _to_the_end(said, states, world)


def _to_the_end(said: Testimony, states: StateStream, world: SnapshotWorld) -> None:
    snapshots = list(said.record.of(ev.SnapshotTaken))
    if not snapshots:
        raise SnapshotError(world.name, "the record holds none")
    world.restore(world_snapshot(said.record.snapshot(snapshots[-1])))
    for tick in states.ticks[snapshots[-1].ticks :]:
        world.step(tick.command)


def _strong(said: Testimony, ledger: Ledger, claimed: bool) -> bool:
    return any(verdict.score(f, said, claimed) >= _STRONG for f in ledger.findings)


def _exchange(said: Testimony, bench: Bench, ledger: Ledger, claimed: bool, until: float) -> None:
    """Do the step at which it went wrong again, with another level exchanged each time, while there is time."""
    ranked = sorted(ledger.findings, key=lambda f: -verdict.score(f, said, claimed))
    suspect = ranked[0] if ranked else None
    if suspect is not None and suspect.level in {"planner", "verifier", "hand-off"}:
        return  # their tests need no motion
    fatal = verdict.decisive(said)
    attempt = said.attempts[suspect.attempt] if suspect is not None and suspect.attempt >= 0 else fatal[-1]
    strong = suspect is not None and suspect.weight >= _STRONG
    point = "fresh" if suspect is not None and suspect.level == "grounding" else "same"
    done: list[Rollout] = []
    for k in range(1 if strong else _SEEDS):
        if time.perf_counter() >= until:
            break
        rollout = bench.roll(attempt, point, (attempt.seed or 0) + 7919 * (k + 1))
        if rollout is None:
            break
        ledger.tested[f"step done again ({rollout})"] += 1
        done.append(rollout)
    if not done:
        return
    works = sum(r.success for r in done)
    if strong and suspect is not None:
        verdict.shifted(ledger, suspect.level, attempt.number, 1.03 if works else 0.95)
    elif works:
        ledger.add(
            "policy", "the step again from its recorded state with another draw", None, attempt,
            recorded=f"'{attempt.step}' {attempt.outcome}", expected=f"{works} of {len(done)} others work",
            weight=0.7, event=attempt.started.id, time_s=attempt.started.time_s,
        )  # fmt: skip
    else:
        _other_points(bench, ledger, attempt, until)


def _other_points(bench: Bench, ledger: Ledger, attempt: Attempt, until: float) -> None:
    """No draw of the policy works: does it work with another point?"""
    for point in ("true", "fresh"):
        if time.perf_counter() >= until:
            return
        rollout = bench.roll(attempt, point, attempt.seed or 0)
        if rollout is None:
            continue
        ledger.tested[f"step done again ({rollout})"] += 1
        if rollout.success:
            ledger.add(
                "grounding", f"the step again with the {rollout.exchanged}", None, attempt,
                recorded=f"'{attempt.step}' {attempt.outcome}", expected=rollout.why, weight=0.78,
                event=attempt.started.id, time_s=attempt.started.time_s,
            )  # fmt: skip
            return
