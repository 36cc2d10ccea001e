"""Image-text-to-text checkpoints of transformers: what a folder holds, and loading model and processor from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hiervla.planner.vlm.adapter import is_adapter, load_adapted
from hiervla.representations import CheckpointError

EMBEDDED_TYPE: Final = "hiervla_planner"
"""`model_type` of checkpoints that `hiervla.planner.embedded` reads."""
_EDGE: Final = 1 << 20
_REMEDY: Final = (
    "Give the folder of an image-text-to-text checkpoint with config.json, *.safetensors, tokenizer and processor, "
    "or its id on the Hugging Face hub"
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory.

    Attributes:
        model: a transformers model for images and text to text.
        processor: its processor.
        id: name and version.
    """

    model: Any
    processor: Any
    id: str


def model_type(folder: Path) -> str:
    """The `model_type` that a checkpoint folder's config.json names.

    Raises:
        CheckpointError: there is no readable config.json, or it names none.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(str(folder), f"has no readable config.json ({error.strerror})", _REMEDY) from error
    except ValueError as error:
        raise CheckpointError(str(folder), f"config.json is no JSON ({error})", _REMEDY) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise CheckpointError(str(folder), "config.json names no model_type", _REMEDY)
    return kind


def load_checkpoint(name: str, device: str, dtype: str) -> Loaded:
    """Read a checkpoint: a folder, or an id on the Hugging Face hub.

    A folder of a LoRA adapter stands for the checkpoint that it names as its base, with the adapter merged in. A folder
    is never looked up on the hub; an id is, unless `HF_HUB_OFFLINE` is set and it has to be in the cache.
    Weights are read from safetensors only, and no code that comes with a checkpoint is run.

    Args:
        name: the folder or the id.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``...
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read or used.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    folder = Path(name).expanduser()
    local = folder.is_dir()
    if local and is_adapter(folder):
        return load_adapted(folder, device, dtype)
    if local:
        model_type(folder)
    elif folder.is_absolute() or name.startswith("."):
        raise CheckpointError(name, "there is no such folder", _REMEDY)
    place = str(folder) if local else name
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(place, **options)
            if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
                problem = f"model_type '{config.model_type}' is no image-text-to-text model"
                raise CheckpointError(name, problem, _REMEDY)
            load: Any = AutoModelForImageTextToText.from_pretrained
            model, notes = load(
                place,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            processor = _processor(place, config, options)
        except (
            OSError,
            ValueError,
            RuntimeError,
            KeyError,
            TypeError,
            ImportError,
            AttributeError,
            SafetensorError,
        ) as e:
            raise CheckpointError(name, _problem(e, local), _REMEDY) from e
    missing = notes["missing_keys"]
    if missing:
        problem = f"{len(missing)} of its weights are missing, such as '{min(missing)}'"
        raise CheckpointError(name, problem, "Download it again, whole")
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise CheckpointError(name, f"cannot be moved to device '{device}' ({first})", "Use device='cpu'") from error
    version = _digest(folder) if local else str(getattr(config, "_commit_hash", None) or "hub")[:8]
    return Loaded(model, processor, f"transformers:{folder.resolve().name if local else name}@{version}")


def _processor(place: str, config: Any, options: dict[str, Any]) -> Any:
    """The checkpoint's processor; without its part for videos where that is all that cannot be loaded."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    try:
        return AutoProcessor.from_pretrained(place, **options)
    except ImportError:
        # Video processors insist on torchvision; nobody shows videos here.
        if type(config) not in PROCESSOR_MAPPING:
            raise
    base: Any = PROCESSOR_MAPPING[type(config)]

    class WithoutVideo(base):  # type: ignore[misc]  # the base is known at run time only
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument is None:
                return type(None)
            return super().check_argument_for_proper_class(argument_name, argument)

    WithoutVideo.__name__ = base.__name__
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    images = AutoImageProcessor.from_pretrained(place, **options)
    return WithoutVideo(image_processor=images, tokenizer=tokenizer, chat_template=tokenizer.chat_template)


def _problem(error: BaseException, local: bool) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
    if not local and os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return f"is no folder, and not in the cache, which is all there is with HF_HUB_OFFLINE set ({text})"
    return text


def _digest(folder: Path) -> str:
    """Tells versions of a checkpoint apart: names, sizes and edges of its weights, since hashing them takes minutes."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            file.seek(max(0, path.stat().st_size - _EDGE))
            digest.update(file.read(_EDGE))
    return digest.hexdigest()[:8]


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading prints configurations and bars; what matters comes as an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
