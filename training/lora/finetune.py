"""Fine-tuning from end to end: data, base, adapter, scores, files."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hiervla.planner.vlm.adapter import CONFIG, FACTS, WEIGHTS, need_peft
from hiervla.representations import ConventionError
from hiervla.training.data.errors import DatasetError
from hiervla.training.lora.samples import Sample, counts, split
from hiervla.training.lora.trainer import LoraSpec, Trainer

Progress = Callable[[dict[str, float]], None]
CHECKPOINT = "work/checkpoint.safetensors"
MERGED = "merged"


@dataclass(frozen=True)
class LoraReport:
    """What came of a fine-tuning.

    Attributes:
        path: folder of the adapter.
        merged: folder of the merged checkpoint, if one was asked for.
        steps: optimiser steps done in all.
        seconds: wall time of this call [s].
        train: samples learned from, by origin and kind.
        held_out: samples held out, the same way.
        before: scores of the base on them; empty when nothing was held out.
        after: the same of base and adapter.
    """

    path: Path
    merged: Path | None
    steps: int
    seconds: float
    train: dict[str, int]
    held_out: dict[str, int]
    before: dict[str, float]
    after: dict[str, float]


def gather(
    runs: Sequence[str | Path],
    scenes: int,
    *,
    camera: str = "front",
    seed: int = 0,
    on_progress: Progress | None = None,
) -> tuple[list[Sample], Counter[str]]:
    """Samples of run records and rendered scenes for the installed skills, and what was left out.

    Raises:
        DatasetError: there is no record, or nothing that can be learned from.
        ConventionError: neither runs nor scenes were asked for.
    """
    from hiervla.skills import SkillLibrary

    if not runs and not scenes:
        raise ConventionError("data", "there is nothing to learn from", "Give --from RUNS, --scenes N, or both")
    skills = SkillLibrary.load().signatures()
    samples: list[Sample] = []
    left_out: Counter[str] = Counter()
    if runs:
        from hiervla.training.lora.runs import run_samples

        samples, left_out = run_samples(runs, skills, camera=camera)
    if scenes:
        from hiervla.training.lora.scenes import scene_samples

        drawn, hidden = scene_samples(scenes, skills, seed=seed, on_progress=on_progress)
        samples += drawn
        left_out += hidden
    if not samples:
        why = "; ".join(f"{reason} ({n})" for reason, n in left_out.most_common(3))
        remedy = "Give runs that succeeded or whose plans were corrected, or add --scenes 500"
        place = runs[0] if runs else "scenes"
        raise DatasetError(place, f"holds no plan to learn from: {why or 'no planner was asked in them'}", remedy)
    return samples, left_out


def fine_tune(
    base: str,
    samples: Sequence[Sample],
    out: str | Path,
    spec: LoraSpec | None = None,
    *,
    device: str | None = None,
    budget_s: float | None = None,
    merge: bool = False,
    command: str = "",
    left_out: Counter[str] | None = None,
    on_progress: Progress | None = None,
) -> LoraReport:
    """Train an adapter on samples and write it; goes on from its checkpoint when it was interrupted.

    Args:
        base: folder or hub id of an image-text-to-text checkpoint; its files are only read.
        samples: questions and answers, of :func:`gather` or made by hand.
        out: folder for the adapter: `adapter_model.safetensors`, `adapter_config.json`, `README.md`, `hiervla.json`,
            and `work/` with the checkpoint.
        spec: hyperparameters.
        device: torch device; the first GPU if there is one, else the CPU. bfloat16 on a GPU, float32 on the CPU.
        budget_s: wall time of training after which it stops wherever it is [s]; call again to go on.
        merge: write base and adapter as one checkpoint into `merged/`, too.
        command: goes on the card.
        left_out: goes on the card.
        on_progress: called at every checkpoint, and about every ten seconds, with `step`, `steps`, `loss`, `elapsed_s`.

    Raises:
        MissingDependencyError: peft is not installed.
        CheckpointError: the base cannot be read or adapted, or the checkpoint belongs to another training.
        FineTuneError: memory is short, or training diverged.
        UnknownNameError: an unknown target.
    """
    need_peft("LoRA fine-tuning")
    import torch

    from hiervla.planner.vlm.checkpoint import load_checkpoint
    from hiervla.training.lora.adapting import adapt, adapter_weights
    from hiervla.training.lora.adapting import merge as write_merged
    from hiervla.training.lora.batches import Encoder
    from hiervla.training.lora.scoring import score

    spec, out = spec or LoraSpec(), Path(out)
    place = str(Path(base).expanduser().resolve()) if Path(base).expanduser().is_dir() else base
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = "float32" if device == "cpu" else "bfloat16"
    loaded = load_checkpoint(place, device, dtype)
    encoder = Encoder(loaded.processor, int(loaded.model.get_output_embeddings().weight.shape[0]), place)
    torch.manual_seed(spec.seed)
    adapted = adapt(loaded.model, place, rank=spec.rank, alpha=spec.alpha, dropout=spec.dropout, targets=spec.targets)
    if spec.checkpointing:
        # Its new name is not in the oldest transformers that we take, its old one warns in the newest.
        old = loaded.model.gradient_checkpointing_enable
        enable = getattr(loaded.model, "activation_checkpointing_enable", old)
        enable({"use_reentrant": False})
    train, held = split(samples, spec.held_out, spec.seed)
    trainer = Trainer(adapted, encoder, train, spec, loaded.id, device)
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        trainer.resume(checkpoint)
    else:
        trainer.facts = {"before": score(loaded.model, encoder, held, device, spec.answers)}
    began = told = time.monotonic()
    while trainer.step < spec.steps and (budget_s is None or time.monotonic() - began < budget_s):
        loss = trainer.train_step()
        last = trainer.step == spec.steps
        saving = last or trainer.step % spec.save_every == 0
        if saving:
            trainer.save(checkpoint)
        now = time.monotonic()
        if on_progress is not None and (saving or now - told > 10.0):
            told = now
            on_progress({"step": trainer.step, "steps": spec.steps, "loss": loss, "elapsed_s": now - began})
    trainer.save(checkpoint)
    after = score(loaded.model, encoder, held, device, spec.answers)
    facts = {
        "base": place,
        "base_id": loaded.id,
        "command": command,
        "device": device,
        "dtype": dtype,
        "spec": asdict(spec),
        "steps": trainer.step,
        "train": counts(train),
        "held_out": counts(held),
        "left_out": dict((left_out or Counter()).most_common()),
        "answered": min(spec.answers, len(held)),
        "before": trainer.facts["before"],
        "after": after,
    }
    _write(adapted, adapter_weights(adapted), facts, out)
    merged = write_merged(adapted, place, out / MERGED) if merge else None
    seconds = time.monotonic() - began
    return LoraReport(out, merged, trainer.step, seconds, counts(train), counts(held), facts["before"], after)


def _write(adapted: Any, weights: dict[str, Any], facts: dict[str, Any], out: Path) -> None:
    from safetensors.torch import save_file

    from hiervla.training.lora.card import card

    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / WEIGHTS, metadata={"format": "pt"})
    settings = adapted.peft_config["default"]
    training = settings.inference_mode
    settings.inference_mode = True
    settings.save_pretrained(str(out))
    settings.inference_mode = training
    assert (out / CONFIG).exists()
    (out / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(facts), encoding="utf-8")
