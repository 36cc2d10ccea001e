"""The symbolic planner whose plans the learned one imitates: deterministic, in one canonical order.

What is in the hand is dealt with first. Then the clauses of the goal are worked off group by group, within a
group from left to right in the image. What stands in the way goes to its own goal place when that is free and
to a free spot on the table otherwise; the drawer is opened, with an empty hand, before anything is picked up
that belongs in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from hiervla.representations.errors import HiervlaError
from hiervla.training.tasks.camera import columns_of
from hiervla.training.tasks.domain import (
    RELATION,
    Fact,
    SymbolicScene,
    SymbolicStep,
    apply,
    holds,
    support_problem,
)
from hiervla.training.tasks.goals import Clause, Goal

MAX_STEPS = 24


class NoPlanError(HiervlaError):
    """The symbolic planner knows no plan.

    Attributes:
        problem: what is in the way.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"no plan: {problem}. Sample another task for this scene.")
        self.problem = problem


def expert_plan(
    scene: SymbolicScene, goal: Goal, columns: Mapping[str, float] | None = None
) -> list[SymbolicStep]:
    """The canonical plan from `scene` to `goal`; empty when the goal holds already.

    Args:
        scene: the present state.
        goal: what is wished for.
        columns: image column of each object as the planner sees it, for the order from left to right;
            the nominal camera's by default.

    Raises:
        NoPlanError: the goal cannot be reached with the skills that exist.
    """
    return _Expert(scene, goal, columns or {}).plan()


class _Expert:
    def __init__(self, scene: SymbolicScene, goal: Goal, columns: Mapping[str, float]) -> None:
        self.scene = scene
        self.columns = columns or columns_of(scene)
        self.goal = goal
        # The order comes from the scene that the planner sees, not from where things go on the way.
        self.order = sorted(goal.clauses, key=self.rank)

    def rank(self, clause: Clause) -> tuple[int, float]:
        """Groups in their order, within a group from left to right."""
        first = clause.options[0]
        return clause.group, self.column(first[1]) if len(first) == 3 else 0.0

    def column(self, object_id: str) -> float:
        """Where the object is in the image; what is not seen comes last."""
        return self.columns.get(object_id, 9.0)

    def plan(self) -> list[SymbolicStep]:
        steps: list[SymbolicStep] = []
        while (step := self.next_step()) is not None:
            if len(steps) >= MAX_STEPS:
                raise NoPlanError(f"more than {MAX_STEPS} steps")
            steps.append(step)
            self.scene = apply(self.scene, step)
        if any(holds(self.scene, f) for f in self.goal.never) or not all(self.met(c) for c in self.order):
            raise NoPlanError("the goal does not hold at the end")
        return steps

    def met(self, clause: Clause) -> bool:
        """Whether the clause holds now."""
        return any(holds(self.scene, f) for f in clause.options)

    def next_step(self) -> SymbolicStep | None:
        pending = [c for c in self.order if not self.met(c)]
        held = self.scene.held
        if held is not None:
            return self.use_held(held, pending)
        for clause in pending:
            return self.achieve(clause)
        if ("drawer_open",) in self.goal.never and self.scene.drawer_open:
            return SymbolicStep("close_drawer", "drawer")
        return None

    def use_held(self, held: str, pending: list[Clause]) -> SymbolicStep | None:
        if self.scene.objects[held].category == "sponge":
            for clause in pending:
                if clause.options[0][0] == "spill_clean":
                    return SymbolicStep("wipe", clause.options[0][1])
        wish = self.wish(held, pending)
        if wish is not None:
            return wish
        keep = any(("on", held, "gripper") in c.options for c in self.goal.clauses)
        if keep and not pending:
            return None
        return SymbolicStep("place", held, "at", "table")

    def wish(self, o: str, pending: list[Clause]) -> SymbolicStep | None:
        """The step that puts `o` where the goal wants it, when that is possible now."""
        for clause in pending:
            for option in clause.options:
                if len(option) == 3 and option[1] == o:
                    step = self.put(option)
                    if step is not None:
                        return step
        return None

    def put(self, wished: Fact) -> SymbolicStep | None:
        relation, o, support = wished
        if relation in {"left_of", "right_of"}:
            beside = SymbolicStep("place", o, relation, support)
            return beside if self.scene.objects[support].support == "table" else None
        if support == "gripper" or support_problem(self.scene, o, support) is not None:
            return None
        if support == "bin":
            return SymbolicStep("throw_away", o)
        kind = support if support == "table" else self.scene.objects[support].category
        return SymbolicStep("place", o, RELATION[kind], support)

    def achieve(self, clause: Clause) -> SymbolicStep:
        """The next step, with an empty hand, towards a clause that does not hold."""
        option = clause.options[0]
        if option[0] == "drawer_open":
            return SymbolicStep("open_drawer", "drawer")
        if option[0] == "spill_clean":
            sponges = self.scene.category("sponge")
            if not sponges:
                raise NoPlanError("there is no sponge")
            return self.take(min(sponges, key=self.column))
        o = option[1]
        if option[0] != "on":
            return self.take(o)
        problem = None
        for _, _, support in clause.options:
            problem = None if support == "gripper" else support_problem(self.scene, o, support)
            if problem is None:
                return self.take(o)
        support = option[2]
        if support == "drawer" and not self.scene.drawer_open:
            return SymbolicStep("open_drawer", "drawer")
        above = self.scene.tower(support)
        if above and self.scene.objects[support].category in {"block", "bowl", "plate"}:
            return SymbolicStep("pick", above[0])
        raise NoPlanError(problem or "nothing helps")

    def take(self, o: str) -> SymbolicStep:
        """The next step towards having `o` in the hand."""
        above = self.scene.tower(o)
        if above:
            return SymbolicStep("pick", above[0])
        if self.scene.root(o) == "drawer" and not self.scene.drawer_open:
            return SymbolicStep("open_drawer", "drawer")
        if not self.scene.visible(o):
            raise NoPlanError(f"{o} is in the {self.scene.root(o)}")
        return SymbolicStep("pick", o)

