"""Saved moments from which tests collect: one episode each, in a second or two."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hiervla.training.arena import Arena
from hiervla.training.experts import tasks
from hiervla.training.states import SUFFIX, SavedState
from hiervla.training.trials import trial_scene


def saved_moment(folder: Path, seed: int) -> Path:
    """A scene with an open drawer that is to be closed."""
    rng = np.random.default_rng(seed)
    with Arena(trial_scene("close_drawer", 4 * seed + 1, rng)) as arena:
        path = folder / f"{seed}{SUFFIX}"
        SavedState.of(arena, tasks.drawer_task(arena.truth, "close_drawer", rng), "test").save(path)
    return path
