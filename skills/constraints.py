"""Solves keypoint constraints for the end effector: the consumer of ReKep's intermediate (arXiv 2409.01652).

For each stage the subgoal is found first, a place of the end effector at which the costs of the stage's subgoal
constraints are least; then a few points between, which keep the path constraints and make the way short. The costs are
typed relations, see :class:`~hiervla.representations.Constraint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hiervla.representations import Constraint, Constraints, HiervlaError, Waypoint3D

Vector = NDArray[np.float64]

LOW: Final = np.array([0.10, -0.75, 0.012])
HIGH: Final = np.array([0.80, 0.75, 0.55])
"""Where a solution may lie: opposite corners of a box in the world frame [m]."""
_BETWEEN: Final = 3
"""Points of a stage's way besides its ends."""
_TIGHT: Final = 200.0
"""How much a violated path constraint counts against the way's length."""


class UnsolvableError(HiervlaError):
    """Constraints that no place of the end effector satisfies.

    Attributes:
        stage: the stage.
        constraint: the one that is violated most.
        cost_m: its cost at the best place that was found [m].
    """

    def __init__(self, stage: int, constraint: Constraint, cost_m: float) -> None:
        super().__init__(
            f"stage {stage} of the constraints: '{constraint}' is off by {cost_m:.3f} m at the best place that was "
            f"found, and {constraint.tolerance_m:g} m are tolerated. Loosen it, or look again and replan."
        )
        self.stage = stage
        self.constraint = constraint
        self.cost_m = cost_m


def cost_m(constraint: Constraint, place_w: Vector, keypoints_w: Sequence[Vector | None], hang_m: float) -> float:
    """What a place of the end effector costs under a constraint; satisfied at or below the tolerance [m].

    Args:
        constraint: the relation.
        place_w: (3,) tool centre point [m].
        keypoints_w: places of the keypoints, (3,) each [m].
        hang_m: how far what is held reaches below the tool centre point [m].

    Raises:
        HiervlaError: the keypoint was never lifted to the world.
    """
    at = keypoints_w[constraint.keypoint]
    if at is None:
        raise HiervlaError(f"constraint '{constraint}': its keypoint has no place in the world. Ground it first.")
    s = place_w - (0.0, 0.0, hang_m) if constraint.subject == "held" else place_w
    match constraint.relation:
        case "at":
            return float(np.linalg.norm(s - at))
        case "above":
            return float(np.linalg.norm(s - (at + (0.0, 0.0, constraint.distance_m))))
        case "higher":
            return max(0.0, float(at[2] + constraint.distance_m - s[2]))
        case "apart":
            return max(0.0, constraint.distance_m - float(np.linalg.norm(s - at)))


def solve(constraints: Constraints, start_w: Vector, hang_m: float = 0.0) -> tuple[Waypoint3D, ...]:
    """Waypoints of the tool centre point that satisfy constraints, stage after stage.

    Args:
        constraints: with keypoints in the world.
        start_w: (3,) where the tool is [m].
        hang_m: how far what is held reaches below it [m].

    Raises:
        UnsolvableError: a constraint stays violated.
        HiervlaError: a keypoint was never lifted to the world.
    """
    points = [None if k.position_w is None else np.array(k.position_w) for k in constraints.keypoints]
    here = np.array(start_w, dtype=np.float64)
    way: list[Waypoint3D] = []
    for stage in range(max(c.stage for c in constraints.constraints) + 1):
        mine = [c for c in constraints.constraints if c.stage == stage]
        goals = [c for c in mine if c.during == "subgoal"]
        paths = [c for c in mine if c.during == "path"]
        goal = _subgoal(goals, here, points, hang_m)
        _check(stage, goals, [goal], points, hang_m)
        between = _between(paths, here, goal, points, hang_m)
        _check(stage, paths, between, points, hang_m)
        gripper = constraints.grippers[stage] if stage < len(constraints.grippers) else "keep"
        way += [Waypoint3D(position_w=_vec(p)) for p in between]
        way.append(Waypoint3D(position_w=_vec(goal), gripper=gripper))
        here = goal
    return tuple(way)


def _subgoal(goals: list[Constraint], here: Vector, points: list[Vector | None], hang_m: float) -> Vector:
    """The place with the least sum of squared costs, near where the tool is where several are as good."""

    def total(x: Vector) -> float:
        # In centimetres, and with a slight wish to stay, so that the optimum is one and the steps are sound.
        costs = sum((100.0 * cost_m(c, x, points, hang_m)) ** 2 for c in goals)
        return costs + 1e-4 * float(np.sum((x - here) ** 2))

    starts = [here, *(p + (0.0, 0.0, 0.1) for p in (points[c.keypoint] for c in goals) if p is not None)]
    bounds = list(zip(LOW, HIGH, strict=True))
    found = [minimize(total, np.clip(s, LOW, HIGH), method="L-BFGS-B", bounds=bounds) for s in starts]
    return np.asarray(min(found, key=lambda r: float(r.fun)).x)


def _between(
    paths: list[Constraint], here: Vector, goal: Vector, points: list[Vector | None], hang_m: float
) -> list[Vector]:
    """Points between two places that keep the path constraints; none where the straight line does."""
    line = np.linspace(here, goal, _BETWEEN + 2)
    if not paths or all(_kept(paths, p, points, hang_m) for p in _dense(line)[1:-1]):
        return []

    def total(flat: Vector) -> float:
        way = np.vstack([here, flat.reshape(-1, 3), goal])
        length = float(np.sum(np.linalg.norm(np.diff(way, axis=0), axis=1) ** 2))
        # A little more than is asked for: between the points that are looked at there are others.
        over = sum((max(0.0, cost_m(c, p, points, hang_m) + 0.003 * (cost_m(c, p, points, hang_m) > 0))) ** 2
                   for c in paths for p in _dense(way)[1:-1])  # fmt: skip
        return length + _TIGHT * over

    starts = [line[1:-1], line[1:-1] + (0.0, 0.0, 0.15)]
    bounds = list(zip(LOW, HIGH, strict=True)) * _BETWEEN
    found = [
        minimize(total, np.clip(s, LOW, HIGH).ravel(), method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        for s in starts
    ]
    best = np.asarray(min(found, key=lambda r: float(r.fun)).x).reshape(-1, 3)
    return list(best)


def _dense(way: Vector) -> Vector:
    """A polyline (N, 3) with three more points on each leg."""
    return np.vstack(
        [np.linspace(a, b, 4, endpoint=False) for a, b in zip(way[:-1], way[1:], strict=True)] + [way[-1:]]
    )


def _kept(paths: list[Constraint], place: Vector, points: list[Vector | None], hang_m: float) -> bool:
    return all(cost_m(c, place, points, hang_m) <= c.tolerance_m for c in paths)


def _check(
    stage: int, constraints: list[Constraint], places: list[Vector], points: list[Vector | None], hang_m: float
) -> None:
    for c in constraints:
        worst = max((cost_m(c, p, points, hang_m) for p in places), default=0.0)
        if worst > c.tolerance_m:
            raise UnsolvableError(stage, c, worst)


def _vec(p: Vector) -> tuple[float, float, float]:
    return float(p[0]), float(p[1]), float(p[2])
