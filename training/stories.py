"""Stories: what there is to do in a random scene, played by whoever drives, one skill after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.representations.errors import HiervlaError
from hiervla.training.arena import Arena
from hiervla.training.episodes import Episode, demonstrate, hover
from hiervla.training.experts import tasks
from hiervla.training.experts.state import Task
from hiervla.training.states import SUFFIX, SavedState
from hiervla.worlds.tabletop.sampling import Request, sample_scene

HOME = np.array([0.35, 0.0, 0.42])

STORIES: dict[str, float] = {"tidy": 0.52, "clean": 0.16, "wipe": 0.10, "drawer": 0.16, "stack": 0.16}
"""Kinds of scene and their share when all skills are wanted."""
TELLS: dict[str, frozenset[str]] = {
    "tidy": frozenset({"pick", "place", "throw_away"}),
    "clean": frozenset({"pick", "wipe", "throw_away"}),
    "wipe": frozenset({"wipe", "throw_away"}),
    "drawer": frozenset({"open_drawer", "close_drawer", "pick", "place"}),
    "stack": frozenset({"pick", "place"}),
}
"""Skills that each of them needs."""

Driver = Callable[[Arena, Task, np.random.Generator], Episode]
"""Does a task from a hover above it."""


def tell(
    story: str, seed: int, skills: frozenset[str], driver: Driver = demonstrate, point_off_m: float = 0.0
) -> list[tuple[Episode, int]]:
    """Play one story in one scene; the episodes of it and a number that identifies each.

    A story that is the file of a saved moment is one episode: its task, from there. With `point_off_m` the point of a
    pick lies anywhere within that of what is meant, as a coarse pointer's does; then it takes words to tell neighbours
    apart [m].
    """
    rng = np.random.default_rng([0x7E11, seed])
    if story.endswith(SUFFIX):
        return [(_from_state(SavedState.load(Path(story)), rng, driver), seed * 16)]
    try:
        scene = _scene(story, seed, rng)
        with Arena(scene) as arena:
            told = list(_play(story, arena, rng, skills, driver, point_off_m))
    except HiervlaError as error:
        return [(Episode(Task("pick", np.zeros(3)), reason=f"scene {error}"), seed)]
    return [(episode, seed * 16 + i) for i, episode in enumerate(told)]


def _from_state(saved: SavedState, rng: np.random.Generator, driver: Driver) -> Episode:
    with Arena(saved.scene) as arena:
        saved.restore(arena)
        if not approach(arena, saved.task, rng):
            return Episode(saved.task, reason="hover not reached")
        return driver(arena, saved.task, rng)


def _scene(story: str, seed: int, rng: np.random.Generator) -> Any:
    def some(low: int, high: int, need: Sequence[Request], **options: Any) -> Any:
        return sample_scene(seed, n_objects=(max(low, len(need)), max(high, len(need))), require=need, **options)

    if story == "clean":
        return some(1, 5, [("sponge", None, "table")], spill=True, gripper=False)
    if story == "wipe":
        return some(1, 4, [("sponge", None, "gripper")], spill=True)
    if story == "drawer":
        inside = ("block", "sponge")[int(rng.random() < 0.3)]
        return some(1, 5, [(inside, None, "table")], drawer_open=bool(rng.random() < 0.5), gripper=False, spill=False)
    if story == "stack":
        bases: list[Request] = [("block", None), ("bowl", None), ("block", None, "table")]
        return some(3, 6, bases, gripper=False, stacks=0, spill=False, shelf_prob=0.05)
    return some(3, 8, [], gripper=bool(rng.random() < 0.15), shelf_prob=0.2)


def _play(
    story: str, arena: Arena, rng: np.random.Generator, skills: frozenset[str], driver: Driver, point_off_m: float
) -> Iterator[Episode]:
    truth = arena.truth

    def do(task: Task | None) -> Episode | None:
        if task is None or not approach(arena, task, rng):
            return None
        return driver(arena, task, rng)

    def pick(name: str | None) -> Task | None:
        task = None if name is None else tasks.pick_task(truth, arena.world, arena.state(), name, rng)
        return coarse(task, point_off_m, rng) if task is not None and point_off_m > 0.0 else task

    sponge = next((o.id for o in arena.scene.objects if o.category == "sponge"), "")
    if story in ("clean", "wipe"):
        if story == "clean":
            episode = do(pick(sponge))
            if episode is None:
                return
            yield episode
        # The same stain twice, from different sides: physics is cheap to rewind.
        arena.go(HOME, 0.0, 0.0)
        for _ in range(2):
            saved = arena.snapshot()
            episode = do(tasks.wipe_task(truth, sponge, rng)) if arena.state().held == sponge else None
            if episode is None:
                return
            yield episode
            if not episode.success or _ == 1:
                break
            arena.restore(saved)
        if arena.state().held == sponge:
            arena.go(HOME, 0.0, 0.0)
            episode = do(tasks.throw_away_task(truth, sponge, rng))
            if episode is not None:
                yield episode
        return
    if story == "drawer":
        yield from _drawer_story(arena, rng, do, pick)
        return
    for _ in range(4):
        held = arena.state().held
        if held is None:
            episode = do(pick(reachable(arena, rng, blocks_first=story == "stack")))
            if episode is None:
                continue
            yield episode
            held = arena.state().held
            if not episode.success or held is None:
                return
        arena.go(HOME, 0.0, 0.0)
        if arena.state().held != held:
            return
        options = tasks.place_tasks(truth, arena.state(), held, rng)
        onto = [t for t in options if t.onto is not None]
        if story == "stack" and onto:
            options = onto
        elif rng.random() < 0.18 or not options:
            options = [tasks.throw_away_task(truth, held, rng)]
        episode = do(options[int(rng.integers(len(options)))])
        if episode is None:
            return
        yield episode
        if not episode.success:
            return


def _drawer_story(arena: Arena, rng: np.random.Generator, do: Any, pick: Any) -> Iterator[Episode]:
    truth = arena.truth
    thing = arena.scene.objects[0].id
    for round_ in range(2):
        if truth.drawer_opening() < 0.1:
            episode = do(tasks.drawer_task(truth, "open_drawer", rng))
            if episode is None:
                return
            yield episode
            if not episode.success:
                return
        if round_ == 0 and arena.state().things[thing].position[2] < 0.01:
            episode = do(pick(thing))
            if episode is not None:
                yield episode
                if not episode.success:
                    return
                arena.go(HOME, 0.0, 0.0)
                into = [t for t in tasks.place_tasks(truth, arena.state(), thing, rng) if t.place == "drawer"]
                if not into or arena.state().held != thing:
                    return
                episode = do(into[0])
                if episode is None:
                    return
                yield episode
                if not episode.success:
                    return
        episode = do(tasks.drawer_task(truth, "close_drawer", rng))
        if episode is None:
            return
        yield episode
        if not episode.success:
            return


def coarse(task: Task, within_m: float, rng: np.random.Generator) -> Task:
    """The task with its point moved in the horizontal plane, evenly over a disc of that radius."""
    angle, distance = rng.uniform(0.0, 2.0 * np.pi), within_m * np.sqrt(rng.random())
    return replace(task, target_w=task.target_w + distance * np.array([np.cos(angle), np.sin(angle), 0.0]))


def reachable(arena: Arena, rng: np.random.Generator, blocks_first: bool) -> str | None:
    """A random object that can be picked up: nothing on it, not in bin or drawer."""
    facts = arena.truth.facts()
    covered = {f[2] for f in facts if f[0] == "on"}
    hidden = {f[1] for f in facts if f[0] == "on" and f[2] in ("bin", "drawer", "bowl")}
    hidden |= {f[1] for f in facts if f[0] == "on" and f[2] in hidden}
    bowls = {o.id for o in arena.scene.objects if o.category == "bowl"}
    hidden |= {f[1] for f in facts if f[0] == "on" and f[2] in bowls and rng.random() < 0.5}
    state = arena.state()
    names = [
        o.id
        for o in arena.scene.objects
        if o.pickable and o.id not in covered | hidden and state.things[o.id].upright > 0.98
    ]
    blocks = [n for n in names if n.startswith("block")]
    names = blocks if blocks_first and blocks else names
    return names[int(rng.integers(len(names)))] if names else None


def approach(arena: Arena, task: Task, rng: np.random.Generator, spread: float = 1.0) -> bool:
    """Travel to a hover pose for the task; False if that fails or what is held gets lost."""
    state = arena.state()
    closed = task.skill in ("close_drawer",) or state.held is not None
    lowest = state.things[task.object].top + 0.022 if task.skill == "pick" and task.object else 0.0
    position, yaw = hover(task, rng, spread=spread, lowest=lowest)
    arrived = arena.go(position, yaw, 0.0 if closed else 1.0)
    return arrived and arena.state().held == state.held
