"""Small procedural meshes and textures, so that nothing has to be shipped or downloaded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hiervla.worlds.tabletop.specs import LookSpec


def lathe(profile: Sequence[tuple[float, float]], segments: int = 20) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Turn a profile around the z axis.

    Args:
        profile: (radius, z) pairs [m]; walk it so that the outside is on the right hand.
        segments: corners around the axis.

    Returns:
        Vertices (V, 3) [m] and triangles (F, 3), counter-clockwise seen from outside.
    """
    angles = np.arange(segments) * (2 * math.pi / segments)
    rings = [np.stack([r * np.cos(angles), r * np.sin(angles), np.full(segments, z)], axis=1) for r, z in profile]
    here = np.arange(segments)
    there = (here + 1) % segments
    faces: list[NDArray[np.int64]] = []
    for k in range(len(profile) - 1):
        low, high = k * segments, (k + 1) * segments
        if profile[k][0] > 0:
            faces.append(np.stack([low + here, low + there, high + there], axis=1))
        if profile[k + 1][0] > 0:
            faces.append(np.stack([low + here, high + there, high + here], axis=1))
    return _merge(np.concatenate(rings), np.concatenate(faces))


def _merge(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    # The rings of radius zero are one point each; repeated points would leave the engine without a normal.
    rounded = np.round(vertices, 9) + 0.0
    unique, index = np.unique(rounded, axis=0, return_inverse=True)
    triangles = index.reshape(-1)[faces]
    proper = (
        (triangles[:, 0] != triangles[:, 1])
        & (triangles[:, 1] != triangles[:, 2])
        & (triangles[:, 0] != triangles[:, 2])
    )
    return unique, triangles[proper].astype(np.int32)


def mug_outside(r: float, h: float) -> list[tuple[float, float]]:
    """Profile of a mug's wall and foot, up to the inner edge of the rim."""
    return [(0.0, 0.0), (0.9 * r, 0.0), (r, 0.004), (r, h - 0.001), (r - 0.0015, h), (r - 0.004, h)]


def mug_inside(r: float, h: float) -> list[tuple[float, float]]:
    """Profile of a mug's hollow, from the rim to the drink's level."""
    return [(r - 0.004, h), (r - 0.005, 0.5 * h), (0.0, 0.48 * h)]


def bowl_outside(r: float, h: float) -> list[tuple[float, float]]:
    """Profile of a bowl's outer side up to the inner edge of the rim."""
    return [(0.0, 0.0), (0.62 * r, 0.0), (0.82 * r, 0.3 * h), (0.95 * r, 0.7 * h), (r, h), (r - 0.005, h)]


def bowl_inside(r: float, h: float, floor: float) -> list[tuple[float, float]]:
    """Profile of a bowl's hollow."""
    return [(r - 0.005, h), (0.90 * r - 0.004, 0.6 * h), (0.80 * r - 0.004, 0.3 * h), (0.68 * r, floor), (0.0, floor)]


def plate_outside(r: float, h: float) -> list[tuple[float, float]]:
    """Profile of a plate's foot and rim."""
    return [(0.0, 0.0), (0.6 * r, 0.0), (r, h - 0.002), (r, h), (0.92 * r, h)]


def plate_inside(r: float, h: float, floor: float) -> list[tuple[float, float]]:
    """Profile of a plate's well."""
    return [(0.92 * r, h), (0.72 * r, floor), (0.0, floor)]


def table_texture(look: LookSpec, size: int = 192) -> NDArray[np.uint8]:
    """The table's surface, (size, size, 3) uint8, for one repetition."""
    rng = np.random.default_rng([0x7AB2, look.texture_seed])
    first, second = np.array(look.table_rgb), np.array(look.table_rgb2)
    if look.table_texture == "plain":
        mix = np.zeros((size, size))
    elif look.table_texture == "checker":
        tile = size // 8
        grid = np.arange(size) // tile
        mix = ((grid[:, None] + grid[None, :]) % 2).astype(np.float64)
    elif look.table_texture == "speckle":
        mix = np.clip(rng.normal(0.4, 0.35, (size, size)), 0.0, 1.0)
        mix = (mix + np.roll(mix, 1, 0) + np.roll(mix, 1, 1)) / 3
    else:
        mix = _wood(rng, size)
    rgb = first + (second - first) * mix[..., None]
    return np.asarray(np.clip(rgb * 255.0, 0, 255), dtype=np.uint8)


def _wood(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    planks = 6
    width = size // planks
    mix = np.zeros((size, size))
    along = np.linspace(0.0, 1.0, size)
    for p in range(planks):
        across = np.linspace(0.0, 1.0, width)
        waves = sum(
            a * np.sin(2 * np.pi * (f * across[:, None] + g * along[None, :]) + phase)
            for f, g, a, phase in zip(
                rng.uniform(2.0, 9.0, 4), rng.uniform(-1.0, 1.0, 4), (0.22, 0.16, 0.12, 0.1), rng.uniform(0, 6.3, 4),
                strict=True,
            )
        )  # fmt: skip
        mix[p * width : (p + 1) * width] = 0.5 + rng.uniform(-0.25, 0.25) + waves
        mix[p * width] = 1.4
    return np.clip(mix, 0.0, 1.4)
