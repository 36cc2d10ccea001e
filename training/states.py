"""Moments of a world on disk, with what is to be done from there: what hand-off tests leave for training."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from pydantic import ValidationError

from hiervla.representations import HiervlaError
from hiervla.representations.errors import SnapshotError
from hiervla.training.arena import Arena
from hiervla.training.experts.state import Task
from hiervla.worlds.tabletop.specs import SceneSpec

FORMAT = 1
SUFFIX = ".state.npz"


class StateError(HiervlaError, ValueError):
    """A saved moment that cannot be read or gone back to.

    Attributes:
        path: the file or folder.
        problem: what is wrong with it.
    """

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"saved state '{path}': {problem}. {remedy}.")
        self.path = str(path)
        self.problem = problem


@dataclass(frozen=True)
class SavedState:
    """A moment from which a skill is to be done.

    Attributes:
        scene: what the world was built from.
        snapshot: the world's whole state.
        task: what is to be done.
        origin: where it comes from, such as ``pick -> place``.
    """

    scene: SceneSpec
    snapshot: bytes
    task: Task
    origin: str

    @classmethod
    def of(cls, arena: Arena, task: Task, origin: str) -> SavedState:
        """The world as it is now."""
        return cls(arena.scene, arena.world.snapshot(), task, origin)

    def save(self, path: Path) -> None:
        """Write one file.

        Raises:
            StateError: it cannot be written.
        """
        task = asdict(self.task) | {"target_w": [float(v) for v in self.task.target_w]}
        header = {"format": FORMAT, "task": task, "origin": self.origin, "scene": json.loads(self.scene.to_json())}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                np.savez_compressed(
                    stream, header=np.array(json.dumps(header)), snapshot=np.frombuffer(self.snapshot, np.uint8)
                )
        except OSError as error:
            raise StateError(path, f"cannot be written ({error.strerror})", "Choose another folder") from error

    @classmethod
    def load(cls, path: Path) -> SavedState:
        """Read one file.

        Raises:
            StateError: it is damaged, or of another format.
        """
        remedy = "Make it again with `hiervla skills handoff`"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
                header: dict[str, Any] = json.loads(str(data["header"]))
                snapshot = data["snapshot"].tobytes()
            if header["format"] != FORMAT:
                raise StateError(path, f"is of format {header['format']}, this reads {FORMAT}", remedy)
            task = Task(**(header["task"] | {"target_w": np.array(header["task"]["target_w"])}))
            scene = SceneSpec.model_validate_json(json.dumps(header["scene"]))
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, ValidationError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(path, f"cannot be read ({error})", remedy) from error
        return cls(scene, snapshot, task, header["origin"])

    def restore(self, arena: Arena) -> None:
        """Set a world that was built from `scene` to the moment.

        Raises:
            StateError: the snapshot is of another world.
        """
        try:
            arena.world.restore(self.snapshot)
        except SnapshotError as error:
            raise StateError(self.origin, str(error).rstrip("."), "Make the states again") from error
        arena.rest()


def saved_states(folders: Iterable[Path]) -> list[Path]:
    """Files of states under some folders, sorted.

    Raises:
        StateError: a folder has none.
    """
    found: list[Path] = []
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.glob(f"**/*{SUFFIX}"))
        if not files:
            raise StateError(folder, f"holds no *{SUFFIX}", "Make some with `hiervla skills handoff --states DIR`")
        found += files
    return found


__all__ = ["SUFFIX", "SavedState", "StateError", "saved_states"]
