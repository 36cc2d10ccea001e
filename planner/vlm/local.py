"""Runs an image-text-to-text checkpoint of transformers in this process, held to the schema token by token."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiervla.planner.vlm.backend import Generation, Image, Message, Sampling
from hiervla.planner.vlm.chat import prompt_inputs, prompt_text
from hiervla.planner.vlm.checkpoint import load_checkpoint
from hiervla.planner.vlm.constraint import Constraint, json_text, token_table
from hiervla.planner.vlm.errors import BackendError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TransformersBackend:
    """Any checkpoint that `AutoModelForImageTextToText` loads.

    Args:
        name: folder of the checkpoint, or its id on the Hugging Face hub.
        device: where it runs; by default the first GPU if there is one, else the CPU.
        dtype: by default bfloat16 on a GPU and float32 on the CPU.

    Raises:
        CheckpointError: it cannot be read, or its tokenizer cannot be held to a grammar.
    """

    def __init__(self, name: str, *, device: str | None = None, dtype: str | None = None) -> None:
        import torch

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_checkpoint(name, self.device, dtype or ("float32" if self.device == "cpu" else "bfloat16"))
        self.id = loaded.id
        self.model_type = str(loaded.model.config.model_type)
        self._model, self._processor = loaded.model, loaded.processor
        self._tokenizer = getattr(loaded.processor, "tokenizer", loaded.processor)
        vocabulary = int(loaded.model.get_output_embeddings().weight.shape[0])
        self._tokens = token_table(self._tokenizer, vocabulary, name)

    def generate(
        self,
        messages: Sequence[Message],
        images: Sequence[Image],
        schema: Mapping[str, Any] | None,
        sampling: Sampling,
    ) -> Generation:
        """The model's answer; it fits the schema, if there is one, unless it was cut off.

        Raises:
            BackendError: the model cannot take this prompt, or memory is short.
        """
        import torch

        began = time.perf_counter()
        constraint = Constraint(self._tokens, schema)
        try:
            with torch.inference_mode():
                inputs = self._inputs(messages, images)
                decoding = _Decoding(self._model, constraint, sampling, self._tokens.vocab_size)
                written = decoding.run(inputs)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
            remedy = "Try a smaller checkpoint, device='cpu', or serve it and use the openai backend"
            raise BackendError(self.id, f"the model failed on the prompt ({first})", remedy) from error
        return Generation(
            text=json_text(self._tokens, written),
            model=self.id,
            latency_s=time.perf_counter() - began,
            constrained="none" if schema is None else "grammar",
            complete=not decoding.cut,
            prompt_tokens=int(inputs["input_ids"].shape[1]),
            tokens=len(written),
            forced=decoding.forced,
            mask_s=decoding.mask_s,
        )

    def sent_size(self, image: Image) -> tuple[int, int]:
        """Width and height that the checkpoint's image processor really makes of an image [px].

        Raises:
            BackendError: it crops the image, so that the model does not see the whole of it.
        """
        from PIL import Image as Pictures

        look: Any = getattr(self._processor, "image_processor", None)
        height, width = image.shape[:2]
        if look is None:
            return width, height
        picture = Pictures.fromarray(np.ascontiguousarray(image))
        made = look(images=[picture], return_tensors="pt")
        if "image_grid_thw" in made:
            _, rows, columns = (int(n) for n in made["image_grid_thw"][0])
            return columns * int(look.patch_size), rows * int(look.patch_size)
        if getattr(look, "do_center_crop", False) and width != height:
            problem = f"its image processor crops images of {width} x {height} px to their middle"
            remedy = "Use a square camera image, or points=answer if the model was trained to answer so"
            raise BackendError(self.id, problem, remedy)
        rows, columns = made["pixel_values"].shape[-2:]
        return int(columns), int(rows)

    def _inputs(self, messages: Sequence[Message], images: Sequence[Image]) -> dict[str, Tensor]:
        """The prompt as the model takes it: in its chat template, or plainly where it has none."""
        batch = prompt_inputs(self._processor, prompt_text(self._processor, messages, len(images)), images)
        dtype = self._model.dtype
        moved = {k: v.to(self.device) for k, v in batch.items()}
        return {k: v.to(dtype) if v.is_floating_point() else v for k, v in moved.items()}


class _Decoding:
    """One answer, token by token; what the grammar forces is read along with what was chosen."""

    def __init__(self, model: Any, constraint: Constraint, sampling: Sampling, vocabulary: int) -> None:
        import torch

        self._model = model
        self._constraint = constraint
        self._sampling = sampling
        self._size = vocabulary
        self._random = torch.Generator(device="cpu").manual_seed(sampling.seed)
        self.forced = 0
        self.mask_s = 0.0
        self.cut = False

    def run(self, inputs: Mapping[str, Tensor]) -> list[int]:
        """The tokens of the answer."""
        import torch

        out = self._model(**inputs, use_cache=True)
        cache, seen = out.past_key_values, inputs["attention_mask"]
        written: list[int] = []
        chunk = self._follow([])
        while True:
            written += chunk
            if len(written) > self._sampling.max_tokens or (
                len(written) == self._sampling.max_tokens and not self._constraint.finished
            ):
                self.cut = True
                return written[: self._sampling.max_tokens]
            if self._constraint.finished:
                return written
            if chunk:
                seen = torch.cat([seen, seen.new_ones(1, len(chunk))], dim=1)
                ids = torch.tensor([chunk], device=seen.device)
                more = _positions(self._model, seen, len(chunk))
                out = self._model(input_ids=ids, attention_mask=seen, past_key_values=cache, use_cache=True, **more)
            chunk = self._follow([self._choose(out.logits[0, -1])])

    def _choose(self, scores: Tensor) -> int:
        import torch

        began = time.perf_counter()
        allowed = torch.from_numpy(self._constraint.allowed())
        self.mask_s += time.perf_counter() - began
        scores = scores[: self._size].float().cpu()
        masked = scores.masked_fill(~allowed[: len(scores)], -torch.inf)
        if self._sampling.temperature == 0.0:
            return int(masked.argmax())
        return _draw(masked / self._sampling.temperature, self._sampling.top_p, self._random)

    def _follow(self, chosen: list[int]) -> list[int]:
        """The chosen token and what has to come after it."""
        began = time.perf_counter()
        self._constraint.accept(chosen)
        tokens = list(chosen)
        while not self._constraint.finished and (forced := self._constraint.forced()):
            self._constraint.accept(forced)
            self.forced += len(forced)
            tokens += forced
        self.mask_s += time.perf_counter() - began
        return tokens


def _draw(scores: Tensor, top_p: float, random: torch.Generator) -> int:
    """A token drawn from the likeliest ones that together have a share `top_p` of the probability."""
    import torch

    shares, order = torch.softmax(scores, dim=-1).sort(descending=True)
    shares[shares.cumsum(0) - shares >= top_p] = 0.0
    return int(order[torch.multinomial(shares, 1, generator=random)])


def _positions(model: Any, seen: Tensor, new: int) -> dict[str, Tensor]:
    """Position ids of `new` tokens at the end, for models that count images in three dimensions (Qwen2-VL and later).

    They keep what an image saves in positions as `rope_deltas` and would number several new tokens wrongly by
    themselves; all others count on without help.
    """
    import torch

    deltas = getattr(getattr(model, "model", model), "rope_deltas", None)
    if deltas is None:
        return {}
    length = seen.shape[1]
    positions = torch.arange(length - new, length, device=seen.device)[None] + deltas.to(seen.device)
    return {"position_ids": positions[None].expand(3, 1, new)}
