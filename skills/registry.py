"""The skill library: built-in and third-party skills enter by the same door, the entry-point group."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from hiervla.representations import SkillSignature, UnknownNameError
from hiervla.skills.base import Skill
from hiervla.skills.errors import DuplicateSkillError, NotASkillError
from hiervla.skills.saved import SavedSkillError, load_saved, saved_folders, skill_folders

ENTRY_POINT_GROUP = "hiervla.skills"
"""An entry point of this group names a skill, or a function that takes a :class:`SkillLibrary` and registers some."""

BUILTIN = "hiervla.skills.library:register"
SAVED = "saved"
"""What stands in the place of a package's name for a skill that was saved from a run."""
_REMEDY = "Let the entry point name a Skill, or a function that takes the library and registers skills in it"

log = logging.getLogger(__name__)
_told: set[str] = set()


@dataclass(frozen=True)
class Origin:
    """Where a skill came from.

    Attributes:
        where: module and object, such as ``"hiervla_push:push"``.
        package: the distribution that brought it; empty for one that was registered by hand.
        version: of that distribution.
    """

    where: str
    package: str = ""
    version: str = ""

    @classmethod
    def of(cls, point: EntryPoint) -> Origin:
        """The origin that an entry point names."""
        dist = point.dist
        return cls(point.value) if dist is None else cls(point.value, dist.name, dist.version)

    def __str__(self) -> str:
        """``hiervla-push 0.2 (hiervla_push:push)``."""
        return f"{self.package} {self.version} ({self.where})" if self.package else self.where


@dataclass(frozen=True)
class Broken:
    """Something that was left out of the library.

    Attributes:
        point: name of the entry point.
        origin: the package that it belongs to.
        error: what went wrong, in one line.
    """

    point: str
    origin: Origin
    error: str

    def __str__(self) -> str:
        """One sentence for people."""
        return f"'{self.point}' of {self.origin} was left out: {self.error}"


class SkillLibrary:
    """Skills by name. Refuses duplicates, suggests near misses, survives a broken third-party package.

    Attributes:
        broken: what failed to load or was refused, with the reason; the others work.
    """

    def __init__(self, skills: Iterable[Skill] = ()) -> None:
        self._skills: dict[str, Skill] = {}
        self._origin: dict[str, Origin] = {}
        self.broken: tuple[Broken, ...] = ()
        for skill in skills:
            self.register(skill)

    @classmethod
    def load(cls, points: Iterable[EntryPoint] | None = None) -> SkillLibrary:
        """The library of everything installed, and of what was saved from runs. Built-in skills come first.

        So nobody can take their names, and a saved skill takes nobody's.

        Args:
            points: entry points to load instead of the installed ones; saved skills are left out with them.
        """
        library = cls()
        found = entry_points(group=ENTRY_POINT_GROUP) if points is None else points
        for point in sorted(found, key=lambda p: (p.value != BUILTIN, p.name, p.value)):
            origin = Origin.of(point)
            for error in library._enter(point, origin):
                library._leave_out(Broken(point.name, origin, " ".join(error.split())))
        for folder in skill_folders() if points is None else ():
            for saved in saved_folders(folder):
                origin = Origin(str(saved.path), SAVED, str(saved.version))
                try:
                    library.register(load_saved(saved.path), origin=origin)
                except (SavedSkillError, DuplicateSkillError) as error:
                    library._leave_out(Broken(saved.path.parent.name, origin, " ".join(str(error).split())))
        return library

    def _enter(self, point: EntryPoint, origin: Origin) -> list[str]:
        """Take in what an entry point names; what went wrong."""
        staged = SkillLibrary()
        try:
            offered = point.load()
            if inspect.isclass(offered) and issubclass(offered, Skill):
                offered = offered()
            if isinstance(offered, Skill):
                staged.register(offered)
            elif callable(offered) and not inspect.isclass(offered):
                offered(staged)
            else:
                raise NotASkillError(offered, _REMEDY)
        except (Exception, SystemExit) as error:  # a stranger's package may raise anything; ours goes on without it
            return [f"{type(error).__name__}: {error}"]
        refused = []
        for skill in staged:
            try:
                self.register(skill, origin=origin)
            except DuplicateSkillError as error:
                refused.append(str(error))
        return refused

    def _leave_out(self, broken: Broken) -> None:
        self.broken += (broken,)
        # Libraries are loaded often, by agents, planners and trainers; their user wants to hear of it once.
        if str(broken) not in _told:
            _told.add(str(broken))
            log.warning("skills: %s", broken)

    def register(self, skill: Skill, *, origin: Origin | str | None = None) -> None:
        """Add a skill.

        Raises:
            DuplicateSkillError: the name is taken.
            NotASkillError: not an instance of :class:`Skill`, or one without a signature.
        """
        if not isinstance(skill, Skill):
            raise NotASkillError(skill, "Register an instance of hiervla.skills.Skill, such as what @skill makes")
        if not isinstance(getattr(skill, "signature", None), SkillSignature):
            raise NotASkillError(skill, "Give its class a `signature = SkillSignature(name=..., doc=...)`")
        if not isinstance(origin, Origin):
            origin = Origin(origin or type(skill).__module__)
        if skill.name in self._skills:
            raise DuplicateSkillError(skill.name, str(self._origin[skill.name]), str(origin))
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

    def origin(self, name: str) -> Origin:
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
