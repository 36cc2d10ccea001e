"""Constrained decoding with random weights: is every finished answer valid, and what do the token masks cost?

The language model of the embedded planner is drawn anew every 100 decodes and answers about random scenes, with its
scores nudged towards plans and towards their end, since random weights ramble or refuse; a
finished answer is held against the skills and slots by rules of its own, not by the grammar. Then tiny random Llava
checkpoints, made on the spot, answer under the schema of the planner for vision-language models.

    python -m benchmarks.decoding --quick     # 300 decodes
    python -m benchmarks.decoding --full      # 10,000 decodes
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import arguments, finish


def problem(answer: Any, kinds: Sequence[str], skills: Mapping[str, Any]) -> str:
    """Why a finished answer of the embedded planner's model is not valid here, or ""."""
    if answer.refuse is not None:
        return ""
    for call in answer.remaining:
        signature = skills.get(call["skill"])
        if signature is None:
            return f"unknown skill '{call['skill']}'"
        if set(call) != {"skill", *(p.name for p in signature.params)}:
            return f"arguments {sorted(call)} of {signature.name}"
        for p in signature.params:
            word = call[p.name]
            if p.type == "choice":
                if word not in p.choices:
                    return f"'{word}' is no choice of {signature.name}.{p.name}"
            elif word != "table" or p.type != "location":
                slot = int(word[1:]) if word[:1] == "o" and word[1:].isdigit() else -1
                if not 0 <= slot < len(kinds):
                    return f"'{word}' is no slot"
                if p.type == "object" and p.categories and kinds[slot] not in p.categories:
                    return f"a {kinds[slot]} as {signature.name}.{p.name}"
    return ""


def embedded(count: int) -> dict[str, float]:
    """Decodes with the embedded planner's small language model."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from hiervla.planner.embedded import generation
    from hiervla.planner.embedded.configuration import LanguageConfig
    from hiervla.planner.embedded.language import PlannerLanguage
    from hiervla.planner.embedded.slots import COLOURS, LOOSE, one_hot_slots
    from hiervla.representations import PlanError
    from hiervla.skills import SkillLibrary

    weights = Path(generation.__file__).parent / "weights"
    words = PreTrainedTokenizerFast.from_pretrained(weights, local_files_only=True)
    first = words.convert_tokens_to_ids("o0")
    config = LanguageConfig(
        vocab_size=len(words), hidden_size=32, num_layers=2, num_heads=2, slot_token_id=first,
        pad_token_id=words.pad_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    signatures = SkillLibrary.load().signatures()
    skills = {s.name: s for s in signatures}
    spent = {"mask": 0.0, "masks": 0.0, "single": 0.0}

    ends = {w: words.convert_tokens_to_ids(w) for w in ('{"done":[],"remaining":[', '"}]}', "]}")}

    class Nudged(PlannerLanguage):
        """Random weights that rather plan than refuse, and rather stop than ramble."""

        def logits(self, hidden: Any, slot_keys: Any, slot_mask: Any) -> Any:
            scores = super().logits(hidden, slot_keys, slot_mask).clone()
            for n, nudge in zip(ends.values(), (1e3, 3.0, -1e3), strict=True):
                scores[..., n] += nudge
            return scores

    class Timed(generation.LanguageDecoder):
        """The decoder with a stopwatch on its masks."""

        def _allowed(self, *given: Any) -> np.ndarray:
            began = time.perf_counter()
            out = super()._allowed(*given)
            spent["mask"] += time.perf_counter() - began
            spent["masks"] += 1
            spent["single"] += int(out.sum()) == 1
            return out

    rng = np.random.default_rng(0)
    furniture = [
        ("bin", "none", "none", 0.77, 0.34),
        ("drawer", "none", "closed", 0.77, 0.51),
        ("top_shelf", "none", "none", 0.11, 0.33),
    ]
    invalid = unfinished = plans = 0
    for k in range(count):
        if k % 100 == 0:
            torch.manual_seed(k)
            decoder = Timed(Nudged(config), words)
            print(f"{k} decoded, {invalid} invalid", file=sys.stderr, flush=True)
        loose: list[Any] = [
            (str(rng.choice(LOOSE)), str(rng.choice(COLOURS[1:])), "table", *map(float, rng.uniform(0.3, 0.7, 2)))
            for _ in range(int(rng.integers(0, 8)))
        ]
        slots = one_hot_slots(sorted([*loose, *furniture], key=lambda t: t[3]))
        try:
            answer = decoder.answer(slots, f"task {k}", [], signatures)
        except PlanError:
            unfinished += 1
            continue
        kinds = [slots.category_of(i) for i in range(len(slots))]
        wrong = problem(answer.draft, kinds, skills)
        if wrong:
            print(f"{wrong}: {answer.text}", file=sys.stderr)
        invalid += bool(wrong)
        plans += answer.draft.refuse is None
    masks = max(spent["masks"], 1)
    return {
        "decodes": count,
        "invalid": invalid,
        "unfinished": unfinished,
        "plans": plans,
        "overhead_ms_per_token": 1000 * spent["mask"] / masks,
        "forced_share": spent["single"] / masks,
    }


def vlm(count: int) -> dict[str, float]:
    """Decodes with a tiny Llava of random weights, drawn at temperature 1."""
    from hiervla.planner.vlm.answers import AnswerError, answer_schema, read_answer
    from hiervla.planner.vlm.backend import Message, Sampling
    from hiervla.planner.vlm.local import TransformersBackend
    from hiervla.skills import SkillLibrary
    from tests.planner import families

    signatures = SkillLibrary.load().signatures()
    schema = answer_schema(signatures)
    invalid = unfinished = tokens = forced = 0
    mask_s = 0.0
    with TemporaryDirectory() as folder:
        backend = TransformersBackend(str(families.make("llava", Path(folder))), device="cpu")
        for seed in range(count):
            image = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
            sampling = Sampling(temperature=1.0, seed=seed, max_tokens=3000)
            answer = backend.generate([Message("user", f"task {seed}")], [image], schema, sampling)
            unfinished += not answer.complete
            tokens, forced, mask_s = tokens + (answer.tokens or 0), forced + answer.forced, mask_s + answer.mask_s
            try:
                if answer.complete:
                    read_answer(answer.text, signatures)
            except AnswerError as error:
                invalid += 1
                print(error, file=sys.stderr)
    return {
        "vlm_decodes": count, "vlm_invalid": invalid, "vlm_unfinished": unfinished,
        "vlm_overhead_ms_per_token": 1000 * mask_s / max(tokens, 1), "vlm_forced_share": forced / max(tokens, 1),
    }  # fmt: skip


def main() -> None:
    """Run both and print the figures."""
    args = arguments(__doc__).parse_args()
    import torch

    torch.set_num_threads(1)
    finish({**embedded(10_000 if args.full else 300), **vlm(100 if args.full else 20)})


if __name__ == "__main__":
    main()
