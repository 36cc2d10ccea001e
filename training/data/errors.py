"""What can be wrong with a dataset, and what to do about it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hiervla.representations.errors import HiervlaError, MissingDependencyError


class DatasetError(HiervlaError, ValueError):
    """A dataset that cannot be read or written as a whole.

    Attributes:
        path: the file or folder.
        problem: what was found.
        remedy: what to do.
    """

    def __init__(self, path: object, problem: str, remedy: str) -> None:
        self.path = str(path)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"dataset '{path}': {problem}. {remedy}.")


class EpisodeError(DatasetError):
    """One episode that is not what its format promises; readers leave it out and count it."""

    def __init__(self, place: object, problem: str) -> None:
        super().__init__(place, problem, "The episode is left out; repair or delete it")


def need(module: str, what: str) -> Any:
    """Import an optional package.

    Args:
        module: name of the module, such as ``"pyarrow.parquet"``.
        what: what the package is needed for, in words.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".", maxsplit=1)[0]
        raise MissingDependencyError(package, what, "Install it with `pip install 'hiervla[data]'`") from error
