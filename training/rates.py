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


def difference(first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two proportions, first minus second (Newcombe 1998, method 10); Wilson's limits.

    Args:
        first: successes and trials.
        second: the same of the other one.
        confidence: of the interval.
    """
    (a, n), (b, m) = first, second
    if not n or not m:
        return -1.0, 1.0
    p, q = a / n, b / m
    (p_low, p_high), (q_low, q_high) = wilson(a, n, confidence), wilson(b, m, confidence)
    low = p - q - sqrt((p - p_low) ** 2 + (q_high - q) ** 2)
    high = p - q + sqrt((p_high - p) ** 2 + (q - q_low) ** 2)
    return max(-1.0, low), min(1.0, high)
