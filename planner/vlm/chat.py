"""A conversation as a checkpoint reads it: its chat template, its tokens, its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiervla.planner.vlm.backend import Image, Message

if TYPE_CHECKING:
    from torch import Tensor


def prompt_text(processor: Any, messages: Sequence[Message], images: int, *, ask: bool = True) -> str:
    """The conversation in the processor's chat template, or plainly where it has none.

    Args:
        processor: of the checkpoint.
        messages: turns, the first of which shows the images.
        images: how many there are.
        ask: whether the text ends where the model's answer begins, or after the last turn.
    """
    if getattr(processor, "chat_template", None):
        turns = []
        for k, m in enumerate(messages):
            shown = [{"type": "image"} for _ in range(images)] if k == 0 else []
            turns.append({"role": m.role, "content": [*shown, {"type": "text", "text": m.text}]})
        return str(processor.apply_chat_template(turns, add_generation_prompt=ask, tokenize=False))
    marks = str(getattr(processor, "image_token", "<image>")) * images
    return marks + "\n\n".join(m.text for m in messages) + ("\n" if ask else "")


def prompt_inputs(processor: Any, text: str, images: Sequence[Image]) -> dict[str, Tensor]:
    """What the model takes, on the CPU: token ids (1, L), attention mask, pixels and whatever else the family wants."""
    from PIL import Image as Pictures

    pictures = [Pictures.fromarray(np.ascontiguousarray(i)) for i in images]
    bos = getattr(processor, "tokenizer", processor).bos_token
    # Most templates begin with it, and then the tokenizer must not put it there again.
    special = not (bos and text.startswith(bos))
    batch = processor(text=[text], images=pictures or None, return_tensors="pt", add_special_tokens=special)
    return {k: v for k, v in batch.items() if hasattr(v, "to") and k != "labels"}


def end_of_turn(processor: Any, messages: Sequence[Message], images: int, answer: str) -> str:
    """What the chat template writes after the model's answer, such as ``<|im_end|>``; else the end of the text."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if getattr(processor, "chat_template", None):
        asked = prompt_text(processor, messages, images)
        whole = prompt_text(processor, [*messages, Message("assistant", answer)], images, ask=False)
        after = whole.removeprefix(asked + answer)
        if after != whole and after.strip():
            return after.strip()
    return str(tokenizer.eos_token or "")
