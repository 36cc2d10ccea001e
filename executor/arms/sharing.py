"""One plan for several arms: what is asked for is parted into requests, and each goes to the arms that can do it.

Each arm's planner looks through that arm's own cameras. A request that names its thing ("put the red mug on the shelf")
is done once, by an arm that has this thing within reach, the one with less to do if both have; a request that names
none ("clear the table") is done by every arm that finds something to do for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import Plan, PlanError, Refusal, Step

FloatArray = NDArray[np.float64]
Ask = Callable[[str, str], Plan | Refusal]
"""Asks an arm's planner: arm and words in, what this arm can do of it out."""
Where = Callable[[str, Step], FloatArray | None]
"""Where a step of an arm points, (3,) in the frame that all arms share [m]; None where that is not known."""
_SAME_M: Final = 0.06
_IN_ORDER: Final = re.compile(r"\b(then|after|afterwards|before|first|finally|once|next)\b")
_EACH: Final = re.compile(r"\b(all|every|everything|each|both)\b")

_PUTS_DOWN: Final = ("place", "throw_away")


@dataclass(frozen=True)
class Share:
    """What an arm is to do.

    Attributes:
        instruction: in words; what its planner is asked when it has to be asked again.
        plan: its steps, with ids that no other arm's steps have.
    """

    instruction: str
    plan: Plan


@dataclass(frozen=True)
class Shared:
    """A plan for all arms.

    Attributes:
        plan: all steps, each with its arm and with the steps of any arm that it needs.
        shares: what each arm is to do; arms with nothing to do are left out.
    """

    plan: Plan
    shares: Mapping[str, Share]


def share_out(instruction: str, arms: Sequence[str], ask: Ask, where: Where) -> Shared | Refusal:
    """Plan with several arms.

    Args:
        instruction: what was asked for.
        arms: their names; the first is preferred where nothing speaks for another one.
        ask: asks an arm's planner.
        where: says where a step points, to tell what two arms see from what there is twice.

    Returns:
        The plan, or the refusal of the arm that came nearest to a plan.
    """
    answers = {arm: ask(arm, instruction) for arm in arms}
    requests = max((_requests(a) for a in answers.values()), key=len) or (instruction,)
    for_arm: dict[str, list[str]] = {arm: [] for arm in arms}
    load = dict.fromkeys(arms, 0)
    for request in requests:
        each = answers if len(requests) == 1 else {arm: ask(arm, request) for arm in arms}
        able = {arm: a for arm, a in each.items() if isinstance(a, Plan) and a.remaining}
        if not able:
            return _no(request, [a for a in each.values() if isinstance(a, Refusal)])
        fit = {arm: _names(plan, request) for arm, plan in able.items()}
        named = [arm for arm in able if 0 < fit[arm] == max(fit.values())]
        chosen = [min(named, key=lambda a: (load[a], arms.index(a)))] if named else list(able)
        for arm in chosen:
            for_arm[arm].append(request)
            load[arm] += len(able[arm].remaining)
            answers[arm] = each[arm] if len(for_arm[arm]) == 1 else answers[arm]
    shares = {}
    for arm in arms:
        if not for_arm[arm]:
            continue
        words = " and then ".join(for_arm[arm]) if len(for_arm[arm]) < len(requests) else instruction
        answer = answers[arm] if len(for_arm[arm]) == 1 else ask(arm, words)
        if isinstance(answer, Refusal):
            return answer
        shares[arm] = Share(words, _numbered(answer, arm))
    in_order = requests if _IN_ORDER.search(instruction.lower()) else ()
    return _joined(instruction, _once(shares, where), in_order)


def shared(plan: Plan, arms: Sequence[str]) -> Shared:
    """A plan whose steps all have an arm, as one for all: what one arm's step moves, another's may have to wait for.

    Args:
        plan: as somebody gave it, with an arm at each step.
        arms: their names.
    """
    linked: list[Step] = []
    for step_id in plan.remaining:
        step = plan.step(step_id)
        moved = {s.id for s in linked if s.arm != step.arm and _touches(s, step)}
        linked.append(step.replace(depends_on=tuple(dict.fromkeys((*step.depends_on, *sorted(moved))))))
    whole = plan.replace(steps=tuple(linked), done=())
    parts = {arm: share_of(whole, arm) for arm in arms}
    return Shared(whole, {arm: Share(plan.goal, part) for arm, part in parts.items() if part.remaining})


def _joined(instruction: str, shares: Mapping[str, Share], in_order: Sequence[str]) -> Shared:
    """One plan of the arms' shares; of requests in order, each is done before the next one begins."""
    steps = [s for share in shares.values() for s in share.plan.steps]
    turn = {s.id: _turn(s, in_order) for s in steps}
    linked: list[Step] = []
    for step in sorted(steps, key=lambda s: turn[s.id]):
        needed = [s.id for s in linked if s.arm != step.arm and turn[s.id] < turn[step.id]]
        linked.append(step.replace(depends_on=(*step.depends_on, *needed)))
    plan = Plan(
        goal=instruction,
        steps=tuple(linked),
        remaining=tuple(s.id for s in linked),
        scene=tuple(a for share in shares.values() for a in share.plan.scene),
        provenance=next(s.plan.provenance for s in shares.values()),
    )
    return Shared(plan, shares)


def _once(shares: Mapping[str, Share], where: Where) -> dict[str, Share]:
    """Shares without what two arms would pick up from the same spot: it stays with the one that has less to do."""
    load = {arm: len(share.plan.remaining) for arm, share in shares.items()}
    lost: dict[str, set[str]] = {arm: set() for arm in shares}
    picks = [(arm, s, where(arm, s)) for arm, share in shares.items() for s in share.plan.steps if s.skill == "pick"]
    for k, (arm, step, spot) in enumerate(picks):
        for other, twin, at in picks[k + 1 :]:
            if arm == other or spot is None or at is None or np.linalg.norm(spot - at) > _SAME_M:
                continue
            loser, left = (arm, step) if load[arm] > load[other] else (other, twin)
            group = next(g for g in groups(shares[loser].plan) if left.id in {s.id for s in g})
            load[loser] -= len(group)
            lost[loser] |= {s.id for s in group}
    return {
        arm: Share(share.instruction, _without(share.plan, lost[arm]))
        for arm, share in shares.items()
        if len(lost[arm]) < len(share.plan.remaining)
    }


def _without(plan: Plan, lost: set[str]) -> Plan:
    kept = [s for s in plan.steps if s.id not in lost]
    steps = tuple(s.replace(depends_on=tuple(n for n in s.depends_on if n not in lost)) for s in kept)
    return plan.replace(steps=steps, remaining=tuple(i for i in plan.remaining if i not in lost))


def share_of(plan: Plan, arm: str) -> Plan:
    """One arm's steps of a plan, as if it were alone: what they need of other arms is the scheduler's business."""
    own = [s for s in plan.steps if s.arm == arm]
    ids = {s.id for s in own}
    steps = tuple(s.replace(depends_on=tuple(n for n in s.depends_on if n in ids)) for s in own)
    return plan.replace(steps=steps, done=(), remaining=tuple(i for i in plan.remaining if i in ids), scene=())


def assigned(plan: Plan, arms: Sequence[str], able: Callable[[str, Sequence[Step]], bool]) -> Plan:
    """A plan whose steps all have an arm: those that have none go to an arm that can do them, the one with less to do.

    Args:
        plan: as somebody gave it.
        arms: their names.
        able: whether an arm can do steps that belong together: what is picked up is put down by the same hand.

    Raises:
        PlanError: a step is for an arm that does not exist, or no arm can do it.
    """
    load = dict.fromkeys(arms, 0)
    of_step: dict[str, str] = {}
    for group in groups(plan):
        given = {s.arm for s in group if s.arm is not None}
        if unknown := given - set(arms):
            raise PlanError(
                f"step {group[0].id}", f"there is no arm '{min(unknown)}'", f"Choose from {', '.join(arms)}"
            )
        if len(given) > 1:
            problem = f"'{group[0]}' and what follows are for {' and '.join(sorted(given))}"
            raise PlanError(f"step {group[0].id}", problem, "Let one hand put down what it picked up")
        fit = list(given) or [arm for arm in arms if able(arm, group)]
        if not fit:
            raise PlanError(f"step {group[0].id}", f"no arm can '{group[0]}'", "Ask for something within reach")
        arm = min(fit, key=lambda a: (load[a], arms.index(a)))
        load[arm] += len(group)
        of_step |= {s.id: arm for s in group}
    return plan.replace(steps=tuple(s.replace(arm=of_step.get(s.id, s.arm)) for s in plan.steps))


def groups(plan: Plan) -> list[tuple[Step, ...]]:
    """Steps that one hand has to do: from a pick to what puts the thing down."""
    found: list[list[Step]] = []
    for step_id in plan.remaining:
        step = plan.step(step_id)
        holding = bool(found) and found[-1][0].skill == "pick" and found[-1][-1].skill not in _PUTS_DOWN
        if holding and step.skill != "pick":
            found[-1].append(step)
        else:
            found.append([step])
    return [tuple(g) for g in found]


def _requests(answer: Plan | Refusal) -> tuple[str, ...]:
    """The requests of an instruction as a planner parted it; none where it did not."""
    told = answer.provenance.sampling.get("requests") if answer.provenance is not None else None
    parts = tuple(str(told).split(" | ")) if told else ()
    return parts if len(parts) > 1 else ()


def _names(plan: Plan, request: str) -> int:
    """Whether a request means one thing, and a plan is about it: 2 by its full name, 1 by its kind, 0 not."""
    words = request.lower()
    if _EACH.search(words):
        return 0
    things = {plan.step(i).args.get("object", "") for i in plan.remaining} - {""}
    if any(_said(thing, words) for thing in things):
        return 2
    return int(any(_said(thing.split()[-1], words) for thing in things))


def _said(name: str, words: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", words) is not None


def _no(request: str, refusals: Sequence[Refusal]) -> Refusal:
    """No arm can do what was asked; told with all that any of them sees."""
    best = next((r for r in refusals if r.reason == "not_in_scene"), refusals[0])
    seen = tuple(dict.fromkeys(name for r in refusals for name in r.seen))
    return best.replace(message=f"No arm can do '{request}': {best.message}", seen=seen)


def _numbered(plan: Plan, arm: str) -> Plan:
    """Steps called after their arm, so that no two arms' have one name; what is done in them is forgotten."""
    names = {s.id: f"{arm}.{s.id}" for s in plan.steps}
    kept = set(plan.remaining)
    steps = tuple(
        s.replace(id=names[s.id], arm=arm, depends_on=tuple(names[n] for n in s.depends_on if n in kept))
        for s in plan.steps
        if s.id in kept
    )
    return plan.replace(steps=steps, done=(), remaining=tuple(names[i] for i in plan.remaining))


def _turn(step: Step, in_order: Sequence[str]) -> int:
    """Which request a step is for, by the thing that both name."""
    thing = step.args.get("object", "")
    for turn, request in enumerate(in_order):
        if thing and _said(thing, request.lower()):
            return turn
    return 0


def _touches(one: Step, other: Step) -> bool:
    """Whether one step moves what the other uses: a thing of one name, or what was put at a place of one name."""
    things = {one.args.get("object"), one.args.get("target")} & {other.args.get("object")}
    return bool(things - {None, ""})
