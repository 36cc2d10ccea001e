"""The skill library: built-in and third-party skills enter by the same door, the entry-point group."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points

from hiervla.representations import HiervlaError, SkillSignature, UnknownNameError
from hiervla.skills.base import Skill

ENTRY_POINT_GROUP = "hiervla.skills"
"""An entry point of this group names a function that takes a :class:`SkillLibrary` and registers skills in it."""

log = logging.getLogger(__name__)


class DuplicateSkillError(HiervlaError, ValueError):
    """Two packages offer a skill of the same name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"skill '{name}' of '{second}' is already registered by '{first}'. Rename one of them, or uninstall one."
        )
        self.name = name


class SkillLibrary:
    """Skills by name. Refuses duplicates, suggests near misses, survives a broken third-party package.

    Attributes:
        broken: entry points that failed to load, with the reason; the others work.
    """

    def __init__(self, skills: Iterable[Skill] = ()) -> None:
        self._skills: dict[str, Skill] = {}
        self._origin: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        for skill in skills:
            self.register(skill)

    @classmethod
    def load(cls, points: Iterable[EntryPoint] | None = None) -> SkillLibrary:
        """The library of everything installed.

        Args:
            points: entry points to load instead of the installed ones.
        """
        library = cls()
        for point in sorted(
            entry_points(group=ENTRY_POINT_GROUP) if points is None else points,
            key=lambda p: (p.name != "builtin", p.name),
        ):
            origin = f"{point.dist.name}: {point.value}" if point.dist is not None else point.value
            staged = cls()
            try:
                register: Callable[[SkillLibrary], None] = point.load()
                register(staged)
                for skill in staged:
                    library.register(skill, origin=origin)
            except Exception as error:  # a stranger's package may raise anything; ours has to go on without it
                library.broken[point.name] = f"{type(error).__name__}: {error}"
                log.warning("skills of '%s' (%s) were left out: %s", point.name, origin, error)
        return library

    def register(self, skill: Skill, *, origin: str | None = None) -> None:
        """Add a skill.

        Raises:
            DuplicateSkillError: the name is taken.
            TypeError: not an instance of :class:`Skill`.
        """
        if not isinstance(skill, Skill):
            raise TypeError(f"a skill is an instance of hiervla.skills.Skill, not {skill!r}")
        origin = origin or type(skill).__module__
        if skill.name in self._skills:
            raise DuplicateSkillError(skill.name, self._origin[skill.name], origin)
        self._skills[skill.name] = skill
        self._origin[skill.name] = origin

    def get(self, name: str, *, place: str = "") -> Skill:
        """The skill of that name.

        Raises:
            UnknownNameError: there is none; the message suggests the nearest.
        """
        try:
            return self._skills[name]
        except KeyError:
            raise UnknownNameError("skill", name, self._skills, place) from None

    def origin(self, name: str) -> str:
        """Package and module that a skill came from.

        Raises:
            UnknownNameError: there is no such skill.
        """
        self.get(name)
        return self._origin[name]

    def signatures(self) -> tuple[SkillSignature, ...]:
        """Signatures in order of registration: what planner and grammar are made from."""
        return tuple(skill.signature for skill in self._skills.values())

    def __iter__(self) -> Iterator[Skill]:
        """Skills in order of registration."""
        return iter(self._skills.values())

    def __len__(self) -> int:
        """Number of skills."""
        return len(self._skills)

    def __contains__(self, name: object) -> bool:
        """Is there a skill of that name?"""
        return name in self._skills
