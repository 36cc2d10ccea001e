"""Skills as options, and the library that third parties extend. See ``docs/skills.md``."""

from __future__ import annotations

from hiervla.skills.base import Approach, Skill
from hiervla.skills.context import Belief, MissingTargetError, SkillContext, target_point
from hiervla.skills.define import FunctionSkill, skill
from hiervla.skills.doubt import InDoubt, in_doubt
from hiervla.skills.errors import (
    DuplicateSkillError,
    NotASkillError,
    SkillArgumentError,
    SkillDefinitionError,
    SkillFailedError,
)
from hiervla.skills.motion import MotionPolicy, Waypoint
from hiervla.skills.parameters import Doc, Number, Place, Thing
from hiervla.skills.policy import OwnPolicy, Policy, policy_name
from hiervla.skills.recovery import Recovery
from hiervla.skills.registry import Broken, Origin, SkillLibrary
from hiervla.skills.termination import (
    After,
    DoneHead,
    Geometric,
    ProgressHead,
    Termination,
    Timer,
    after,
    all_of,
    any_of,
    majority,
)

__all__ = [
    "After",
    "Approach",
    "Belief",
    "Broken",
    "Doc",
    "DoneHead",
    "DuplicateSkillError",
    "FunctionSkill",
    "Geometric",
    "InDoubt",
    "MissingTargetError",
    "MotionPolicy",
    "NotASkillError",
    "Number",
    "Origin",
    "OwnPolicy",
    "Place",
    "Policy",
    "ProgressHead",
    "Recovery",
    "Skill",
    "SkillArgumentError",
    "SkillContext",
    "SkillDefinitionError",
    "SkillFailedError",
    "SkillLibrary",
    "Termination",
    "Thing",
    "Timer",
    "Waypoint",
    "after",
    "all_of",
    "any_of",
    "in_doubt",
    "majority",
    "policy_name",
    "skill",
    "target_point",
]
