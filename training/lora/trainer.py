"""The optimiser's loop: deterministic, and resumable from one file without pickles."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.planner.vlm.adapter import put_weights
from hiervla.representations import CheckpointError
from hiervla.training.lora.adapting import ALL_LINEAR, adapter_weights
from hiervla.training.lora.batches import Encoder, answer_loss
from hiervla.training.lora.errors import FineTuneError
from hiervla.training.lora.samples import Sample, digest

MOMENTS = ("exp_avg", "exp_avg_sq")
_WARM = 0.05
_FLOOR = 0.1


@dataclass(frozen=True)
class LoraSpec:
    """How to fine-tune.

    Attributes:
        steps: optimiser steps.
        batch: samples a step; they go through the model one by one.
        rank: of the adapter's matrices.
        alpha: the adapter counts `alpha / rank` times.
        dropout: share of the adapter's inputs left out while training.
        lr: peak learning rate of AdamW; warm-up, then cosine to a tenth.
        weight_decay: of AdamW.
        targets: ``all-linear``, or last names of linear layers of the language part.
        held_out: share of runs and scenes kept for the scores.
        answers: held-out questions that the model answers in full for the scores, before and after.
        checkpointing: recompute activations in the backward pass; slower, with a fraction of the memory.
        save_every: steps from one checkpoint to the next.
        seed: of everything random.
    """

    steps: int = 300
    batch: int = 8
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    lr: float = 2e-4
    weight_decay: float = 0.0
    targets: tuple[str, ...] = (ALL_LINEAR,)
    held_out: float = 0.1
    answers: int = 16
    checkpointing: bool = False
    save_every: int = 25
    seed: int = 0


class Trainer:
    """Adapter, optimiser and data of one training run.

    Args:
        adapted: a peft model whose base is on `device`.
        encoder: of the base.
        samples: to learn from.
        spec: hyperparameters.
        base: id of the base, with its version.
        device: torch device.

    Attributes:
        step: optimiser steps done.
        facts: what is to be kept with the checkpoint, such as the scores before training.
    """

    def __init__(
        self, adapted: Any, encoder: Encoder, samples: Sequence[Sample], spec: LoraSpec, base: str, device: str
    ) -> None:
        import torch

        self.adapted = adapted
        self.step = 0
        self.facts: dict[str, Any] = {}
        self._encoder, self._samples, self._spec = encoder, list(samples), spec
        self._base, self._device = base, device
        self._named = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.AdamW(
            self._named.values(), lr=spec.lr, weight_decay=spec.weight_decay, betas=(0.9, 0.99)
        )
        # What is trained may not change on resuming; how long, and what is done besides, may.
        free = ("steps", "answers", "checkpointing", "save_every")
        kept = {k: v for k, v in asdict(spec).items() if k not in free}
        self._identity = json.dumps([kept, base, digest(self._samples)], sort_keys=True)

    @property
    def model(self) -> Any:
        """The base with the adapter in it."""
        return self.adapted.get_base_model()

    def train_step(self) -> float:
        """One optimiser step; the mean loss of a token of the answers [nats].

        Raises:
            FineTuneError: memory is short, or the loss is no number.
        """
        import torch

        spec, model = self._spec, self.model
        model.train()
        # Everything random in a step depends on its number alone, so that a resumed training draws the same.
        torch.manual_seed(spec.seed * 1_000_003 + self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = spec.lr * _schedule(self.step, spec.steps)
        batch = [self._encoder.encode(s) for s in self._batch()]
        tokens = sum(e.answer for e in batch)
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        try:
            for encoded in batch:
                loss = answer_loss(model, encoded, self._device) / tokens
                loss.backward()
                total += float(loss.detach())
        except torch.OutOfMemoryError as error:
            remedy = "Give --checkpointing, a smaller camera image, or a smaller base"
            raise FineTuneError(self._base, f"memory is short on {self._device}", remedy) from error
        if not math.isfinite(total):
            problem = f"the loss is no number any more at step {self.step + 1}"
            raise FineTuneError(self._base, problem, "Give a smaller --lr and start anew in another --out")
        torch.nn.utils.clip_grad_norm_(list(self._named.values()), 1.0)
        self._optimiser.step()
        self.step += 1
        return total

    def _batch(self) -> list[Sample]:
        """The samples of this step: every sample once before any comes again."""
        spec, n = self._spec, len(self._samples)
        drawn = []
        for k in range(self.step * spec.batch, (self.step + 1) * spec.batch):
            order = np.random.default_rng([spec.seed, 2, k // n]).permutation(n)
            drawn.append(self._samples[int(order[k % n])])
        return drawn

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"adapter.{k}": v for k, v in adapter_weights(self.adapted).items()}
        for name, parameter in self._named.items():
            state = self._optimiser.state.get(parameter, {})
            tensors |= {f"{m}.{name}": state[m].detach().cpu().contiguous() for m in MOMENTS if m in state}
        meta = {"identity": self._identity, "step": str(self.step), "facts": json.dumps(self.facts)}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata=meta)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint as if nothing had happened.

        Raises:
            CheckpointError: it cannot be read, or belongs to another training.
        """
        import torch
        from safetensors import SafetensorError, safe_open

        remedy = "Delete it to start afresh, or name another --out"
        try:
            with safe_open(path, framework="pt") as file:
                meta = file.metadata() or {}
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  it is no mapping
        except (OSError, SafetensorError) as error:
            raise CheckpointError(str(path), f"cannot be read ({error})", remedy) from error
        if meta.get("identity") != self._identity:
            raise CheckpointError(str(path), "belongs to another base, other data or other settings", remedy)
        weights = {k.removeprefix("adapter."): v for k, v in tensors.items() if k.startswith("adapter.")}
        put_weights(self.adapted, weights, str(path))
        self.step, self.facts = int(meta["step"]), json.loads(meta["facts"])
        for name, parameter in self._named.items():
            if f"{MOMENTS[0]}.{name}" in tensors:
                moments = {m: tensors[f"{m}.{name}"].to(parameter.device, parameter.dtype) for m in MOMENTS}
                self._optimiser.state[parameter] = {"step": torch.tensor(float(self.step)), **moments}


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate."""
    warm = max(1, round(_WARM * steps))
    if step < warm:
        return (step + 1) / warm
    share = min(1.0, (step - warm) / max(1, steps - warm))
    return _FLOOR + (1.0 - _FLOOR) * 0.5 * (1.0 + math.cos(math.pi * share))
