"""Training of policies on demonstrations: any family, resumable, deterministic, on one CPU core or several GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hiervla.executor.policies.chunks import ChunkPolicy
from hiervla.training.augment import into_frames
from hiervla.training.demos import load_demos
from hiervla.training.team import Team, team
from hiervla.training.trainer import Trainer, TrainingError, TrainSpec
from hiervla.training.trials import run_trial

__all__ = ["Evaluation", "TrainReport", "TrainSpec", "Trainer", "TrainingError", "success", "train_policy"]

Progress = Callable[[dict[str, float]], None]

EVALUATION_SEED = 200_001
"""First seed of the trials while training: odd, so held out, and far from those of the benchmarks."""


@dataclass(frozen=True)
class Evaluation:
    """Closed-loop trials while training.

    Attributes:
        every: optimiser steps between them.
        trials: scenes of each skill, the same ones every time.
        skills: which; all that the network knows when empty.
    """

    every: int
    trials: int = 4
    skills: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainReport:
    """What came out of a training run.

    Attributes:
        steps: optimiser steps done in all.
        seconds: wall time of this call [s].
        samples: training samples in the data.
        metrics: validation: `position_mm` (mean error of the first 8 rows), `gripper_accuracy`,
            `done_accuracy`, and `position_mm/<skill>`.
        evaluations: of each evaluation in the loop, `step`, `success`, and `success/<skill>`.
        path: folder of the weights.
    """

    steps: int
    seconds: float
    samples: int
    metrics: dict[str, float]
    evaluations: tuple[dict[str, float], ...]
    path: Path


def train_policy(
    data: Sequence[str | Path],
    out: str | Path,
    spec: TrainSpec | None = None,
    *,
    work: str | Path | None = None,
    init: str | Path | None = None,
    encoder_only: bool = False,
    bank: str | Path | None = None,
    budget_s: float | None = None,
    threads: int = 1,
    device: str = "cpu",
    version: str | None = None,
    card: dict[str, Any] | None = None,
    evaluation: Evaluation | None = None,
    episodes: int | None = None,
    on_progress: Progress | None = None,
) -> TrainReport:
    """Train on shards and write weights.

    Processes that torchrun or `accelerate launch` started share every batch; the first of them writes and reports.

    Args:
        data: shards, or folders of shards, from `hiervla collect`; or LeRobot datasets exported from them.
        out: folder for `model.safetensors` and `config.json`.
        spec: hyperparameters, the family among them.
        work: folder for `checkpoint.pt`; training resumes from it when it is there. None: no checkpoints.
        init: folder of weights to start from; see :class:`Trainer`.
        encoder_only: take no more than the encoder and the verdicts from it.
        bank: file of encoded samples, with a frozen encoder; see :class:`Trainer`. Making it is not counted in
            `budget_s`.
        budget_s: wall time after which training stops wherever it is; the schedule is fitted to it [s].
        threads: torch threads.
        device: torch device; of several processes with ``cuda``, each takes a GPU of its own.
        version: id that the trained policy will have; default "<family>-1".
        card: more facts for the config (seed, command, scores).
        evaluation: try the policy in simulation as it trains. The time that takes is not counted in `budget_s`.
        episodes: use so many demonstrations, drawn by the seed with every skill in its share; default all.
        on_progress: called about every ten seconds with `step`, `steps`, `loss`, `elapsed_s`, and after an evaluation
            with what it found.

    Raises:
        DemoError: the demonstrations cannot be read.
        CheckpointError: the checkpoint belongs to another training, or the weights to start from cannot be read.
        UnknownNameError: there is no such family.
        TrainingError: settings that do not go together, or not with this machine.
        TeamError: torchrun started several processes, and they cannot meet or share a batch.
    """
    torch.set_num_threads(threads)
    spec = spec or TrainSpec()
    version = version or f"{spec.family}-1"
    demos = load_demos(data)
    if episodes is not None:
        demos = demos.some(episodes, spec.seed)
    into_frames(demos)
    began = time.monotonic()
    with team(device) as together:
        trainer = Trainer(demos, spec, together.device, init, encoder_only=encoder_only, bank=bank, team=together)
        checkpoint = Path(work) / "checkpoint.pt" if work is not None else None
        if checkpoint is not None and checkpoint.exists():
            trainer.resume(checkpoint)
        _train(trainer, together, version, checkpoint, budget_s, evaluation, on_progress)
        metrics = trainer.validate() if together.first else {}
        facts = {
            "training": {
                **asdict(spec),
                "done_steps": trainer.step,
                "minutes": round(trainer.seconds / 60.0, 1),
                "train_samples": len(trainer.train_rows),
                "episodes": len(np.unique(demos.episode)),
                "processes": together.size,
                "validation": metrics,
                "evaluations": trainer.evaluations,
            },
            **(card or {}),
        }
        if together.first:
            trainer.policy(version).save(out, **facts)
    seconds = time.monotonic() - began
    return TrainReport(
        trainer.step, seconds, len(trainer.train_rows), metrics, tuple(trainer.evaluations), Path(out)
    )  # fmt: skip


def _train(
    trainer: Trainer,
    together: Team,
    version: str,
    checkpoint: Path | None,
    budget_s: float | None,
    evaluation: Evaluation | None,
    on_progress: Progress | None,
) -> None:
    """Steps until the end of the schedule or of the budget; the first process's clock is everybody's."""
    spec = trainer.spec
    began = told = saved = time.monotonic()
    trying, spent_before = 0.0, trainer.seconds
    while trainer.step < spec.steps:
        elapsed = time.monotonic() - began - trying
        share = trainer.step / spec.steps
        if budget_s is not None:
            trainer.seconds, share = together.agree([trainer.seconds, max(share, trainer.seconds / budget_s)])
            if trainer.seconds >= budget_s:
                break
        loss = trainer.train_step(share)
        now = time.monotonic()
        trainer.seconds = spent_before + now - began - trying
        if on_progress is not None and together.first and (now - told > 10.0 or trainer.step == spec.steps):
            told = now
            on_progress({"step": trainer.step, "steps": spec.steps, "loss": loss, "elapsed_s": elapsed})
        if evaluation is not None and together.first and trainer.step % evaluation.every == 0:
            found = {"step": float(trainer.step), **_evaluate(trainer.policy(version), evaluation)}
            trainer.evaluations.append(found)
            trying += time.monotonic() - now
            if on_progress is not None:
                on_progress(found)
        if checkpoint is not None and together.agree([float(now - saved > 120.0)])[0]:
            saved = now
            trainer.save(checkpoint)
            if together.first:
                trainer.policy(version).save(checkpoint.parent / "latest")
    if checkpoint is not None:
        trainer.save(checkpoint)


def success(policy: ChunkPolicy[Any], skill: str, trials: int, first_seed: int = EVALUATION_SEED) -> int:
    """In how many of `trials` held-out scenes a policy succeeds, from clean resets, judged by ground truth."""
    return sum(run_trial(policy, skill, first_seed + 2 * i).success for i in range(trials))


def _evaluate(policy: ChunkPolicy[Any], evaluation: Evaluation) -> dict[str, float]:
    skills = evaluation.skills or policy.network.spec.skills
    # What is tried out on the way must not change what is learned afterwards.
    with torch.random.fork_rng(devices=[]):
        share = {s: success(policy, s, evaluation.trials) / evaluation.trials for s in skills}
    return {"success": round(float(np.mean(list(share.values()))), 4), **{f"success/{s}": v for s, v in share.items()}}
