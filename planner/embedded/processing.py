"""Images and text to tensors for the embedded planner, in transformers form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerFast
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin

from hiervla.planner.embedded.generation import pad_left
from hiervla.planner.embedded.tokenizer import prompt_text


class HierVLAPlannerImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Resizes images to the tower's size and scales them to 0..1.

    Args:
        height: of the tower's images [px].
        width: of the tower's images [px].
    """

    model_input_names = ["pixel_values"]

    def __init__(self, height: int = 192, width: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        """One image or several, (H, W, 3) uint8 arrays or PIL images, as `pixel_values` (B, 3, H, W) float32."""
        several = list(images) if isinstance(images, Sequence) else [images]
        arrays = [self._fit(np.asarray(image)) for image in several]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(255.0)
        return BatchFeature({"pixel_values": pixels})

    def _fit(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image is (H, W, 3) uint8, this one is {image.shape} {image.dtype}")
        if image.shape[:2] == (self.height, self.width):
            return np.array(image)
        resized = Image.fromarray(image).resize((self.width, self.height), Image.Resampling.BOX)
        return np.array(resized)


class HierVLAPlannerProcessor(ProcessorMixin):  # type: ignore[misc]
    """Image processor and tokenizer together.

    Args:
        image_processor: makes `pixel_values`.
        tokenizer: makes `input_ids`.
    """

    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "HierVLAPlannerImageProcessor"
    tokenizer_class = "PreTrainedTokenizerFast"

    def __init__(
        self, image_processor: HierVLAPlannerImageProcessor, tokenizer: PreTrainedTokenizerFast, **kwargs: Any
    ) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        history: Sequence[Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tensors for `HierVLAPlannerForPlanning.forward`.

        Args:
            images: one image or several.
            text: one instruction or several.
            history: for each instruction, its lines of history.
            kwargs: ignored; there for the interface.
        """
        out: dict[str, Any] = {}
        if images is not None:
            out |= self.image_processor.preprocess(images)
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            lines = history or [()] * len(texts)
            prompts = [prompt_text(t, h) for t, h in zip(texts, lines, strict=True)]
            rows = [self.tokenizer.backend_tokenizer.encode(p).ids for p in prompts]
            ids, mask = pad_left(rows, int(self.tokenizer.pad_token_id))
            out |= {"input_ids": ids, "attention_mask": mask.long()}
        return BatchFeature(out)

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:  # type: ignore[override]
        """Write `preprocessor_config.json` and the tokenizer's files."""
        self.image_processor.save_pretrained(save_directory)
        self.tokenizer.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> HierVLAPlannerProcessor:  # type: ignore[override]
        """Read what :meth:`save_pretrained` wrote."""
        folder = str(pretrained_model_name_or_path)
        images = HierVLAPlannerImageProcessor.from_pretrained(folder)
        return cls(images, PreTrainedTokenizerFast.from_pretrained(folder))
