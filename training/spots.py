"""Where there is room: places for things on surfaces, from a scene's description, as targets for the planner's eyes.

Only training and tests read scene descriptions; the planner learns to see free room in the image.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.embedded.vision import SPOTS, STRIDE
from hiervla.worlds.tabletop.scene import ObjectSpec, SceneSpec
from hiervla.worlds.tabletop.specs import TABLE_X, TABLE_Y

Floats = NDArray[np.float64]

CLEARANCE: Final = 0.055
"""A spot keeps at least this distance to the edges of other things [m]."""
BESIDE_ROOM: Final = 0.03
"""Beside a thing that was named, a spot has to do with this distance to others' edges [m]."""
BESIDE_REACH: Final = (
    np.array([TABLE_X[0] - 0.04, TABLE_Y[0] - 0.06]),
    np.array([TABLE_X[1] + 0.02, TABLE_Y[1] + 0.05]),
)
"""Corners of the part of the table on which something may be put beside something [m]."""
_HAND_REACH: Final = 0.05
"""What the hand needs more, along y, beside something tall [m]."""
_SHARPNESS: Final = 0.006


def gaps(spec: SceneSpec, support: str, points: Floats, ignore: str = "") -> Floats:
    """Distance (N,) [m] from points (N, 2) on a surface to the edge of the nearest thing on it; 1 when it is empty."""
    nearest = np.ones(len(points))
    for o in spec.objects:
        if o.support != support or o.id == ignore:
            continue
        dx, dy = np.abs(points - np.array(o.position[:2])).T
        if _height(spec, o) > 0.05 and support == "table":
            dy = np.maximum(dy - _HAND_REACH, 0.0)
        nearest = np.minimum(nearest, np.hypot(dx, dy) - o.radius)
    if support == "table":
        if spec.spill is not None:
            distance = np.hypot(*(points - np.array(spec.spill.centre)).T)
            nearest = np.minimum(nearest, distance - spec.spill.radius)
        # The handle is what sticks out most of an open drawer.
        x, y, _ = spec.furniture.handle(spec.drawer_open)
        dx, dy = np.maximum(np.abs(points[:, 0] - x) - 0.10, 0.0), np.maximum(y - 0.02 - points[:, 1], 0.0)
        nearest = np.minimum(nearest, np.hypot(dx, dy))
    return nearest


def _height(spec: SceneSpec, o: ObjectSpec) -> float:
    """Height above its support of the object with what stands on it [m]."""
    above = [o.carry_z + _height(spec, upper) for upper in spec.carried_by(o.id)]
    return max([o.size[2], *above])


def free_spots(spec: SceneSpec, surface: str) -> tuple[Floats, Floats]:
    """Places with room on a surface, and how good they are.

    Args:
        spec: the scene.
        surface: one of :data:`~hiervla.planner.embedded.vision.SPOTS`.

    Returns:
        Points (N, 3) [m] and weights (N,) that sum to 1; none when the drawer is closed or there is no room.
    """
    if surface == "drawer" and spec.drawer_open < 0.06:
        return np.zeros((0, 3)), np.zeros(0)
    if surface == "table":
        middle = np.array([0.50, -0.035])
        xs, ys = np.arange(TABLE_X[0] + 0.02, TABLE_X[1], 0.01), np.arange(TABLE_Y[0] + 0.01, TABLE_Y[1], 0.01)
        points, z = _grid(xs, ys), 0.0
        score = np.minimum(gaps(spec, surface, points), 0.11) - 0.06 * np.hypot(*(points - middle).T)
    else:
        region = spec.furniture.region(surface, spec.drawer_open)  # type: ignore[arg-type]
        (cx, cy), z = region.centre, region.z
        if surface == "drawer":
            # The drawer's near wall hides the part of the floor that is closest to the camera.
            points = _grid(cx + np.arange(-0.06, 0.061, 0.005), cy + np.arange(-0.04, 0.041, 0.005))
            score = np.minimum(gaps(spec, surface, points), 0.06)
            score -= 0.25 * np.abs(points[:, 0] - cx + 0.01) + 0.2 * np.abs(points[:, 1] - cy)
        else:
            points = _grid(cx + np.arange(-0.105, 0.106, 0.005), cy + np.arange(-0.01, 0.011, 0.005))
            # Of two equal ends the one closer to the camera: nothing on the board hides it.
            score = np.minimum(gaps(spec, surface, points), 0.085)
            score -= 0.15 * np.abs(points[:, 0] - cx - 0.004) + 0.1 * np.abs(points[:, 1] - cy)
    return _weigh(points, z, score)


def beside_spots(spec: SceneSpec, object_id: str, relation: str) -> tuple[Floats, Floats]:
    """Places to the left or right (in the front image) of a thing on the table, as :func:`free_spots` gives them.

    None where something else stands there or the table is out of reach.
    """
    x, y, _ = spec.object(object_id).position
    side = -1.0 if relation == "left_of" else 1.0
    points = _grid(x + np.arange(-0.04, 0.041, 0.01), y + side * np.arange(0.10, 0.181, 0.01))
    room = gaps(spec, "table", points, ignore=object_id)
    low, high = BESIDE_REACH
    usable = (room >= BESIDE_ROOM) & (points >= low).all(axis=1) & (points <= high).all(axis=1)
    if not usable.any():
        return np.zeros((0, 3)), np.zeros(0)
    points, room = points[usable], room[usable]
    away = np.hypot(points[:, 0] - x, np.abs(points[:, 1] - y) - 0.135)
    return _weigh(points, 0.0, np.minimum(room, 0.06) - 0.35 * away)


def _grid(xs: Floats, ys: Floats) -> Floats:
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    return np.stack([gx.ravel(), gy.ravel()], axis=1)


def _weigh(points: Floats, z: float, score: Floats) -> tuple[Floats, Floats]:
    weights = np.exp((score - score.max()) / _SHARPNESS)
    keep = weights > 0.02
    spots = np.concatenate([points[keep], np.full((int(keep.sum()), 1), z)], axis=1)
    return spots, weights[keep] / weights[keep].sum()


def splat(uv: Any, weights: Any, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Spread weights over the four nearest cells of a map with stride 4.

    Args:
        uv: (N, 2) pixels.
        weights: (N,).
        grid: rows and columns of the map.

    Returns:
        (h, w) map; what falls outside is lost.
    """
    h, w = grid
    cells = np.asarray(uv, dtype=np.float64) / STRIDE - 0.5
    low = np.floor(cells).astype(int)
    part = cells - low
    out = np.zeros((h, w), dtype=np.float32)
    for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (part[:, 0] if dj else 1 - part[:, 0]) * (part[:, 1] if di else 1 - part[:, 1])
        row, column = low[:, 1] + di, low[:, 0] + dj
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        np.add.at(out, (row[inside], column[inside]), (share * weights)[inside])
    return out


def spot_maps(
    spec: SceneSpec, K: Floats, T_world_camera: Floats, segments: NDArray[np.uint8], pixels: dict[str, int]
) -> NDArray[np.float32]:
    """Targets (4, h, w) for the tower's `spots`: one distribution a surface, all zero where there is none.

    Args:
        spec: the scene.
        K: (3, 3) intrinsics.
        T_world_camera: (4, 4) camera pose.
        segments: (H, W) what each pixel shows.
        pixels: value in `segments` of each visible thing, by id.
    """
    grid = (segments.shape[0] // STRIDE, segments.shape[1] // STRIDE)
    maps = np.zeros((len(SPOTS), *grid), dtype=np.float32)
    for k, surface in enumerate(SPOTS):
        points, weights = free_spots(spec, surface)
        if len(points):
            maps[k] = visible_map(points, weights, K, T_world_camera, segments, pixels.get(surface, 0))
    return maps


def visible_map(
    points: Floats, weights: Floats, K: Floats, T_world_camera: Floats, segments: NDArray[np.uint8], pixel: int
) -> NDArray[np.float32]:
    """Distribution (h, w) of weighted world points over the cells in which nothing stands before the surface."""
    h, w = segments.shape[0] // STRIDE, segments.shape[1] // STRIDE
    camera = (points - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    uv = camera[:, :2] / camera[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]
    shown = splat(uv, weights, (h, w))
    shown *= (segments == pixel).reshape(h, STRIDE, w, STRIDE).all(axis=(1, 3))
    total = float(shown.sum())
    return shown / total if total > 0.02 else np.zeros((h, w), dtype=np.float32)
