"""Rendered scenes as samples: the symbolic expert plans, and the renderer's labels say where things are.

What is true here comes from the scene's description. It makes targets for training and is never shown to a planner;
the image and the words are all that the question holds. Wordings are those of the training split only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.base import PlannerContext
from hiervla.planner.embedded.grammar import PlanDraft
from hiervla.planner.embedded.vision import STRIDE
from hiervla.planner.embedded.wording import refusal_message
from hiervla.planner.vlm.answers import Call, Draft, Missing, Point, Refuse, has_point
from hiervla.representations import SkillSignature
from hiervla.training.lora.answers import UnwritableError, named, scaled
from hiervla.training.lora.samples import Sample, samples_of
from hiervla.training.point_targets import LOOSE, Question, find_thing, target_map
from hiervla.training.render_scenes import RenderedScene, Thing, render_scene
from hiervla.training.tasks.domain import SymbolicScene, SymbolicStep
from hiervla.training.tasks.references import plain_name
from hiervla.training.tasks.tabletop import sample_scene_for
from hiervla.training.tasks.tasks import FAMILIES, LONGEST_PLAN, Task

FIRST_SEED: Final = 5_000_000
"""Scenes for fine-tuning have seeds from here on; the benchmarks have theirs below."""
SEEDS: Final = 1_000_000
"""How many seeds each value of `seed` has to itself."""
_FAMILIES: Final = (*FAMILIES, "other", "refuse")
_APART_PX: Final = 14.0
"""Two things that go to the same surface are put about that far apart in the image [px]."""

Told = Callable[[dict[str, float]], None]


def scene_samples(
    count: int, skills: Sequence[SkillSignature], *, seed: int = 0, on_progress: Told | None = None
) -> tuple[list[Sample], Counter[str]]:
    """Samples of scenes, each in its starting state.

    Args:
        count: how many scenes are drawn; those in which a step speaks of something that cannot be seen are left out.
        skills: the skills that the planner will be told of; the expert's six have to be among them.
        seed: which scenes.
        on_progress: called every fifty scenes with `scene` and `scenes`.

    Returns:
        The samples, and how often a scene was left out and why.
    """
    samples: list[Sample] = []
    left_out: Counter[str] = Counter()
    for k in range(count):
        number = FIRST_SEED + seed * SEEDS + k
        family = _FAMILIES[k % len(_FAMILIES)]
        try:
            spec, task = sample_scene_for(family, number, "train", 0 if family == "refuse" else 1, LONGEST_PLAN)
        except RuntimeError:
            left_out["no task of its family was found"] += 1
            continue
        scene = render_scene(spec, np.random.default_rng([0x10BA, number]))
        try:
            draft = expert_draft(scene, task, skills)
            context = PlannerContext(skills=tuple(skills))
            samples += samples_of(task.instruction, context, scene.rgb, draft, group=f"scene {number}", origin="scene")
        except UnwritableError as error:
            left_out[error.problem] += 1
        if on_progress is not None and (k + 1) % 50 == 0:
            on_progress({"scene": k + 1, "scenes": count})
    return samples, left_out


def expert_draft(scene: RenderedScene, task: Task, skills: Sequence[SkillSignature]) -> Draft:
    """The right answer in a rendered scene.

    Raises:
        UnwritableError: a step speaks of something that cannot be seen, or of a skill that is not installed.
    """
    in_view = sorted(scene.things, key=lambda t: t.u)
    seen = named([_name(t) for t in in_view])
    if task.declined is not None:
        reason, missing = task.declined.reason, task.declined.missing
        message = refusal_message(PlanDraft(refuse=reason, missing=missing), seen)
        if reason == "not_in_scene":
            return Draft(seen, refuse=Missing(refuse=reason, message=message, missing=(missing,)))
        return Draft(seen, refuse=Refuse(refuse=reason, message=message))
    by_name = {s.name: s for s in skills}
    spots = _Spots(scene)
    calls = []
    for step in task.plan():
        if step.skill not in by_name:
            raise UnwritableError("a skill of it is not installed")
        signature = by_name[step.skill]
        args = _arguments(task.scene, step, signature)
        calls.append(Call(step.skill, args, spots.point(step) if has_point(signature) else None))
    return Draft(seen, tuple(calls))


def _arguments(scene: SymbolicScene, step: SymbolicStep, signature: SkillSignature) -> dict[str, str]:
    """The step's arguments in the names that the planner uses."""
    values = {"relation": step.relation, "target": plain_name(scene, step.target) if step.target else ""}
    thing = plain_name(scene, step.object)
    args = {p.name: values.get(p.name, thing) for p in signature.params}
    if not all(args.values()):
        raise UnwritableError(f"{step.skill} has other parameters than the expert knows")
    return args


class _Spots:
    """Where the steps of one plan point in one picture."""

    def __init__(self, scene: RenderedScene) -> None:
        self._scene = scene
        self._taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._moved: dict[str, tuple[float, float]] = {}

    def point(self, step: SymbolicStep) -> Point:
        """The point of the plan's next step; what an earlier step has put somewhere is there."""
        u, v = self._pixel(step)
        if step.skill == "place":
            self._moved[step.object] = (u, v)
        height, width = self._scene.rgb.shape[:2]
        return scaled(u, v, width, height)

    def _pixel(self, step: SymbolicStep) -> tuple[float, float]:
        if step.skill == "place" and step.target == "table":
            return self._spot(Question("at", None))
        about = {"place": step.target, "throw_away": "bin"}.get(step.skill, step.object)
        if about in self._moved and step.relation not in ("left_of", "right_of"):
            return self._moved[about]
        thing = find_thing(self._scene.things, about)
        if thing is None:
            raise UnwritableError("a step speaks of something that cannot be seen")
        if step.skill == "throw_away":
            return thing.u, thing.v
        if step.skill != "place":
            return self._on(thing)
        if about == "drawer" and self._scene.spec.drawer_open < 0.06:
            # Its inside cannot be seen before an earlier step opened it; then the planner looks again.
            return thing.u, thing.v
        return self._spot(Question(step.relation, thing))

    def _on(self, thing: Thing) -> tuple[float, float]:
        """The visible pixel of a thing that is closest to its middle; furniture has a point that stands for it."""
        if thing.category not in LOOSE and thing.category != "spill":
            return thing.u, thing.v
        rows, columns = np.nonzero(self._scene.segments == thing.pixel)
        nearest = int(np.argmin((columns + 0.5 - thing.u) ** 2 + (rows + 0.5 - thing.v) ** 2))
        return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5

    def _spot(self, question: Question) -> tuple[float, float]:
        """The best spot for something, away from those that earlier steps of the plan have filled."""
        chances = target_map(self._scene, question)
        if chances is None:
            raise UnwritableError("there is no visible spot for a step")
        vs, us = (np.indices(chances.shape) + 0.5) * STRIDE
        taken = self._taken.setdefault((question.role, question.thing.id if question.thing else ""), [])
        free: NDArray[np.float64] = chances.astype(np.float64)
        if question.role == "at" or (question.thing is not None and question.thing.category not in LOOSE):
            for u, v in taken:
                free = free * (1.0 - np.exp(-((us - u) ** 2 + (vs - v) ** 2) / (2 * _APART_PX**2)))
        row, column = divmod(int(free.argmax()), free.shape[1])
        near = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        weights = free[near] / free[near].sum()
        spot = float((us[near] * weights).sum()), float((vs[near] * weights).sum())
        taken.append(spot)
        return spot


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.category}" if thing.category in LOOSE else thing.category.replace("_", " ")
