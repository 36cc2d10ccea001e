"""Statistics of features, an episode at a time and over all, as LeRobot keeps them for normalisation.

Means and deviations over all episodes are exact. Quantiles over all are, as in LeRobot, means of the episodes'
quantiles weighted by their lengths. Those of images are of samples, in 0 to 1, of shape (3, 1, 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiervla.training.data.types import Array

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, NDArray[np.float64]]

_SAMPLES, _SIDE = 100, 150


def number_stats(values: Array) -> Stats:
    """Statistics over the frames of (N, *shape) numbers; quantiles of vectors only."""
    floats = values.astype(np.float64)
    stats = {
        "min": floats.min(axis=0),
        "max": floats.max(axis=0),
        "mean": floats.mean(axis=0),
        "std": floats.std(axis=0),
        "count": np.array([len(floats)], dtype=np.float64),
    }
    if floats.ndim == 2:
        found = np.quantile(floats, list(QUANTILES.values()), axis=0)
        stats |= dict(zip(QUANTILES, found, strict=True))
    return stats


def sampled(frames: int) -> frozenset[int]:
    """Which frames of an episode are looked at for the statistics of its images."""
    return frozenset(np.linspace(0, frames - 1, min(frames, _SAMPLES)).round().astype(int).tolist())


def image_stats(samples: Iterable[NDArray[np.uint8]]) -> Stats:
    """Statistics by channel of some images (H, W, 3), each thinned out."""
    thin = []
    for image in samples:
        step = max(1, max(image.shape[:2]) // _SIDE)
        thin.append(image[::step, ::step].reshape(-1, 3))
    stats = number_stats(np.concatenate(thin))
    made = {name: (v / 255.0).reshape(3, 1, 1) for name, v in stats.items() if name != "count"}
    return {**made, "count": np.array([len(thin)], dtype=np.float64)}


class RunningStats:
    """Statistics over all episodes, one feature."""

    def __init__(self) -> None:
        self._total: Stats | None = None

    def add(self, new: Stats) -> None:
        """Take in the statistics of another episode (Chan et al. 1979 for the deviation)."""
        old = self._total
        if old is None:
            self._total = dict(new)
            return
        n, m = float(old["count"][0]), float(new["count"][0])
        share = m / (n + m)
        delta = new["mean"] - old["mean"]
        variance = (1 - share) * old["std"] ** 2 + share * new["std"] ** 2 + share * (1 - share) * delta**2
        merged = {
            "min": np.minimum(old["min"], new["min"]),
            "max": np.maximum(old["max"], new["max"]),
            "mean": old["mean"] + share * delta,
            "std": np.sqrt(variance),
            "count": np.array([n + m]),
        }
        merged |= {q: (1 - share) * old[q] + share * new[q] for q in QUANTILES if q in old}
        self._total = merged

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        assert self._total is not None
        return {k: [int(v[0])] if k == "count" else v.tolist() for k, v in self._total.items()}
