"""Mini-programs: small Python texts whose only words are the skill library and a few questions about what is in view.

They run in pydantic-monty, an interpreter of its own in a process of its own, and are suspended at every call. Nothing
here moves a robot: :mod:`hiervla.executor.programs` does, with what a program asks for.
"""

from __future__ import annotations

from hiervla.skills.programs.errors import Problem, ProgramError
from hiervla.skills.programs.limits import ProgramLimits
from hiervla.skills.programs.sandbox import Call, CallResult, Ended, Sandbox, check_program
from hiervla.skills.programs.vocabulary import Vocabulary

__all__ = [
    "Call",
    "CallResult",
    "Ended",
    "Problem",
    "ProgramError",
    "ProgramLimits",
    "Sandbox",
    "Vocabulary",
    "check_program",
]
