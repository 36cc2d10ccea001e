"""The tabletop as symbols: objects on supports, and what each skill does to them.

The domain serves three ends: labels for the planner (plans that are executable and reach the goal), a check
of the plans that it emits, and goals that physics outcomes are measured against. It never sees an image, and
no learned part sees it.

Frames: positions are world coordinates (x forward, y left, z up) [m]; a larger y lies further right in the
front camera's image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hiervla.representations.errors import HiervlaError

Fact = tuple[str, ...]
"""``("on", object, support)``, ``("drawer_open",)``, ``("spill_clean", spill)`` or ``("left_of"|"right_of", a, b)``."""

COLOURS: Final = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")
PICKABLE: Final = ("block", "mug", "can", "sponge")
DISHES: Final = ("bowl", "plate")
LOOSE: Final = PICKABLE + DISHES
FIXTURES: Final = ("bin", "top_shelf", "bottom_shelf", "drawer")
SHELVES: Final = ("top_shelf", "bottom_shelf")

CAPACITY: Final[Mapping[str, int]] = {"top_shelf": 3, "bottom_shelf": 3, "drawer": 2, "bin": 12}
"""How many objects a fixture holds."""

RELATION: Final[Mapping[str, str]] = {
    "bowl": "in",
    "drawer": "in",
    "plate": "on",
    "block": "on",
    "top_shelf": "on",
    "bottom_shelf": "on",
    "table": "at",
}
"""The relation that `place` uses for each kind of support."""

_FITS: Final[Mapping[str, tuple[str, ...]]] = {
    "bowl": ("block",),
    "plate": PICKABLE,
    "block": ("block",),
    "drawer": ("block", "sponge"),
    "top_shelf": PICKABLE,
    "bottom_shelf": PICKABLE,
    "table": PICKABLE,
    "bin": PICKABLE,
}

HEIGHT: Final[Mapping[str, float]] = {
    "block": 0.04,
    "mug": 0.08,
    "can": 0.10,
    "sponge": 0.035,
    "bowl": 0.045,
    "plate": 0.012,
    "spill": 0.0,
    "bin": 0.10,
    "top_shelf": 0.0,
    "bottom_shelf": 0.0,
    "drawer": 0.065,
}
"""Nominal heights [m]."""

TABLE_X: Final = (0.34, 0.66)
TABLE_Y: Final = (-0.23, 0.16)
CLEARANCE: Final = 0.11
"""Least distance between the centres of things that stand on the table [m]."""
BESIDE: Final = 0.14
"""Distance at which `place left_of/right_of` puts an object from its reference [m]."""
TOWER: Final = 3
"""Most blocks on top of each other."""


class StepError(HiervlaError, ValueError):
    """A step that cannot be executed in the state it was applied to.

    Attributes:
        step: the step.
        problem: the precondition that does not hold.
    """

    def __init__(self, step: SymbolicStep, problem: str) -> None:
        super().__init__(f"step '{step}' cannot be executed: {problem}. Plan again from the present state.")
        self.step = step
        self.problem = problem


@dataclass(frozen=True, slots=True)
class SymbolicStep:
    """One call of a skill on ids of the scene; unused arguments are empty strings."""

    skill: str
    object: str
    relation: str = ""
    target: str = ""

    def __str__(self) -> str:
        """``place(mug_0, on, top_shelf)``."""
        return f"{self.skill}({', '.join(a for a in (self.object, self.relation, self.target) if a)})"


@dataclass(frozen=True, slots=True)
class SymbolicObject:
    """A thing.

    Attributes:
        id: "mug_0", or the name of a fixture.
        category: what it is.
        colour: one of `COLOURS`, or "none".
        support: "table", a fixture, "gripper" or another object's id.
        position: centre of the bottom in the world [m].
    """

    id: str
    category: str
    colour: str
    support: str
    position: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SymbolicScene:
    """All things of a scene by id, fixtures and spill among them, and the state of the drawer and the spill."""

    objects: Mapping[str, SymbolicObject]
    drawer_open: bool = False
    clean: frozenset[str] = frozenset()

    @property
    def held(self) -> str | None:
        """The object in the gripper."""
        return next((o.id for o in self.objects.values() if o.support == "gripper"), None)

    def on(self, support: str) -> list[str]:
        """Ids of what lies directly on or in `support`."""
        return [o.id for o in self.objects.values() if o.support == support]

    def tower(self, support: str) -> list[str]:
        """Everything above `support`, the topmost first."""
        above: list[str] = []
        for upper in self.on(support):
            above += [*self.tower(upper), upper]
        return above

    def root(self, object_id: str) -> str:
        """The fixture, table or gripper that carries the object in the end."""
        support = self.objects[object_id].support
        while support in self.objects and self.objects[support].category in LOOSE:
            support = self.objects[support].support
        return support

    def visible(self, object_id: str) -> bool:
        """Whether the front camera can see it: not in the bin, not in the closed drawer, not wiped away."""
        if object_id in self.clean:
            return False
        root = self.root(object_id)
        return root != "bin" and (root != "drawer" or self.drawer_open)

    def category(self, category: str) -> list[str]:
        """Ids of one category."""
        return [o.id for o in self.objects.values() if o.category == category]


def facts(scene: SymbolicScene) -> frozenset[Fact]:
    """The scene as facts, in the form that the world's ground truth has, plus ``left_of`` relations."""
    found: set[Fact] = set()
    table: dict[str, tuple[float, float]] = {}
    for o in scene.objects.values():
        if o.category in LOOSE:
            found.add(("on", o.id, o.support))
            if o.support == "table":
                table[o.id] = o.position[:2]
        elif o.id in scene.clean:
            found.add(("spill_clean", o.id))
    if scene.drawer_open:
        found.add(("drawer_open",))
    return frozenset(found | spatial_facts(table))


def holds(scene: SymbolicScene, fact: Fact) -> bool:
    """Whether one fact holds; quicker than `facts` when few are asked for."""
    if fact[0] == "on":
        return scene.objects[fact[1]].support == fact[2]
    if fact[0] == "drawer_open":
        return scene.drawer_open
    if fact[0] == "spill_clean":
        return fact[1] in scene.clean
    pair = [scene.objects[i] for i in fact[1:]]
    return all(o.support == "table" for o in pair) and fact in spatial_facts({o.id: o.position[:2] for o in pair})


def spatial_facts(positions: Mapping[str, tuple[float, float]]) -> set[Fact]:
    """``left_of`` and ``right_of`` facts for pairs that stand next to each other, as the front camera sees them.

    Args:
        positions: world (x, y) [m] of each object that stands directly on the table.
    """
    near = [
        (a, b)
        for a, (ax, ay) in positions.items()
        for b, (bx, by) in positions.items()
        if 0.04 < by - ay < 0.24 and abs(ax - bx) < 0.09
    ]
    return {("left_of", a, b) for a, b in near} | {("right_of", b, a) for a, b in near}


def fits(category: str, support_category: str) -> bool:
    """Whether an object of `category` may be placed on or in a support of `support_category`."""
    return category in _FITS.get(support_category, ())


def support_problem(scene: SymbolicScene, object_id: str, support: str) -> str | None:
    """Why `object_id` cannot be put on or in `support` now, or None when it can."""
    if support == "table":
        return None
    if support not in scene.objects:
        return f"there is no '{support}' in the scene"
    base = scene.objects[support]
    if not fits(scene.objects[object_id].category, base.category):
        return f"a {scene.objects[object_id].category} does not go on or in a {base.category}"
    if support == "drawer" and not scene.drawer_open:
        return "the drawer is closed"
    content = [o for o in scene.on(support) if o != object_id]
    if support in CAPACITY:
        return f"the {support} is full" if len(content) >= CAPACITY[support] else None
    if content:
        return f"{content[0]} is on {support}"
    if support == object_id or base.support == "gripper":
        return f"{support} is in the gripper"
    if base.category == "block":
        below, height = support, 1
        while below in scene.objects and scene.objects[below].category == "block":
            below, height = scene.objects[below].support, height + 1
        if below != "table" or height > TOWER:
            return f"a block can be stacked on {support} only where its tower stands on the table, {TOWER} high at most"
    elif base.support != "table":
        return f"{support} does not stand on the table"
    return None


def free_spot(scene: SymbolicScene, rng: np.random.Generator | None = None) -> tuple[float, float, float]:
    """A spot on the table [m] away from what stands there; the first of a fixed grid without `rng`."""
    taken = [o.position for o in scene.objects.values() if o.support == "table"]
    if rng is None:
        spots = _GRID
    else:
        draws = rng.random((24, 2)).tolist()
        spots = [
            (TABLE_X[0] + a * (TABLE_X[1] - TABLE_X[0]), TABLE_Y[0] + b * (TABLE_Y[1] - TABLE_Y[0])) for a, b in draws
        ]
    best, widest = spots[0], -1.0
    for x, y in spots:
        gap = min(((x - p[0]) ** 2 + (y - p[1]) ** 2 for p in taken), default=1.0)
        if gap >= CLEARANCE**2:
            return x, y, 0.0
        if gap > widest:
            best, widest = (x, y), gap
    return best[0], best[1], 0.0


_GRID: Final = [
    (TABLE_X[0] + i / 6 * (TABLE_X[1] - TABLE_X[0]), TABLE_Y[0] + j / 8 * (TABLE_Y[1] - TABLE_Y[0]))
    for i in range(7)
    for j in range(9)
]


def position_on(
    scene: SymbolicScene, support: str, rng: np.random.Generator | None = None
) -> tuple[float, float, float]:
    """Where an object comes to lie on `support` [m]."""
    if support == "table":
        return free_spot(scene, rng)
    base = scene.objects[support]
    x, y, z = base.position
    if base.category == "drawer":
        # The drawer's own position is its handle; what lies in it lies behind that.
        y += DRAWER_DEPTH
    if base.category in SHELVES:
        taken = {round((scene.objects[o].position[0] - x) / 0.1) for o in scene.on(support)}
        return x + 0.1 * next((k for k in (0, 1, -1) if k not in taken), 0), y, z
    if base.category in {"drawer", "bin"}:
        shift = 0.0 if rng is None else float(rng.uniform(-0.05, 0.05))
        return x + shift, y, 0.01
    lift = {"bowl": 0.008, "plate": 0.012}.get(base.category, HEIGHT[base.category])
    return x, y, z + lift


def step_problem(scene: SymbolicScene, step: SymbolicStep) -> str | None:
    """The precondition of `step` that does not hold in `scene`, in words, or None."""
    things, held, o = scene.objects, scene.held, step.object
    if o not in things:
        return f"there is no '{o}' in the scene"
    kind = things[o].category
    if step.skill == "pick":
        if kind not in PICKABLE:
            return f"a {kind} cannot be picked up"
        if held is not None:
            return f"the gripper holds {held}"
        if not scene.visible(o):
            return f"{o} is out of reach in the {scene.root(o)}"
        above = scene.on(o)
        return f"{above[0]} is on {o}" if above else None
    if step.skill in {"place", "throw_away", "wipe"}:
        if step.skill == "wipe":
            if kind != "spill" or o in scene.clean:
                return f"{o} is no spill to wipe"
            return None if held and things[held].category == "sponge" else "the gripper holds no sponge"
        if held != o:
            return f"{o} is not in the gripper"
        return None if step.skill == "throw_away" else _place_problem(scene, step)
    if step.skill in {"open_drawer", "close_drawer"}:
        if kind != "drawer":
            return f"{o} is no drawer"
        if held is not None:
            return f"the gripper holds {held}"
        if scene.drawer_open == (step.skill == "open_drawer"):
            return f"the drawer is already {'open' if scene.drawer_open else 'closed'}"
        return None
    return f"there is no skill '{step.skill}'"


def _place_problem(scene: SymbolicScene, step: SymbolicStep) -> str | None:
    if step.relation in {"left_of", "right_of"}:
        base = scene.objects.get(step.target)
        if base is None or base.category not in LOOSE or base.support != "table":
            return f"'{step.target}' is no object that stands on the table"
        return None
    kind = "table" if step.target == "table" else getattr(scene.objects.get(step.target), "category", "")
    if RELATION.get(kind) != step.relation:
        return f"'{step.relation} {step.target}' is no place to put something"
    return support_problem(scene, step.object, step.target)


def moved(
    scene: SymbolicScene, object_id: str, support: str, position: tuple[float, float, float]
) -> SymbolicScene:
    """The scene with one object (and what stands on it) on another support."""
    things = dict(scene.objects)
    old = things[object_id].position
    for upper in scene.tower(object_id):
        p = things[upper].position
        shifted = (p[0] + position[0] - old[0], p[1] + position[1] - old[1], p[2] + position[2] - old[2])
        things[upper] = replace(things[upper], position=shifted)
    things[object_id] = replace(things[object_id], support=support, position=position)
    return replace(scene, objects=things)


HOME: Final = (0.35, 0.0, 0.36)
"""Where a held object hangs while the planner looks [m]."""

DRAWER_DEPTH: Final = 0.14
"""Distance from the drawer's handle to the middle of its floor, towards +y [m]."""

DRAWER_TRAVEL: Final = 0.15
"""How far the drawer slides towards -y [m]."""


def apply(scene: SymbolicScene, step: SymbolicStep, rng: np.random.Generator | None = None) -> SymbolicScene:
    """The scene after `step` succeeded.

    Raises:
        StepError: a precondition does not hold.
    """
    problem = step_problem(scene, step)
    if problem is not None:
        raise StepError(step, problem)
    if step.skill == "pick":
        return moved(scene, step.object, "gripper", HOME)
    if step.skill == "wipe":
        return replace(scene, clean=scene.clean | {step.object})
    if step.skill == "throw_away":
        return moved(scene, step.object, "bin", position_on(scene, "bin", rng))
    if step.skill == "place":
        if step.relation in {"left_of", "right_of"}:
            x, y, _ = scene.objects[step.target].position
            side = -BESIDE if step.relation == "left_of" else BESIDE
            return moved(scene, step.object, "table", (x, y + side, 0.0))
        return moved(scene, step.object, step.target, position_on(scene, step.target, rng))
    return slide_drawer(scene, step.skill == "open_drawer")


def slide_drawer(scene: SymbolicScene, is_open: bool) -> SymbolicScene:
    """The scene with the drawer, and what lies in it, pulled out or pushed in."""
    if scene.drawer_open == is_open:
        return scene
    shift = -DRAWER_TRAVEL if is_open else DRAWER_TRAVEL
    things = dict(scene.objects)
    for i in ["drawer", *scene.tower("drawer")]:
        x, y, z = things[i].position
        things[i] = replace(things[i], position=(x, y + shift, z))
    return replace(scene, objects=things, drawer_open=is_open)


def run(scene: SymbolicScene, steps: Iterable[SymbolicStep]) -> SymbolicScene:
    """The scene after all steps.

    Raises:
        StepError: a step cannot be executed.
    """
    for step in steps:
        scene = apply(scene, step)
    return scene
