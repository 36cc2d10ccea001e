"""Training of the planner's language part on symbolic slots: no image is rendered.

    python -m hiervla.training.planner_language --minutes 60 --out .work/planner_lm --seed 0

The run is bounded by time or by steps, writes `last.pt` every few minutes and goes on from there when it is
started again with the same `--out`. At the end the folder holds `config.json`, `model.safetensors`, the
tokenizer and `scores.json`: what `load_language` reads.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from hiervla.planner.embedded.configuration import LanguageConfig
from hiervla.planner.embedded.generation import LanguageDecoder, generate_batch, save_language
from hiervla.planner.embedded.grammar import parse_answer
from hiervla.planner.embedded.language import PlannerLanguage
from hiervla.planner.embedded.tokenizer import normalise, train_tokenizer
from hiervla.representations.errors import PlanError
from hiervla.training.language_batches import batches, encode, loss_of
from hiervla.training.tasks.domain import COLOURS, LOOSE
from hiervla.training.tasks.examples import Example, sample_example, symbolic_steps
from hiervla.training.tasks.goals import check_plan
from hiervla.training.tasks.phrases import Split
from hiervla.training.tasks.tasks import FAMILIES
from hiervla.training.trainer import torch_device

_TOKENIZER_EXAMPLES = 6000
MAX_REQUESTS = 3


def language_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The language model's weights out of the checkpoint of a whole planner."""
    prefix = "language."
    weights = load_file(folder / "model.safetensors")
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A tokenizer for what the generator says."""
    rng = np.random.default_rng([seed, 1])
    corpus: list[str] = []
    for _ in range(_TOKENIZER_EXAMPLES):
        example = sample_example(rng)
        corpus += [" " + normalise(example.task.instruction), *(" " + line for line in example.lines())]
    # What stands between quotation marks begins without a space.
    words = [*COLOURS, *LOOSE, "pick", "place", "wipe", "table"]
    corpus += [w for w in words for _ in range(50)]
    return train_tokenizer(corpus)


def answer_problem(example: Example, text: str) -> str:
    """Why an answer is wrong, or "" when it is right: the right refusal, or a plan that reaches the goal.

    `done` is not judged: the grammar fills it in from the outcomes on record.
    """
    try:
        draft = parse_answer(text)
        if example.task.declined is not None:
            wanted = example.task.declined
            return "" if (draft.refuse, draft.missing) == (wanted.reason, wanted.missing) else f"not {example.answer}"
        if draft.refuse is not None or example.goal is None:
            return f"refused: {draft.refuse} {draft.missing}"
        steps = symbolic_steps([dict(s) for s in draft.remaining], example.ids)
    except (PlanError, ValueError) as error:
        return str(error)
    check = check_plan(example.scene, steps, example.goal)
    return "" if check.ok else f"{check.reason}: {check.message}"


def evaluate(
    model: PlannerLanguage, tokenizer: PreTrainedTokenizerFast, n: int, split: Split = "test", seed: int = 7
) -> tuple[dict[str, float], list[str]]:
    """Success by family on unseen scenes, half of them in the middle of the task; and what went wrong."""
    rng = np.random.default_rng([seed, 99])
    examples = [sample_example(rng, split) for _ in range(n)]
    examples.sort(key=lambda e: len(e.answer))
    outcomes: dict[str, list[float]] = defaultdict(list)
    mistakes: list[str] = []
    decoder = LanguageDecoder(model, tokenizer)
    for start in range(0, n, 64):
        part = examples[start : start + 64]
        prompts = [encode(tokenizer, e).prompt for e in part]
        texts = generate_batch(model, tokenizer, [e.slots for e in part], prompts)
        for example, text in zip(part, texts, strict=True):
            problem = answer_problem(example, text)
            exact = float(text == example.answer)
            family = example.task.family if example.part is None else "part"
            for key in ("all", family, "middle" if example.history else "start"):
                outcomes[key].append(float(not problem))
            if example.part is None and not example.history:
                told_apart = decoder.requests(example.slots, example.text) == _true_requests(example)
                outcomes["requests" if len(example.task.parts) > 1 else "one request"].append(float(told_apart))
            outcomes["exact"].append(exact)
            if problem:
                lines = "; ".join(example.lines())
                mistakes.append(f"{example.text} | {lines} | {text} | want {example.answer} | {problem}")
    scores = {k: round(sum(v) / len(v), 4) for k, v in outcomes.items()}
    order = ["all", "exact", "start", "middle", *FAMILIES, "part", "other", "refuse", "requests", "one request"]
    return {k: scores[k] for k in order if k in scores}, mistakes


def _true_requests(example: Example) -> tuple[str, ...]:
    parts = example.task.parts
    if len(parts) < 2:
        return (example.text,)
    return tuple(normalise(example.text[p.start : p.end]).strip(" ,.;") for p in parts)


class Run:
    """A training run that can be cut off and continued."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"step": 0, "elapsed_s": 0.0, "samples": 0, "curve": []}
        self.tokenizer = self._tokenizer()
        config = LanguageConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=options.width,
            num_layers=options.layers,
            num_heads=options.width // 32,
            slot_token_id=self.tokenizer.get_vocab()["o0"],
            max_requests=MAX_REQUESTS,
            pad_token_id=int(self.tokenizer.pad_token_id),
            eos_token_id=int(self.tokenizer.eos_token_id),
        )
        torch.manual_seed(options.seed)
        self.device = torch_device(options.device)
        self.model = PlannerLanguage(config).to(self.device)
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), fused=True)
        self._resume()

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        if self.options.init and not (self.out / "tokenizer.json").exists():
            PreTrainedTokenizerFast.from_pretrained(self.options.init).save_pretrained(str(self.out))
        if not (self.out / "tokenizer.json").exists():
            make_tokenizer(self.options.seed).save_pretrained(str(self.out))
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(self.out))
        return tokenizer

    def _resume(self) -> None:
        path = self.out / "last.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True, map_location=self.device)
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.state = saved["state"]
            print(f"continuing at step {self.state['step']}", flush=True)
        elif self.options.init:
            start = Path(self.options.init)
            if (start / "last.pt").exists():
                saved = torch.load(start / "last.pt", weights_only=True, map_location=self.device)
                self._begin_from(saved["model"])
                self.state["samples_before"] = saved["state"]["samples"] + saved["state"].get("samples_before", 0)
            else:
                self._begin_from(language_weights(start))

    def _begin_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Take over weights, which may be of a time when instructions were not taken apart."""
        fresh = self.model.state_dict()
        self.model.load_state_dict({**{k: v for k, v in fresh.items() if k.startswith("request.")}, **weights})

    def save(self) -> None:
        """Write what is needed to go on."""
        saved = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "state": self.state}
        torch.save(saved, self.out / "last.tmp")
        (self.out / "last.tmp").replace(self.out / "last.pt")

    def progress(self) -> float:
        """How much of the run is over, 0 to 1."""
        by_steps = self.state["step"] / self.options.steps if self.options.steps else 0.0
        by_time = self.state["elapsed_s"] / (60 * self.options.minutes) if self.options.minutes else 0.0
        return max(float(by_steps), float(by_time))

    def rate(self) -> float:
        """Learning rate: a short rise, then straight down."""
        warm = min(1.0, (self.state["step"] + 1) / 150)
        return float(self.options.lr * warm * max(0.005, 1.0 - self.progress()))

    def train(self) -> None:
        """Train to the end of the budget."""
        parameters = sum(p.numel() for p in self.model.parameters())
        print(f"{parameters / 1e6:.2f}M parameters, {len(self.tokenizer)} tokens", flush=True)
        seed = (self.options.seed, 2, self.state["step"])
        source = batches(self.tokenizer, seed, self.options.batch, self.options.workers)
        # Summed where they are: to look at each would make a GPU wait.
        loss_sum = right_sum = torch.zeros((), device=self.device)
        next_save, next_check = self.state["elapsed_s"] + 180, self.state["elapsed_s"] + 60 * self.options.check
        while self.progress() < 1.0:
            began = time.monotonic()
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate()
            batch = next(source).to(self.device)
            loss, right = loss_of(self.model, batch)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            loss_sum, right_sum = loss_sum + loss.detach(), right_sum + right
            self.state["step"] += 1
            self.state["samples"] += len(batch)
            self.state["elapsed_s"] += time.monotonic() - began
            if self.state["step"] % 50 == 0:
                rate = self.state["samples"] / self.state["elapsed_s"]
                means = f"loss {float(loss_sum) / 50:.4f} right {float(right_sum) / 50:.4f}"
                print(
                    f"step {self.state['step']} samples {self.state['samples']} ({rate:.0f}/s) "
                    f"{self.state['elapsed_s'] / 60:.1f} min {means}",
                    flush=True,
                )
                loss_sum = right_sum = torch.zeros((), device=self.device)
            if self.state["elapsed_s"] >= next_check:
                next_check = self.state["elapsed_s"] + 60 * self.options.check
                self.check(160)
            if self.state["elapsed_s"] >= next_save:
                next_save = self.state["elapsed_s"] + 180
                self.save()
        self.save()
        self.finish()

    def _here(self) -> PlannerLanguage:
        """The model as it stands on the CPU, where answers are decoded."""
        return copy.deepcopy(self.model).cpu().eval()

    def check(self, n: int) -> None:
        """Measure on held-out wordings and note it."""
        began = time.monotonic()
        scores, mistakes = evaluate(self._here(), self.tokenizer, n)
        self.state["curve"].append({"samples": self.state["samples"], **scores})
        print(f"check ({time.monotonic() - began:.0f} s) {json.dumps(scores)}", flush=True)
        for line in mistakes[:6]:
            print("   ", line[:420], flush=True)

    def finish(self) -> None:
        """Final measurement, and the checkpoint in its lasting form."""
        model = self._here()
        save_language(model, self.tokenizer, self.out)
        scores, mistakes = evaluate(model, self.tokenizer, self.options.final, seed=1234)
        train_scores, _ = evaluate(model, self.tokenizer, self.options.final // 2, split="train", seed=1234)
        report = {
            "seed": self.options.seed,
            "samples": self.state["samples"],
            "minutes": round(self.state["elapsed_s"] / 60, 1),
            "held_out": scores,
            "train_wordings": train_scores,
            "curve": self.state["curve"],
        }
        (self.out / "scores.json").write_text(json.dumps(report, indent=1))
        (self.out / "mistakes.txt").write_text("\n".join(mistakes))
        print(f"final held-out {json.dumps(scores)}", flush=True)
        print(f"final train wordings {json.dumps(train_scores)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the planner's language part on symbolic scenes.")
    parser.add_argument("--out", default=".work/planner_lm", help="folder of the checkpoint")
    parser.add_argument(
        "--init", default="", help="folder of an earlier run, or of a whole planner, to take weights and tokenizer from"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="time budget; 0: none")
    parser.add_argument("--steps", type=int, default=0, help="budget in optimiser steps; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--width", type=int, default=128, help="a multiple of 32")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--check", type=float, default=6.0, help="minutes between measurements")
    parser.add_argument("--final", type=int, default=1000, help="examples of the final measurement")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw the examples; 0: this one")
    parser.add_argument("--device", default="cpu", help="torch device of the training")
    options = parser.parse_args(arguments)
    if not options.minutes and not options.steps:
        parser.error("give a budget: --minutes or --steps")
    torch.set_num_threads(options.threads)
    Run(options).train()


if __name__ == "__main__":
    main()
