"""How well a model answers held-out questions: loss, and what comes of its answers when no grammar holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hiervla.planner.vlm.answers import AnswerError
from hiervla.training.lora.batches import Encoder, answer_loss, on_device
from hiervla.training.lora.samples import Sample


def score(model: Any, encoder: Encoder, samples: Sequence[Sample], device: str, answers: int) -> dict[str, float]:
    """Scores of a model, which is left in evaluation mode.

    Args:
        model: of transformers, with or without an adapter in it.
        encoder: of its checkpoint.
        samples: the questions; empty for no scores.
        device: where the model is.
        answers: of how many questions, in order, the model is let write the answer, the likeliest token each time.

    Returns:
        `loss` (mean a token of the answers) [nats], and, when answers are written, `parses` (share of them that the
        planner can read) and `same` (share with the very steps and arguments, or the very reason to refuse).
    """
    import torch

    if not samples:
        return {}
    model.eval()
    total, tokens = 0.0, 0
    with torch.inference_mode():
        encoded = [encoder.encode(s) for s in samples]
        for e in encoded:
            total += float(answer_loss(model, e, device))
            tokens += e.answer
        found = {"loss": total / tokens}
        asked = list(samples[:answers])
        if asked:
            # Whoever writes twice as much as the longest right answer has lost the thread.
            longest = 2 * max(e.answer for e in encoded[: len(asked)])
            texts = [write(model, encoder, s, device, longest) for s in asked]
            verdicts = [_verdict(s, t) for s, t in zip(asked, texts, strict=True)]
            found["parses"] = sum(v != "unreadable" for v in verdicts) / len(asked)
            found["same"] = sum(v == "same" for v in verdicts) / len(asked)
    return found


def write(model: Any, encoder: Encoder, sample: Sample, device: str, longest: int) -> str:
    """What the model answers when it may write anything, the likeliest token each time."""
    inputs = on_device(encoder.prompt(sample), device, model.dtype)
    ends = {*encoder.end(sample), model.generation_config.eos_token_id}
    written = model.generate(
        **inputs,
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=sorted(t for t in ends if isinstance(t, int)),
        pad_token_id=encoder.end(sample)[0],
    )
    return encoder.text(written[0, inputs["input_ids"].shape[1] :].tolist())


def _verdict(sample: Sample, text: str) -> str:
    try:
        return "same" if sample.same(text) else "other"
    except AnswerError:
        return "unreadable"
