"""Whole tasks: an instruction, the scene it is said in, and the goal that it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hiervla.training.tasks.camera import FrontCamera, columns_of
from hiervla.training.tasks.domain import SymbolicScene, SymbolicStep
from hiervla.training.tasks.expert import NoPlanError, expert_plan
from hiervla.training.tasks.goals import Clause, Goal
from hiervla.training.tasks.mentions import Mention, mark_request, read_marks
from hiervla.training.tasks.phrases import Split
from hiervla.training.tasks.references import View
from hiervla.training.tasks.refusals import Declined, decline
from hiervla.training.tasks.requests import CHAINABLE, SINGLE, Context, Request
from hiervla.training.tasks.sampler import hold_something, sample_symbolic_scene
from hiervla.training.tasks.wordings import join, wrap

FAMILIES: Final = ("clear_table", "wipe", "shelf", "drawer", "stack", "swap", "rubbish", "multi")
"""Families of tasks that benchmarks count."""

_WEIGHTS: Final = {
    "clear_table": 0.10, "wipe": 0.06, "shelf": 0.11, "drawer": 0.08, "stack": 0.20, "swap": 0.09, "rubbish": 0.08,
    "multi": 0.26, "other": 0.04,
}  # fmt: skip
_REFUSED: Final = 0.16
_HELD_AT_START: Final = {"clear_table", "shelf", "rubbish", "multi", "refuse"}
MAX_PLAN: Final = 8
LONGEST_PLAN: Final = 12
"""Steps of the longest plans that the planner is trained on."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the requests that an instruction is made of.

    Attributes:
        start: index of its first character in the instruction.
        end: index after its last character.
        goal: what it asks for; None when it has to be declined.
    """

    start: int
    end: int
    goal: Goal | None


@dataclass(frozen=True, slots=True)
class Task:
    """An instruction in a scene.

    Attributes:
        family: one of `FAMILIES`, "other", or "refuse".
        instruction: what the person says.
        goal: what it means; None when it has to be declined.
        scene: the scene at the beginning.
        camera: where the front camera stands.
        declined: the answer when there is no goal.
        mentions: which words of the instruction name which things.
        parts: its requests in the order in which they are to be carried out; most instructions have one.
    """

    family: str
    instruction: str
    goal: Goal | None
    scene: SymbolicScene
    camera: FrontCamera = FrontCamera()
    declined: Declined | None = None
    mentions: tuple[Mention, ...] = ()
    parts: tuple[Part, ...] = ()

    def plan(self) -> list[SymbolicStep]:
        """The expert's plan from the beginning; empty for a task to decline."""
        return [] if self.goal is None else expert_plan(self.scene, self.goal, columns_of(self.scene, self.camera))


def sample_task(
    rng: np.random.Generator,
    family: str | None = None,
    split: Split = "train",
    min_steps: int = 1,
    max_steps: int = MAX_PLAN,
) -> Task:
    """A random task in a random symbolic scene.

    Args:
        rng: source of randomness.
        family: one of `FAMILIES`, "other" or "refuse"; by chance when None.
        split: which wordings to use.
        min_steps: fewest steps of the expert's plan.
        max_steps: most steps of the expert's plan.
    """
    if family is None:
        if rng.random() < _REFUSED:
            family = "refuse"
        else:
            family = list(_WEIGHTS)[int(rng.choice(len(_WEIGHTS), p=_PROBABILITIES))]
    camera = FrontCamera().jittered(rng)
    while True:
        for _ in range(3 if family != "swap" else 1):
            scene = _scene_for(rng, family)
            if family in _HELD_AT_START and rng.random() < 0.05:
                scene = hold_something(rng, scene)
            task = task_in(rng, scene, family, split, camera, min_steps, max_steps)
            if task is not None:
                return task


_PROBABILITIES: Final = [w / sum(_WEIGHTS.values()) for w in _WEIGHTS.values()]


def _scene_for(rng: np.random.Generator, family: str) -> SymbolicScene:
    coin = rng.random()
    if family == "wipe":
        return sample_symbolic_scene(rng, {"sponge": 1}, spill=True)
    if family == "swap":
        kinds = ({"plate": 2, "block": 2}, {"bowl": 2, "block": 2}, {"plate": 1, "bowl": 1, "block": 2})
        scene = sample_symbolic_scene(rng, kinds[int(rng.integers(3))])
        return _load_dishes(rng, scene)
    if family == "stack":
        return sample_symbolic_scene(rng, {"block": 2 + int(coin < 0.5)})
    if family == "drawer":
        return sample_symbolic_scene(rng, {"block": 1}, drawer_open=bool(coin < 0.3))
    if family == "rubbish":
        return sample_symbolic_scene(rng, {"can": 1 + int(coin < 0.5)})
    if family == "multi" and coin < 0.3:
        return sample_symbolic_scene(rng, {"sponge": 1, "mug": 1}, spill=True)
    return sample_symbolic_scene(rng)


def _load_dishes(rng: np.random.Generator, scene: SymbolicScene) -> SymbolicScene:
    """Put something on two dishes, so that there is something to swap."""
    things = dict(scene.objects)
    dishes = [d for kind in ("plate", "bowl") for d in scene.category(kind) if not scene.on(d)]
    loose = [o for o in things.values() if o.category == "block" and o.support == "table" and not scene.on(o.id)]
    for dish, block in zip(dishes[:2], loose, strict=False):
        x, y, _ = things[dish].position
        things[block.id] = replace(things[block.id], support=dish, position=(x, y, 0.01))
    return replace(scene, objects=things)


def task_in(
    rng: np.random.Generator,
    scene: SymbolicScene,
    family: str,
    split: Split = "train",
    camera: FrontCamera | None = None,
    min_steps: int = 1,
    max_steps: int = MAX_PLAN,
    tries: int = 6,
) -> Task | None:
    """A task of a family in a given scene, or None when the scene has nothing for it."""
    camera = camera or FrontCamera()
    columns = columns_of(scene, camera)
    view = View(scene, columns, marked=True)
    for _ in range(tries):
        if family == "refuse":
            declined = decline(rng, view, split)
            if declined is not None:
                plain = declined.reason == "not_understood" and rng.random() < 0.8
                words = mark_request(declined.text, 0)
                said = read_marks(words if plain else wrap(rng, split, words))
                declined = replace(declined, text=read_marks(declined.text).text)
                parts = tuple(Part(a, b, None) for a, b in said.requests)
                return Task(family, said.text, None, scene, camera, declined, said.mentions, parts)
            continue
        requests = _multi(rng, view, split) if family == "multi" else _single(rng, view, split, family)
        if not requests:
            continue
        sentence, goal = _sentence(rng, split, requests), _joined(requests)
        try:
            plan = expert_plan(scene, goal, columns)
        except NoPlanError:
            continue
        if min_steps <= len(plan) <= max_steps:
            said = read_marks(wrap(rng, split, sentence))
            parts = tuple(Part(a, b, g) for (a, b), g in zip(said.requests, _goals(requests), strict=True))
            return Task(family, said.text, goal, scene, camera, mentions=said.mentions, parts=parts)
    return None


def _single(rng: np.random.Generator, view: View, split: Split, family: str) -> list[Request]:
    makers = SINGLE[family]
    request = makers[int(rng.integers(len(makers)))](Context(rng, view, split))
    return [] if request is None else [request]


def _multi(rng: np.random.Generator, view: View, split: Split) -> list[Request]:
    """Two, sometimes three requests for one sentence, about different things; fewer when the draw did not work out."""
    context = Context(rng, view, split)
    total = 3 if rng.random() < 0.1 else 2
    parts: list[Request] = []
    for _ in range(8):
        part = CHAINABLE[int(rng.integers(len(CHAINABLE)))](context)
        if part is not None and not any(_collide(part, p) for p in parts):
            parts.append(part)
        if len(parts) == total:
            break
    return parts if len(parts) > 1 else []


def _goals(requests: Sequence[Request]) -> list[Goal]:
    """What each marked stretch of the sentence asks for."""
    if requests[0].marked:
        return [Goal((replace(c, group=0),)) for c in requests[0].clauses]
    return [Goal(r.clauses, r.never) for r in requests]


def _sentence(rng: np.random.Generator, split: Split, requests: Sequence[Request]) -> str:
    text = requests[0].text if requests[0].marked else mark_request(requests[0].text, 0)
    for k, further in enumerate(requests[1:], start=1):
        text = join(rng, split, text, mark_request(further.text, k))
    return text


def _joined(requests: Sequence[Request]) -> Goal:
    """What all requests ask for together, one after the other."""
    clauses = list(requests[0].clauses)
    never = requests[0].never
    for request in requests[1:]:
        offset = 1 + max((c.group for c in clauses), default=0)
        clauses += [Clause(c.options, c.group + offset) for c in request.clauses]
        never |= request.never
    return Goal(tuple(clauses), never)


def _collide(a: Request, b: Request) -> bool:
    """Whether two requests speak of the same thing, or both of the drawer."""
    movers = [{c.options[0][1] for c in r.clauses if len(c.options[0]) > 1} for r in (a, b)]
    supports = [{c.options[0][2] for c in r.clauses if len(c.options[0]) == 3} for r in (a, b)]
    drawer = [bool(r.never) or any(c.options[0][0] == "drawer_open" for c in r.clauses) for r in (a, b)]
    crossed = bool(movers[0] & movers[1] or movers[0] & supports[1] or movers[1] & supports[0])
    return crossed or all(drawer) or (drawer[0] and "drawer" in supports[1]) or (drawer[1] and "drawer" in supports[0])
