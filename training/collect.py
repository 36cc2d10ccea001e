"""Demonstrations from the scripted experts: whole stories in random scenes, kept where they succeeded."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec
from hiervla.representations.errors import HiervlaError, UnknownNameError
from hiervla.training.arena import Arena
from hiervla.training.demos import DemoWriter
from hiervla.training.episodes import Episode, Noise, attempt, demonstrate, hover
from hiervla.training.experts import tasks
from hiervla.training.experts.state import Task
from hiervla.training.states import SUFFIX, SavedState, StateError, saved_states
from hiervla.worlds.tabletop.sampling import Request, sample_scene

RECIPE = "stories-1"
HOME = np.array([0.35, 0.0, 0.42])

STORIES: dict[str, float] = {"tidy": 0.52, "clean": 0.16, "wipe": 0.10, "drawer": 0.16, "stack": 0.16}
"""Kinds of scene and their share when all skills are wanted."""
_TELLS: dict[str, frozenset[str]] = {
    "tidy": frozenset({"pick", "place", "throw_away"}),
    "clean": frozenset({"pick", "wipe", "throw_away"}),
    "wipe": frozenset({"wipe", "throw_away"}),
    "drawer": frozenset({"open_drawer", "close_drawer", "pick", "place"}),
    "stack": frozenset({"pick", "place"}),
}

Driver = Callable[[Arena, Task, np.random.Generator], Episode]


@dataclass
class CollectReport:
    """What a collection gave.

    Attributes:
        kept: episodes by skill.
        failed: episodes that failed, by skill; thrown away unless a policy drove.
        reasons: why, with counts.
        samples: labelled moments in all.
        seconds: wall time [s].
        shards: files written.
    """

    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    seconds: float = 0.0
    shards: list[Path] = field(default_factory=list)


def run_collect(
    out: str | Path,
    *,
    skills: Sequence[str] = SKILLS,
    episodes: int = 200,
    seed: int = 0,
    workers: int = 1,
    budget_s: float | None = None,
    policy: str | Path | None = None,
    stories: Mapping[str, float] | None = None,
    states: Sequence[str | Path] = (),
    on_progress: Callable[[CollectReport], None] | None = None,
) -> CollectReport:
    """Collect demonstrations into `out`.

    With `policy`, that policy drives, and the expert says at every moment what it would have done (DAgger,
    arXiv 1011.0686). Failures are then the most instructive episodes, and are kept.

    Args:
        out: folder for the shards `demos-<seed>-<number>.npz`.
        skills: which skills are wanted; their stories may hold others, which are then not kept.
        episodes: successful episodes wanted of each skill (pick and place give more on the way).
        seed: of scenes, tasks and errors; with one worker the same seed gives the same shards.
        workers: processes.
        budget_s: wall time after which no further scene is started [s].
        policy: folder of the weights that drive; None: the experts do.
        stories: kinds of scene and their shares; default :data:`STORIES`.
        states: folders of saved moments (:mod:`hiervla.training.states`); every episode then begins in one of them.
        on_progress: called with the report so far after every scene.

    Raises:
        UnknownNameError: a skill or story does not exist, or no story has the skills.
        CheckpointError: the policy's weights cannot be read.
        StateError: a saved moment cannot be read, or none is of the wanted skills.
    """
    for skill in skills:
        if skill not in SKILLS:
            raise UnknownNameError("skill", skill, SKILLS)
    shares = dict(stories or STORIES)
    for story in shares:
        if story not in STORIES:
            raise UnknownNameError("story", story, STORIES)
    folder, began = Path(out), time.monotonic()
    report, features = CollectReport(), FeatureSpec()
    writer = DemoWriter(_recipe(seed, skills, policy, shares), features)

    def flush() -> None:
        path = folder / f"demos-{seed}-{len(report.shards):03d}.npz"
        writer.write(path)
        report.shards.append(path)

    scenes = _state_seeds(seed, states, skills) if states else _scene_seeds(seed, skills, shares)
    wanted = _skills_of(states, skills)
    for results in _work(scenes, frozenset(skills), workers, policy):
        for episode, number in results:
            skill = episode.task.skill
            keep = episode.success or (policy is not None and len(episode.samples) > 0)
            if keep and skill in skills:
                writer.add(skill, episode.samples, number)
                report.kept[skill] += 1
                report.samples += len(episode.samples)
            if not episode.success:
                report.failed[skill] += 1
                report.reasons[f"{skill}: {episode.reason.split(' ')[0]}"] += 1
        report.seconds = time.monotonic() - began
        if on_progress is not None:
            on_progress(report)
        if len(writer) > 6000:
            flush()
        late = budget_s is not None and report.seconds > budget_s
        if late or all(report.kept[s] >= episodes for s in wanted):
            break
    if len(writer):
        flush()
    return report


def _recipe(seed: int, skills: Sequence[str], policy: str | Path | None, shares: Mapping[str, float]) -> dict[str, Any]:
    from hiervla._version import __version__

    return {
        "name": RECIPE, "seed": seed, "skills": list(skills), "noise": asdict(Noise()), "version": __version__,
        "driver": "expert" if policy is None else "policy",
        "stories": dict(shares),
    }  # fmt: skip


def _driver(policy: str | Path | None, features: FeatureSpec) -> Driver:
    if policy is None:
        return partial(demonstrate, features=features)
    from hiervla.executor.policies.families import load_policy

    pilot = load_policy(policy)

    def drive(arena: Arena, task: Task, rng: np.random.Generator) -> Episode:
        return attempt(arena, task, pilot, int(rng.integers(2**31)), record=True, features=features)

    return drive


def _scene_seeds(seed: int, skills: Sequence[str], shares: Mapping[str, float]) -> Iterator[tuple[str, int]]:
    """Endless (story, scene seed); training scenes have even seeds above 10 million, benchmarks never do."""
    rng = np.random.default_rng([0xC011, seed])
    wanted = {k: w for k, w in shares.items() if _TELLS[k] & set(skills)}
    if not wanted:
        raise UnknownNameError("story with skills", ", ".join(skills), STORIES)
    names, weights = list(wanted), np.array(list(wanted.values()))
    while True:
        story = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        yield story, 10_000_000 + 2 * int(rng.integers(0, 2**29))


def _state_seeds(seed: int, states: Sequence[str | Path], skills: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Endless (file of a saved moment, seed)."""
    files = saved_states(map(Path, states))
    files = [f for f in files if SavedState.load(f).task.skill in skills]
    if not files:
        raise StateError(", ".join(map(str, states)), f"none is of {', '.join(skills)}", "Ask for other skills")
    rng = np.random.default_rng([0x57A7, seed])
    while True:
        for index in rng.permutation(len(files)):
            yield str(files[index]), 10_000_000 + 2 * int(rng.integers(0, 2**29))


def _skills_of(states: Sequence[str | Path], skills: Sequence[str]) -> list[str]:
    """Which of the skills there is anything to collect of."""
    if not states:
        return list(skills)
    return sorted({SavedState.load(f).task.skill for f in saved_states(map(Path, states))} & set(skills))


def _work(
    scenes: Iterator[tuple[str, int]], skills: frozenset[str], workers: int, policy: str | Path | None
) -> Iterator[list[tuple[Episode, int]]]:
    if workers <= 1:
        driver = _driver(policy, FeatureSpec())
        for story, seed in scenes:
            yield tell(story, seed, skills, driver)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        # imap reads its input ahead without end, so it is fed in rounds.
        while True:
            batch = [(*next(scenes), skills, policy) for _ in range(4 * workers)]
            yield from pool.imap(_tell, batch)


def _tell(args: tuple[str, int, frozenset[str], str | Path | None]) -> list[tuple[Episode, int]]:
    story, seed, skills, policy = args
    return tell(story, seed, skills, _driver(policy, FeatureSpec()))


def tell(story: str, seed: int, skills: frozenset[str], driver: Driver = demonstrate) -> list[tuple[Episode, int]]:
    """Play one story in one scene; the episodes of it and a number that identifies each.

    A story that is the file of a saved moment is one episode: its task, from there.
    """
    rng = np.random.default_rng([0x7E11, seed])
    if story.endswith(SUFFIX):
        return [(_from_state(SavedState.load(Path(story)), rng, driver), seed * 16)]
    try:
        scene = _scene(story, seed, rng)
        with Arena(scene) as arena:
            told = list(_play(story, arena, rng, skills, driver))
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
    story: str, arena: Arena, rng: np.random.Generator, skills: frozenset[str], driver: Driver
) -> Iterator[Episode]:
    truth = arena.truth

    def do(task: Task | None) -> Episode | None:
        if task is None or not approach(arena, task, rng):
            return None
        return driver(arena, task, rng)

    def pick(name: str | None) -> Task | None:
        return None if name is None else tasks.pick_task(truth, arena.world, arena.state(), name, rng)

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
