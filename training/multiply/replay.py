"""A motion of another scene, done again in this one: carried to where the thing lies now, joined on, with errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.envelope import SafeWorld
from hiervla.executor.policies.features import FeatureSpec, observe_features, rotate
from hiervla.training.arena import RATE_HZ, Arena
from hiervla.training.demos import Sample
from hiervla.training.episodes import HORIZON, SAMPLE_S, Episode, Noise, err, judged, lost
from hiervla.training.experts.motion import Vector, Waypoint, as_actions, follow, turn
from hiervla.training.experts.state import State, Task
from hiervla.training.multiply.frames import ObjectFrame, object_frame
from hiervla.training.multiply.sources import ROWS, Segment
from hiervla.training.step_wordings import worded

NOISE = Noise(wander_m=0.008, near_m=0.002, turn_rad=0.04, kick=0.0)
"""How a replay errs: labels stay the motion itself, so samples show how to come back to it."""
UNMATCHED = "unmatched"
_NEAREST = 3
"""Segments that are drawn among; the more, the more varied, and the less alike the things."""
_TOO_FAR = 4.0
_ARRIVED_M = 0.008
_MOST_WAITS = 6


@dataclass(frozen=True)
class Plan:
    """What is to be done, row by row, due every 0.1 s from the beginning on.

    Attributes:
        rows: (N, 5) x, y, z in the world frame [m], yaw [rad], opening 0..1.
        progress: (N,) as the demonstrator judged it, 0..1.
        done: (N,) whether nothing is left to do.
    """

    rows: NDArray[np.float64]
    progress: NDArray[np.float64]
    done: NDArray[np.bool_]

    def ahead(self, k: int, wait: bool) -> NDArray[np.float64]:
        """The (HORIZON, 5) rows after the first `k`, beginning where they ended for a moment if told to wait."""
        first = [max(k - 1, 0)] * ROWS if wait else []
        indices = np.array([*first, *range(k, k + HORIZON - len(first))])
        return self.rows[np.minimum(indices, len(self.rows) - 1)]

    def grip_changes(self, k: int) -> bool:
        """Whether the fingers open or close within the rows that are due before the next moment after next."""
        openings = self.rows[max(k - 1, 0) : k + 2 * ROWS, 4]
        return bool(np.ptp(openings) > 0.2)


def replay(
    arena: Arena,
    task: Task,
    rng: np.random.Generator,
    *,
    segments: Sequence[Segment],
    noise: Noise = NOISE,
    features: FeatureSpec | None = None,
) -> Episode:
    """Do a task from the present pose by one of the motions, through controller and envelope; judged by ground truth.

    Args:
        arena: where; the arm hovers near the thing.
        task: what.
        rng: draws the motion and the errors.
        segments: motions to choose from.
        noise: errors of what is commanded; what is labelled has none.
        features: what samples keep.
    """
    task = worded(task, arena)
    episode = Episode(task)
    before, spec = arena.state(), features or FeatureSpec()
    episode.frame = object_frame(before, task)
    segment = choose(segments, task, episode.frame, before, rng)
    if segment is None:
        episode.reason = UNMATCHED
        return episode
    episode.source = segment.source
    plan = joined(segment, episode.frame, before)
    with arena.guarded() as safe:
        _drive(arena, safe, plan, episode, before, noise, rng, spec)
        return episode if episode.reason else judged(arena, before, episode, True)


def _drive(
    arena: Arena, safe: SafeWorld, plan: Plan, episode: Episode, before: State, noise: Noise,
    rng: np.random.Generator, spec: FeatureSpec,
) -> None:  # fmt: skip
    task, k, due, waits = episode.task, 0, 0, 0
    while k < len(plan.rows):
        state = arena.state()
        off = float(np.linalg.norm(state.ee - plan.rows[max(k - 1, 0), :3]))
        # The fingers wait for the arm: a motion that was carried elsewhere is not followed as closely everywhere.
        wait = off > _ARRIVED_M and waits < _MOST_WAITS and plan.grip_changes(k)
        rows, at = plan.ahead(k, wait), min(k, len(plan.rows) - 1)
        inputs = observe_features(arena.observe(), task.target_w, spec)
        sample = Sample(inputs, as_actions(rows, task.target_w), bool(plan.done[at]), float(plan.progress[at]))
        episode.samples.append(sample)
        if lost(before, state, task):
            episode.reason = "lost"
            return
        if wait or k >= due:
            due = k + ROWS * int(rng.integers(2, 5))
            arena.accept(err(rows, state, task, noise, rng))
        arena.run(SAMPLE_S)
        episode.seconds += SAMPLE_S
        if safe.latched is not None:
            episode.reason = f"envelope {safe.latched.message}"
            return
        if wait:
            waits, due = waits + 1, k
        else:
            k += ROWS


def choose(
    segments: Sequence[Segment], task: Task, frame: ObjectFrame, state: State, rng: np.random.Generator
) -> Segment | None:
    """One of the motions whose things are most like the one here, at random; None if all are too different."""
    costs = [(_unlikeness(s.frame, frame) + _turning(s, frame, state), i) for i, s in enumerate(segments)
             if s.skill == task.skill]  # fmt: skip
    best = [i for cost, i in sorted(costs)[:_NEAREST] if cost < _TOO_FAR]
    return segments[best[int(rng.integers(len(best)))]] if best else None


def _unlikeness(one: ObjectFrame, other: ObjectFrame) -> float:
    sizes = np.abs(np.subtract(one.size, other.size)).max() / 0.02
    if not one.held:
        return float(sizes) if one.kind == other.kind else np.inf
    if "drawer" in (one.kind, other.kind) and one.kind != other.kind:
        # The hand lets go high above a drawer, and nowhere else.
        return np.inf
    return float(sizes) + (one.kind != other.kind) + 2.0 * (one.held != other.held)


def _turning(segment: Segment, frame: ObjectFrame, state: State) -> float:
    """How far the wrist must turn for it, in half radians."""
    yaw = segment.rows[0, 3] + _angle(segment, frame, state)
    return abs(turn(float(yaw), state.yaw) - state.yaw) / 0.5


def _angle(segment: Segment, frame: ObjectFrame, state: State) -> float:
    """By how much to turn the motion about its thing [rad]: the way that turns the wrist least."""
    if np.isinf(frame.period):
        return 0.0
    first = float(segment.rows[0, 3])
    if frame.period == 0.0:
        return turn(state.yaw - first, 0.0)
    base = frame.yaw - segment.frame.yaw
    options = [base + i * frame.period for i in range(round(2 * np.pi / frame.period))]
    # The hand looks the same after half a turn, but a motion that comes from one side does not.
    return min(
        options, key=lambda a: (round(abs(turn(first + a, state.yaw) - state.yaw), 6), abs(turn(a, 0.0, 2 * np.pi)))
    )


def moved(segment: Segment, frame: ObjectFrame, state: State) -> NDArray[np.float64]:
    """(T, 5) rows of the motion in the world, carried from the segment's frame to `frame`.

    What is held moves as it did there, wherever in the hand it sits.
    """
    angle = _angle(segment, frame, state)
    there = np.zeros(3) if segment.frame.offset is None else segment.frame.offset
    here = np.zeros(3) if frame.offset is None else frame.offset
    rows = segment.rows.copy()
    rows[:, :3] -= there
    rows[:, :2] = rotate(rows[:, :2], angle)
    rows[:, :3] += frame.origin + here
    rows[:, 3] += turn(float(rows[0, 3] + angle), state.yaw) - rows[0, 3]
    return rows


def joined(segment: Segment, frame: ObjectFrame, state: State) -> Plan:
    """The motion carried here, after an interpolated way to where it begins."""
    rows = moved(segment, frame, state)
    way = transit(state, rows[0])
    n = len(way)
    return Plan(
        np.vstack([way, rows]),
        np.concatenate([np.full(n, segment.progress[0]), segment.progress]),
        np.concatenate([np.zeros(n, dtype=bool), segment.done]),
    )


def transit(state: State, first: Vector) -> NDArray[np.float64]:
    """(N, 5) rows from the present tool pose to row `first` (5,), with bounded speed and acceleration; perhaps none."""
    goal = Waypoint(first[:3], float(first[3]), float(first[4]))
    rows = follow(state.ee, state.velocity, state.yaw, [goal], 60, RATE_HZ)
    there = (np.linalg.norm(rows[:, :3] - first[:3], axis=1) < 0.004) & (np.abs(rows[:, 3] - first[3]) < 0.04)
    return rows[: int(np.argmax(there))] if there.any() else rows


__all__ = ["NOISE", "UNMATCHED", "Plan", "choose", "joined", "moved", "replay", "transit"]
