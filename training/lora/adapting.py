"""Which weights of a checkpoint LoRA adapts, and the adapter's files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hiervla.planner.vlm.adapter import need_peft, wrapped
from hiervla.representations import CheckpointError, UnknownNameError

ALL_LINEAR: Final = "all-linear"
_EYES: Final = re.compile(r"(^|\.)(vision|visual|image|audio|multi_modal)")


def language_part(model: Any) -> tuple[str, Any]:
    """Name and module of a checkpoint's language model: what holds the embeddings of tokens, and the layers after it.

    Raises:
        CheckpointError: the model is built otherwise.
    """
    embeddings = model.get_input_embeddings()
    names = {id(m): n for n, m in model.named_modules()}
    name = names.get(id(embeddings), "")
    parent = name.rpartition(".")[0]
    if not parent:
        problem = f"its embeddings of tokens are at '{name}', so that its language part cannot be told from the rest"
        raise CheckpointError(str(model.config.model_type), problem, "Use a model that is built as Llava or Qwen-VL is")
    return parent, model.get_submodule(parent)


def target_pattern(model: Any, targets: Sequence[str] = (ALL_LINEAR,)) -> str:
    """A pattern of the full names of the linear layers to adapt; the eyes and the scores of tokens stay as they are.

    Args:
        model: an image-text-to-text model.
        targets: ``all-linear``, or last names of linear layers such as ``q_proj``.

    Raises:
        CheckpointError: the model's language part cannot be found, or has no linear layer.
        UnknownNameError: a name that no linear layer of the language part has.
    """
    import torch

    parent, part = language_part(model)
    linear = [n for n, m in part.named_modules() if isinstance(m, torch.nn.Linear) and not _EYES.search(n)]
    known = sorted({n.rpartition(".")[2] for n in linear})
    if not known:
        raise CheckpointError(
            str(model.config.model_type), "its language part has no linear layer", "Use another model"
        )
    for name in targets:
        if name not in (ALL_LINEAR, *known):
            raise UnknownNameError("target", name, (ALL_LINEAR, *known), "--targets")
    chosen = known if ALL_LINEAR in targets else sorted(set(targets))
    places = sorted({re.sub(r"\d+", r"\\d+", re.escape(n)) for n in linear if n.rpartition(".")[2] in chosen})
    return re.escape(parent) + r"\.(?:" + "|".join(places) + ")"


def adapt(model: Any, base: str, *, rank: int, alpha: float, dropout: float, targets: Sequence[str]) -> Any:
    """The model with a fresh adapter in it, which changes nothing yet; only the adapter's weights can be trained.

    Raises:
        MissingDependencyError: peft is not installed.
        CheckpointError: the model cannot be adapted.
        UnknownNameError: an unknown target.
    """
    peft = need_peft("LoRA fine-tuning")
    pattern = target_pattern(model, targets)
    model.requires_grad_(False)
    settings = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=pattern, base_model_name_or_path=base
    )
    adapted = wrapped(model, settings)
    # peft takes the base's name from the model, where it is as it was typed.
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def adapter_weights(adapted: Any) -> dict[str, Any]:
    """The adapter's tensors by name, on the CPU."""
    peft = need_peft("LoRA fine-tuning")
    state = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}


def merge(adapted: Any, base: str, out: Path) -> Path:
    """Write base and adapter as one checkpoint, with the base's tokenizer and processor; the model is merged by it."""
    out.mkdir(parents=True, exist_ok=True)
    whole = adapted.merge_and_unload(safe_merge=True)
    whole.save_pretrained(out)
    for file in sorted(_files(base).iterdir()):
        weights = file.suffix in (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
        if file.is_file() and not weights and not file.name.endswith(".index.json") and not (out / file.name).exists():
            if file.suffix in (".json", ".txt", ".jinja", ".model", ".tiktoken"):
                shutil.copyfile(file, out / file.name)
    return out


def _files(base: str) -> Path:
    """Where a checkpoint's small files are: its folder, or the cache of the hub."""
    from transformers.utils.hub import cached_file

    if Path(base).is_dir():
        return Path(base)
    return Path(str(cached_file(base, "config.json", local_files_only=True))).parent
