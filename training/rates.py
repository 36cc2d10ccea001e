"""Proportions with their confidence intervals."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    middle = p + z * z / (2 * trials)
    spread = z * sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def rate(successes: int, trials: int) -> str:
    """``"0.93 [0.85, 0.97] (93/100)"``: a proportion with its interval, for a table."""
    if trials == 0:
        return "-"
    low, high = wilson(successes, trials)
    return f"{successes / trials:.3f} [{low:.2f}, {high:.2f}] ({successes}/{trials})"
