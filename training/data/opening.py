"""Recognises the format of a dataset."""

from __future__ import annotations

from pathlib import Path

from hiervla.training.data.errors import DatasetError
from hiervla.training.data.types import Source

FORMATS = "LeRobotDataset v3 (meta/info.json), RLDS (features.json), robomimic or LIBERO (.hdf5), run records \
(manifest.json), demonstrations of `hiervla collect` (.npz)"


def open_dataset(path: str | Path) -> Source:
    """Open a dataset of any format that is read here.

    Args:
        path: its file or folder. A folder with versions of one RLDS dataset stands for the latest.

    Raises:
        DatasetError: nothing is there, or nothing that is known.
        MissingDependencyError: the format needs a package that is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(path, "does not exist", "Check the path")
    if (path / "meta" / "info.json").exists():
        from hiervla.training.data.lerobot.reader import LeRobotSource

        return LeRobotSource(path)
    version = rlds_folder(path)
    if version is not None:
        from hiervla.training.data.rlds.reader import RldsSource

        return RldsSource(version)
    if path.suffix in (".hdf5", ".h5") or (path.is_dir() and any(path.glob("**/*.hdf5"))):
        from hiervla.training.data.hdf5 import Hdf5Source

        return Hdf5Source(path)
    if path.suffix == ".npz" or (path.is_dir() and any(path.glob("**/*.npz"))):
        from hiervla.training.data.demos import DemoSource

        return DemoSource([path])
    if path.is_dir() and ((path / "manifest.json").exists() or any(path.glob("*/manifest.json"))):
        from hiervla.training.data.runs import RunSource

        return RunSource([path])
    raise DatasetError(path, "is of no format that is read here", f"Known are: {FORMATS}")


def rlds_folder(path: Path) -> Path | None:
    """The folder of an RLDS dataset's version at or right below `path`; None if there is none."""
    if (path / "features.json").exists():
        return path
    below = [p.parent for p in path.glob("*/features.json")] if path.is_dir() else []
    return max(below, key=lambda p: [int(n) if n.isdigit() else -1 for n in p.name.split(".")], default=None)
