"""Domain randomisation: where furniture stands, how things are lit and painted, how cameras are off."""

from __future__ import annotations

import numpy as np

from hiervla.worlds.tabletop.specs import FurnitureSpec, LookSpec, Texture


def sample_furniture(rng: np.random.Generator) -> FurnitureSpec:
    """Where the furniture stands: its usual place, one to two centimetres off."""
    shift = rng.uniform(-1.0, 1.0, size=6)
    shelf = (0.30 + 0.015 * float(shift[0]), -0.40 + 0.005 * float(shift[1]))
    cabinet = (0.46 + 0.012 * float(shift[2]), 0.455 + 0.012 * float(shift[3]))
    bin_xy = (0.20 + 0.010 * float(shift[4]), 0.46 + 0.015 * float(shift[5]))
    return FurnitureSpec(shelf_xy=shelf, cabinet_xy=cabinet, bin_xy=bin_xy)


_TABLES: tuple[tuple[float, float, float], ...] = (
    (0.66, 0.56, 0.44), (0.52, 0.40, 0.29), (0.62, 0.62, 0.60), (0.48, 0.50, 0.52), (0.72, 0.68, 0.60),
    (0.45, 0.52, 0.50), (0.58, 0.50, 0.46), (0.40, 0.37, 0.35),
)  # fmt: skip


def sample_look(rng: np.random.Generator) -> LookSpec:
    """Light, table top, paints and errors of the front camera."""
    textures: tuple[Texture, ...] = ("plain", "wood", "wood", "checker", "speckle")
    base = np.array(_TABLES[int(rng.integers(len(_TABLES)))]) + rng.uniform(-0.04, 0.04, 3)
    second = np.clip(base * rng.uniform(0.84, 0.95), 0.05, 0.85)
    return LookSpec(
        light_position=_triple(np.array([0.8, 0.0, 1.7]) + rng.uniform(-1, 1, 3) * (0.5, 0.9, 0.3)),
        light=float(rng.uniform(0.50, 0.72)),
        ambient=float(rng.uniform(0.32, 0.46)),
        warmth=float(rng.uniform(-0.6, 0.8)),
        table_texture=textures[int(rng.integers(len(textures)))],
        table_rgb=_triple(np.clip(base, 0.05, 0.85)),
        table_rgb2=_triple(second),
        floor_rgb=_triple(rng.uniform(0.25, 0.60) * np.ones(3) + rng.uniform(-0.05, 0.05, 3)),
        furniture_rgb=_triple(rng.uniform(0.42, 0.72) * np.array([1.0, 0.95, 0.88]) + rng.uniform(-0.04, 0.04, 3)),
        bin_rgb=_triple(rng.uniform(0.26, 0.46) * np.array([0.95, 1.05, 1.10])),
        texture_seed=int(rng.integers(0, 2**16)),
        camera_shift=_triple(rng.uniform(-0.02, 0.02, 3)),
        target_shift=_triple(rng.uniform(-0.015, 0.015, 3)),
        fovy_deg=float(49.5 + rng.uniform(-0.7, 0.7)),
    )


def _triple(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
