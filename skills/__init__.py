"""Skills as options, and the library that third parties extend. See ``docs/skills.md``."""

from __future__ import annotations

from hiervla.skills.base import Approach, Skill
from hiervla.skills.context import Belief, MissingTargetError, SkillContext, target_point
from hiervla.skills.registry import DuplicateSkillError, SkillLibrary
from hiervla.skills.termination import DoneHead, Geometric, Termination, Timer, all_of, any_of, majority

__all__ = [
    "Approach",
    "Belief",
    "DoneHead",
    "DuplicateSkillError",
    "Geometric",
    "MissingTargetError",
    "Skill",
    "SkillContext",
    "SkillLibrary",
    "Termination",
    "Timer",
    "all_of",
    "any_of",
    "majority",
    "target_point",
]
