"""Closed-loop trials of a policy, one skill at a time, from clean resets; judged by ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiervla.executor.policies.base import SKILLS, Policy
from hiervla.representations import UnknownNameError
from hiervla.training.arena import Arena
from hiervla.training.episodes import Episode, attempt
from hiervla.training.experts import tasks
from hiervla.training.experts.state import Task
from hiervla.training.stories import HOME, approach
from hiervla.worlds.tabletop.sampling import Request, sample_scene

SPREAD = 0.5
"""Scatter of the hover at the start, as a share of that in training; the executor's transit is exact."""


def trial_scene(skill: str, seed: int, rng: np.random.Generator) -> Any:
    """A random scene in which `skill` can be tried."""

    def some(low: int, high: int, need: list[Request], **options: Any) -> Any:
        return sample_scene(seed, n_objects=(max(low, len(need)), high), require=need, **options)

    loose = ("block", "mug", "can", "sponge")[int(rng.integers(4))]
    if skill == "pick":
        place = rng.choice(["table", "table", "table", "table", "top_shelf", "bottom_shelf"])
        return some(3, 7, [(loose, None, str(place))], gripper=False, spill=False)
    if skill == "place":
        need: list[Request] = [(loose, None, "gripper"), ("plate", None)]
        if loose == "block":
            need += [("bowl", None), ("block", None, "table")]
        return some(3, 6, need, spill=False, stacks=0, drawer_open=bool(rng.random() < 0.5))
    if skill == "throw_away":
        return some(2, 6, [(loose, None, "gripper")])
    if skill == "wipe":
        return some(2, 5, [("sponge", None, "gripper")], spill=True)
    return some(2, 6, [], gripper=False, drawer_open=skill == "close_drawer")


def trial_task(skill: str, arena: Arena, rng: np.random.Generator) -> Task | None:
    """What to do in the scene; None if it cannot be pointed at."""
    truth, state = arena.truth, arena.state()
    if skill == "pick":
        name = arena.scene.objects[0].id
        if any(f[0] == "on" and f[2] == name for f in truth.facts()):
            return None  # a pick needs nothing on top
        return tasks.pick_task(truth, arena.world, state, name, rng)
    if skill in ("open_drawer", "close_drawer"):
        return tasks.drawer_task(truth, skill, rng)
    held = state.held
    if held is None:
        return None
    if skill == "throw_away":
        return tasks.throw_away_task(truth, held, rng)
    if skill == "wipe":
        return tasks.wipe_task(truth, held, rng)
    options = tasks.place_tasks(truth, state, held, rng)
    return options[int(rng.integers(len(options)))] if options else None


def run_trial(policy: Policy, skill: str, seed: int, **options: Any) -> Episode:
    """One trial; scenes in which nothing can be tried are replaced by the next of the same seed.

    Args:
        policy: who acts.
        skill: what to try.
        seed: odd seeds are held out, training uses even ones.
        options: of :func:`hiervla.training.episodes.attempt`.

    Raises:
        UnknownNameError: there is no such skill.
    """
    if skill not in SKILLS:
        raise UnknownNameError("skill", skill, SKILLS)
    for again in range(8):
        scene_seed = 20_000_000 + 2_000 * seed + 2 * again + 1
        rng = np.random.default_rng([0x7121, SKILLS.index(skill), scene_seed])
        with Arena(trial_scene(skill, scene_seed, rng)) as arena:
            task = trial_task(skill, arena, rng)
            if task is None:
                continue
            if arena.state().held is not None:
                arena.go(HOME, 0.0, 0.0)
            if not approach(arena, task, rng, spread=SPREAD):
                continue
            return attempt(arena, task, policy, seed, **options)
    return Episode(Task(skill, np.zeros(3)), reason="no scene for it")


__all__ = ["run_trial", "trial_scene", "trial_task"]
