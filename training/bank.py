"""Samples that a frozen encoder has encoded, kept so that heads of any family can train on them in minutes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hiervla.representations.errors import CheckpointError

_COLUMNS = ("context", "actions", "verdict")


class _Recipe(Protocol):
    @property
    def copies(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def points(self) -> int: ...
    @property
    def held_out(self) -> float: ...
    @property
    def drop_point(self) -> float: ...


@dataclass(frozen=True)
class Bank:
    """Encoded samples; the first axis is the copy, the second the training sample.

    Attributes:
        context: (C, N, context) float32.
        actions: (C, N, H, 6) float32, changed together with what was encoded [m].
        verdict: (C, N, 2) float32, done and progress.
    """

    context: NDArray[np.float32]
    actions: NDArray[np.float32]
    verdict: NDArray[np.float32]

    def pick(self, copies: NDArray[Any], samples: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """Context, actions and verdict of pairs of copy and sample, (B,) each."""
        return self.context[copies, samples], self.actions[copies, samples], self.verdict[copies, samples]


def encoded(
    run: Callable[[int], Iterable[tuple[NDArray[Any], ...]]],
    encoder: Sequence[Tensor],
    recipe: _Recipe,
    samples: int,
    file: str | Path | None,
    said: bytes = b"",
) -> Bank:
    """The bank in `file`, or a new one, which is then written there.

    Args:
        run: gives the batches of a copy.
        encoder: its parameters.
        recipe: how samples are changed.
        samples: number of samples in the data.
        file: where the bank is kept; None keeps it nowhere.
        said: identifies the words that were encoded along, where there are any.

    Raises:
        CheckpointError: the file is unreadable, or of another encoder, other data or another recipe.
    """
    digest = hashlib.sha256()
    for parameter in encoder:
        digest.update(parameter.detach().cpu().numpy().tobytes())
    digest.update(said)
    names = ("copies", "seed", "points", "held_out", "drop_point")
    identity = json.dumps([digest.hexdigest(), samples, {n: getattr(recipe, n) for n in names}])
    path = Path(file) if file is not None else None
    if path is not None and path.exists():
        return _read(path, identity)
    copies = [list(zip(*run(k), strict=True)) for k in range(recipe.copies)]
    arrays = {c: np.stack([np.concatenate(one[i]) for one in copies]) for i, c in enumerate(_COLUMNS)}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, identity=np.array(identity), **arrays)  # type: ignore[arg-type]  # numpy's stub of **
        partial.replace(path)
    return Bank(**arrays)


def _read(path: Path, identity: str) -> Bank:
    remedy = "Delete it to have it made anew, or name another file"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            found, arrays = str(data["identity"]), {c: data[c] for c in _COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise CheckpointError(str(path), f"cannot be read ({error})", remedy) from error
    if found != identity:
        raise CheckpointError(str(path), "holds samples of another encoder, other data or another recipe", remedy)
    return Bank(**arrays)
