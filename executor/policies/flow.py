"""The default policy: flow matching over action chunks, conditioned on points around the planner's keypoint."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hiervla.executor.policies.chunks import BLANK_POINT_W, WEIGHTS, ChunkPolicy, Past
from hiervla.executor.policies.network import ACTION_DIM, ChunkNet, FlowNet, Known

DEFAULT_WEIGHTS = WEIGHTS / "flow"

__all__ = ["BLANK_POINT_W", "DEFAULT_WEIGHTS", "FlowPolicy"]


class FlowPolicy(ChunkPolicy[FlowNet]):
    """Flow matching as a policy."""

    network_class: ClassVar[type[ChunkNet]] = FlowNet
    choices = ("steps", "noise", "inpaint", "delay_rows", "guidance")

    def __init__(
        self,
        network: FlowNet,
        *args: Any,
        steps: int = 5,
        noise: float = 0.3,
        inpaint: bool = False,
        delay_rows: int = 2,
        guidance: float = 1.0,
        **options: Any,
    ) -> None:
        """Wrap a network.

        Args:
            network: the weights.
            args: as in :class:`ChunkPolicy`.
            steps: Euler steps of the flow.
            noise: spread of the initial noise, 1 as in training, 0 for the flow from the origin.
            inpaint: let a chunk agree with what is left of the one before; see :meth:`FlowNet.sample`.
            delay_rows: rows at the start of a chunk that are over, or under way, when it takes over; they are fixed.
            guidance: how much farther than the chunk that was learned of good examples the chunk goes from the one that
                was learned of all, 1 for no farther; without effect where the network knows no advantage.
            options: as in :class:`ChunkPolicy`.
        """
        super().__init__(network, *args, **options)
        self.steps = steps
        self.noise = noise
        self.inpaint = inpaint
        self.delay_rows = delay_rows
        self.guidance = guidance

    def draw(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """See :class:`ChunkPolicy`."""
        return self._draw(context, generator, past, None)

    def draw_good(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """Guided away from what was learned of all examples; see :class:`ChunkPolicy`."""
        guided = self.network.spec.advantage and self.guidance != 1.0
        return self._draw(self.advised(context), generator, past, (context, self.guidance) if guided else None)

    def _draw(
        self, context: Tensor, generator: torch.Generator, past: Past | None, away: tuple[Tensor, float] | None
    ) -> Tensor:
        horizon = self.network.spec.horizon
        noise = self.noise * torch.randn(1, horizon, ACTION_DIM, generator=generator)
        known = None
        if self.inpaint and past is not None:
            rows = torch.zeros(horizon, ACTION_DIM)
            rows[: len(past.rows)] = torch.from_numpy(past.rows).float()
            known = Known(rows, sureness(horizon, len(past.rows), self.delay_rows))
        return self.network.sample(context, noise, self.steps, known, away)


def sureness(horizon: int, known: int, delay: int) -> Tensor:
    """(H,) how sure the first `known` rows are: 1 for `delay` rows, then falling off to 0 (equation 5 of the paper)."""
    k = torch.arange(horizon)
    share = (known - k) / (known - delay + 1)
    soft = share * torch.expm1(share) / torch.expm1(torch.tensor(1.0))
    return torch.where(k < delay, 1.0, soft).where(k < known, torch.tensor(0.0))
