"""Diffusion policy: DDPM training, DDIM sampling (Chi et al. 2023, arXiv 2303.04137).

The noise levels follow the squared-cosine schedule (Nichol and Dhariwal 2021, arXiv 2102.09672). The network estimates
the clean chunk rather than the noise, which is the same model in another parametrisation (Salimans and Ho 2022, arXiv
2202.00512) and stays accurate when few steps are taken.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from hiervla.executor.policies.chunks import ChunkPolicy, Past
from hiervla.executor.policies.network import ACTION_DIM, ChunkNet, DenoisingNet, NetworkSpec

LEVELS = 100
"""Noise levels in training."""
CLIP = 4.0
"""Estimates of a normalised chunk are clipped to this, as samplers of diffusion policies do."""


def signal_shares(levels: int = LEVELS) -> Tensor:
    """(levels,) float32: the share of the clean chunk's variance that is left at each level, falling from almost 1."""

    def share(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    product, shares = 1.0, []
    for k in range(levels):
        # No level may be pure noise: the step away from it would divide by zero.
        product *= max(1.0 - 0.999, share((k + 1) / levels) / share(k / levels))
        shares.append(product)
    return torch.tensor(shares)


class DiffusionNet(DenoisingNet):
    """Estimates the clean chunk at any noise level."""

    family = "diffusion"
    shares: Tensor

    def __init__(self, spec: NetworkSpec, head: dict[str, Any] | None = None) -> None:
        super().__init__(spec, head)
        self.register_buffer("shares", signal_shares(), persistent=False)

    def loss(self, context: Tensor, actions: Tensor, rows: Tensor, draws: int) -> Tensor:
        """Squared error of the clean chunk at random noise levels; see :class:`ChunkNet`."""
        clean = self.normalise(actions).repeat(draws, 1, 1)
        level = torch.randint(LEVELS, (len(clean),), device=clean.device)
        share = self.shares[level][:, None, None]
        noisy = share.sqrt() * clean + (1.0 - share).sqrt() * torch.randn_like(clean)
        told = self.modulations(_cleanness(level), context.repeat(draws, 1))
        error = (self.predict(noisy, told) - clean) ** 2
        return (error.mean(dim=-1) * rows).mean()

    def guess(self, context: Tensor) -> Tensor:
        """Sampling from the middle of the noise; see :class:`ChunkNet`."""
        zeros = torch.zeros(len(context), self.spec.horizon, ACTION_DIM, device=context.device)
        return self.sample(context, zeros, 8)

    def sample(self, context: Tensor, noise: Tensor, steps: int) -> Tensor:
        """DDIM without added noise (Song et al. 2021, arXiv 2010.02502): `noise` (B, H, 6) to a chunk in metres."""
        x = noise
        levels = torch.linspace(LEVELS - 1, 0, steps, device=x.device).round().long()
        clean, to = x, self.modulations(_cleanness(levels)[:, None].expand(steps, len(x)), context)
        for k, level in enumerate(levels):
            clean = self.predict(x, [m[k] for m in to]).clamp(-CLIP, CLIP)
            if k + 1 < steps:
                now, then = self.shares[level], self.shares[levels[k + 1]]
                noise_in_x = (x - now.sqrt() * clean) / (1.0 - now).sqrt()
                x = then.sqrt() * clean + (1.0 - then).sqrt() * noise_in_x
        return self.denormalise(clean)


def _cleanness(level: Tensor) -> Tensor:
    """The time of a noise level as the head reads it, 1 for clean."""
    return 1.0 - level.float() / (LEVELS - 1)


class DiffusionPolicy(ChunkPolicy[DiffusionNet]):
    """Diffusion as a policy."""

    network_class: ClassVar[type[ChunkNet]] = DiffusionNet
    choices = ("steps",)

    def __init__(self, network: DiffusionNet, *args: Any, steps: int = 8, **options: Any) -> None:
        """Wrap a network.

        Args:
            network: the weights.
            args: as in :class:`ChunkPolicy`.
            steps: DDIM steps.
            options: as in :class:`ChunkPolicy`.
        """
        super().__init__(network, *args, **options)
        self.steps = steps

    def draw(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """See :class:`ChunkPolicy`."""
        noise = torch.randn(1, self.network.spec.horizon, ACTION_DIM, generator=generator)
        return self.network.sample(context, noise, self.steps)
