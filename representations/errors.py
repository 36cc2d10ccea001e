"""The one exception tree of hiervla.

Every exception that leaves the package derives from :class:`HiervlaError`. A leaf is built from data, keeps
that data as attributes, and renders one sentence that names the offender, the place and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class HiervlaError(Exception):
    """Base class: a caller's mistake or a broken machine, told in one sentence."""

    exit_code: int = 1
    """Exit status that the command line uses when this error ends a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it pass between processes, whatever its leaf's constructor takes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[HiervlaError], args: tuple[Any, ...], state: dict[str, Any]) -> HiervlaError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConventionError(HiervlaError, ValueError):
    """A value breaks the declared shape, unit, range or frame of its field.

    Attributes:
        field: dotted name of the field.
        problem: what was found, in words.
        remedy: what to do.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}. {remedy}.")
        self.field = field
        self.problem = problem
        self.remedy = remedy


class UnknownNameError(HiervlaError, LookupError):
    """A name that is not registered; the message lists the near misses and what exists.

    Attributes:
        what: kind of thing, such as ``"skill"``.
        name: the name that was asked for.
        known: the names that exist.
    """

    exit_code = 2

    def __init__(self, what: str, name: str, known: Iterable[str], place: str = "") -> None:
        self.what = what
        self.name = name
        self.known = tuple(sorted(known))
        near = get_close_matches(name, self.known, n=1, cutoff=0.6)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        where = f" in {place}" if place else ""
        listing = ", ".join(self.known) if self.known else "none"
        super().__init__(f"unknown {what} '{name}'{where}.{hint} Known: {listing}.")


class MissingDependencyError(HiervlaError, ImportError):
    """An optional package or system library that the request needs is absent."""

    def __init__(self, what: str, needed_for: str, remedy: str) -> None:
        super().__init__(f"{what} is not available, but {needed_for} needs it. {remedy}.")
        self.what = what
        self.needed_for = needed_for
        self.remedy = remedy


class CameraError(HiervlaError):
    """A camera is missing, or lacks something (depth, calibration) that the request needs."""

    def __init__(self, camera: str, problem: str, remedy: str) -> None:
        super().__init__(f"camera '{camera}': {problem}. {remedy}.")
        self.camera = camera
        self.problem = problem


class CheckpointError(HiervlaError):
    """Weights that cannot be read, or that do not fit the model that should load them."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"checkpoint '{path}': {problem}. {remedy}.")
        self.path = path
        self.problem = problem


class PlanError(HiervlaError, ValueError):
    """A plan that is malformed or refers to something that does not exist.

    Attributes:
        place: where in the plan, such as ``"step s2"``.
        problem: what is wrong.
    """

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        super().__init__(f"plan, {place}: {problem}. {remedy}.")
        self.place = place
        self.problem = problem


class SnapshotError(HiervlaError, ValueError):
    """Bytes that are no snapshot of the world that should restore them."""

    def __init__(self, world: str, problem: str) -> None:
        super().__init__(
            f"snapshot for world '{world}': {problem}. Restore it in a world built from the same scene and version."
        )
        self.world = world
        self.problem = problem
