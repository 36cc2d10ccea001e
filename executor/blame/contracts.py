"""Asks planner, grounding, policy and checks again, each with its recorded inputs, and compares the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from hiervla.executor.activities import SkillVerifier
from hiervla.executor.blame.findings import Finding, Level
from hiervla.executor.blame.testimony import Act, Asked, Attempt, Check, Lift, Testimony
from hiervla.executor.policies.base import Policy, target_point
from hiervla.planner.base import GroundingError, Planner
from hiervla.planner.grounding import BOX_MARGIN_PX, UngroundedError, distance_outside, lift_point
from hiervla.representations import ActionChunk, Boxes, HiervlaError, Keypoint, Keypoints, Plan, Refusal, Step, Verdict

POINT_PX = 4.0
"""Keypoints that are asked for twice may differ by this much [px]."""
LIFT_M = 0.01
"""Positions that are lifted twice by the same code may differ by this much [m]."""
PLAIN_LIFT_M = 0.03
"""The same where only the plain lifting of a pixel is at hand, and a planner may have had its reasons [m]."""
CHUNK_M, CHUNK_RAD, CHUNK_OPENING = 0.004, 0.04, 0.1
"""Chunks that are asked for twice may differ by this much; threads and processors round differently."""


@dataclass
class Ledger:
    """Collects what tests find, and which tests could not be made."""

    findings: list[Finding] = field(default_factory=list)
    tested: Counter[str] = field(default_factory=Counter)
    untested: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        level: Level,
        test: str,
        at: Asked | Lift | Check | Act | None,
        attempt: Attempt | None,
        *,
        recorded: str,
        expected: str,
        distance: str = "",
        weight: float,
        event: str = "",
        time_s: float = 0.0,
        step: str = "",
    ) -> None:
        """Put a finding down."""
        self.findings.append(
            Finding(
                level=level,
                test=test,
                event=at.event if at is not None else event,
                time_s=at.time_s if at is not None else time_s,
                step=attempt.step.id if attempt is not None else step,
                attempt=attempt.number if attempt is not None else -1,
                recorded=recorded,
                expected=expected,
                distance=distance,
                weight=weight,
            )
        )


def ask_planner(said: Testimony, live: Planner | None, ledger: Ledger) -> None:
    """Ask the planner again, on the recorded image with the recorded history."""
    recorded_id = said.record.manifest.planner
    if live is None or live.id != recorded_id:
        ledger.untested["planner asked again"] = f"planner '{recorded_id}' is not here"
        return
    for asked in said.asked:
        ledger.tested["planner asked again"] += 1
        found = _other_answer(asked, _answer(live, said, asked))
        if found is None:
            continue
        level, recorded, expected, distance = found
        again = _other_answer(asked, _answer(live, said, asked))
        # A planner that does not agree with itself proves nothing by disagreeing with its record.
        weight = 0.95 if again == found else 0.5
        step = "" if asked.before is None else asked.before.remaining[0]
        what = (
            "the planner on the recorded image" if level == "planner" else "the planner's point on the recorded image"
        )
        ledger.add(
            level, what, asked, None, recorded=recorded, expected=expected, distance=distance, weight=weight, step=step
        )


def follow_plans(said: Testimony, ledger: Ledger) -> None:
    """Follow every new plan in symbols: what is in the hand, whether the drawer is open, what was seen."""
    from hiervla.skills.checks import holding

    for asked in said.asked:
        if not isinstance(asked.answer, Plan) or asked.before is not None:
            continue
        ledger.tested["plan followed in symbols"] += 1
        problem = chain_problem(asked.answer, hand_full=holding(asked.observation.proprio).yes)
        if problem is None:
            problem = _absent(said, asked.answer)
        if problem is not None:
            step, why = problem
            ledger.add(
                "planner", "the plan in symbols", asked, None,
                recorded=f"'{step}'", expected=why, weight=0.85, step=step.id,
            )  # fmt: skip


def lift_points(said: Testimony, live: Planner | None, ledger: Ledger) -> None:
    """Lift every recorded point anew through the recorded depth, and see that it lies on its thing."""
    known = live is not None and live.id == said.record.manifest.planner
    for attempt in said.attempts:
        for lift in attempt.lifts:
            ledger.tested["point lifted anew"] += 1
            if known:
                assert live is not None
                _lift_again(live, lift, attempt, ledger)
            else:
                _plain_lift(lift, attempt, ledger)
            _on_its_thing(lift, attempt, ledger)


def ask_policy(said: Testimony, policy_for: Callable[[str], Policy] | None, ledger: Ledger) -> None:
    """Ask the policy again, from the same seed, on the recorded observations."""
    for attempt in said.attempts:
        if not attempt.acts:
            continue
        name = said.skills.get(attempt.step.skill).policy
        recorded_id = attempt.acts[0].chunk.policy
        live = _policy(policy_for, name)
        if live is None or live.id != recorded_id or attempt.seed is None:
            ledger.untested["policy asked again"] = f"policy '{recorded_id}' is not here"
            continue
        live.reset(attempt.acts[0].step, attempt.seed)
        worst: tuple[float, Act, ActionChunk, str] | None = None
        for act in attempt.acts:
            ledger.tested["policy asked again"] += 1
            chunk = live.act(act.observation, act.step)
            size, words = chunk_distance(act.chunk, chunk)
            if size > 1.0 and worst is None:
                worst = size, act, chunk, words
        if worst is not None:
            _, act, chunk, words = worst
            ledger.add(
                "policy", "the policy on the recorded observation", act, attempt,
                recorded=_towards(act.chunk, act.step), expected=_towards(chunk, act.step), distance=words, weight=0.95,
            )  # fmt: skip


def ask_checks(said: Testimony, ledger: Ledger) -> None:
    """Ask each skill's own checks again, on the recorded observations."""
    verifier = SkillVerifier()
    for attempt in said.attempts:
        for check in attempt.checks:
            if check.phase == "during" and not said.config.learned_termination:
                continue
            ledger.tested["verdict made anew"] += 1
            again = {
                "ready": verifier.ready, "invariant": verifier.holds, "during": verifier.stop, "done": verifier.done,
            }[check.phase](check.skill, check.context)  # fmt: skip
            if again is not None and again.value != check.verdict.value:
                ledger.add(
                    "verifier", f"the skill's own check '{check.phase}' on the recorded observation", check, attempt,
                    recorded=_verdict(check.verdict), expected=_verdict(again), weight=0.95,
                )  # fmt: skip


def chain_problem(plan: Plan, *, hand_full: bool) -> tuple[Step, str] | None:
    """The first step of a plan whose precondition the steps before it do not bring about, and why.

    Args:
        plan: its remaining steps are followed, by their pre- and postconditions.
        hand_full: whether something is in the hand at the beginning.
    """
    held = "?" if hand_full else ""
    opened: bool | None = None
    for step in (plan.step(i) for i in plan.remaining):
        for c in step.preconditions:
            wanted = c.args[0] if c.args else ""
            if c.predicate == "hand_empty" and held:
                return step, "an empty hand, and it holds " + ("something" if held == "?" else f"the {held}")
            if c.predicate == "holding" and not held:
                return step, f"the {wanted} in the hand, and the hand is empty by then"
            if c.predicate == "holding" and held != "?" and wanted not in held:
                return step, f"the {wanted} in the hand, and it holds the {held} by then"
            if c.predicate == "open" and opened is not None and opened != c.holds:
                return step, f"the drawer {'open' if c.holds else 'closed'}, which it is not by then"
        for c in step.postconditions:
            if c.predicate == "holding":
                held = c.args[0] if c.args else "?"
            elif c.predicate == "hand_empty":
                held = ""
            elif c.predicate == "open":
                opened = c.holds
    return None


def chunk_distance(a: ActionChunk, b: ActionChunk) -> tuple[float, str]:
    """How far two chunks are apart in units of what may differ, and in words."""
    if a.horizon != b.horizon or a.rate_hz != b.rate_hz:
        return np.inf, f"{a.horizon} rows at {a.rate_hz:g} Hz against {b.horizon} at {b.rate_hz:g} Hz"
    metres = float(np.linalg.norm(a.positions - b.positions, axis=1).max())
    turn = np.abs(a.yaws - b.yaws) % np.pi
    radians = float(np.minimum(turn, np.pi - turn).max())
    opening = float(np.abs(a.gripper - b.gripper).max())
    late = abs(a.observed_at_s - b.observed_at_s)
    size = max(metres / CHUNK_M, radians / CHUNK_RAD, opening / CHUNK_OPENING, late / 0.02)
    words = f"{metres * 1e3:.0f} mm, {np.rad2deg(radians):.0f} degrees, {opening:.2f} of the gripper's opening"
    return size, words + (f", and it answers an observation {late:.2f} s away" if late > 1e-3 else "")


def points_of(step: Step) -> Iterator[Keypoint]:
    """Every keypoint of a step."""
    for artifact in step.artifacts:
        if isinstance(artifact, Keypoints):
            yield from artifact.points


def calls_of(plan: Plan) -> list[str]:
    """The remaining steps of a plan as calls."""
    steps = [plan.step(i) for i in plan.remaining]
    return [f"{s.skill}({', '.join(v for k, v in s.args.items() if k != 'source')})" for s in steps]


def _answer(live: Planner, said: Testimony, asked: Asked) -> Plan | Refusal | None:
    if asked.before is not None:
        return live.refresh(asked.observation, asked.before, asked.context)
    return live.plan(asked.observation, said.record.manifest.instruction, asked.context)


def _other_answer(asked: Asked, live: Plan | Refusal | None) -> tuple[Level, str, str, str] | None:
    recorded = asked.answer
    if not (isinstance(recorded, Plan) and isinstance(live, Plan)):
        same = type(recorded) is type(live) and getattr(recorded, "reason", "") == getattr(live, "reason", "")
        return None if same else ("planner", _in_words(recorded), _in_words(live), "")
    a, b = calls_of(recorded), calls_of(live)
    if a != b:
        apart = sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
        return "planner", _in_words(recorded), _in_words(live), f"{apart} of {max(len(a), len(b))} steps"
    for i, j in zip(recorded.remaining, live.remaining, strict=True):
        p, q = next(points_of(recorded.step(i)), None), next(points_of(live.step(j)), None)
        if (p is None) != (q is None):
            return "grounding", f"{_where(p)} for step {i}", _where(q), ""
        if p is not None and q is not None and np.hypot(p.u - q.u, p.v - q.v) > POINT_PX:
            far = float(np.hypot(p.u - q.u, p.v - q.v))
            return "grounding", f"{_where(p)} for step {i}", _where(q), f"{far:.0f} px"
    return None


def _in_words(answer: Plan | Refusal | None) -> str:
    if answer is None:
        return "what comes next is not in view"
    return f"refusal: {answer.message}" if isinstance(answer, Refusal) else "; ".join(calls_of(answer)) or "no steps"


def _where(point: Keypoint | None) -> str:
    return "no point" if point is None else f"(u={point.u:.0f}, v={point.v:.0f})"


def _absent(said: Testimony, plan: Plan) -> tuple[Step, str] | None:
    boxes = [b.label for a in plan.scene if isinstance(a, Boxes) for b in a.boxes]
    if not boxes or not plan.remaining:
        return None
    step = plan.step(plan.remaining[0])
    held = {c.args[0] for c in step.preconditions if c.predicate == "holding" and c.args}
    for param in said.skills.get(step.skill).signature.params:
        name = step.args.get(param.name)
        if param.type == "object" and name and name not in held and name not in boxes:
            return step, f"a thing in view, which '{name}' is not: it sees {', '.join(boxes)}"
    return None


def _lift_again(live: Planner, lift: Lift, attempt: Attempt, ledger: Ledger) -> None:
    test = "the point lifted anew through the recorded depth"
    try:
        again = live.ground(lift.observation, lift.step)
    except GroundingError as error:
        if lift.answer is not None:
            ledger.add("grounding", test, lift, attempt, recorded="a position", expected=error.problem, weight=0.9)
        else:
            ledger.add(
                "grounding", "the point in the recorded image", lift, attempt,
                recorded="refused", expected=f"a point that stands on its thing; {error.problem}", weight=0.6,
            )  # fmt: skip
        return
    if lift.answer is None:
        ledger.add("grounding", test, lift, attempt, recorded=lift.problem, expected="a position", weight=0.95)
        return
    a, b = target_point(lift.answer), target_point(again)
    _compare_positions(a, b, LIFT_M, test, lift, attempt, ledger, 0.95)


def _plain_lift(lift: Lift, attempt: Attempt, ledger: Ledger) -> None:
    """For records of planners that are not here: the surface that the pixel shows."""
    if lift.answer is None or attempt.step.skill == "throw_away":
        return
    point = next((p for p in points_of(lift.answer) if p.position_w is not None), None)
    image = next((a.image for a in lift.answer.artifacts if isinstance(a, Keypoints)), None)
    frames = [f for f in lift.observation.frames if image is not None and f.sha256 == image.sha256]
    if point is None or not frames:
        return
    try:
        again = lift_point(frames[0], point.u, point.v, point.label)
    except HiervlaError as error:
        if isinstance(error, UngroundedError):
            ledger.add(
                "grounding", "the pixel's depth", lift, attempt, recorded="a position", expected=error.problem,
                weight=0.7,
            )  # fmt: skip
        return
    position = np.array(point.position_w)
    test = "the pixel lifted through the recorded depth"
    _compare_positions(position, np.array(again.position_w), PLAIN_LIFT_M, test, lift, attempt, ledger, 0.82)


def _compare_positions(
    a: np.ndarray,
    b: np.ndarray,
    tolerance: float,
    test: str,
    lift: Lift,
    attempt: Attempt,
    ledger: Ledger,
    weight: float,
) -> None:
    far = float(np.linalg.norm(a - b))
    if far > tolerance:
        ledger.add(
            "grounding", test, lift, attempt,
            recorded=_metres(a), expected=_metres(b), distance=f"{far * 1e3:.0f} mm", weight=weight,
        )  # fmt: skip


def _on_its_thing(lift: Lift, attempt: Attempt, ledger: Ledger) -> None:
    """The point of a step that touches a thing has to lie where the planner itself saw that thing."""
    plan = attempt.planned.answer if attempt.planned is not None else None
    name = lift.step.args.get("object", lift.step.args.get("surface", ""))
    if not isinstance(plan, Plan) or lift.step.skill not in ("pick", "wipe") or lift.answer is None:
        return
    boxes = [b for a in plan.scene if isinstance(a, Boxes) for b in a.boxes if b.label == name]
    point = next(points_of(lift.answer), None)
    if not boxes or point is None:
        return
    width = max(f.width for f in lift.observation.frames)
    away = min(distance_outside(point.u, point.v, (b.u_min, b.v_min, b.u_max, b.v_max)) for b in boxes)
    if away > BOX_MARGIN_PX * width / 256:
        ledger.add(
            "grounding", f"the point on the '{name}'", lift, attempt,
            recorded=_where(point), expected="inside of where it was seen", distance=f"{away:.0f} px", weight=0.82,
        )  # fmt: skip


def _policy(policy_for: Callable[[str], Policy] | None, name: str) -> Policy | None:
    try:
        return policy_for(name) if policy_for is not None else None
    except HiervlaError:
        return None


def _towards(chunk: ActionChunk, step: Step) -> str:
    end = chunk.positions[-1] - target_point(step)
    return (
        f"a chunk that ends {np.linalg.norm(end) * 1e3:.0f} mm from the keypoint, gripper {chunk.gripper[-1]:.2f} open"
    )


def _metres(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.3f}" for v in point) + ") m"


def _verdict(verdict: Verdict) -> str:
    parts = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in verdict.evidence.items())
    evidence = ", ".join(parts)
    return f"{verdict.name}: {verdict.value}" + (f" ({evidence})" if evidence else "")
