"""LoRA adapters (arXiv 2106.09685) as peft writes them: a folder that names its base, and holds small weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hiervla.representations import CheckpointError, MissingDependencyError

if TYPE_CHECKING:
    from hiervla.planner.vlm.checkpoint import Loaded

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
FACTS: Final = "hiervla.json"
"""What `hiervla train planner --lora` says of the adapter; with `base_id`, the version of the base that it fits."""
_REMEDY: Final = "Give the folder that `hiervla train planner --lora` wrote, whole"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole checkpoint."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def need_peft(what: str) -> Any:
    """The package peft; its import takes seconds.

    Args:
        what: what it is needed for, in words.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingDependencyError("peft", what, "Install it with `pip install 'hiervla[lora]'`") from error
    return peft


def wrapped(model: Any, settings: Any) -> Any:
    """The model with fresh LoRA layers in it.

    Args:
        model: of transformers; it is changed.
        settings: a `peft.LoraConfig`.
    """
    import warnings

    with warnings.catch_warnings():
        # It asks transformers in a way that is deprecated there, and tells that a base is not where it was.
        warnings.simplefilter("ignore")
        return need_peft("a LoRA adapter").get_peft_model(model, settings)


def load_adapted(folder: Path, device: str, dtype: str) -> Loaded:
    """The base that an adapter names, with the adapter merged in; the base's own files are only read.

    Raises:
        CheckpointError: adapter or base cannot be read, or they do not belong together.
        MissingDependencyError: peft is not installed.
    """
    from hiervla.planner.vlm.checkpoint import load_checkpoint

    settings = _json(folder, CONFIG)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(str(folder), f"{CONFIG} names no base_model_name_or_path", _REMEDY)
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(str(folder), f"is an adapter of type {settings.get('peft_type')}, not LORA", _REMEDY)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(str(folder), f"has no {WEIGHTS}", _REMEDY)
    peft = need_peft("the LoRA adapter of this planner")
    try:
        loaded = load_checkpoint(base, device, dtype)
    except CheckpointError as error:
        problem = f"its base '{base}' cannot be loaded ({error.problem})"
        remedy = f"Put the base back, correct the name in {CONFIG}, or merge adapters with --merge before moving them"
        raise CheckpointError(str(folder), problem, remedy) from error
    if (folder / FACTS).is_file():
        meant = _json(folder, FACTS).get("base_id")
        if meant not in (None, loaded.id):
            problem = f"was trained on {meant}, and its base is now {loaded.id}"
            raise CheckpointError(str(folder), problem, "Bring that version of the base back, or train anew")
    try:
        model = wrapped(loaded.model, peft.LoraConfig.from_pretrained(str(folder)))
        put_weights(model, read_weights(folder / WEIGHTS), str(folder))
        merged = model.merge_and_unload(safe_merge=True).eval()
    except (ValueError, TypeError, RuntimeError, KeyError, OSError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise CheckpointError(str(folder), f"does not fit its base '{base}' ({first})", _REMEDY) from error
    merged.requires_grad_(False)
    version = hashlib.sha256(loaded.id.encode() + (folder / CONFIG).read_bytes() + (folder / WEIGHTS).read_bytes())
    name = f"transformers:{folder.resolve().name}@{version.hexdigest()[:8]}"
    return replace(loaded, model=merged, id=name)


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors of a safetensors file by name.

    Raises:
        CheckpointError: it is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(str(path), f"cannot be read ({error})", _REMEDY) from error


def put_weights(model: Any, weights: Mapping[str, Any], place: str) -> None:
    """Set all LoRA weights of a peft model, no more and no fewer.

    Raises:
        CheckpointError: the weights are those of other modules.
    """
    peft = need_peft("a LoRA adapter")
    wanted = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    if wanted != set(weights):
        odd = min(wanted ^ set(weights))
        problem = f"its weights are not those of its settings and base, such as '{odd}'"
        raise CheckpointError(place, problem, _REMEDY)
    peft.set_peft_model_state_dict(model, dict(weights))


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(str(folder), f"{name} cannot be read ({error})", _REMEDY) from error
    if not isinstance(value, dict):
        raise CheckpointError(str(folder), f"{name} holds no settings", _REMEDY)
    return value
