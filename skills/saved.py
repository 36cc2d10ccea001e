"""Skills that are programs: saved from runs that worked, kept with every version, found beside the installed ones.

A saved skill is a folder, ``FOLDER/clear_table/2/``: ``skill.json`` (signature, where it came from, hash of the
program), ``program.py`` (its text), ``calls.json`` (the calls that it made when it worked, with their answers) and
``test_clear_table.py``, which runs the program on those answers (:mod:`hiervla.skills.rehearsal`). The highest version
counts; older ones stay.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from hiervla.representations import HiervlaError, SkillSignature, Typed, Verdict
from hiervla.representations._base import Sha256
from hiervla.representations.plans import StepOutcome
from hiervla.skills.base import Approach, Skill
from hiervla.skills.context import Belief, SkillContext
from hiervla.skills.errors import SkillDefinitionError

VARIABLE: Final = "HIERVLA_SKILLS"
"""Folders of saved skills, separated like a PATH; without it the one folder ``~/.hiervla/skills``."""
POLICY: Final = "program"
"""What stands in the place of a policy's name."""


class SavedSkillError(HiervlaError, ValueError):
    """A folder that holds no saved skill, or one that was changed.

    Attributes:
        path: the folder.
        problem: what is wrong.
    """

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"saved skill '{path}': {problem}. {remedy}.")
        self.path = path
        self.problem = problem


class SavedFrom(Typed):
    """Where a saved skill came from."""

    run_id: str
    instruction: str
    world: str
    planner: str


class SkillFile(Typed):
    """What ``skill.json`` holds."""

    format: int = Field(default=1, ge=1, le=1)
    skill_version: int = Field(ge=1)
    signature: SkillSignature
    program_sha256: Sha256
    saved_from: SavedFrom


@dataclass(frozen=True)
class SavedFolder:
    """The newest version of a saved skill.

    Attributes:
        path: its folder.
        version: from 1.
    """

    path: Path
    version: int


class ProgramSkill(Skill):
    """A skill whose doing is a program over other skills. The executor carries out the calls that it makes."""

    policy = POLICY

    def __init__(self, file: SkillFile, source: str, path: Path | None = None) -> None:
        """Take a saved skill as it was read.

        Args:
            file: what ``skill.json`` holds.
            source: the program.
            path: its folder; None for one that lies nowhere.
        """
        self.signature = file.signature
        self.file = file
        self.source = source
        self.path = path

    def approach(self, context: SkillContext) -> Approach:
        """A program has no motion of its own."""
        raise SkillDefinitionError(
            self.name, "approach", "it is a program, which has no motion of its own", "Run it in a plan or a program"
        )

    def ready(self, context: SkillContext) -> Verdict:
        """What the calls of its program find, each when its turn comes."""
        return Verdict(name="as_its_calls_find", value="unsure", confidence=0.0)

    def done(self, context: SkillContext) -> Verdict:
        """What its program's end says."""
        return Verdict(name="as_its_program_ends", value="unsure", confidence=0.0)

    def effect(self, context: SkillContext) -> Belief:
        """What the calls of its program leave."""
        return context.belief


def skill_folders() -> tuple[Path, ...]:
    """The folders in which saved skills are looked for, in order; they need not exist."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return (Path.home() / ".hiervla" / "skills",)
    return tuple(Path(part).expanduser() for part in named.split(os.pathsep) if part)


def saved_folders(folder: Path) -> Iterator[SavedFolder]:
    """The newest version of every skill in a folder, by name."""
    if not folder.is_dir():
        return
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        versions = versions_of(place)
        if versions:
            yield SavedFolder(place / str(versions[-1]), versions[-1])


def versions_of(place: Path) -> list[int]:
    """Versions of one skill in ascending order."""
    if not place.is_dir():
        return []
    return sorted(int(p.name) for p in place.iterdir() if p.is_dir() and p.name.isdecimal() and p.name[0] != "0")


def load_saved(path: Path) -> ProgramSkill:
    """The saved skill of a folder such as ``FOLDER/clear_table/2``. Its program is read and not run.

    Raises:
        SavedSkillError: it cannot be read, is of another format, or its program is not the one that was saved.
    """
    try:
        source = (path / "program.py").read_text()
        file = SkillFile.model_validate_json((path / "skill.json").read_text())
    except OSError as error:
        name = Path(error.filename or "").name
        raise SavedSkillError(path, f"{name} cannot be read ({error.strerror})", "Save it again") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "skill.json"
        raise SavedSkillError(path, f"{where}: {first['msg']}", "Save it again") from None
    except UnicodeDecodeError:
        raise SavedSkillError(path, "its files are no text", "Save it again") from None
    if file.signature.name != path.parent.name:
        raise SavedSkillError(path, f"its name is '{file.signature.name}'", f"Name its folder {file.signature.name}")
    if sha256_of(source) != file.program_sha256:
        raise SavedSkillError(
            path,
            "its program is not the one that was saved with this version",
            "Save the changed program as a new version with `hiervla skills save`",
        )
    return ProgramSkill(file, source, path)


def sha256_of(source: str) -> str:
    """Hash of a program's text."""
    return hashlib.sha256(source.encode()).hexdigest()


class SavedCall(Typed):
    """One call that a saved skill made when it worked, with its answer."""

    function: str
    args: dict[str, str]
    outcome: StepOutcome | None = Field(default=None, description="how a skill's call came out")
    message: str = ""
    value: bool | int | str | tuple[str, ...] | None = Field(default=None, description="what a question was answered")


class SavedCalls(Typed):
    """What ``calls.json`` holds."""

    inputs: dict[str, str] = Field(default_factory=dict, description="the arguments with which it was called")
    calls: tuple[SavedCall, ...]


def load_calls(path: Path) -> SavedCalls:
    """The calls that a saved skill made when it worked.

    Raises:
        SavedSkillError: they cannot be read.
    """
    try:
        return SavedCalls.model_validate_json((path / "calls.json").read_text())
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        problem = f"calls.json cannot be read ({str(error).splitlines()[0]})"
        raise SavedSkillError(path, problem, "Save it again") from None
