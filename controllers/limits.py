"""What a joint may do: position, velocity, acceleration and jerk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def readonly(values: ArrayLike) -> Array:
    """A float64 copy that nobody can write into."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class JointLimits:
    """Limits of J joints; all arrays are (J,) float64 and read-only.

    Attributes:
        lower: lowest position [rad].
        upper: highest position [rad].
        velocity: highest speed, positive [rad/s].
        acceleration: highest acceleration, positive [rad/s^2].
        jerk: highest jerk, positive [rad/s^3].
    """

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
            object.__setattr__(self, name, readonly(getattr(self, name)))
        shapes = {a.shape for a in (self.lower, self.upper, self.velocity, self.acceleration, self.jerk)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"joint limits need five vectors of one length, got shapes {sorted(shapes)}")
        if not (self.lower < self.upper).all():
            raise ValueError("joint limits: every lower position must be below its upper position")
        rates = np.concatenate([self.velocity, self.acceleration, self.jerk])
        if not (np.isfinite(rates).all() and (rates > 0).all()):
            raise ValueError("joint limits: velocity, acceleration and jerk must be positive and finite")

    @property
    def dofs(self) -> int:
        """Number of joints J."""
        return len(self.lower)

    def scaled(
        self, velocity: float = 1.0, acceleration: float = 1.0, jerk: float = 1.0, position_margin: float = 0.0
    ) -> JointLimits:
        """Slower limits for planning, and positions kept `position_margin` radians away from the stops.

        Raises:
            ValueError: a factor is not in (0, 1], so the result would not be inside these limits.
        """
        for name, factor in (("velocity", velocity), ("acceleration", acceleration), ("jerk", jerk)):
            if not 0.0 < factor <= 1.0:
                raise ValueError(f"{name} factor {factor} is not in (0, 1]; limits can be tightened, not widened")
        if position_margin < 0.0:
            raise ValueError(f"position margin {position_margin} is negative; limits can be tightened, not widened")
        return JointLimits(
            lower=self.lower + position_margin,
            upper=self.upper - position_margin,
            velocity=self.velocity * velocity,
            acceleration=self.acceleration * acceleration,
            jerk=self.jerk * jerk,
        )

    def clip(self, q: ArrayLike) -> Array:
        """The nearest position inside the limits, (J,) [rad]."""
        return np.clip(np.asarray(q, dtype=np.float64), self.lower, self.upper)

    def contain(self, q: ArrayLike, tolerance: float = 0.0) -> bool:
        """Whether every joint position is finite and inside the limits, give or take `tolerance` [rad]."""
        values = np.asarray(q, dtype=np.float64)
        inside = (values >= self.lower - tolerance) & (values <= self.upper + tolerance)
        return bool(inside.all())


@dataclass(frozen=True, eq=False)
class Workspace:
    """Axis-aligned box in the world frame in which the tool centre point may be.

    Attributes:
        low: (3,) lower corner [m].
        high: (3,) upper corner [m].
    """

    low: Array
    high: Array

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, readonly(getattr(self, name)))
        if self.low.shape != (3,) or self.high.shape != (3,) or not (self.low < self.high).all():
            raise ValueError(f"workspace needs low < high in 3 coordinates, got {self.low} and {self.high}")

    def clamp(self, position: ArrayLike) -> Array:
        """The nearest point of the box, (3,) or (N, 3) [m]."""
        return np.clip(np.asarray(position, dtype=np.float64), self.low, self.high)

    def excess(self, position: ArrayLike) -> float:
        """How far a point lies outside, along the worst axis; 0 inside [m]."""
        p = np.asarray(position, dtype=np.float64)
        return float(max(0.0, (self.low - p).max(), (p - self.high).max()))


TABLETOP_WORKSPACE = Workspace(low=np.array([0.12, -0.80, 0.008]), high=np.array([0.82, 0.75, 0.75]))
"""Where the tool may be commanded over the embedded world's table; the pads reach 10.5 mm below the tool point [m]."""
