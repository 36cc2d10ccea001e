"""A policy that a package offers by name."""

from __future__ import annotations

import numpy as np

from hiervla.representations import ActionChunk, Observation, Step
from hiervla.skills import target_point


class StraightDown:
    """Goes straight down to a little above the keypoint."""

    id = "straight-down-1"

    def __init__(self, above_m: float = 0.02) -> None:
        self._above_m = above_m

    def reset(self, step: Step, seed: int) -> None:
        """Keeps nothing."""

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """Sixteen rows from the tool to the goal at 0.1 m/s at most."""
        start = observation.proprio.ee_position
        goal = target_point(step) + (0.0, 0.0, self._above_m)
        way = goal - start
        length = float(np.linalg.norm(way))
        share = np.minimum(1.0, 0.01 * np.arange(1, 17)[:, None] / max(length, 1e-6))
        return ActionChunk(
            positions=start + share * way,
            yaws=np.full(16, observation.proprio.ee_yaw),
            gripper=np.zeros(16),
            rate_hz=10.0,
            observed_at_s=observation.time_s,
            done_prob=1.0 if length < 0.01 else 0.0,
            policy=self.id,
        )
