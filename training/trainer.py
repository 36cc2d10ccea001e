"""One training run of a policy of any family: network, averaged weights, optimiser, data, checkpoint."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hiervla.executor.policies.chunks import ChunkPolicy, WithoutPoint
from hiervla.executor.policies.families import Family, load_policy, policy_class
from hiervla.executor.policies.network import ChunkNet, NetworkSpec
from hiervla.executor.policies.words import BUCKETS
from hiervla.representations.errors import CheckpointError, HiervlaError
from hiervla.training.augment import Batch, augment, off_the_point
from hiervla.training.bank import encoded
from hiervla.training.demos import DemoSet
from hiervla.training.team import Team
from hiervla.training.texts import Texts

Precision = Literal["fp32", "bf16", "fp16"]


class TrainingError(HiervlaError, ValueError):
    """Settings of a training that do not go together."""

    def __init__(self, setting: str, problem: str, remedy: str) -> None:
        self.setting = setting
        super().__init__(f"training cannot start: {setting} {problem}. {remedy}.")


@dataclass(frozen=True)
class TrainSpec:
    """How to train.

    Attributes:
        family: what makes a chunk; see :mod:`hiervla.executor.policies.families`.
        steps: optimiser steps.
        batch: samples a step.
        draws: random draws (flow times, noise levels, styles) for each encoded sample; the head is cheaper than the
            encoder.
        points: points kept of each cloud while training; a random subset.
        lr: peak learning rate of AdamW; warm-up, then cosine to a hundredth.
        weight_decay: of AdamW.
        ema: decay of the averaged weights that are kept.
        near_rows: rows of the chunk that are executed and therefore count fully; later ones count less.
        verdict_weight: weight of the done and progress losses.
        held_out: share of episodes kept for validation.
        drop_point: share of samples in which the planner's point is hidden, and what lies under the tool at the start
            of the attempt takes its place. A policy trained so does without a point where there is none.
        words: read the words of the step; weights to start from that do not yet get that part.
        drop_words: share of samples in which the words are hidden, where any are read.
        freeze_encoder: train the head and the verdicts only, on an encoder that `init` brings. Every sample is then
            encoded `copies` times, each time changed at random, and no more: most of the time goes into that.
        copies: see `freeze_encoder`; without meaning otherwise.
        precision: of the arithmetic; weights and optimiser stay in fp32.
        seed: of everything random.
    """

    family: Family = "flow"
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
    drop_point: float = 0.0
    words: bool = False
    drop_words: float = 0.1
    freeze_encoder: bool = False
    copies: int = 8
    precision: Precision = "fp32"
    seed: int = 0


class Trainer:
    """Network, averaged weights, optimiser and data of one training run."""

    def __init__(
        self,
        demos: DemoSet,
        spec: TrainSpec,
        device: str = "cpu",
        init: str | Path | None = None,
        *,
        encoder_only: bool = False,
        bank: str | Path | None = None,
        team: Team | None = None,
    ) -> None:
        """Set up.

        Args:
            demos: the data, picks in the frame of their thing (`into_frames`).
            spec: hyperparameters.
            device: torch device.
            init: folder of weights to start from; of those of another family the encoder and the verdicts are taken.
            encoder_only: take no more than that from weights of the same family either.
            bank: with a frozen encoder, the file of encoded samples; made where it is missing. Trainings of other
                families on the same data, encoder and seed can share it.
            team: processes that train together; all of them make a trainer with the same arguments.

        Raises:
            UnknownNameError: there is no such family.
            CheckpointError: the weights to start from cannot be read.
            TrainingError: settings that do not go together.
            TeamError: the batch cannot be shared evenly.
        """
        if spec.freeze_encoder and init is None:
            raise TrainingError("--freeze-encoder", "leaves a random encoder as it is", "Give --init as well")
        torch.manual_seed(spec.seed)
        self.demos = demos
        self.spec = spec
        self.device = torch_device(device)
        self.team = team or Team(device=device)
        self._part = self.team.part(spec.batch)
        self._autocast = precision(spec.precision, self.device)
        self.step = 0
        self.seconds = 0.0
        self.evaluations: list[dict[str, float]] = []
        self.rng = np.random.default_rng(spec.seed)
        episodes = np.unique(demos.episode)
        split = np.random.default_rng([spec.seed, 1]).random(len(episodes)) < spec.held_out
        held = np.isin(demos.episode, episodes[split])
        self.train_rows = np.flatnonzero(~held)
        self.held_rows = np.flatnonzero(held)
        self._weights = skill_balance(demos.skill[self.train_rows])
        self._off = off_the_point(demos) if spec.drop_point > 0.0 else None
        self._policy_class = policy_class(spec.family)
        base = self._reading(self._begin(init, encoder_only))
        self._texts = Texts.of_demos(demos, base)
        self._texts.learn(base, self.train_rows)
        self.network = base.to(self.device).train()
        self.team.begin_alike(self.network.state_dict().values())
        self.average = copy.deepcopy(self.network)
        if spec.freeze_encoder:
            for parameter in self.network.shared():
                parameter.requires_grad_(False)
            with self.team.one_by_one() if bank is not None else nullcontext():
                said = self._texts.identity(spec.drop_words)
                self._bank = encoded(self._encoded, self.network.shared(), spec, len(demos), bank, said)
        self.optimiser = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=spec.lr, weight_decay=spec.weight_decay, betas=(0.9, 0.98),
        )  # fmt: skip
        # fp16 has so small a range that gradients vanish unless they are scaled up.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=spec.precision == "fp16")
        if self.team.size > 1:
            self._own_noise()

    def _begin(self, init: str | Path | None, encoder_only: bool) -> ChunkNet:
        actions = self.demos.actions[self.train_rows]
        if init is not None:
            given: ChunkNet = load_policy(init).network
            if given.family == self.spec.family and not encoder_only:
                return given
            made = self._policy_class.network_class.fresh(given.spec, actions)
            own = {name for name, _ in made.named_parameters()} | {name for name, _ in made.named_buffers()}
            kept = {k: v for k, v in given.state_dict().items() if k in own and k.split(".")[0] in made.common()}
            made.load_state_dict(kept, strict=False)
            return made
        rows = actions.reshape(-1, actions.shape[-1])
        mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), (0.02, 0.02, 0.02, 0.2, 0.2, 0.2))
        spec = NetworkSpec(
            horizon=actions.shape[1], action_mean=tuple(mean.tolist()), action_scale=tuple(scale.tolist())
        )
        return self._policy_class.network_class.fresh(spec, actions)

    def _reading(self, network: ChunkNet) -> ChunkNet:
        """The network with the part that reads, where that is wanted."""
        if not self.spec.words:
            return network
        if not self.demos.worded:
            remedy = "Collect them again with this version, which keeps what each step says"
            raise TrainingError("--words", "finds no words in these demonstrations", remedy)
        if network.spec.words:
            return network
        if self.spec.freeze_encoder:
            remedy = "Leave one of them out, or give --init weights that were trained with --words"
            raise TrainingError("--freeze-encoder", "keeps the encoder from learning to read --words", remedy)
        return network.grown(words=BUCKETS)

    def train_step(self, share: float) -> float:
        """One optimiser step; `share` of the schedule is behind us. Returns the loss."""
        spec = self.spec
        warm = min(1.0, (self.step + 1) / 300)
        lr = spec.lr * warm * (0.01 + 0.99 * 0.5 * (1.0 + np.cos(np.pi * min(share, 1.0))))
        for group in self.optimiser.param_groups:
            group["lr"] = float(lr)
        # All of a team draw the whole batch, and each takes its part.
        chosen = np.sort(self.rng.choice(len(self.train_rows), spec.batch, p=self._weights))
        with self._autocast:
            if spec.freeze_encoder:
                found = self._bank.pick(self.rng.integers(spec.copies, size=spec.batch)[self._part], chosen[self._part])
                context, actions, verdict = (torch.from_numpy(a).to(self.device) for a in found)
            else:
                batch = tuple(a[self._part] for a in self._changed(self.train_rows[chosen], self.rng))
                tensors = [torch.from_numpy(a).to(self.device) for a in batch]
                points, valid, proprio, skill, actions, verdict, words = tensors
                context = self.network.encode(points, valid, proprio, skill, words)
            condition = self._condition(context, self.train_rows[chosen[self._part]])
            loss = self._loss(context, condition, actions, verdict)
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self.team.average(p.grad for p in self.network.parameters())
        self._scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.step += 1
        decay = min(spec.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1.0 - decay)
        told = loss.detach().float()
        self.team.average([told])
        return float(told)

    def _own_noise(self) -> None:
        """Draw other noise than the rest of the team from here on: theirs is for other samples."""
        seed = np.random.SeedSequence([self.spec.seed, 4, self.step, self.team.rank]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed) % 2**63)

    def _condition(self, context: Tensor, rows: np.ndarray[Any, Any]) -> Tensor:
        """What the head is given of samples `rows` (B,) that were encoded as `context`, (B, context) both."""
        return context

    def _changed(self, rows: np.ndarray[Any, Any], rng: np.random.Generator) -> Batch:
        """Samples changed at random, as of `augment`, and after that what is said in each, (B, SLOTS)."""
        off = None
        if self._off is not None:
            off = self._off[rows] * (rng.random((len(rows), 1)) < self.spec.drop_point)
        words = self._texts.batch(rows, rng, self.spec.drop_words)
        return *augment(self.demos, rows, rng, self.spec.points, off, words), words

    @torch.no_grad()
    def _encoded(self, copy_: int) -> Iterator[Batch]:
        """Condition, actions and verdict of all training samples in order, each changed at random."""
        rng = np.random.default_rng([self.spec.seed, 3, copy_])
        for rows in np.array_split(self.train_rows, max(1, len(self.train_rows) // 256)):
            batch = self._changed(rows, rng)
            tensors = [torch.from_numpy(a).to(self.device) for a in (*batch[:4], batch[6])]
            yield self.network.encode(*tensors).cpu().numpy(), batch[4], batch[5]

    def _loss(self, context: Tensor, condition: Tensor, actions: Tensor, verdict: Tensor) -> Tensor:
        net, spec = self.network, self.spec
        rows = torch.ones(actions.shape[1], device=actions.device)
        rows[spec.near_rows :] = 0.4
        chunk = net.loss(condition, actions, rows, spec.draws)
        logits = net.judge(context)
        done = F.binary_cross_entropy_with_logits(logits[:, 0], verdict[:, 0])
        progress = F.mse_loss(torch.sigmoid(logits[:, 1]), verdict[:, 1])
        return chunk + spec.verdict_weight * (done + progress)

    @torch.no_grad()
    def validate(self, most: int = 1500) -> dict[str, float]:
        """Errors of the likeliest chunks on held-out episodes."""
        rows = self.held_rows if len(self.held_rows) else self.train_rows
        rows = np.sort(np.random.default_rng(7).permutation(rows)[:most])
        near, grip, done = [], [], []
        for part in np.array_split(rows, max(1, len(rows) // 250)):
            batch = augment(self.demos, part, None, self.demos.points.shape[1])
            tensors = [torch.from_numpy(a).to(self.device) for a in (*batch, self._texts.batch(part))]
            points, valid, proprio, skill, actions, verdict, words = tensors
            context = self.average.encode(points, valid, proprio, skill, words)
            chunk = self.average.guess(context)
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

    def policy(self, version: str) -> ChunkPolicy[Any]:
        """The averaged weights as a policy."""
        network = copy.deepcopy(self.average).cpu()
        without: WithoutPoint = "hover" if self.spec.drop_point > 0.0 else "refuse"
        return self._policy_class(network, self.demos.features, version=version, without_point=without)

    def _identity(self) -> str:
        # The length of the training may be changed on resuming; what is trained may not.
        unsaid = () if self.network.spec.words else ("words", "drop_words")
        kept = {k: v for k, v in asdict(self.spec).items() if k not in ("steps", *unsaid)}
        return json.dumps([kept, self.network.spec.to_json(), len(self.demos)], sort_keys=True)

    def save(self, path: Path) -> None:
        """Write a checkpoint from which :meth:`resume` continues as if nothing had happened.

        All of a team call it, and the first one writes.
        """
        noise = self.team.collected(torch.get_rng_state())
        on_gpu = self.team.collected(torch.cuda.get_rng_state(self.device)) if self.device.type == "cuda" else None
        if not self.team.first:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        state = {
            "identity": self._identity(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            "rng": json.dumps(self.rng.bit_generator.state),
            "noise": noise,
            "gpu_noise": on_gpu,
        }
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint, of as many processes or of another number; then the noise alone is another.

        Raises:
            CheckpointError: it is unreadable, or of other data or hyperparameters.
        """
        remedy = "Delete it to start afresh, or name another work folder"
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise CheckpointError(str(path), f"cannot be read ({error})", remedy) from error
        if "noise" not in state:
            raise CheckpointError(str(path), "was written by an older version", remedy)
        if state["identity"] != self._identity():
            raise CheckpointError(str(path), "belongs to other data or hyperparameters", remedy)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.evaluations = list(state["evaluations"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        noise, on_gpu = state["noise"], state["gpu_noise"]
        if len(noise) != self.team.size:
            self._own_noise()
            return
        torch.set_rng_state(noise[self.team.rank])
        if on_gpu is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(on_gpu[self.team.rank], self.device)


def torch_device(name: str) -> torch.device:
    """The device of a name, once it is sure that tensors can live there.

    Raises:
        TrainingError: torch does not know it, or this machine has none.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise TrainingError(f"--device {name}", f"cannot be used ({first})", "Use cpu, or name a GPU it has") from error
    return device


def precision(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """What arithmetic of that precision needs around it.

    Raises:
        TrainingError: there is no such precision, or not on this device.
    """
    if name not in ("fp32", "bf16", "fp16"):
        raise TrainingError(f"--precision {name}", "is none", "Choose fp32, bf16 or fp16")
    if name == "fp32":
        return nullcontext()
    if name == "fp16" and device.type == "cpu":
        raise TrainingError("--precision fp16", "needs a GPU", "On a CPU use bf16 or fp32")
    return torch.autocast(device.type, dtype=torch.bfloat16 if name == "bf16" else torch.float16)


def skill_balance(skill: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sampling weights: half by frequency, half equal among skills."""
    counts = np.bincount(skill, minlength=int(skill.max()) + 1)
    equal = 1.0 / (counts[skill] * np.count_nonzero(counts))
    return np.asarray(0.5 / len(skill) + 0.5 * equal)
