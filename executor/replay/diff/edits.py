"""Edits of ordered lists: what was added, removed, moved and changed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TypeVar

from hiervla.executor.replay.diff.finding import Finding, against
from hiervla.representations import Plan, Step

T = TypeVar("T")


@dataclass(frozen=True)
class Pairing:
    """Which places of two lists belong together; places count from 0.

    Attributes:
        same: pairs in their order.
        moved: pairs of equal entries that stand at another place among the others.
        left: places of the first list without a partner.
        right: places of the second list without a partner.
    """

    same: tuple[tuple[int, int], ...]
    moved: tuple[tuple[int, int], ...]
    left: tuple[int, ...]
    right: tuple[int, ...]


def pairing(a: Sequence[Hashable], b: Sequence[Hashable]) -> Pairing:
    """Pair the entries of two lists: a common subsequence first, then equal ones that were moved."""
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    same = [(m.a + k, m.b + k) for m in blocks for k in range(m.size)]
    left = [i for i in range(len(a)) if i not in {x for x, _ in same}]
    right = [j for j in range(len(b)) if j not in {y for _, y in same}]
    moved = []
    for i in list(left):
        j = next((j for j in right if a[i] == b[j]), None)
        if j is not None:
            moved.append((i, j))
            left.remove(i)
            right.remove(j)
    return Pairing(tuple(same), tuple(moved), tuple(left), tuple(right))


def edits(what: str, a: Sequence[str], b: Sequence[str]) -> list[Finding]:
    """Additions, removals and moves between two lists of sentences."""
    pairs = pairing(a, b)
    found = [Finding(f"{what} {i + 1}", f"removed: {a[i]}", a[i], None) for i in pairs.left]
    found += [Finding(f"{what} {j + 1}", f"added: {b[j]}", None, b[j]) for j in pairs.right]
    return found + [Finding(f"{what} {i + 1}", f"moved to place {j + 1}: {a[i]}", i + 1, j + 1) for i, j in pairs.moved]


@dataclass(frozen=True)
class PlanEdits:
    """How one plan becomes another.

    Attributes:
        findings: added, removed, moved and changed steps.
        kept: pairs of steps that do the same or differ in arguments.
    """

    findings: tuple[Finding, ...]
    kept: tuple[tuple[Step, Step], ...]


def plan_edits(a: Plan, b: Plan) -> PlanEdits:
    """Steps that were added, removed, moved, or given other arguments; a step is known by what it does.

    Steps go in the order in which they are to be done.
    """
    first, second = _ordered(a), _ordered(b)
    pairs = pairing([what(s) for s in first], [what(s) for s in second])
    found = [
        Finding(f"step '{first[i]}'", f"moved from place {i + 1} to {j + 1}", i + 1, j + 1) for i, j in pairs.moved
    ]
    kept = [(first[i], second[j]) for i, j in (*pairs.same, *pairs.moved)]
    right = list(pairs.right)
    for i in pairs.left:
        x = first[i]
        alike = [j for j in right if second[j].skill == x.skill]
        # The same id, else the nearest of the same skill: that is the step with other arguments.
        j = min(alike, key=lambda j: (second[j].id != x.id, abs(j - i)), default=None)
        if j is None:
            found.append(Finding(f"step '{x}'", f"removed (was at place {i + 1})", x, None))
        else:
            right.remove(j)
            found += changed_arguments(x, second[j])
            kept.append((x, second[j]))
    found += [Finding(f"step '{second[j]}'", f"added at place {j + 1}", None, second[j]) for j in right]
    return PlanEdits(tuple(found), tuple(kept))


def changed_arguments(a: Step, b: Step) -> list[Finding]:
    """Skill and arguments that differ between two steps."""
    found = [] if a.skill == b.skill else [against(f"step '{a}', skill", a.skill, b.skill)]
    for name in [*a.args, *(n for n in b.args if n not in a.args)]:
        if a.args.get(name) != b.args.get(name):
            found.append(against(f"step '{a}', {name}", a.args.get(name), b.args.get(name)))
    return found


def _ordered(plan: Plan) -> list[Step]:
    return [plan.step(i) for i in (*plan.done, *plan.remaining)]


def what(step: Step) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a step does, whatever its id."""
    return step.skill, tuple(sorted(step.args.items()))
