"""Autoregressive action tokens: a small causal transformer that writes a chunk token by token.

Two families share it and differ in the tokeniser (:mod:`hiervla.executor.policies.action_tokens`): `tokens`, one token
for each number, as RT-2 and OpenVLA have it, and `fast`, compressed as in FAST.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hiervla.executor.policies.action_tokens import PAD, fit_bins, fit_fast, make_tokeniser
from hiervla.executor.policies.chunks import ChunkPolicy, Past
from hiervla.executor.policies.network import ACTION_DIM, ChunkNet, NetworkSpec

WIDTH, LAYERS, HEADS = 128, 2, 4
SMEAR = 1.5
"""Spread, in bins, of the target over neighbouring bins: they mean nearly the same, which a class label hides."""


class TokenNet(ChunkNet):
    """Writes the tokens of a chunk; every layer is modulated by the condition."""

    def __init__(self, spec: NetworkSpec, head: dict[str, Any] | None = None) -> None:
        super().__init__(spec, head)
        self.tokeniser = make_tokeniser(self.head)
        self.begin = nn.Linear(spec.context, WIDTH)
        self.token = nn.Embedding(self.tokeniser.vocabulary, WIDTH)
        # What comes next depends on how much of the chunk is written, not on how many tokens that took.
        self.place = nn.Embedding(self.tokeniser.values, WIDTH)
        self.layers = nn.ModuleList(Layer(spec.context) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, self.tokeniser.vocabulary)
        self.register_buffer("covers", torch.from_numpy(self.tokeniser.covers), persistent=False)

    covers: Tensor

    @property
    def stack(self) -> list[Layer]:
        """The layers, as what they are."""
        return [cast(Layer, layer) for layer in self.layers]

    def loss(self, context: Tensor, actions: Tensor, rows: Tensor, draws: int) -> Tensor:
        """Cross-entropy of each token after those before it; see :class:`ChunkNet`."""
        ids = torch.from_numpy(self.tokeniser.encode(actions.detach().cpu().numpy())).to(actions.device)
        real = ids != PAD
        ids = ids.clamp(min=0)
        written = (self.covers[ids] * real).cumsum(dim=1)
        before = torch.cat([torch.zeros_like(written[:, :1]), written[:, :-1]], dim=1)
        logits = self._logits(context, ids[:, :-1], before.clamp(max=self.tokeniser.values - 1))
        if self.head["kind"] == "bins":
            cost = self._smeared(logits, ids)
            weight = rows[:: self.head["stride"]].repeat_interleave(ACTION_DIM)[None].expand_as(cost)
        else:
            cost = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
            weight = real.to(cost.dtype)
        return (cost * weight).sum() / weight.sum()

    def _smeared(self, logits: Tensor, ids: Tensor) -> Tensor:
        bins = torch.arange(logits.shape[-1], device=ids.device)
        targets = torch.softmax(-0.5 * ((bins - bins[:, None]) / SMEAR) ** 2, dim=-1)
        return F.cross_entropy(logits.flatten(0, 1), targets[ids].flatten(0, 1), reduction="none").view_as(ids)

    def _logits(self, context: Tensor, earlier: Tensor, place: Tensor) -> Tensor:
        """(B, T, vocabulary) for the tokens at `place` (B, T), given the T - 1 `earlier` ones."""
        h = torch.cat([self.begin(context)[:, None], self.token(earlier)], dim=1) + self.place(place)
        for layer in self.stack:
            h, _ = layer(h, layer.modulation(context))
        out: Tensor = self.out(self.norm(h))
        return out

    def write(self, context: Tensor, temperature: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """Chunks in metres, (B, H, 6), token by token; the likeliest tokens at temperature 0.

        A token that would write beyond the end of the chunk is never chosen, so that every sequence is a chunk.
        """
        total = self.tokeniser.values
        written = torch.zeros(len(context), dtype=torch.long, device=context.device)
        h = self.begin(context)[:, None]
        modulations = [layer.modulation(context) for layer in self.stack]
        caches: list[Tensor | None] = [None] * len(self.layers)
        chosen = []
        while bool((written < total).any()):
            h = h + self.place(written.clamp(max=total - 1))[:, None]
            for i, layer in enumerate(self.stack):
                h, caches[i] = layer(h, modulations[i], caches[i])
            logits = self.out(self.norm(h[:, -1]))
            left = total - written
            logits = logits.masked_fill(self.covers[None] > left[:, None].clamp(min=1), -torch.inf)
            if temperature > 0.0:
                shares = torch.softmax(logits / temperature, dim=-1)
                token = torch.multinomial(shares, 1, generator=generator)[:, 0]
            else:
                token = logits.argmax(dim=-1)
            chosen.append(torch.where(left > 0, token, PAD))
            written = written + torch.where(left > 0, self.covers[token], 0)
            h = self.token(token)[:, None]
        sequences = torch.stack(chosen, dim=1).tolist()
        chunks = np.array([self.tokeniser.decode(s) for s in sequences], dtype=np.float32)
        return torch.from_numpy(chunks).to(context.device)

    def guess(self, context: Tensor) -> Tensor:
        """The likeliest token each time; see :class:`ChunkNet`."""
        return self.write(context)


class BinTokenNet(TokenNet):
    """One of 256 tokens for each number."""

    family = "tokens"

    @classmethod
    def fit_head(cls, actions: np.ndarray[Any, Any]) -> dict[str, Any]:
        """The ranges of the bins; see :class:`ChunkNet`."""
        return fit_bins(actions)


class FastTokenNet(TokenNet):
    """Byte pairs of cosine coefficients."""

    family = "fast"

    @classmethod
    def fit_head(cls, actions: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Ranges and byte pairs; see :class:`ChunkNet`."""
        return fit_fast(actions)


class Layer(nn.Module):
    """Causal self-attention and a two-layer network, scaled and shifted by the condition."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(context, 4 * WIDTH)
        self.norm_a = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.norm_b = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.attend = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 3 * WIDTH), nn.SiLU(), nn.Linear(3 * WIDTH, WIDTH))

    def modulation(self, context: Tensor) -> Tensor:
        """(B, 1, 4 width) scales and shifts that follow from the condition (B, context)."""
        out: Tensor = self.modulate(F.silu(context))
        return out[:, None]

    def forward(self, x: Tensor, modulation: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, width) after those in `cache`, and the cache with them: keys and values (2, B, heads, T, width)."""
        scale_a, shift_a, scale_b, shift_b = modulation.chunk(4, dim=-1)
        b, t, _ = x.shape
        qkv = self.attend(self.norm_a(x) * (1.0 + scale_a) + shift_a)
        q, k, v = qkv.view(b, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        kv = torch.stack([k, v])
        if cache is not None:
            kv = torch.cat([cache, kv], dim=3)
        mixed = F.scaled_dot_product_attention(q, kv[0], kv[1], is_causal=cache is None and t > 1)
        x = x + self.mix(mixed.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.feed(self.norm_b(x) * (1.0 + scale_b) + shift_b), kv


class _TokenPolicy(ChunkPolicy[TokenNet]):
    """Tokens as a policy."""

    choices = ("temperature",)

    def __init__(self, network: TokenNet, *args: Any, temperature: float = 0.0, **options: Any) -> None:
        """Wrap a network.

        Args:
            network: the weights.
            args: as in :class:`ChunkPolicy`.
            temperature: of the choice of tokens; 0 takes the likeliest.
            options: as in :class:`ChunkPolicy`.
        """
        super().__init__(network, *args, **options)
        self.temperature = temperature

    def draw(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """See :class:`ChunkPolicy`."""
        return self.network.write(context, self.temperature, generator)


class TokenPolicy(_TokenPolicy):
    """Tokens of bins as a policy."""

    network_class: ClassVar[type[ChunkNet]] = BinTokenNet


class FastPolicy(_TokenPolicy):
    """FAST tokens as a policy."""

    network_class: ClassVar[type[ChunkNet]] = FastTokenNet
