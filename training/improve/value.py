"""What to expect: a distribution over the return of an attempt, from what the policy's encoder makes of a moment.

The return counts one negative step for every moment until success and a large penalty for a failure, scaled so that
it lies in -1..0: -1 is a failure, 0 a success that is there. The function is distributional and learns by
cross-entropy on its bins, as in RECAP (arXiv 2511.14759, section IV-A).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.network import ChunkNet
from hiervla.representations.errors import CheckpointError
from hiervla.training.augment import augment
from hiervla.training.improve.experience import FAILED, SUCCEEDED, UNKNOWN, Experience
from hiervla.training.texts import Texts


@dataclass(frozen=True)
class ValueSpec:
    """How the value function is made and trained.

    Attributes:
        bins: of the distribution over -1..0.
        width: of its hidden layers.
        steps: optimiser steps.
        batch: moments a step.
        copies: random changes of every moment that are encoded.
        lr: peak learning rate of AdamW.
        held_out: share of the attempts that are kept for validation.
        seed: of everything random.
    """

    bins: int = 101
    width: int = 192
    steps: int = 600
    batch: int = 256
    copies: int = 3
    lr: float = 1e-3
    held_out: float = 0.1
    seed: int = 0


class ValueNet(nn.Module):
    """Context to the logits of the bins."""

    def __init__(self, context: int, spec: ValueSpec) -> None:
        super().__init__()
        self.spec = spec
        self.context = context
        self.body = nn.Sequential(
            nn.LayerNorm(context), nn.Linear(context, spec.width), nn.SiLU(), nn.Dropout(0.1),
            nn.Linear(spec.width, spec.width), nn.SiLU(), nn.Linear(spec.width, spec.bins),
        )  # fmt: skip
        self.register_buffer("middles", torch.linspace(-1.0, 0.0, spec.bins))
        self.middles: Tensor

    def forward(self, context: Tensor) -> Tensor:
        """(B, bins) logits from (B, context)."""
        out: Tensor = self.body(context)
        return out

    def expect(self, context: Tensor) -> Tensor:
        """(B,) expected return in -1..0."""
        return torch.softmax(self(context), dim=-1) @ self.middles

    def loss(self, context: Tensor, returns: Tensor) -> Tensor:
        """Cross-entropy with the two bins nearest to each return (B,)."""
        place = (returns.clamp(-1.0, 0.0) + 1.0) * (self.spec.bins - 1)
        low = place.floor().long().clamp(max=self.spec.bins - 2)
        share = (place - low)[:, None]
        target = torch.zeros(len(returns), self.spec.bins, device=returns.device)
        target.scatter_(1, low[:, None], 1.0 - share).scatter_(1, low[:, None] + 1, share)
        return F.cross_entropy(self(context), target)


def returns_of(experience: Experience) -> NDArray[np.float32]:
    """(N,) return in -1..0 of every moment; NaN where it is unknown.

    Time is counted in lengths of the longest attempt of the skill, so that skills of different lengths compare; a
    failure counts as a whole one more, which is all that the scale has.
    """
    left = experience.end_s - experience.time_s
    longest = np.ones(len(SKILLS), dtype=np.float32)
    for skill in np.unique(experience.demos.skill):
        longest[skill] = max(float(experience.end_s[experience.demos.skill == skill].max()), 1e-3)
    found = np.clip(-left / longest[experience.demos.skill], -1.0, 0.0).astype(np.float32)
    found[experience.outcome == FAILED] = -1.0
    found[experience.outcome == UNKNOWN] = np.nan
    return found


@torch.no_grad()
def contexts(network: ChunkNet, experience: Experience, points: int, seed: int | None) -> Tensor:
    """(N, context) of all moments in order, framed; changed at random where a seed is given."""
    rng = None if seed is None else np.random.default_rng([seed, 11])
    rows, texts = np.arange(len(experience)), Texts.of_demos(experience.demos, network)
    parts, device = [], next(network.parameters()).device
    for part in np.array_split(rows, max(1, len(rows) // 256)):
        kept, said = points if rng is not None else experience.demos.points.shape[1], texts.batch(part)
        found = augment(experience.demos, part, rng, kept, words=said)
        parts.append(network.encode(*(torch.from_numpy(a).to(device) for a in (*found[:4], said))))
    return torch.cat(parts)


def train_value(
    network: ChunkNet, experience: Experience, spec: ValueSpec, points: int = 224, device: str = "cpu"
) -> tuple[ValueNet, dict[str, float]]:
    """A value function for a policy's network, and how it does on attempts that it did not see.

    Args:
        network: whose encoder it builds on; it is left as it is.
        experience: framed.
        spec: how.
        points: points kept of each cloud while training.
        device: torch device of the training; the function is on the CPU afterwards.

    Returns:
        The function, and `value_error` (mean absolute, of the return) with `told_apart`: the chance that a moment of a
        success is valued higher than one of a failure, both held out (area under the curve; 0.5 is guessing).
    """
    torch.manual_seed(spec.seed)
    returns = returns_of(experience)
    known = ~np.isnan(returns)
    episodes = np.unique(experience.demos.episode)
    split = np.random.default_rng([spec.seed, 12]).random(len(episodes)) < spec.held_out
    held = np.isin(experience.demos.episode, episodes[split]) & known
    train = np.flatnonzero(known & ~held)
    there = network if device == "cpu" else copy.deepcopy(network).to(device)
    copies = [contexts(there, experience, points, spec.seed + k) for k in range(spec.copies)]
    targets = torch.from_numpy(returns).to(device)
    net = ValueNet(network.spec.context, spec).to(device).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=spec.lr, weight_decay=0.01)
    for step, (rows, kind) in enumerate(_batches(train, spec)):
        for group in optimiser.param_groups:
            group["lr"] = (
                spec.lr * min(1.0, (step + 1) / 50) * (0.02 + 0.49 * (1.0 + np.cos(np.pi * step / spec.steps)))
            )
        loss = net.loss(copies[kind][rows], targets[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    net.cpu().eval()
    return net, _validate(net, contexts(there, experience, points, None).cpu(), returns, experience.outcome, held)


def _batches(train: NDArray[Any], spec: ValueSpec) -> Iterator[tuple[NDArray[Any], int]]:
    rng = np.random.default_rng([spec.seed, 13])
    for _ in range(spec.steps):
        yield train[rng.integers(len(train), size=min(spec.batch, len(train)))], int(rng.integers(spec.copies))


@torch.no_grad()
def _validate(
    net: ValueNet, context: Tensor, returns: NDArray[Any], outcome: NDArray[Any], held: NDArray[Any]
) -> dict[str, float]:
    rows = held if held.any() else ~np.isnan(returns)
    found = net.expect(context).numpy()
    error = float(np.abs(found[rows] - returns[rows]).mean())
    good, bad = found[rows & (outcome == SUCCEEDED)], found[rows & (outcome == FAILED)]
    metrics = {"value_error": round(error, 4), "value_moments": float(rows.sum())}
    if len(good) and len(bad):
        above = (good[:, None] > bad[None]).mean() + 0.5 * (good[:, None] == bad[None]).mean()
        metrics["told_apart"] = round(float(above), 4)
    return metrics


def save_value(net: ValueNet, folder: Path, facts: dict[str, Any]) -> None:
    """Write `value.safetensors` and, last, `value.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "value.safetensors")
    partial = folder / "value.partial"
    partial.write_text(json.dumps({"context": net.context, "spec": vars(net.spec), **facts}, indent=1) + "\n")
    partial.replace(folder / "value.json")


def load_value(folder: Path) -> tuple[ValueNet, dict[str, Any]]:
    """The inverse of :func:`save_value`.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        facts = json.loads((folder / "value.json").read_text())
        net = ValueNet(int(facts["context"]), ValueSpec(**facts["spec"]))
        net.load_state_dict(load_file(folder / "value.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        problem = f"cannot be read ({str(error).splitlines()[0]})"
        raise CheckpointError(str(folder / "value.json"), problem, "Delete the folder to have it made anew") from error
    return net.eval(), facts


__all__ = ["ValueNet", "ValueSpec", "contexts", "load_value", "returns_of", "save_value", "train_value"]
