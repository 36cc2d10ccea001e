"""The next generation: the last one's weights, trained on all that is known and told of each moment how good it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hiervla.executor.policies.chunks import ChunkPolicy
from hiervla.executor.policies.families import load_policy
from hiervla.executor.policies.network import POSITIVE, UNADVISED, ChunkNet
from hiervla.training.demos import COLUMNS, DemoSet
from hiervla.training.improve.experience import Experience
from hiervla.training.trainer import Trainer, TrainSpec, skill_balance

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Lessons:
    """Demonstrations and experience together, one row a moment, and what the policy is told of each.

    Attributes:
        demos: framed; those of experts first.
        told: (N,) int8, see :class:`hiervla.training.improve.advantages.Advantages`.
        weights: (N,) how often each is drawn; sums to one.
    """

    demos: DemoSet
    told: NDArray[np.int8]
    weights: NDArray[np.float64]


def lessons(experts: DemoSet | None, experience: Experience, told: NDArray[np.int8], share: float) -> Lessons:
    """Put demonstrations, which are good examples, beside experience.

    Args:
        experts: framed demonstrations of all skills, so that none is forgotten; None: there are none.
        experience: framed.
        told: of the experience.
        share: of the draws that go to experience.
    """
    n = len(experience)
    if experts is None:
        return Lessons(experience.demos, told, np.full(n, 1.0 / n))
    both: dict[str, Any] = {c: np.concatenate([getattr(experts, c), getattr(experience.demos, c)]) for c in COLUMNS}
    drawn = skill_balance(experts.skill)
    weights = np.concatenate([(1.0 - share) * drawn / drawn.sum(), np.full(n, share / n)])
    said = np.concatenate([np.full(len(experts), POSITIVE, dtype=np.int8), told])
    return Lessons(replace(experience.demos, **both), said, weights)


class AdvantageTrainer(Trainer):
    """A training whose head is told how good each example is, and now and then is not."""

    def __init__(
        self, lessons: Lessons, spec: TrainSpec, init: Path, *, untold: float = 0.3, device: str = "cpu"
    ) -> None:
        """Set up.

        Args:
            lessons: the data.
            spec: hyperparameters.
            init: weights to start from.
            untold: share of the draws in which the head is told nothing, so that it learns the like of all examples as
                well; that is what guidance leads away from.
            device: torch device.

        Raises:
            CheckpointError: the weights cannot be read.
        """
        super().__init__(lessons.demos, spec, device, init)
        self._told = lessons.told
        self._untold = untold
        drawn = lessons.weights[self.train_rows]
        self._weights = drawn / drawn.sum()

    def _begin(self, init: str | Path | None, encoder_only: bool) -> ChunkNet:
        return with_advantage(super()._begin(init, encoder_only))

    def _condition(self, context: Tensor, rows: NDArray[Any]) -> Tensor:
        told = self._told[rows].astype(np.int64)
        told[self.rng.random(len(rows)) < self._untold] = UNADVISED
        return self.network.advised(context, torch.from_numpy(told).to(self.device))


def with_advantage(network: ChunkNet) -> ChunkNet:
    """The network with the part that is told of advantages; one that lacks it gets one without effect as yet."""
    if network.spec.advantage:
        return network
    return network.grown(advantage=True)


def learn(
    data: Lessons,
    spec: TrainSpec,
    init: Path,
    work: Path,
    version: str,
    tell: Tell,
    *,
    untold: float = 0.3,
    device: str = "cpu",
) -> tuple[ChunkPolicy[Any], dict[str, float]]:
    """Train to the end, going on from a checkpoint in `work` where there is one.

    Returns:
        The policy, which acts as the one in `init` does in all else, and its validation.

    Raises:
        CheckpointError: the checkpoint is of another training, or the weights cannot be read.
    """
    torch.set_num_threads(1)
    trainer = AdvantageTrainer(data, spec, init, untold=untold, device=device)
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    told = saved = time.monotonic()
    while trainer.step < spec.steps:
        loss = trainer.train_step(trainer.step / spec.steps)
        now = time.monotonic()
        if now - told > 20.0 or trainer.step == spec.steps:
            told = now
            tell(f"learning: step {trainer.step} of {spec.steps}, loss {loss:.4f}")
        if now - saved > 120.0:
            saved = now
            trainer.save(checkpoint)
    metrics = trainer.validate()
    policy, parent = trainer.policy(version), load_policy(init)
    for option in (*parent.choices, "without_point"):
        setattr(policy, option, getattr(parent, option))
    return policy, metrics


__all__ = ["AdvantageTrainer", "Lessons", "learn", "lessons", "with_advantage"]
