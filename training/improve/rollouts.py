"""Rollouts of the present policy in one situation, with chance put in, and an expert that takes over now and then.

The outcome is judged by ground truth, at training time only. The expert stands in for a person who takes the controls
when it goes wrong; what it does is kept as such ("expert takeover").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiervla.executor.policies.base import Policy
from hiervla.executor.policies.features import FeatureSpec, observe_features
from hiervla.representations import ActionChunk
from hiervla.training.arena import RATE_HZ, Arena, as_step
from hiervla.training.demos import Sample
from hiervla.training.episodes import HORIZON, SAMPLE_S, TIMEOUT_S, lost, verdict
from hiervla.training.experts import EXPERTS
from hiervla.training.experts.motion import Vector, as_actions, follow
from hiervla.training.experts.state import Task
from hiervla.training.improve.experience import FAILED, SUCCEEDED, UNKNOWN, Moment, Outcome, Trail
from hiervla.training.step_wordings import worded

EXPERT_S = 10.0
"""How long an expert that took over may take [s]."""


@dataclass(frozen=True)
class Exploration:
    """Chance in what the policy does, and who helps.

    Attributes:
        wander_m: spread of the offset that a chunk gets [m].
        turn_rad: spread of the turn that it gets [rad].
        takeovers: share of the rollouts in which the expert takes over if the thing is not done by then; in half of
            these at a random moment, in the others when the time is up.
    """

    wander_m: float = 0.004
    turn_rad: float = 0.12
    takeovers: float = 0.6


def roll_out(
    arena: Arena,
    task: Task,
    policy: Policy,
    seed: int,
    origin: str,
    exploration: Exploration,
    features: FeatureSpec,
    *,
    rows: int = 8,
    threshold: float = 0.5,
) -> Trail:
    """One attempt from the present pose.

    Args:
        arena: where.
        task: what.
        policy: who.
        seed: of all chance in it.
        origin: identifies the trail.
        exploration: chance, and takeovers.
        features: what the moments keep.
        rows: rows of a chunk that are carried out before the next.
        threshold: of the done-head.
    """
    task = worded(task, arena)
    rng = np.random.default_rng([0x5E1F, seed])
    limit = TIMEOUT_S[task.skill]
    helped = rng.random() < exploration.takeovers
    early = bool(rng.random() < 0.5)
    at = float(rng.uniform(0.8, limit - 1.0)) if early else limit
    trail, before, step = Trail(task.skill, origin, words=task.words), arena.state(), as_step(task)
    moments: list[tuple[Sample, float]] = []
    policy.reset(step, seed)
    gone = finished = False
    span = rows / RATE_HZ
    while trail.seconds < (min(at, limit) if helped else limit) and not gone and not finished:
        observation = arena.observe()
        chunk = _perturbed(policy.act(observation, step), rng, exploration)
        if chunk.done_prob is not None and chunk.done_prob > threshold:
            finished = True
            break
        moments.append((_sample(arena, task, features, chunk_rows(chunk, task.target_w), observation), trail.seconds))
        arena.tracker.accept(chunk, arena.world.time_s)
        arena.run(span)
        trail.seconds += span
        gone = lost(before, arena.state(), task)
    takes_over = helped and not gone and not finished
    outcome: Outcome = UNKNOWN
    if not takes_over:
        arena.run(0.3)
        trail.success = not gone and verdict(arena, before, task) == ""
        outcome = SUCCEEDED if trail.success else FAILED
    elif not early:
        outcome = FAILED
    trail.moments = [Moment(s, t, human=False, outcome=outcome) for s, t in moments]
    if takes_over:
        _take_over(arena, task, trail, features, rng)
        trail.success = trail.success and verdict(arena, before, task) == ""
        # What an expert did to no avail is nobody's example.
        trail.moments = [m for m in trail.moments if trail.success or not m.human]
    return trail


def _take_over(arena: Arena, task: Task, trail: Trail, features: FeatureSpec, rng: np.random.Generator) -> None:
    """The expert drives to the end."""
    expert, before = EXPERTS[task.skill], arena.state()
    until, lingering, due, k = trail.seconds + EXPERT_S, 0, 0, 0
    while trail.seconds < until and lingering <= 2:
        state = arena.state()
        if lost(before, state, task):
            return
        way, _, done = expert(state, task)
        wanted = follow(state.ee, state.velocity, state.yaw, way, HORIZON, RATE_HZ)
        sample = _sample(arena, task, features, as_actions(wanted, task.target_w), arena.observe())
        trail.moments.append(Moment(sample, trail.seconds, human=True, outcome=SUCCEEDED))
        lingering += done
        if k >= due:
            due = k + int(rng.integers(2, 4))
            arena.accept(wanted)
        arena.run(SAMPLE_S)
        trail.seconds += SAMPLE_S
        k += 1
    arena.run(0.3)
    trail.success = lingering > 0


def _sample(arena: Arena, task: Task, features: FeatureSpec, actions: np.ndarray, observation: object) -> Sample:  # type: ignore[type-arg]
    _, progress, done = EXPERTS[task.skill](arena.state(), task)
    return Sample(observe_features(observation, task.target_w, features), actions, done, progress)  # type: ignore[arg-type]


def _perturbed(chunk: ActionChunk, rng: np.random.Generator, exploration: Exploration) -> ActionChunk:
    """The chunk moved and turned as a whole, growing over its first rows so that nothing jumps."""
    ease = np.minimum(1.0, np.arange(1, chunk.horizon + 1) / 3.0)
    offset = rng.normal(0.0, exploration.wander_m, 3) * (1.0, 1.0, 0.5)
    return chunk.replace(
        positions=chunk.positions + ease[:, None] * offset,
        yaws=chunk.yaws + ease * rng.normal(0.0, exploration.turn_rad),
    )


def chunk_rows(chunk: ActionChunk, target_w: Vector) -> np.ndarray:  # type: ignore[type-arg]
    """A chunk as (H, 6) rows relative to the keypoint; see `network.ACTION_DIM`."""
    rows = np.concatenate([chunk.positions, chunk.yaws[:, None], chunk.gripper[:, None]], axis=1)
    return as_actions(rows, target_w)


__all__ = ["Exploration", "chunk_rows", "roll_out"]
