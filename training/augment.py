"""Random changes to demonstrations that leave the expert's answer right."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiervla.executor.policies.base import HOVER_M, SKILLS
from hiervla.executor.policies.features import FRAMED, PolicyInput, grasp_frame, in_frame, to_frame
from hiervla.training.demos import DemoSet

Batch = tuple[np.ndarray[Any, Any], ...]

TURNABLE = {"pick": 0.12, "place": 0.6, "throw_away": 0.6}
"""How far everything may be turned about the keypoint, for skills whose motion follows from what is in view [rad]."""
SHIFTABLE = frozenset({"pick"})
"""Skills in which the keypoint only says what is meant: moving it must not move the motion."""


def augment(
    demos: DemoSet,
    rows: np.ndarray[Any, Any],
    rng: np.random.Generator | None,
    points: int,
    off: np.ndarray[Any, Any] | None = None,
    words: np.ndarray[Any, Any] | None = None,
) -> Batch:
    """Take rows of a data set as arrays for the network, randomly changed; unchanged with ``rng=None``.

    Args:
        demos: the data.
        rows: (B,) indices.
        rng: source of all randomness.
        points: points to keep of each cloud.
        off: (B, 3) where to move the keypoint before anything else [m]; see :func:`off_the_point`.
        words: (B, SLOTS) what is read with each; it may name a colour, so colours stay what they are where it is any.

    Returns:
        points (B, points, 7) float32, valid (B, points) bool, proprio (B, 12) float32, skill (B,) int64,
        actions (B, H, 6) float32, verdict (B, 2) float32 (done, progress).
    """
    cloud = demos.points[rows].astype(np.float32)
    count = np.maximum(demos.count[rows].astype(np.int64), 1)
    proprio = demos.proprio[rows].copy()
    actions = demos.actions[rows].copy()
    skill = demos.skill[rows].astype(np.int64)
    verdict = np.stack([demos.done[rows], demos.progress[rows]], axis=1).astype(np.float32)
    valid = np.arange(cloud.shape[1])[None] < count[:, None]
    if off is not None:
        _shift(cloud, proprio, actions, off)
    if rng is not None:
        cloud, valid = _subset(cloud, valid, rng, points)
        turnable = np.array([TURNABLE.get(s, 0.0) for s in SKILLS])[skill]
        _turn(cloud, proprio, actions, rng.uniform(-1.0, 1.0, len(rows)) * turnable)
        shiftable = np.array([s in SHIFTABLE for s in SKILLS])[skill]
        _shift(cloud, proprio, actions, rng.normal(0.0, 0.005, (len(rows), 3)) * shiftable[:, None])
        _noise(cloud, valid, proprio, rng, None if words is None else words.any(axis=1))
    cloud *= valid[..., None]
    return cloud, valid, proprio, skill, actions, verdict


def into_frames(demos: DemoSet) -> None:
    """Put whole episodes into the frame of the thing that their keypoint lies on, as the policy does, in place."""
    _, first, of = np.unique(demos.episode, return_index=True, return_inverse=True)
    for k, start in enumerate(first):
        if SKILLS[demos.skill[start]] not in FRAMED:
            continue
        frame = grasp_frame(_inputs(demos, int(start)))
        for row in np.flatnonzero(of == k):
            inside = in_frame(_inputs(demos, int(row)), frame)
            demos.points[row], demos.proprio[row] = inside.points, inside.proprio
            demos.actions[row] = to_frame(demos.actions[row], frame)


def off_the_point(demos: DemoSet) -> np.ndarray[Any, Any]:
    """(N, 3) from the keypoint of each sample to what lay under the tool when its episode began [m].

    A policy that is given no point acts on that place. Where the frame of a thing is used, it is found from there as
    well, so only the height differs.
    """
    _, first, of = np.unique(demos.episode, return_index=True, return_inverse=True)
    off = demos.proprio[first[of], :3].copy()
    off[:, 2] -= np.array([HOVER_M[s] for s in SKILLS])[demos.skill]
    off[np.array([s in FRAMED for s in SKILLS])[demos.skill], :2] = 0.0
    return off


def _inputs(demos: DemoSet, row: int) -> PolicyInput:
    return PolicyInput(demos.points[row].astype(np.float32), int(demos.count[row]), demos.proprio[row])


def _subset(cloud: Any, valid: Any, rng: np.random.Generator, points: int) -> tuple[Any, Any]:
    if points >= cloud.shape[1]:
        return cloud, valid
    # Real rows first, in random order.
    order = np.argsort(rng.random(valid.shape) + ~valid, axis=1)[:, :points]
    return np.take_along_axis(cloud, order[..., None], axis=1), np.take_along_axis(valid, order, axis=1)


def _turn(cloud: Any, proprio: Any, actions: Any, angle: Any) -> None:
    """Rotate everything about the vertical through the keypoint, in place."""
    c, s = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    for xy in (cloud[..., :2], actions[..., :2]):
        x, y = xy[..., 0].copy(), xy[..., 1].copy()
        xy[..., 0] = c[:, None] * x - s[:, None] * y
        xy[..., 1] = s[:, None] * x + c[:, None] * y
    for i in (0, 9):
        x, y = proprio[:, i].copy(), proprio[:, i + 1].copy()
        proprio[:, i], proprio[:, i + 1] = c * x - s * y, s * x + c * y
    c2, s2 = np.cos(2 * angle).astype(np.float32), np.sin(2 * angle).astype(np.float32)
    sine, cosine = proprio[:, 3].copy(), proprio[:, 4].copy()
    proprio[:, 3], proprio[:, 4] = sine * c2 + cosine * s2, cosine * c2 - sine * s2
    sine, cosine = actions[..., 3].copy(), actions[..., 4].copy()
    actions[..., 3] = sine * c2[:, None] + cosine * s2[:, None]
    actions[..., 4] = cosine * c2[:, None] - sine * s2[:, None]


def _shift(cloud: Any, proprio: Any, actions: Any, by: Any) -> None:
    """Move the keypoint by `by` (B, 3) [m]: everything relative to it moves the other way, in place."""
    by = by.astype(np.float32)
    cloud[..., :3] -= by[:, None]
    proprio[:, :3] -= by
    proprio[:, 7] += by[:, 2]
    actions[..., :3] -= by[:, None]


def _noise(cloud: Any, valid: Any, proprio: Any, rng: np.random.Generator, told: Any = None) -> None:
    """Sensor noise, light and colour, in place."""
    b = len(cloud)
    cloud[..., :3] += rng.normal(0.0, 0.0015, cloud[..., :3].shape).astype(np.float32)
    gain = rng.uniform(0.8, 1.2, (b, 1, 3)).astype(np.float32)
    offset = rng.normal(0.0, 0.03, (b, 1, 3)).astype(np.float32)
    colour = (cloud[..., 3:6] + 0.5) * gain - 0.5 + offset
    # Objects come in eight colours here; swapping channels makes it more.
    order = np.argsort(rng.random((b, 3)), axis=1)[:, None, :]
    swap = rng.random(b) < 0.5
    if told is not None:
        swap &= ~told
    colour = np.where(swap[:, None, None], np.take_along_axis(colour, order, axis=2), colour)
    cloud[..., 3:6] = np.clip(colour, -0.5, 0.5)
    valid &= rng.random(valid.shape) > rng.uniform(0.0, 0.3, (b, 1))
    valid[:, 0] = True
    proprio[:, :3] += rng.normal(0.0, 0.0007, (b, 3)).astype(np.float32)
    proprio[:, 5] = np.clip(proprio[:, 5] + rng.normal(0.0, 0.0004, b), 0.0, 0.08)
    proprio[:, 9:12] += rng.normal(0.0, 0.01, (b, 3)).astype(np.float32)
    proprio[:, 6] *= rng.uniform(0.8, 1.2, b)
