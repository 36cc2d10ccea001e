"""The words of demonstrations as a network reads them, each text looked up once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hiervla.executor.policies.network import ChunkNet
from hiervla.training.demos import DemoSet


@dataclass(frozen=True)
class Texts:
    """What is said in each sample.

    Attributes:
        ids: (T, SLOTS) int64 of the texts that there are; (T, 0) where the network reads none.
        of: (N,) which of them belongs to each sample.
    """

    ids: NDArray[np.int64]
    of: NDArray[np.int64]

    @classmethod
    def of_demos(cls, demos: DemoSet, network: ChunkNet) -> Texts:
        """The texts of a data set, for a network."""
        texts, of = np.unique(demos.words, return_inverse=True)
        return cls(network.read(texts.tolist()).numpy(), of.reshape(-1))

    def learn(self, network: ChunkNet, rows: NDArray[Any]) -> None:
        """Let the network know the words of some samples, those that it is trained on."""
        if self.ids.shape[1]:
            network.words.learn(torch.from_numpy(self.ids[np.unique(self.of[rows])]))

    def batch(
        self, rows: NDArray[Any], rng: np.random.Generator | None = None, hidden: float = 0.0
    ) -> NDArray[np.int64]:
        """(B, SLOTS) of some samples, with a share of them `hidden` as if nothing were said."""
        found = self.ids[self.of[rows]]
        if rng is not None and found.shape[1]:
            found[rng.random(len(rows)) < hidden] = 0
        return found

    def identity(self, hidden: float) -> bytes:
        """What identifies them, and the share that is hidden; empty where nothing is read."""
        if not self.ids.shape[1]:
            return b""
        return hashlib.sha256(self.ids[self.of].tobytes()).digest() + repr(hidden).encode()
