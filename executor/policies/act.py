"""ACT: a conditional VAE over action chunks, with temporal ensembling (Zhao et al. 2023, arXiv 2304.13705)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hiervla.executor.policies.chunks import ChunkPolicy, Past, Rows
from hiervla.executor.policies.network import ACTION_DIM, Block, ChunkNet, NetworkSpec

STYLE = 32
KL_WEIGHT = 10.0
"""Of the Kullback-Leibler term, summed over the style, against the mean error of a normalised action; the paper's."""


class ActNet(ChunkNet):
    """Decodes a chunk from the condition and a style variable, which is zero when acting."""

    family = "act"

    def __init__(self, spec: NetworkSpec, head: dict[str, Any] | None = None) -> None:
        super().__init__(spec, head)
        flat = spec.horizon * ACTION_DIM
        self.posterior = nn.Sequential(
            nn.Linear(flat + spec.context, spec.trunk), nn.SiLU(), nn.Linear(spec.trunk, spec.trunk), nn.SiLU(),
            nn.Linear(spec.trunk, 2 * STYLE),
        )  # fmt: skip
        self.style = nn.Linear(STYLE, spec.trunk)
        self.blocks = nn.ModuleList(Block(spec.trunk, spec.context) for _ in range(spec.blocks))
        self.chunk_out = nn.Linear(spec.trunk, flat)

    def decode(self, context: Tensor, style: Tensor) -> Tensor:
        """Normalised chunk (B, H, 6) for a condition (B, context) and a style (B, 32)."""
        h = self.style(style)
        for block in self.blocks:
            h = block(h, context)
        out: Tensor = self.chunk_out(h)
        return out.view(len(out), self.spec.horizon, ACTION_DIM)

    def loss(self, context: Tensor, actions: Tensor, rows: Tensor, draws: int) -> Tensor:
        """Absolute error of the reconstruction, and how far the style strays from a unit normal."""
        clean = self.normalise(actions)
        mean, log_variance = self.posterior(torch.cat([clean.flatten(1), context], dim=-1)).chunk(2, dim=-1)
        # A style that ran away early would overflow the exponential.
        log_variance = log_variance.clamp(-10.0, 4.0)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=-1).mean()
        # One draw: with so strong a pull to the normal, the style says little, and others would say the same.
        style = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        gap = (self.decode(context, style) - clean).abs()
        error = (gap.mean(dim=-1) * rows).mean()
        return error + KL_WEIGHT * kl

    def guess(self, context: Tensor) -> Tensor:
        """The chunk of the middle style; see :class:`ChunkNet`."""
        return self.denormalise(self.decode(context, torch.zeros(len(context), STYLE, device=context.device)))


class ActPolicy(ChunkPolicy[ActNet]):
    """ACT as a policy; chance plays no part in it."""

    network_class: ClassVar[type[ChunkNet]] = ActNet
    choices = ("ensemble",)

    def __init__(self, network: ActNet, *args: Any, ensemble: float | None = None, **options: Any) -> None:
        """Wrap a network.

        Args:
            network: the weights.
            args: as in :class:`ChunkPolicy`.
            ensemble: temporal ensembling: what earlier chunks said of the same moments counts as exp(-ensemble * i),
                i = 0 for the oldest; the paper's is 0.01. None: the newest chunk alone.
            options: as in :class:`ChunkPolicy`.
        """
        super().__init__(network, *args, **options)
        self.ensemble = ensemble

    def draw(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """See :class:`ChunkPolicy`."""
        return self.network.guess(context)

    def settle(self, rows: Rows, now_s: float) -> Rows:
        """Blend with what earlier chunks of the attempt said of the same moments."""
        if self.ensemble is None or not self.history:
            return rows
        rate = self.network.spec.rate_hz
        said = [*self.history, Past(now_s, rows)]
        out = np.empty_like(rows)
        for k in range(len(rows)):
            due = now_s + (k + 1) / rate
            known = [row for past in said if (row := past.at(due, rate)) is not None]
            weights = np.exp(-self.ensemble * np.arange(len(known)))
            out[k] = weights @ np.array(known) / weights.sum()
        return out
