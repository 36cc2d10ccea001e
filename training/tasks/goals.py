"""Goals over facts, so that one goal judges symbolic plans and physics outcomes alike."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

from hiervla.training.tasks.domain import Fact, SymbolicScene, SymbolicStep, apply, facts, step_problem


@dataclass(frozen=True, slots=True)
class Clause:
    """One wish: any of `options` holds. Clauses of one `group` have no order among themselves.

    A group of clauses is worked off from left to right in the image, groups in the order in which the
    instruction names them.
    """

    options: tuple[Fact, ...]
    group: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """All `clauses` hold and none of `never` does."""

    clauses: tuple[Clause, ...]
    never: frozenset[Fact] = frozenset()


def on(object_id: str, *supports: str, group: int = 0) -> Clause:
    """`object_id` lies on or in one of `supports`, the preferred one first."""
    return Clause(tuple(("on", object_id, s) for s in supports), group)


def goal_satisfied(present: Set[Fact], goal: Goal) -> bool:
    """Whether the facts, symbolic ones or ``GroundTruth.facts()``, fulfil the goal."""
    return not (goal.never & present) and all(any(f in present for f in c.options) for c in goal.clauses)


PlanReason = Literal["ok", "not_executable", "goal_not_reached"]


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """What became of a plan that was executed in symbols."""

    reason: PlanReason
    message: str = ""
    failed_step: int | None = None

    @property
    def ok(self) -> bool:
        """The plan is executable and reaches the goal."""
        return self.reason == "ok"


def check_plan(scene: SymbolicScene, plan: Sequence[SymbolicStep], goal: Goal) -> PlanCheck:
    """Executes `plan` in symbols from `scene` and says whether it reaches `goal`."""
    for i, step in enumerate(plan):
        problem = step_problem(scene, step)
        if problem is not None:
            return PlanCheck("not_executable", f"{step}: {problem}", i)
        scene = apply(scene, step)
    present = facts(scene)
    if goal_satisfied(present, goal):
        return PlanCheck("ok")
    broken = [str(c.options) for c in goal.clauses if not any(f in present for f in c.options)]
    broken += [f"not {f}" for f in goal.never & present]
    return PlanCheck("goal_not_reached", "; ".join(broken))
