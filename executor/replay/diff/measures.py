"""How far apart two geometric intermediates are."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from hiervla.representations.artifacts import Box

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


def frechet(a: Numbers, b: Numbers) -> float:
    """Discrete Fréchet distance of two paths (n, d) and (m, d), in their own unit.

    The shortest leash with which two walkers get along both paths, point by point and never back (Eiter and Mannila,
    "Computing discrete Fréchet distance", TR CD-TR 94/64, TU Wien 1994); here by their recurrence, row by row.

    Raises:
        ValueError: a path without points, or paths of other dimensions.
    """
    if len(a) == 0 or len(b) == 0 or a.shape[1] != b.shape[1]:
        raise ValueError(f"no two paths of one space: {a.shape} and {b.shape}")
    between = np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2)
    reach = np.maximum.accumulate(between[0])
    for row in between[1:]:
        before, reach = reach, np.empty_like(reach)
        reach[0] = max(before[0], row[0])
        for j in range(1, len(row)):
            reach[j] = max(min(before[j], before[j - 1], reach[j - 1]), row[j])
    return float(reach[-1])


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes of one image, 0 to 1."""
    width = min(a.u_max, b.u_max) - max(a.u_min, b.u_min)
    height = min(a.v_max, b.v_max) - max(a.v_min, b.v_min)
    common = max(0.0, width) * max(0.0, height)
    return common / (_area(a) + _area(b) - common)


def _area(box: Box) -> float:
    return (box.u_max - box.u_min) * (box.v_max - box.v_min)


def divergence(a: Numbers, b: Numbers) -> float:
    """Jensen-Shannon distance of two distributions on grids over one image: 0 the same, 1 nothing in common.

    The square root of the divergence with logarithms to base 2 (Lin, IEEE Transactions on Information Theory 37(1),
    1991; a metric by Endres and Schindelin, ibid. 49(7), 2003). A coarser grid is first spread over the finer one by
    the area that their cells share.
    """
    shape = (max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1]))
    p, q = _spread(a, shape), _spread(b, shape)
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(np.sqrt(max(0.0, (_relative(p, middle) + _relative(q, middle)) / 2)))


def _relative(p: Numbers, q: Numbers) -> float:
    there = p > 0
    return float((p[there] * np.log2(p[there] / q[there])).sum())


def _spread(values: Numbers, shape: tuple[int, int]) -> Numbers:
    values = values.astype(np.float64)
    if values.shape == shape:
        return values
    return _shares(values.shape[0], shape[0]) @ values @ _shares(values.shape[1], shape[1]).T


def _shares(cells: int, wanted: int) -> Numbers:
    """(wanted, cells) share of each old cell's length that lies in each new one."""
    old = np.arange(cells + 1) / cells
    new = np.arange(wanted + 1) / wanted
    common = np.minimum(old[None, 1:], new[1:, None]) - np.maximum(old[None, :-1], new[:-1, None])
    shares: Numbers = np.maximum(common, 0.0) * cells
    return shares


def peak(values: Numbers, width: float, height: float) -> Numbers:
    """(u, v) of the middle of the largest cell of a grid over an image of that size [px]."""
    i, j = np.unravel_index(int(values.argmax()), values.shape)
    return np.array([(int(j) + 0.5) * width / values.shape[1], (int(i) + 0.5) * height / values.shape[0]])


def angle(a: float, b: float) -> float:
    """Smallest turn between two directions, 0 to pi [rad]."""
    turn = float(np.mod(a - b + np.pi, 2 * np.pi) - np.pi)
    return abs(turn)
