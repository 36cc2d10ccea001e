"""What lies between the parts: hand-offs from step to step, and what an attempt's own ending says."""

from __future__ import annotations

from hiervla.executor.blame.commands import number
from hiervla.executor.blame.contracts import Ledger
from hiervla.executor.blame.findings import Level
from hiervla.executor.blame.testimony import Attempt, Check, Testimony
from hiervla.representations import events as ev
from hiervla.skills.checks import holding


def hand_offs(said: Testimony, ledger: Ledger) -> None:
    """Compare what an earlier step left in the hand, by belief, with what the hand feels when the next begins."""
    for attempt in said.attempts:
        ready = attempt.check("ready")
        earlier = [a for a in said.attempts[: attempt.number] if a.outcome == "succeeded"]
        if ready is None or not earlier:
            continue
        ledger.tested["hand-off"] += 1
        believed, felt = ready.context.belief.held, holding(ready.context.proprio)
        if (believed is not None) == felt.yes:
            continue
        width = f"{ready.context.proprio.gripper_width_m * 1e3:.0f} mm between the fingers"
        step = f"step {earlier[-1].step.id} ('{earlier[-1].step}') was checked and taken as done"
        ledger.add(
            "hand-off", "the hand when the step begins", ready, attempt,
            recorded=f"{'something' if felt.yes else 'nothing'} in the hand ({width})",
            expected=f"the {believed} in the hand: {step}" if believed is not None else f"an empty hand: {step}",
            weight=0.9,
        )  # fmt: skip


def own_ending(said: Testimony, attempt: Attempt, ledger: Ledger) -> None:
    """What the way in which an attempt failed says by itself; each of these other levels could explain."""
    record, outcome = said.record, attempt.outcome
    finished = attempt.finished
    begin = number(attempt.started)
    end = number(finished) if finished is not None else len(record.lines)
    reason = finished.reason if finished is not None else ""
    if outcome == "not_found":
        _say(ledger, "grounding", attempt, "the point", reason, "a point that stands on its thing", 0.55)
    elif outcome == "precondition_failed":
        _say(ledger, "planner", attempt, "the step's precondition", reason, "a step that may start", 0.55)
    elif outcome == "unreachable":
        failed = [e for e in record.of(ev.TransitFailed) if begin < number(e) < end]
        level: Level = "hand-off" if failed and failed[0].error == "no_path" else "grounding"
        _say(ledger, level, attempt, "the way to the hover", reason, "a free way", 0.55)
    elif outcome in {"failed", "timed_out", "lost_object", "blocked"} and attempt.acts:
        _say(ledger, "policy", attempt, "the step's effect", reason, _best(attempt), 0.5)


def declared(attempt: Attempt, problem: str, ledger: Ledger) -> None:
    """A step was declared done and the world shows otherwise: the check let it pass, the policy brought it about."""
    done = attempt.check("done")
    what = f"'{attempt.step}' done" + (f" ({done.verdict.name})" if done is not None else "")
    _say(ledger, "verifier", attempt, "the verdict against what came of it", what, problem, 0.8, done)
    _say(ledger, "policy", attempt, "the step's effect", "taken as reached", problem, 0.6)


def _say(
    ledger: Ledger, level: Level, attempt: Attempt, test: str, recorded: str, expected: str, weight: float,
    at: Check | None = None,
) -> None:  # fmt: skip
    event = attempt.finished or attempt.started
    ledger.add(
        level, test, at, attempt,
        recorded=recorded, expected=expected, weight=weight, event=event.id, time_s=event.time_s,
    )  # fmt: skip


def _best(attempt: Attempt) -> str:
    sure = max((a.chunk.done_prob or 0.0 for a in attempt.acts), default=0.0)
    return f"the step done, from sound inputs (the policy was at most {100 * sure:.0f} % sure that it was)"
