"""From a value map to waypoints: the consumer of VoxPoser's intermediate (arXiv 2307.05973).

Plain greedy ascent gets stuck behind obstacles. Here the best neighbour of all that was reached is visited next, until
the highest voxel is; walking back from there gives a path whose lowest value is as high as it can be.
"""

from __future__ import annotations

import heapq
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import ConventionError, ValueMap
from hiervla.representations._base import Vec3

Voxel = tuple[int, int, int]
_AROUND: Final = [step for step in product((-1, 0, 1), repeat=3) if any(step)]
_SLACK: Final = 0.02
"""A short cut may be worse than the way around by this share of the map's range."""


def centre_of(value_map: ValueMap, voxel: Voxel) -> Vec3:
    """Middle of a voxel in the world frame [m]."""
    x, y, z = (o + value_map.resolution_m * (i + 0.5) for o, i in zip(value_map.origin_w, voxel, strict=True))
    return x, y, z


def voxel_of(value_map: ValueMap, point_w: NDArray[np.float64]) -> Voxel:
    """The voxel that holds a point of the world frame, (3,) [m]; the nearest one of the grid for a point outside."""
    cells = np.floor((np.asarray(point_w) - value_map.origin_w) / value_map.resolution_m).astype(int)
    i, j, k = np.clip(cells, 0, np.array(value_map.values.shape) - 1).tolist()
    return i, j, k


def peak_of(value_map: ValueMap) -> Vec3:
    """Where the value is highest, in the world frame [m]."""
    i, j, k = np.unravel_index(int(value_map.values.argmax()), value_map.values.shape)
    return centre_of(value_map, (int(i), int(j), int(k)))


def climb(value_map: ValueMap, start_w: NDArray[np.float64]) -> tuple[Vec3, ...]:
    """Waypoints from the voxel at a point to the highest voxel of the map, both included.

    Args:
        value_map: higher is better.
        start_w: (3,) where the tool is, in the world frame [m].

    Raises:
        ConventionError: the map has no voxels.
    """
    values = value_map.values
    if values.size == 0:
        raise ConventionError("value_map.values", "has no voxels", "Make another map")
    start = voxel_of(value_map, start_w)
    goal = voxel_of(value_map, np.array(peak_of(value_map)))
    came: dict[Voxel, Voxel] = {start: start}
    # Equal values are told apart by the number of steps, so that a plateau is crossed by the shortest way.
    queue: list[tuple[float, int, Voxel]] = [(-float(values[start]), 0, start)]
    while queue:
        _, steps, here = heapq.heappop(queue)
        if here == goal:
            break
        for di, dj, dk in _AROUND:
            there = (here[0] + di, here[1] + dj, here[2] + dk)
            if there not in came and all(0 <= c < n for c, n in zip(there, values.shape, strict=True)):
                came[there] = here
                heapq.heappush(queue, (-float(values[there]), steps + 1, there))
    way = [goal]
    while way[-1] != start:
        way.append(came[way[-1]])
    return tuple(centre_of(value_map, v) for v in _straightened(values, way[::-1]))


def _straightened(values: NDArray[np.float32], way: list[Voxel]) -> list[Voxel]:
    """The same way with as few corners as its values allow."""
    slack = _SLACK * float(values.max() - values.min())
    kept = [way[0]]
    at = 0
    while at < len(way) - 1:
        for to in range(len(way) - 1, at, -1):
            floor = min(float(values[v]) for v in way[at : to + 1]) - slack
            if to == at + 1 or min(float(values[v]) for v in _line(way[at], way[to])) >= floor:
                kept.append(way[to])
                at = to
                break
    return kept


def _line(a: Voxel, b: Voxel) -> list[Voxel]:
    """Voxels along a straight line."""
    n = 2 * max(abs(y - x) for x, y in zip(a, b, strict=True))
    rows = np.rint(np.linspace(a, b, n + 1)).astype(int).tolist()
    return [(i, j, k) for i, j, k in rows]
