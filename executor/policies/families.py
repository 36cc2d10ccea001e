"""The families of policies that can be trained, by name; a folder of weights says which it holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hiervla.representations.errors import CheckpointError, UnknownNameError

if TYPE_CHECKING:
    from hiervla.executor.policies.chunks import ChunkPolicy

Family = Literal["flow", "act", "tokens", "fast", "diffusion"]
FAMILIES: tuple[Family, ...] = get_args(Family)

_CLASSES: dict[str, tuple[str, str]] = {
    "flow": ("flow", "FlowPolicy"),
    "act": ("act", "ActPolicy"),
    "tokens": ("tokens", "TokenPolicy"),
    "fast": ("tokens", "FastPolicy"),
    "diffusion": ("diffusion", "DiffusionPolicy"),
}


def policy_class(family: str) -> type[ChunkPolicy[Any]]:
    """The policy of a family; its `network_class` is the network.

    Raises:
        UnknownNameError: there is no such family; the message suggests the nearest.
    """
    if family not in _CLASSES:
        raise UnknownNameError("policy family", family, FAMILIES)
    module, name = _CLASSES[family]
    found: type[ChunkPolicy[Any]] = getattr(import_module(f"hiervla.executor.policies.{module}"), name)
    return found


def load_policy(path: str | Path | None = None, **options: Any) -> ChunkPolicy[Any]:
    """Load a folder of weights of whichever family; the shipped flow policy by default.

    Args:
        path: folder with `model.safetensors` and `config.json`.
        options: as in the constructor of the family's policy.

    Raises:
        CheckpointError: files are missing, unreadable, of an unknown family, or do not fit each other.
    """
    from hiervla.executor.policies.chunks import WEIGHTS, family_of, read_config

    folder = Path(path) if path is not None else WEIGHTS / "flow"
    family = family_of(read_config(folder))
    if family not in _CLASSES:
        problem = f"names the family '{family}', and this version knows {', '.join(FAMILIES)}"
        raise CheckpointError(str(folder / "config.json"), problem, "Load it with the version that wrote it")
    return policy_class(family).load(folder, **options)


def shipped() -> tuple[str, ...]:
    """Families whose weights ship with the package; nothing heavy is imported for it."""
    return tuple(f for f in FAMILIES if (shipped_folder(f) / "model.safetensors").is_file())


def shipped_folder(family: str) -> Path:
    """Where the weights of a family are that ships with the package."""
    return Path(__file__).parent / "weights" / family
