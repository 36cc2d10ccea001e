"""The part that all families of policies share, and the default head.

A point encoder turns an observation around the planner's keypoint into a condition vector; done and progress are read
from it, and a head of the family makes a chunk of it: here flow matching (Lipman et al. 2023, arXiv 2210.02747).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import POINT_DIM, PROPRIO_DIM
from hiervla.executor.policies.words import WordReader, read

ACTION_DIM = 6
"""x, y, z relative to the keypoint [m]; sin, cos of twice the yaw; gripper opening 0..1."""

_ENCODER = ("skill", "state", "point_in", "point_film", "point_mid", "point_out", "attention", "fuse", "words")
_MAY_LACK = frozenset({"advantage", "words"})
"""Fields of a network's description that came later: a folder without them has a network without the part."""
UNADVISED, NEGATIVE, POSITIVE = -1, 0, 1
"""What a head is told of the chunk's advantage: nothing, that it is poor, that it is good."""
MAX_GUIDANCE = 5.0
"""Limit of the guidance towards known rows; the paper's choice for few steps."""


@dataclass(frozen=True)
class NetworkSpec:
    """Sizes of the network, and the scales that make its inputs and outputs about one.

    Attributes:
        horizon: rows H of a chunk.
        rate_hz: rows a second.
        skills: names in the order of the embedding.
        width: width of the per-point layers; the last one has twice as many.
        heads: soft keypoints: attention maps over the points whose mean position is kept.
        context: width of the condition vector.
        trunk: width of the head.
        blocks: residual blocks of the head.
        action_mean: (6,) mean of the action rows.
        action_scale: (6,) spread of the action rows.
        advantage: whether the head can be told how good its chunk shall be; see :meth:`ChunkNet.advised`.
        words: size of the table in which the encoder looks up the words of the step; 0: it reads none. See
            :mod:`hiervla.executor.policies.words`.
    """

    horizon: int = 16
    rate_hz: float = 10.0
    skills: tuple[str, ...] = SKILLS
    width: int = 96
    heads: int = 16
    context: int = 256
    trunk: int = 256
    blocks: int = 3
    action_mean: tuple[float, ...] = (0.0, 0.0, 0.05, 0.0, 0.5, 0.5)
    action_scale: tuple[float, ...] = (0.05, 0.05, 0.07, 0.5, 0.5, 0.5)
    advantage: bool = False
    words: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what a network may lack is left out where it lacks it, as older folders have it."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if v or k not in _MAY_LACK}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> NetworkSpec:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError: an unknown or missing field.
        """
        names = {f.name for f in fields(cls)}
        if wrong := (set(values) ^ names) - (_MAY_LACK - set(values)):
            raise TypeError(f"network fields {sorted(wrong)} are missing or unknown")
        if not isinstance(values.get("advantage", False), bool):
            raise TypeError(f"network field 'advantage' is {values['advantage']!r} and no bool")
        if not isinstance(words := values.get("words", 0), int) or isinstance(words, bool) or words < 0:
            raise TypeError(f"network field 'words' is {words!r} and no number of buckets")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


class ChunkNet(nn.Module, ABC):
    """Encodes an observation once, and says from that whether the step is done; families add how a chunk is made.

    Attributes:
        family: name of the family.
        head: what the head needs to know beyond the sizes, such as a tokeniser; plain JSON values.
    """

    family: ClassVar[str]
    action_mean: Tensor
    action_scale: Tensor

    def __init__(self, spec: NetworkSpec, head: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.head = head or {}
        w = spec.width
        state = PROPRIO_DIM + 1
        self.skill = nn.Embedding(len(spec.skills), 32)
        self.state = nn.Sequential(nn.Linear(state + 32, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.point_in = nn.Linear(POINT_DIM + 3 + 1, w)
        self.point_film = nn.Linear(128, 2 * w)
        self.point_mid = nn.Linear(w, w)
        self.point_out = nn.Linear(w, 2 * w)
        self.attention = nn.Linear(w, spec.heads)
        pooled = 2 * w + spec.heads * 6 + 128
        self.fuse = nn.Sequential(
            nn.Linear(pooled, spec.context), nn.LayerNorm(spec.context), nn.SiLU(),
            nn.Linear(spec.context, spec.context),
        )  # fmt: skip
        self.verdict = nn.Sequential(nn.SiLU(), nn.Linear(spec.context, 64), nn.SiLU(), nn.Linear(64, 2))
        if spec.advantage:
            # Zero, so that weights which learned without it act as before until it has learned something.
            self.advantage = nn.Embedding(2, 2 * spec.context)
            nn.init.zeros_(self.advantage.weight)
        if spec.words:
            self.words = WordReader(spec.words, w, 6, spec.context)
        self.register_buffer("action_mean", torch.tensor(spec.action_mean))
        self.register_buffer("action_scale", torch.tensor(spec.action_scale))

    @classmethod
    def fit_head(cls, actions: np.ndarray[Any, Any]) -> dict[str, Any]:
        """What the head has to learn of the actions before training, (N, H, 6) in metres; nothing by default."""
        return {}

    @classmethod
    def fresh(cls, spec: NetworkSpec, actions: np.ndarray[Any, Any]) -> Self:
        """An untrained network for actions (N, H, 6) like these."""
        return cls(spec, cls.fit_head(actions))

    def grown(self, **parts: Any) -> Self:
        """The same network with optional parts (fields of its spec) that it lacks; they have no effect as yet."""
        made = type(self)(replace(self.spec, **parts), self.head)
        made.load_state_dict(made.state_dict() | self.state_dict())
        return made

    def read(self, texts: Sequence[str]) -> Tensor:
        """What :meth:`encode` takes of texts: (B, SLOTS) int64, or (B, 0) where the network reads no words."""
        return read(texts, self.spec.words)

    @abstractmethod
    def loss(self, context: Tensor, actions: Tensor, rows: Tensor, draws: int) -> Tensor:
        """The family's training objective.

        Args:
            context: (B, context) of :meth:`encode`.
            actions: (B, H, 6) in metres.
            rows: (H,) how much each row counts.
            draws: random draws for each sample, where the family has any.

        Returns:
            Scalar.
        """

    @abstractmethod
    def guess(self, context: Tensor) -> Tensor:
        """The chunks that the network thinks most likely, (B, H, 6) in metres, without chance."""

    @staticmethod
    def common() -> tuple[str, ...]:
        """Names of the parts that all families have: the encoder, the verdicts, the scales of the actions."""
        return (*_ENCODER, "verdict", "action_mean", "action_scale")

    def shared(self) -> list[nn.Parameter]:
        """Parameters of the encoder."""
        return [p for name, p in self.named_parameters() if name.split(".")[0] in _ENCODER]

    def encode(
        self, points: Tensor, valid: Tensor, proprio: Tensor, skill: Tensor, words: Tensor | None = None
    ) -> Tensor:
        """Condition vector of a batch.

        Args:
            points: (B, N, 7) as in `features.POINT_DIM`.
            valid: (B, N) bool, which rows are real.
            proprio: (B, 12) as in `features.PROPRIO_DIM`.
            skill: (B,) int64, index into ``spec.skills``.
            words: of :meth:`read`; None, or zeros, where nothing is said.

        Returns:
            (B, context).
        """
        state = self.state(torch.cat([_scale_state(proprio), self.skill(skill)], dim=-1))
        xyz = points[..., :3]
        in_hand = _to_hand(xyz, proprio)
        reach = in_hand.norm(dim=-1, keepdim=True)
        features = torch.cat([xyz * 10.0, points[..., 3:], in_hand * 10.0, reach * 10.0], dim=-1)
        scale, shift = self.point_film(state)[:, None].chunk(2, dim=-1)
        h = torch.relu(self.point_in(features) * (1.0 + scale) + shift)
        h = torch.relu(self.point_mid(h))
        holes = ~valid[..., None]
        weights = torch.softmax(self.attention(h).masked_fill(holes, -1e4), dim=1)
        both = torch.cat([xyz, in_hand], dim=-1) * 10.0
        soft = torch.einsum("bnk,bnc->bkc", weights, both).flatten(1)
        peak = torch.relu(self.point_out(h)).masked_fill(holes, 0.0).amax(dim=1)
        pooled = self.fuse[0](torch.cat([peak, soft, state], dim=-1))
        if self.spec.words and words is not None:
            pooled = pooled + self.words(words, h, points[..., 3:6], both, holes)
        context: Tensor = self.fuse[1:](pooled)
        return context

    def advised(self, context: Tensor, advantage: Tensor) -> Tensor:
        """The condition of a chunk that shall be good, or poor: RECAP's advantage conditioning (arXiv 2511.14759).

        A network without that part is not told, and neither is the verdict, which is about the past.

        Args:
            context: (B, context) of :meth:`encode`.
            advantage: (B,) int64: :data:`UNADVISED`, :data:`NEGATIVE` or :data:`POSITIVE`.

        Returns:
            (B, context).
        """
        if not self.spec.advantage:
            return context
        scale, shift = self.advantage(advantage.clamp(min=0)).chunk(2, dim=-1)
        return torch.where(advantage[:, None] == UNADVISED, context, context * (1.0 + scale) + shift)

    def judge(self, context: Tensor) -> Tensor:
        """(B, 2): logit that the step is done, logit of the progress."""
        out: Tensor = self.verdict(context)
        return out

    def normalise(self, actions: Tensor) -> Tensor:
        """(..., 6) from metres to about one."""
        return (actions - self.action_mean) / self.action_scale

    def denormalise(self, actions: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        return actions * self.action_scale + self.action_mean


class Block(nn.Module):
    """Residual layer whose scale, shift and gate follow from the condition."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(context, 3 * width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def modulation(self, condition: Tensor) -> Tensor:
        """What a condition (..., context) makes of the layer: scale, shift and gate, (..., 3 width)."""
        out: Tensor = self.modulate(torch.nn.functional.silu(condition))
        return out

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, width) from the like, under a condition (B, context)."""
        return self.modulated(x, self.modulation(condition))

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """(B, width) from the like, under what :meth:`modulation` made of a condition."""
        scale, shift, gate = modulation.chunk(3, dim=-1)
        h = self.norm(x) * (1.0 + scale) + shift
        out: Tensor = x + gate * self.down(torch.nn.functional.silu(self.up(h)))
        return out


class DenoisingNet(ChunkNet):
    """A head that turns a noisy chunk into an estimate of the clean one."""

    def __init__(self, spec: NetworkSpec, head: dict[str, Any] | None = None) -> None:
        super().__init__(spec, head)
        self.time = nn.Sequential(nn.Linear(32, spec.context), nn.SiLU(), nn.Linear(spec.context, spec.context))
        flat = spec.horizon * ACTION_DIM
        self.chunk_in = nn.Linear(flat, spec.trunk)
        self.blocks = nn.ModuleList(Block(spec.trunk, spec.context) for _ in range(spec.blocks))
        self.chunk_out = nn.Linear(spec.trunk, flat)

    def modulations(self, t: Tensor, context: Tensor) -> list[Tensor]:
        """What each block makes of times (..., B) and a context (B, context): (..., B, 3 width) each.

        For several times at once this reads the weights once, which is most of the time that it takes.
        """
        condition = context + self.time(_waves(t))
        return [block.modulation(condition) for block in self._blocks()]

    def predict(self, noisy: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """Estimate of the clean chunk, (B, H, 6) normalised, from a noisy one at the time of the modulations."""
        h = self.chunk_in(noisy.flatten(1))
        for block, modulation in zip(self._blocks(), modulations, strict=True):
            h = block.modulated(h, modulation)
        out: Tensor = self.chunk_out(h)
        return out.view_as(noisy)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


@dataclass(frozen=True)
class Known:
    """What is known of a chunk before it is sampled.

    Attributes:
        rows: (H, 6) in metres.
        sureness: (H,) from 0, free, to 1, fixed.
    """

    rows: Tensor
    sureness: Tensor


class FlowNet(DenoisingNet):
    """Flow matching: the estimate is evaluated a few times to integrate from noise to a chunk."""

    family = "flow"

    def loss(self, context: Tensor, actions: Tensor, rows: Tensor, draws: int) -> Tensor:
        """Squared error of the clean chunk at random flow times; see :class:`ChunkNet`."""
        clean = self.normalise(actions).repeat(draws, 1, 1)
        noise = torch.randn_like(clean)
        # Early flow times carry the decisions, so they are drawn more often.
        t = torch.rand(len(clean), device=clean.device) ** 1.5
        mixed = t[:, None, None] * clean + (1.0 - t[:, None, None]) * noise
        error = (self.predict(mixed, self.modulations(t, context.repeat(draws, 1))) - clean) ** 2
        return (error.mean(dim=-1) * rows).mean()

    def guess(self, context: Tensor) -> Tensor:
        """The flow from the origin; see :class:`ChunkNet`."""
        return self.sample(context, torch.zeros(len(context), self.spec.horizon, ACTION_DIM, device=context.device), 5)

    def sample(
        self,
        context: Tensor,
        noise: Tensor,
        steps: int,
        known: Known | None = None,
        away: tuple[Tensor, float] | None = None,
    ) -> Tensor:
        """Integrate the flow from `noise` (B, H, 6) to a chunk in metres, (B, H, 6), with `steps` Euler steps.

        `away` is a condition and how many times farther from its chunk than `context`'s the flow is to go, 1 for no
        farther: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

        With `known` rows the flow is guided to agree with them where they are sure: real-time chunking (Black et al.
        2025, arXiv 2506.07339, algorithm 1), which inpaints a chunk by the gradient of the estimate.
        """
        x = noise
        times = (torch.arange(steps, device=x.device) / steps)[:, None].expand(steps, len(x))
        to = self.modulations(times, context)
        apart = None if away is None else self.modulations(times, away[0])
        for k in range(steps):
            t = k / steps
            toward = [m[k] for m in to]
            against = None if apart is None or away is None else ([m[k] for m in apart], away[1])
            if known is None:
                clean = self._guided(x, toward, against)
                x = x + (clean - x) * ((1.0 / steps) / (1.0 - t))
                continue
            with torch.enable_grad():
                free = x.detach().requires_grad_(True)
                clean = self._guided(free, toward, against)
                gap = known.sureness[:, None] * (self.normalise(known.rows) - clean.detach())
                (pull,) = torch.autograd.grad(clean, free, gap)
            spread = (1.0 - t) ** 2 / (t**2 + (1.0 - t) ** 2)
            strength = min(MAX_GUIDANCE, (1.0 - t) / (t * spread)) if t > 0.0 else MAX_GUIDANCE
            x = x + ((clean.detach() - x) / (1.0 - t) + strength * pull) / steps
        return self.denormalise(x)

    def _guided(self, x: Tensor, to: Sequence[Tensor], away: tuple[Sequence[Tensor], float] | None) -> Tensor:
        clean = self.predict(x, to)
        return clean if away is None else torch.lerp(self.predict(x, away[0]), clean, away[1])


def _scale_state(p: Tensor) -> Tensor:
    """Bring proprioception to about one; widths and forces also decide at thresholds, so one is squashed."""
    squeezing = torch.tanh(p[:, 6:7] / 4.0)
    width, effort = p[:, 5:6] * 25.0 - 1.0, p[:, 6:7] / 20.0
    return torch.cat([p[:, :3] * 10.0, p[:, 3:5], width, effort, squeezing, p[:, 7:12] * 5.0], dim=-1)


def _to_hand(xyz: Tensor, p: Tensor) -> Tensor:
    """Points (B, N, 3) relative to the tool, turned so that y is the closing direction.

    A gripper looks the same after half a turn, so the frame does as well: yaw lies in (-pi/2, pi/2].
    """
    yaw = 0.5 * torch.atan2(p[:, 3], p[:, 4])[:, None]
    d = xyz - p[:, None, :3]
    c, s = torch.cos(yaw), torch.sin(yaw)
    return torch.stack([c * d[..., 0] + s * d[..., 1], c * d[..., 1] - s * d[..., 0], d[..., 2]], dim=-1)


def _waves(t: Tensor) -> Tensor:
    frequency = torch.exp(torch.linspace(0.0, math.log(64.0), 16, device=t.device))
    phase = t[..., None] * frequency
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)
