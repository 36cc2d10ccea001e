"""Samples as tokens: the prompt as the planner's backend reads it, then the answer, which alone carries loss."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hiervla.planner.vlm.chat import end_of_turn, prompt_inputs, prompt_text
from hiervla.planner.vlm.constraint import json_text, token_table
from hiervla.representations import CheckpointError
from hiervla.training.lora.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

IGNORED: Final = -100
"""The label of a token that carries no loss, as torch and transformers have it."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """One sample as the model takes it.

    Attributes:
        inputs: token ids (1, L), attention mask (1, L), pixels, and whatever else the family wants; on the CPU.
        labels: (1, L) int64: :data:`IGNORED` for every token of the prompt, else the token itself.
        prompt: tokens before the answer.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    prompt: int

    @property
    def answer(self) -> int:
        """Tokens of the answer, with the one that ends the turn."""
        return int(self.labels.shape[1]) - self.prompt


class Encoder:
    """Makes tokens of samples with a checkpoint's processor.

    Args:
        processor: of the checkpoint.
        vocabulary: scores that its model gives.
        place: the checkpoint, for error messages.

    Raises:
        CheckpointError: the tokenizer cannot be held to a grammar, so that the planner could not use it.
    """

    def __init__(self, processor: Any, vocabulary: int, place: str) -> None:
        self._processor = processor
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._tokens = token_table(self._tokenizer, vocabulary, place)
        self._place = place

    def prompt(self, sample: Sample) -> dict[str, Tensor]:
        """The question alone."""
        return prompt_inputs(self._processor, prompt_text(self._processor, sample.messages, 1), [sample.image])

    def encode(self, sample: Sample) -> Encoded:
        """Question and answer.

        Raises:
            CheckpointError: the answer cannot be spelled, or nothing ends a turn.
        """
        import torch

        inputs = self.prompt(sample)
        written = [int(t) for t in self._tokens.tokenize_str(sample.answer)]
        if json_text(self._tokens, written) != sample.answer:
            raise CheckpointError(self._place, "its tokenizer cannot spell an answer", "Use another checkpoint")
        written += self.end(sample)
        asked = int(inputs["input_ids"].shape[1])
        answer = torch.tensor([written])
        labels = torch.cat([torch.full((1, asked), IGNORED), answer], dim=1)
        whole = {name: _longer(name, value, answer, asked) for name, value in inputs.items()}
        return Encoded(whole, labels, asked)

    def end(self, sample: Sample) -> list[int]:
        """The token that ends the model's turn in the chat template.

        Raises:
            CheckpointError: there is none.
        """
        text = end_of_turn(self._processor, sample.messages, 1, sample.answer)
        ids = [int(t) for t in self._tokenizer(text, add_special_tokens=False)["input_ids"]] if text else []
        if not ids:
            raise CheckpointError(
                self._place, "its tokenizer has no token that ends an answer", "Use another checkpoint"
            )
        return ids[:1]

    def text(self, written: list[int]) -> str:
        """What tokens say, up to a special one."""
        special = set(self._tokenizer.all_special_ids)
        length = next((k for k, t in enumerate(written) if t in special), len(written))
        return json_text(self._tokens, written[:length])


def answer_loss(model: Any, encoded: Encoded, device: str) -> Tensor:
    """Sum of the cross-entropies of the answer's tokens [nats]."""
    from torch.nn import functional as F

    count = encoded.answer
    # Scores of a long prompt would take gigabytes.
    fewer = {"logits_to_keep": count + 1} if _keeps(model) else {}
    out = model(**on_device(encoded.inputs, device, model.dtype), use_cache=False, **fewer)
    scores = out.logits[0, -count - 1 : -1].float()
    return F.cross_entropy(scores, encoded.labels[0, -count:].to(device), reduction="sum")


def on_device(inputs: dict[str, Tensor], device: str, dtype: Any) -> dict[str, Tensor]:
    """Inputs where the model is, pixels in its precision."""
    moved = {k: v.to(device) for k, v in inputs.items()}
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in moved.items()}


def _keeps(model: Any) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _longer(name: str, value: Tensor, answer: Tensor, asked: int) -> Tensor:
    """An input with the answer behind the prompt, where it has an entry a token."""
    import torch

    if name == "input_ids":
        return torch.cat([value, answer], dim=1)
    if value.dim() == 2 and value.shape == (1, asked) and not value.is_floating_point():
        # What marks kinds of tokens marks text with 0; the mask lets all of it be seen.
        more = torch.ones_like(answer) if name == "attention_mask" else torch.zeros_like(answer)
        return torch.cat([value, more.to(value.dtype)], dim=1)
    return value
