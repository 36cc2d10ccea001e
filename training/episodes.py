"""One attempt at one task: driven by an expert that errs on purpose, or by a policy; labelled by the expert."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.policies.base import HOVER_M, Policy
from hiervla.executor.policies.features import FeatureSpec, observe_features
from hiervla.representations import ActionChunk
from hiervla.training.arena import RATE_HZ, Arena, as_step
from hiervla.training.demos import Sample
from hiervla.training.experts import EXPERTS
from hiervla.training.experts.motion import Vector, as_actions, follow
from hiervla.training.experts.state import State, Task
from hiervla.training.multiply.frames import ObjectFrame, object_frame
from hiervla.training.step_wordings import worded

HORIZON = 16
SAMPLE_S = 0.2
TIMEOUT_S = {"pick": 9.0, "place": 8.0, "throw_away": 7.0, "open_drawer": 9.0, "close_drawer": 9.0, "wipe": 14.0}


@dataclass(frozen=True)
class Boundary:
    """A moment at which a policy gave a chunk, and what its heads said of the step.

    Attributes:
        chunk: the chunk.
        done: whether the step is done by ground truth.
        progress: what the expert estimates.
    """

    chunk: ActionChunk
    done: bool
    progress: float


@dataclass
class Episode:
    """What happened.

    Attributes:
        task: what was to be done.
        success: by ground truth.
        reason: why not, or "done".
        seconds: simulated time [s].
        samples: labelled moments; empty if nothing was recorded.
        boundaries: all chunks, when asked for.
        joints: (T, 7) joint reference of every control tick until the end, when asked for [rad].
        frame: of what the task is about, before anything moved; only of demonstrations.
        source: the demonstration that was done again, or "".
    """

    task: Task
    success: bool = False
    reason: str = ""
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    joints: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 7)))
    frame: ObjectFrame | None = None
    source: str = ""


@dataclass(frozen=True)
class Noise:
    """How the demonstrator errs, so that its corrections are seen.

    Attributes:
        wander_m: spread of the offset that a motion gets, high above things [m].
        near_m: the same near things [m].
        turn_rad: spread of the error in yaw [rad].
        kick: chance that a motion goes somewhere else altogether.
    """

    wander_m: float = 0.012
    near_m: float = 0.0025
    turn_rad: float = 0.06
    kick: float = 0.06


def hover(
    task: Task, rng: np.random.Generator, yaw: float = 0.0, spread: float = 1.0, lowest: float = 0.0
) -> tuple[Vector, float]:
    """A start pose around the one that the executor's transit ends in, at least `lowest` high [m]."""
    height = HOVER_M[task.skill]
    offset = np.array([rng.normal(0, 0.015), rng.normal(0, 0.015), rng.normal(0, 0.012)]) * spread
    position = task.target_w + (0, 0, height) + np.clip(offset, -0.035, 0.035)
    position[2] = max(position[2], lowest)
    return position, yaw + spread * float(np.clip(rng.normal(0, 0.12), -0.3, 0.3))


def demonstrate(
    arena: Arena,
    task: Task,
    rng: np.random.Generator,
    *,
    noise: Noise | None = None,
    features: FeatureSpec | None = None,
    record: bool = True,
    timeout_s: float = 13.0,
) -> Episode:
    """Let the expert do a task from the present pose, erring by `noise`, and keep labelled moments."""
    task = worded(task, arena)
    episode, expert = Episode(task), EXPERTS[task.skill]
    before = arena.state()
    episode.frame = object_frame(before, task)
    noise = noise or Noise()
    spec = features or FeatureSpec()
    lingering, k, due = 0, 0, 0
    while episode.seconds < timeout_s:
        state = arena.state()
        way, progress, done = expert(state, task)
        rows = follow(state.ee, state.velocity, state.yaw, way, HORIZON, RATE_HZ)
        if record:
            inputs = observe_features(arena.observe(), task.target_w, spec)
            episode.samples.append(Sample(inputs, as_actions(rows, task.target_w), done, progress))
        if lost(before, state, task):
            episode.reason = "lost"
            return episode
        lingering += done
        if lingering > 2:
            break
        if k >= due:
            due = k + int(rng.integers(2, 5))
            arena.accept(err(rows, state, task, noise, rng))
        arena.run(SAMPLE_S)
        episode.seconds += SAMPLE_S
        k += 1
    return judged(arena, before, episode, lingering > 0)


def attempt(
    arena: Arena,
    task: Task,
    policy: Policy,
    seed: int,
    *,
    rows: int = 8,
    threshold: float = 0.5,
    features: FeatureSpec | None = None,
    record: bool = False,
    judge: bool = False,
    delay_s: float = 0.0,
    timeout_s: float | None = None,
) -> Episode:
    """Let a policy do a task from the present pose until its done-head says so or time is up.

    Args:
        arena: where.
        task: what.
        policy: who.
        seed: for the policy's noise.
        rows: rows of a chunk that are executed before the next.
        threshold: of the done-head.
        features: with `record`, what the samples keep.
        record: keep moments labelled by the expert.
        judge: keep the chunks with what the expert says at that moment, and the joint references.
        delay_s: how long a chunk takes; the one before is followed meanwhile, as the executor does it [s].
        timeout_s: limit [s]; default by skill.
    """
    task = worded(task, arena)
    episode, step = Episode(task), as_step(task)
    expert = EXPERTS[task.skill]
    before = arena.state()
    policy.reset(step, seed)
    finished, delay, began = False, 0.0, len(arena.commanded)
    limit = TIMEOUT_S[task.skill] if timeout_s is None else timeout_s
    while episode.seconds < limit:
        observation = arena.observe()
        chunk = policy.act(observation, step)
        if judge:
            _, progress, done = expert(arena.state(), task)
            episode.boundaries.append(Boundary(chunk, done, progress))
        arena.run(delay)
        episode.seconds += delay
        if chunk.done_prob is not None and chunk.done_prob > threshold:
            finished = True
            if not record:
                break
        arena.tracker.accept(chunk, arena.world.time_s)
        span, delay = rows / chunk.rate_hz - delay_s, delay_s
        pieces = 2 if record else 1
        for piece in range(pieces):
            if record:
                state = arena.state()
                if lost(before, state, task):
                    episode.reason = "lost"
                    # What led here is instructive; what comes after a loss is nobody's example.
                    return episode
                way, progress, done = expert(state, task)
                label = as_actions(follow(state.ee, state.velocity, state.yaw, way, HORIZON, RATE_HZ), task.target_w)
                seen = observation if piece == 0 else arena.observe()
                inputs = observe_features(seen, task.target_w, features or FeatureSpec())
                episode.samples.append(Sample(inputs, label, done, progress))
            arena.run(span / pieces)
        episode.seconds += span
        if finished:
            break
    if judge:
        episode.joints = np.array(arena.commanded[began:])
    return judged(arena, before, episode, finished)


def err(
    rows: NDArray[np.float64], state: State, task: Task, noise: Noise, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The expert's rows with an error in place, yaw and sometimes grip."""
    rows = rows.copy()
    # Rows that come down on something must not carry the error of rows high above it.
    clearance = _clearance(state, task) + rows[:, 2] - state.ee[2]
    lowest_free = 0.4 if task.skill == "wipe" else 0.0
    free = np.clip((clearance - 0.03) / 0.05, lowest_free, 1.0)
    spread = noise.near_m + (noise.wander_m - noise.near_m) * free
    unit = np.clip(rng.normal(0.0, 1.0, 3), -2.0, 2.0) * (1.0, 1.0, 0.6)
    offset = spread[:, None] * unit * np.minimum(1.0, np.arange(1, len(rows) + 1) / 3.0)[:, None]
    offset[:, 2] = np.maximum(offset[:, 2], -0.001 if task.skill == "wipe" else -0.004)
    rows[:, :3] += offset
    rows[:, 3] += rng.normal(0.0, noise.turn_rad) * free
    if rng.random() < noise.kick:
        away = rng.normal(0.0, 0.025, 3)
        away[2] = abs(away[2]) + 0.01
        rows[:, :3] = rows[:1, :3] + away * np.minimum(1.0, np.arange(1, len(rows) + 1) / 4.0)[:, None]
        if state.held is None and rng.random() < 0.4:
            rows[:, 4] = rng.random()
        else:
            rows[:, 4] = rows[0, 4]
    return rows


def _clearance(state: State, task: Task) -> float:
    """Height of the tool, or of what it holds, above what it goes for [m]."""
    if task.skill == "pick":
        return float(state.ee[2]) - state.things[str(task.object)].top
    lowest = state.things[state.held].position[2] if state.held is not None else state.ee[2]
    return float(lowest - task.target_w[2])


def lost(before: State, state: State, task: Task) -> bool:
    """Whether what was held has been dropped where it should not be, or the object in question has tipped over."""
    if task.object is None:
        return False
    thing = state.things[task.object]
    if task.skill == "wipe":
        return state.held != task.object
    if task.skill == "pick":
        return state.held is None and thing.upright < 0.9
    dropped = state.held != task.object and state.width < 0.01
    return dropped or (task.skill == "place" and state.held is None and thing.upright < 0.9)


def judged(arena: Arena, before: State, episode: Episode, finished: bool) -> Episode:
    """Say by ground truth, a moment later, whether an episode came out well."""
    arena.run(0.3)
    episode.reason = verdict(arena, before, episode.task) or ("done" if finished else "timed out")
    episode.success = episode.reason == "done"
    return episode


def verdict(arena: Arena, before: State, task: Task) -> str:
    """What is wrong with the outcome by ground truth, or an empty string."""
    facts, after = arena.truth.facts(), arena.state()
    for name, old in before.things.items():
        new = after.things[name]
        if name != task.object and old.upright - new.upright > 0.2:
            return f"tipped {name}"
        if name != task.object and np.linalg.norm(new.position - old.position) > 0.04 and old.position[1] < 0.25:
            return f"moved {name}"
    thing = str(task.object)
    if task.skill == "throw_away":
        x, y, z = after.things[thing].position
        inside = arena.scene.furniture.region("bin").contains(float(x), float(y)) and z < 0.12
        return "" if inside and after.held is None else f"not in the bin but at {x:.2f}, {y:.2f}, {z:.2f}"
    wanted: dict[str, tuple[str, ...]] = {
        "pick": ("on", thing, "gripper"),
        "place": ("on", thing, task.onto or task.place or "table"),
        "open_drawer": ("drawer_open",),
        "close_drawer": ("drawer_closed",),
        "wipe": ("spill_clean", "spill_0"),
    }
    if wanted[task.skill] not in facts:
        where = [f[2] for f in facts if f[:2] == ("on", thing)]
        return f"not {'-'.join(wanted[task.skill])} but {where or 'nowhere'}"
    if task.skill == "place":
        gap = after.things[thing].position[:2] - task.target_w[:2]
        if np.hypot(*gap) > 0.04:
            return f"placed {np.hypot(*gap) * 1e3:.0f} mm off"
        if after.things[thing].upright < 0.95:
            return "placed on its side"
        if after.held is not None:
            return "not released"
    if task.skill == "wipe" and after.held != thing:
        return "dropped the sponge"
    return ""


__all__ = ["Boundary", "Episode", "Noise", "attempt", "demonstrate", "err", "hover", "judged", "lost", "verdict"]
