"""A judge for blame: what is true in a tabletop world that was set to a recorded state.

Only training and the command line may use it; executor knows it as the protocol
:class:`hiervla.executor.blame.Judge` and never learns more than it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product

from hiervla.representations import Plan, Step
from hiervla.representations._base import Vec3
from hiervla.training.tasks.domain import SymbolicScene, SymbolicStep
from hiervla.training.tasks.goals import Goal, check_plan
from hiervla.training.tasks.tabletop import symbolic_scene, true_facts
from hiervla.worlds.base import World
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.world import TabletopWorld

_FIXTURES = ("drawer", "bin", "top_shelf", "bottom_shelf", "table")
_READINGS = 64


class TabletopJudge:
    """Judges plans, steps and goals in the tabletop world; of other worlds it says nothing.

    A name that several things bear is given the benefit of the doubt: something is wrong only if it is wrong for
    every thing of that name.
    """

    def __init__(self, goal: Goal | None = None) -> None:
        """Set up.

        Args:
            goal: what was meant; without it only steps are judged.
        """
        self.goal = goal
        self._truth: tuple[World, GroundTruth] | None = None

    def plan_problem(self, world: World, plan: Plan) -> str | None:
        """See :class:`hiervla.executor.blame.Judge`."""
        truth = self._of(world)
        if truth is None or self.goal is None:
            return None
        scene = scene_now(truth)
        steps = [plan.step(i) for i in plan.remaining]
        worst = "it speaks of a thing that is not there"
        for reading in _readings(truth, steps):
            found = check_plan(scene, reading, self.goal)
            if found.ok:
                return None
            worst = found.message
        return worst

    def goal_problem(self, world: World) -> str | None:
        """See :class:`hiervla.executor.blame.Judge`."""
        truth = self._of(world)
        if truth is None or self.goal is None:
            return None
        present = true_facts(truth)
        missing = [_words(c.options[0]) for c in self.goal.clauses if not any(f in present for f in c.options)]
        missing += [f"not {_words(f)}" for f in self.goal.never & present]
        return "the goal does not hold: " + "; ".join(missing) if missing else None

    def step_problem(self, world: World, step: Step) -> str | None:
        """See :class:`hiervla.executor.blame.Judge`."""
        truth = self._of(world)
        if truth is None or step.skill not in _EFFECT:
            return None
        present = true_facts(truth)
        wanted = [_EFFECT[step.skill](reading[0]) for reading in _readings(truth, [step])]
        if not wanted or any(w in present for w in wanted):
            return None
        thing = wanted[0][1] if len(wanted[0]) > 1 else ""
        is_now = [_words(f) for f in sorted(present) if len(f) == 3 and f[:2] == ("on", thing)]
        return f"not {_words(wanted[0])}" + (f", but {is_now[0]}" if is_now else "")

    def target(self, world: World, step: Step) -> Vec3 | None:
        """See :class:`hiervla.executor.blame.Judge`."""
        truth = self._of(world)
        reading = next(_readings(truth, [step]), None) if truth is not None else None
        if truth is None or reading is None:
            return None
        (symbol,) = reading
        if symbol.skill in {"open_drawer", "close_drawer"}:
            return truth.handle()
        if symbol.skill == "wipe" and truth.scene.spill is not None:
            x, y = truth.scene.spill.centre
            return (x, y, 0.0)
        on = {"pick": symbol.object, "place": symbol.target}.get(symbol.skill, "")
        if on not in truth.object_ids or symbol.relation in {"left_of", "right_of"}:
            return None
        x, y, z = (float(v) for v in truth.position(on))
        rise = 0.012 if truth.spec(on).category == "bowl" else truth.spec(on).size[2]
        return (x, y, z + float(rise))

    def _of(self, world: World) -> GroundTruth | None:
        if not isinstance(world, TabletopWorld):
            return None
        if self._truth is None or self._truth[0] is not world:
            self._truth = (world, GroundTruth(world))
        return self._truth[1]


_EFFECT = {
    "pick": lambda s: ("on", s.object, "gripper"),
    "place": lambda s: (s.relation if s.relation in {"left_of", "right_of"} else "on", s.object, s.target),
    "throw_away": lambda s: ("on", s.object, "bin"),
    "open_drawer": lambda s: ("drawer_open",),
    "close_drawer": lambda s: ("drawer_closed",),
    "wipe": lambda s: ("spill_clean", s.object),
}


def scene_now(truth: GroundTruth) -> SymbolicScene:
    """The scene in symbols as it stands now, not as it was built."""
    scene = symbolic_scene(truth.scene)
    facts = truth.facts()
    support = {f[1]: f[2] for f in facts if f[0] == "on"}
    things = dict(scene.objects)
    for name in truth.object_ids:
        x, y, z = (float(v) for v in truth.position(name))
        things[name] = replace(things[name], support=support.get(name, "nowhere"), position=(x, y, z))
    clean = frozenset(f[1] for f in facts if f[0] == "spill_clean")
    return SymbolicScene(things, ("drawer_open",) in facts, clean)


def _readings(truth: GroundTruth, steps: list[Step]) -> Iterator[list[SymbolicStep]]:
    """The steps with ids for names, in every way in which the names can be read; none if a name means nothing."""
    names: dict[str, list[str]] = {}
    for step in steps:
        for key in ("object", "target", "surface", "drawer"):
            if key in step.args:
                names[step.args[key]] = _ids(truth, step.args[key])
    for chosen in islice(product(*names.values()), _READINGS):
        ids = dict(zip(names, chosen, strict=True))
        yield [_symbol(step, ids) for step in steps]


def _symbol(step: Step, ids: dict[str, str]) -> SymbolicStep:
    thing = next((step.args[k] for k in ("object", "drawer", "surface") if k in step.args), "")
    target = step.args.get("target", "")
    return SymbolicStep(step.skill, ids.get(thing, ""), step.args.get("relation", ""), ids.get(target, ""))


def _ids(truth: GroundTruth, name: str) -> list[str]:
    plain = name.replace(" ", "_")
    if plain in _FIXTURES:
        return [plain]
    if plain == "spill":
        return [truth.scene.spill.id] if truth.scene.spill is not None else []
    return [o for o in truth.object_ids if f"{truth.spec(o).colour} {truth.spec(o).category}" == name]


def _words(fact: tuple[str, ...]) -> str:
    return f"{fact[0]}({', '.join(fact[1:])})" if len(fact) > 1 else fact[0].replace("_", " ")


__all__ = ["TabletopJudge", "scene_now"]
