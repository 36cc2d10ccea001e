"""Mistakes in the definition, the registration and the use of skills."""

from __future__ import annotations

from hiervla.representations import HiervlaError


class SkillDefinitionError(HiervlaError, TypeError):
    """A skill that is put together wrongly; told when it is constructed, before anything moves.

    Attributes:
        skill: its name.
        place: the part of the definition, such as ``"parameter distance_m"``.
        problem: what was found.
    """

    def __init__(self, skill: str, place: str, problem: str, remedy: str) -> None:
        super().__init__(f"skill '{skill}', {place}: {problem}. {remedy}.")
        self.skill = skill
        self.place = place
        self.problem = problem


class SkillArgumentError(HiervlaError, ValueError):
    """A step whose arguments do not fit the skill's parameters.

    Attributes:
        step: id of the step.
        skill: its skill.
        problem: which argument, and what is wrong with it.
    """

    def __init__(self, step: str, skill: str, problem: str) -> None:
        super().__init__(f"step {step} ({skill}): {problem} See `hiervla skills show {skill}`.")
        self.step = step
        self.skill = skill
        self.problem = problem


class SkillFailedError(HiervlaError):
    """A skill's own function raised something; the run ends with it, and its record names the skill.

    Attributes:
        skill: its name.
        place: the part of it, such as ``"done"``.
        error: what was raised.
    """

    def __init__(self, skill: str, place: str, error: Exception) -> None:
        super().__init__(
            f"skill '{skill}', {place}: raised {type(error).__name__} ({error}). "
            f"Repair the skill; `hiervla skills check {skill}` finds what can be found without motion."
        )
        self.skill = skill
        self.place = place
        self.error = error


class DuplicateSkillError(HiervlaError, ValueError):
    """Two packages offer a skill of the same name.

    Attributes:
        name: of the skill.
        first: who has it.
        second: who was refused.
    """

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"skill '{name}' of '{second}' is already registered by '{first}'. Rename one of them, or uninstall one."
        )
        self.name = name
        self.first = first
        self.second = second


class NotASkillError(HiervlaError, TypeError):
    """Something that should be a skill, or offer skills, is something else."""

    def __init__(self, found: object, remedy: str) -> None:
        super().__init__(f"{found!r} is no skill. {remedy}.")
        self.found = found
