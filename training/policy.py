"""Training of the flow policy on demonstrations: resumable, deterministic, on one CPU core or a GPU."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hiervla.executor.policies.flow import FlowPolicy
from hiervla.executor.policies.network import FlowNet, NetworkSpec
from hiervla.representations.errors import CheckpointError
from hiervla.training.augment import augment, into_frames
from hiervla.training.demos import DemoSet, load_demos

Progress = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class TrainSpec:
    """How to train.

    Attributes:
        steps: optimiser steps.
        batch: samples a step.
        draws: flow times and noises drawn for each encoded sample; the head is cheaper than the encoder.
        points: points kept of each cloud while training; a random subset.
        lr: peak learning rate of AdamW; warm-up, then cosine to a hundredth.
        weight_decay: of AdamW.
        ema: decay of the averaged weights that are kept.
        near_rows: rows of the chunk that are executed and therefore count fully; later ones count less.
        verdict_weight: weight of the done and progress losses.
        held_out: share of episodes kept for validation.
        seed: of everything random.
    """

    steps: int = 12000
    batch: int = 128
    draws: int = 3
    points: int = 224
    lr: float = 1.2e-3
    weight_decay: float = 0.01
    ema: float = 0.999
    near_rows: int = 10
    verdict_weight: float = 0.15
    held_out: float = 0.03
    seed: int = 0


@dataclass(frozen=True)
class TrainReport:
    """What came out of a training run.

    Attributes:
        steps: optimiser steps done in all.
        seconds: wall time of this call [s].
        samples: training samples in the data.
        metrics: validation: `position_mm` (mean error of the first 8 rows), `gripper_accuracy`,
            `done_accuracy`, and `position_mm/<skill>`.
        path: folder of the weights.
    """

    steps: int
    seconds: float
    samples: int
    metrics: dict[str, float]
    path: Path


def train_policy(
    data: Sequence[str | Path],
    out: str | Path,
    spec: TrainSpec | None = None,
    *,
    work: str | Path | None = None,
    init: str | Path | None = None,
    budget_s: float | None = None,
    threads: int = 1,
    device: str = "cpu",
    version: str = "flow-1",
    card: dict[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> TrainReport:
    """Train on shards and write weights.

    Args:
        data: shards, or folders of shards, from `hiervla collect`; or LeRobot datasets exported from them.
        out: folder for `model.safetensors` and `config.json`.
        spec: hyperparameters.
        work: folder for `checkpoint.pt`; training resumes from it when it is there. None: no checkpoints.
        init: folder of weights to start from.
        budget_s: wall time after which training stops wherever it is; the schedule is fitted to it [s].
        threads: torch threads.
        device: torch device.
        version: id that the trained policy will have.
        card: more facts for the config (seed, command, scores).
        on_progress: called about every ten seconds with `step`, `steps`, `loss`, `elapsed_s`.

    Raises:
        DemoError: the demonstrations cannot be read.
        CheckpointError: the checkpoint belongs to another training.
    """
    torch.set_num_threads(threads)
    spec = spec or TrainSpec()
    demos = load_demos(data)
    into_frames(demos)
    trainer = Trainer(demos, spec, device, init)
    checkpoint = Path(work) / "checkpoint.pt" if work is not None else None
    if checkpoint is not None and checkpoint.exists():
        trainer.resume(checkpoint)
    began = told = saved = time.monotonic()
    spent_before = trainer.seconds
    while trainer.step < spec.steps:
        elapsed = time.monotonic() - began
        if budget_s is not None and trainer.seconds >= budget_s:
            break
        share = trainer.step / spec.steps
        if budget_s is not None:
            share = max(share, trainer.seconds / budget_s)
        loss = trainer.train_step(share)
        trainer.seconds = spent_before + time.monotonic() - began
        now = time.monotonic()
        if on_progress is not None and (now - told > 10.0 or trainer.step == spec.steps):
            told = now
            on_progress({"step": trainer.step, "steps": spec.steps, "loss": loss, "elapsed_s": elapsed})
        if checkpoint is not None and now - saved > 120.0:
            saved = now
            trainer.save(checkpoint)
            trainer.policy(version).save(checkpoint.parent / "latest")
    if checkpoint is not None:
        trainer.save(checkpoint)
    metrics = trainer.validate()
    facts = {
        "training": {
            **asdict(spec),
            "done_steps": trainer.step,
            "train_samples": len(trainer.train_rows),
            "episodes": len(np.unique(demos.episode)),
            "validation": metrics,
        },
        **(card or {}),
    }
    trainer.policy(version).save(out, **facts)
    return TrainReport(trainer.step, time.monotonic() - began, len(trainer.train_rows), metrics, Path(out))


class Trainer:
    """Network, averaged weights, optimiser and data of one training run."""

    def __init__(self, demos: DemoSet, spec: TrainSpec, device: str = "cpu", init: str | Path | None = None) -> None:
        torch.manual_seed(spec.seed)
        self.demos = demos
        self.spec = spec
        self.device = torch.device(device)
        self.step = 0
        self.seconds = 0.0
        self.rng = np.random.default_rng(spec.seed)
        episodes = np.unique(demos.episode)
        split = np.random.default_rng([spec.seed, 1]).random(len(episodes)) < spec.held_out
        held = np.isin(demos.episode, episodes[split])
        self.train_rows = np.flatnonzero(~held)
        self.held_rows = np.flatnonzero(held)
        self._weights = _skill_balance(demos.skill[self.train_rows])
        if init is not None:
            base = FlowPolicy.load(init).network
        else:
            rows = demos.actions[self.train_rows].reshape(-1, demos.actions.shape[-1])
            mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), (0.02, 0.02, 0.02, 0.2, 0.2, 0.2))
            base = FlowNet(
                NetworkSpec(
                    horizon=demos.actions.shape[1],
                    action_mean=tuple(mean.tolist()),
                    action_scale=tuple(scale.tolist()),
                )
            )
        self.network = base.to(self.device).train()
        self.average = FlowNet(base.spec).to(self.device)
        self.average.load_state_dict(base.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, betas=(0.9, 0.98)
        )

    def train_step(self, share: float) -> float:
        """One optimiser step; `share` of the schedule is behind us. Returns the loss."""
        spec = self.spec
        warm = min(1.0, (self.step + 1) / 300)
        lr = spec.lr * warm * (0.01 + 0.99 * 0.5 * (1.0 + np.cos(np.pi * min(share, 1.0))))
        for group in self.optimiser.param_groups:
            group["lr"] = float(lr)
        picked = self.train_rows[self.rng.choice(len(self.train_rows), spec.batch, p=self._weights)]
        batch = augment(self.demos, np.sort(picked), self.rng, spec.points)
        loss = self._loss(*(torch.from_numpy(a).to(self.device) for a in batch))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(spec.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1.0 - decay)
        return float(loss.detach())

    def _loss(
        self, points: Tensor, valid: Tensor, proprio: Tensor, skill: Tensor, actions: Tensor, verdict: Tensor
    ) -> Tensor:
        net, spec = self.network, self.spec
        context = net.encode(points, valid, proprio, skill)
        clean = net.normalise(actions).repeat(spec.draws, 1, 1)
        noise = torch.randn_like(clean)
        # Early flow times carry the decisions, so they are drawn more often.
        t = torch.rand(len(clean), device=clean.device) ** 1.5
        mixed = t[:, None, None] * clean + (1.0 - t[:, None, None]) * noise
        error = (net.predict(mixed, t, context.repeat(spec.draws, 1)) - clean) ** 2
        rows = torch.ones(clean.shape[1], device=clean.device)
        rows[spec.near_rows :] = 0.4
        flow = (error.mean(dim=-1) * rows).mean()
        logits = net.judge(context)
        done = F.binary_cross_entropy_with_logits(logits[:, 0], verdict[:, 0])
        progress = F.mse_loss(torch.sigmoid(logits[:, 1]), verdict[:, 1])
        return flow + spec.verdict_weight * (done + progress)

    @torch.inference_mode()
    def validate(self, most: int = 1500) -> dict[str, float]:
        """Errors of sampled chunks on held-out episodes."""
        rows = self.held_rows if len(self.held_rows) else self.train_rows
        rows = np.sort(np.random.default_rng(7).permutation(rows)[:most])
        near, grip, done = [], [], []
        for part in np.array_split(rows, max(1, len(rows) // 250)):
            batch = augment(self.demos, part, None, self.demos.points.shape[1])
            points, valid, proprio, skill, actions, verdict = (torch.from_numpy(a).to(self.device) for a in batch)
            context = self.average.encode(points, valid, proprio, skill)
            chunk = self.average.sample(context, torch.zeros_like(actions), 5)
            near.append((chunk[:, :8, :3] - actions[:, :8, :3]).norm(dim=-1).mean(dim=1).cpu().numpy() * 1e3)
            grip.append(((chunk[:, :8, 5] > 0.3) == (actions[:, :8, 5] > 0.3)).float().mean(dim=1).cpu().numpy())
            done.append(((self.average.judge(context)[:, 0] > 0) == (verdict[:, 0] > 0.5)).float().cpu().numpy())
        error = np.concatenate(near)
        metrics = {
            "position_mm": float(error.mean()),
            "gripper_accuracy": float(np.concatenate(grip).mean()),
            "done_accuracy": float(np.concatenate(done).mean()),
        }
        for i, name in enumerate(self.network.spec.skills):
            mine = self.demos.skill[rows] == i
            if mine.any():
                metrics[f"position_mm/{name}"] = float(error[mine].mean())
        return {k: round(v, 4) for k, v in metrics.items()}

    def policy(self, version: str) -> FlowPolicy:
        """The averaged weights as a policy."""
        network = FlowNet(self.average.spec)
        network.load_state_dict({k: v.cpu() for k, v in self.average.state_dict().items()})
        return FlowPolicy(network, self.demos.features, version=version)

    def _identity(self) -> str:
        # The length of the training may be changed on resuming; what is trained may not.
        kept = {k: v for k, v in asdict(self.spec).items() if k != "steps"}
        return json.dumps([kept, self.network.spec.to_json(), len(self.demos)], sort_keys=True)

    def save(self, path: Path) -> None:
        """Write a checkpoint from which :meth:`resume` continues as if nothing had happened."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        state = {
            "identity": self._identity(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "rng": json.dumps(self.rng.bit_generator.state),
            "torch_rng": torch.get_rng_state(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: it is unreadable, or of other data or hyperparameters.
        """
        remedy = "Delete it to start afresh, or name another work folder"
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise CheckpointError(str(path), f"cannot be read ({error})", remedy) from error
        if state["identity"] != self._identity():
            raise CheckpointError(str(path), "belongs to other data or hyperparameters", remedy)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng.bit_generator.state = json.loads(state["rng"])
        torch.set_rng_state(state["torch_rng"])


def _skill_balance(skill: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sampling weights: half by frequency, half equal among skills."""
    counts = np.bincount(skill, minlength=int(skill.max()) + 1)
    equal = 1.0 / (counts[skill] * np.count_nonzero(counts))
    return np.asarray(0.5 / len(skill) + 0.5 * equal)
