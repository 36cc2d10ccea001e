"""Which moments were better than expected, and so good examples: the advantage, made a yes or no.

A = the return from here to where the value function takes over, plus its value there, minus its value here. It is
good if it is among the best of its skill, and at least as expected; what a person did is always good (arXiv
2511.14759, section IV-B). RECAP has the percentile alone; without the second condition most of the failures of a policy
that nearly always fails would be good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.network import NEGATIVE, POSITIVE, UNADVISED, ChunkNet
from hiervla.training.improve.experience import UNKNOWN, Experience
from hiervla.training.improve.value import ValueNet, contexts, returns_of


@dataclass(frozen=True)
class AdvantageSpec:
    """How advantages are made yes or no.

    Attributes:
        best: share of a skill's own moments that are good examples at most.
        lookahead_s: how far the return is counted before the value function takes over; None: to the end [s].
    """

    best: float = 0.4
    lookahead_s: float | None = None


@dataclass(frozen=True)
class Advantages:
    """What came out.

    Attributes:
        advantage: (N,) float32; NaN where the outcome is unknown.
        told: (N,) int8, what the policy is told of each: ``UNADVISED``, ``NEGATIVE`` or ``POSITIVE``.
        thresholds: by skill.
    """

    advantage: NDArray[np.float32]
    told: NDArray[np.int8]
    thresholds: dict[str, float]

    def counts(self) -> dict[str, int]:
        """Moments that are good, poor and neither."""
        names = {"positive": POSITIVE, "negative": NEGATIVE, "unadvised": UNADVISED}
        return {name: int((self.told == value).sum()) for name, value in names.items()}


@torch.no_grad()
def advantages(network: ChunkNet, value: ValueNet, experience: Experience, spec: AdvantageSpec) -> Advantages:
    """Advantages of all moments of framed experience."""
    expected = value.expect(contexts(network, experience, 0, None)).numpy()
    returns = returns_of(experience)
    advantage = returns - expected
    if spec.lookahead_s is not None:
        advantage = _looking_ahead(experience, returns, expected, spec.lookahead_s)
    told = np.full(len(experience), UNADVISED, dtype=np.int8)
    thresholds: dict[str, float] = {}
    own = ~experience.human & (experience.outcome != UNKNOWN)
    for skill in np.unique(experience.demos.skill):
        mine = own & (experience.demos.skill == skill)
        if mine.any():
            threshold = max(float(np.quantile(advantage[mine], 1.0 - spec.best)), 0.0)
            thresholds[SKILLS[skill]] = round(threshold, 4)
            told[mine] = np.where(advantage[mine] > threshold, POSITIVE, NEGATIVE)
    told[experience.human] = POSITIVE
    return Advantages(advantage.astype(np.float32), told, thresholds)


def _looking_ahead(
    experience: Experience, returns: NDArray[np.float32], expected: NDArray[np.float32], lookahead_s: float
) -> NDArray[np.float32]:
    """Returns over a while, then the value of the moment that comes after; to the end where there is none."""
    found = returns - expected
    for episode in np.unique(experience.demos.episode):
        rows = np.flatnonzero(experience.demos.episode == episode)
        rows = rows[np.argsort(experience.time_s[rows], kind="stable")]
        later = np.searchsorted(experience.time_s[rows], experience.time_s[rows] + lookahead_s - 1e-4)
        for row, k in zip(rows, later, strict=True):
            if k < len(rows) and experience.outcome[rows[k]] == experience.outcome[row] != UNKNOWN:
                longest = float(experience.end_s[experience.demos.skill == experience.demos.skill[row]].max())
                passed = float(experience.time_s[rows[k]] - experience.time_s[row]) / longest
                found[row] = -passed + expected[rows[k]] - expected[row]
    return found


__all__ = ["AdvantageSpec", "Advantages", "advantages"]
