"""What all tests share: one thread, no display, no network, and no second copy of our classes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Set before anything imports numpy, torch, mujoco or transformers; subprocesses of tests inherit it.
for name, value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    # Skills that whoever runs the tests has saved from runs of their own.
    "HIERVLA_SKILLS": "",
}.items():
    os.environ[name] = value
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")

FOLDERS = ("representations", "controllers", "skills", "planner", "executor", "worlds", "training")


class _NoBareFolders(MetaPathFinder):
    """Refuses `import planner`: pytest has the root on its path, and a second copy of a class is equal to nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and fullname in FOLDERS:
            raise ImportError(f"import it as hiervla.{fullname}: a bare {fullname} makes a second copy of its classes")
        return None


sys.meta_path.insert(0, _NoBareFolders())
