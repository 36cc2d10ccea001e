"""Small networks and made-up experience for the tests of `hiervla improve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hiervla.executor.policies.base import Policy
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.executor.policies.flow import FlowPolicy
from hiervla.executor.policies.network import FlowNet, NetworkSpec
from hiervla.training.demos import Sample
from hiervla.training.improve.experience import Experience, Moment, Outcome, Trail, gather
from hiervla.training.improve.rollouts import Exploration
from hiervla.training.improve.situations import Situation

FEATURES = FeatureSpec(points=32)
NETWORK = NetworkSpec(width=16, heads=2, context=24, trunk=24, blocks=1)


def network(seed: int = 0, advantage: bool = False) -> FlowNet:
    torch.manual_seed(seed)
    return FlowNet(NetworkSpec(**{**vars(NETWORK), "advantage": advantage}))


def weights(folder: Path) -> Path:
    """A folder as a policy's of before there were advantages."""
    FlowPolicy(network(), FEATURES, version="tiny-1").save(folder)
    return folder


def sample(side: float, height: float, rng: np.random.Generator, *, done: bool = False) -> Sample:
    """A cluster under a hand at a height, and a chunk that goes to one side."""
    points = np.zeros((FEATURES.points, 7), dtype=np.float32)
    points[:20, :3] = rng.normal(0.0, 0.005, (20, 3))
    proprio = np.array([0.0, 0.0, height, 0.0, 1.0, 0.08, 0.0, 0.05, height + 0.05, 0, 0, 0], dtype=np.float32)
    rows = np.tile(np.array([side, 0.0, height, 0.0, 1.0, 1.0], dtype=np.float32), (16, 1))
    return Sample(PolicyInput(points, 20, proprio), rows, done, 0.5)


def trail(number: int, outcome: Outcome, side: float, *, human: bool = False, skill: str = "place") -> Trail:
    """Six moments, a second apart; how high the hand is tells how it will come out, but for the first moment."""
    rng = np.random.default_rng(number)
    made = Trail(skill, f"made up {number}", seconds=6.0, success=outcome == 1)
    for k in range(6):
        height = 0.1 + (0.01 * k if outcome == 1 else -0.01 * k)
        made.moments.append(Moment(sample(side, height, rng), float(k), human, outcome))
    return made


def experience(good: int = 12, bad: int = 12) -> Experience:
    """Successes that went left and failures that went right."""
    trails = [trail(n, 1, 0.03) for n in range(good)] + [trail(100 + n, 0, -0.03) for n in range(bad)]
    return gather(trails, FEATURES)


@dataclass(frozen=True)
class Counted(Situation):
    """A situation without a simulator: a policy succeeds by its generation, and all that is asked is counted."""

    def measure(self, seed: int, policy: str, loaded: Policy) -> tuple[bool, str] | None:
        ASKED.append(("measure", seed))
        if seed % 5 == 0:
            return None
        good = seed % 2 == 0 or "-g" in loaded.id
        return good, "" if good else "missed it"

    def roll_out(self, seed: int, policy: Policy, exploration: Exploration, features: FeatureSpec) -> Trail | None:
        ASKED.append(("roll out", seed))
        return trail(seed, (1, 0)[seed % 2], 0.03) if seed % 7 else None


ASKED: list[tuple[str, int]] = []
