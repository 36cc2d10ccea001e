"""The network of the flow policy: a point encoder, a flow-matching head over action chunks, done and progress."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import POINT_DIM, PROPRIO_DIM

ACTION_DIM = 6
"""x, y, z relative to the keypoint [m]; sin, cos of twice the yaw; gripper opening 0..1."""


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
        trunk: width of the flow head.
        blocks: residual blocks of the flow head.
        action_mean: (6,) mean of the action rows.
        action_scale: (6,) spread of the action rows.
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> NetworkSpec:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError: an unknown or missing field.
        """
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise TypeError(f"network fields {sorted(set(values) ^ names)} are missing or unknown")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


class FlowNet(nn.Module):
    """Encodes an observation once; the flow head is then evaluated a few times to integrate a chunk."""

    action_mean: Tensor
    action_scale: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
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
        self.time = nn.Sequential(nn.Linear(32, spec.context), nn.SiLU(), nn.Linear(spec.context, spec.context))
        flat = spec.horizon * ACTION_DIM
        self.chunk_in = nn.Linear(flat, spec.trunk)
        self.blocks = nn.ModuleList(_Block(spec.trunk, spec.context) for _ in range(spec.blocks))
        self.chunk_out = nn.Linear(spec.trunk, flat)
        self.register_buffer("action_mean", torch.tensor(spec.action_mean))
        self.register_buffer("action_scale", torch.tensor(spec.action_scale))

    def encode(self, points: Tensor, valid: Tensor, proprio: Tensor, skill: Tensor) -> Tensor:
        """Condition vector of a batch.

        Args:
            points: (B, N, 7) as in `features.POINT_DIM`.
            valid: (B, N) bool, which rows are real.
            proprio: (B, 12) as in `features.PROPRIO_DIM`.
            skill: (B,) int64, index into ``spec.skills``.

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
        context: Tensor = self.fuse(torch.cat([peak, soft, state], dim=-1))
        return context

    def predict(self, noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Estimate of the clean chunk, (B, H, 6) normalised, from a noisy one at flow time `t` (B,) in 0..1."""
        condition = context + self.time(_waves(t))
        h = self.chunk_in(noisy.flatten(1))
        for block in self.blocks:
            h = block(h, condition)
        out: Tensor = self.chunk_out(h)
        return out.view_as(noisy)

    def sample(self, context: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Integrate the flow from `noise` (B, H, 6) to a chunk in metres, (B, H, 6), with `steps` Euler steps."""
        x = noise
        for k in range(steps):
            t = k / steps
            clean = self.predict(x, torch.full((len(x),), t, device=x.device), context)
            x = x + (clean - x) * ((1.0 / steps) / (1.0 - t))
        return self.denormalise(x)

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


class _Block(nn.Module):
    """Residual layer whose scale, shift and gate follow from the condition."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(context, 3 * width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.modulate(torch.nn.functional.silu(condition)).chunk(3, dim=-1)
        h = self.norm(x) * (1.0 + scale) + shift
        out: Tensor = x + gate * self.down(torch.nn.functional.silu(self.up(h)))
        return out


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
    phase = t[:, None] * frequency
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)
