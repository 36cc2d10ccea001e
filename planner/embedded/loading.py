"""Reads a checkpoint of the embedded planner from its folder, once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from hiervla.representations import CheckpointError

if TYPE_CHECKING:
    from hiervla.planner.embedded.generation import LanguageDecoder
    from hiervla.planner.embedded.modeling import HierVLAPlannerForPlanning


@dataclass(frozen=True)
class _Loaded:
    model: HierVLAPlannerForPlanning
    decoder: LanguageDecoder
    id: str


def load_planner(folder: Path) -> tuple[HierVLAPlannerForPlanning, LanguageDecoder, str]:
    """Model, decoder and id of a checkpoint; agents share what was read.

    Raises:
        CheckpointError: the folder holds no readable checkpoint of this model.
    """
    weights = folder / "model.safetensors"
    try:
        stamp = weights.stat().st_mtime_ns
    except OSError as error:
        raise CheckpointError(str(folder), f"has no readable model.safetensors ({error.strerror})", _REMEDY) from error
    loaded = _cached(str(folder), stamp)
    return loaded.model, loaded.decoder, loaded.id


_REMEDY: Final = "Train one with `hiervla train planner`, or name another folder"


@lru_cache(maxsize=2)
def _cached(folder: str, stamp: int) -> _Loaded:
    """Reading takes seconds and the model never changes, so agents share it; `stamp` notices a new file."""
    from safetensors import SafetensorError
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    from hiervla.planner.embedded.generation import LanguageDecoder
    from hiervla.planner.embedded.modeling import HierVLAPlannerForPlanning

    logging.disable_progress_bar()
    try:
        load: Any = HierVLAPlannerForPlanning.from_pretrained
        model, notes = load(folder, local_files_only=True, output_loading_info=True, dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(folder, str(error).splitlines()[0], _REMEDY) from error
    wrong = [*notes["missing_keys"], *notes["unexpected_keys"], *notes["mismatched_keys"]]
    if wrong:
        raise CheckpointError(folder, f"{len(wrong)} weights are missing, unknown or of another shape", _REMEDY)
    digest = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()[:8]
    return _Loaded(model.eval(), LanguageDecoder(model.language, tokenizer), f"hiervla-embedded@{digest}")
