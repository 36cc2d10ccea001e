"""States in the middle of a task: some steps tried, some of them failed, things dropped on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiervla.planner.embedded.tokenizer import MAX_HISTORY, history_line, step_words
from hiervla.training.tasks.camera import FrontCamera, columns_of
from hiervla.training.tasks.domain import LOOSE, SymbolicScene, SymbolicStep, apply, free_spot, moved
from hiervla.training.tasks.expert import expert_plan
from hiervla.training.tasks.goals import Goal
from hiervla.training.tasks.references import plain_name

FAILURE_RATE = 0.12
SLIP_RATE = 0.04


@dataclass(frozen=True, slots=True)
class Attempt:
    """A step that was tried: its words, and whether it succeeded."""

    words: str
    ok: bool

    def line(self) -> str:
        """The line of the history."""
        return history_line(self.words, self.ok)


def words_of(scene: SymbolicScene, step: SymbolicStep) -> str:
    """A step in the words of the history, for the scene before it."""
    thing = plain_name(scene, step.object)
    source = plain_name(scene, scene.objects[step.object].support) if step.skill == "pick" else ""
    target = plain_name(scene, step.target) if step.target else ""
    return step_words(step.skill, thing, step.relation, target, source)


def roll_out(
    rng: np.random.Generator, scene: SymbolicScene, goal: Goal, camera: FrontCamera, attempts: int
) -> tuple[SymbolicScene, list[Attempt]]:
    """Try some steps of the expert's plan; each may fail, and what was picked up may slip.

    Raises:
        NoPlanError: after a failure the goal can no longer be reached.
    """
    history: list[Attempt] = []
    for _ in range(min(attempts, MAX_HISTORY)):
        plan = expert_plan(scene, goal, columns_of(scene, camera))
        if not plan:
            break
        step = plan[0]
        words = words_of(scene, step)
        ok = bool(rng.random() >= FAILURE_RATE)
        history.append(Attempt(words, ok))
        if ok:
            scene = apply(scene, step, rng)
            if step.skill == "pick" and rng.random() < SLIP_RATE:
                scene = _drop(rng, scene, step.object)
        else:
            scene = _fail(rng, scene, step)
    return scene, history


def _drop(rng: np.random.Generator, scene: SymbolicScene, object_id: str) -> SymbolicScene:
    return moved(scene, object_id, "table", free_spot(scene, rng))


def _fail(rng: np.random.Generator, scene: SymbolicScene, step: SymbolicStep) -> SymbolicScene:
    """What a failed attempt leaves behind."""
    chance = rng.random()
    if step.skill == "pick":
        support = scene.objects[step.object].support
        if support == "table" and chance < 0.4:
            x, y, z = scene.objects[step.object].position
            dx, dy = rng.normal(0.0, 0.015, 2)
            return moved(scene, step.object, "table", (x + dx, y + dy, z))
        base = scene.objects.get(support)
        knocked_off = base is not None and base.category in LOOSE and chance < 0.25
        return _drop(rng, scene, step.object) if knocked_off else scene
    if step.skill in {"place", "throw_away"} and chance < 0.55:
        return _drop(rng, scene, step.object)
    if step.skill == "wipe" and chance < 0.3 and scene.held:
        return _drop(rng, scene, scene.held)
    return scene
