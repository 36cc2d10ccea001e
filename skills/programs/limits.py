"""What a program may use up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hiervla.representations import Typed

Whole = Annotated[int, Field(ge=1)]


class ProgramLimits(Typed):
    """Limits of one run of a program; they are settings of the loop and part of the run record.

    A limit that is met ends the program, never the robot's safe stop.
    """

    calls: Whole = Field(default=60, description="calls of skills, those inside of saved skills included")
    suspensions: Whole = Field(
        default=3000, description="times that a program may stop for an answer: calls, and looks at an outcome"
    )
    seconds: Annotated[float, Field(gt=0)] = Field(
        default=5.0, description="computing time of a program, the robot's time not counted [s]"
    )
    memory_mb: Whole = Field(default=32, description="heap of the interpreter [MB]")
    recursion: Whole = Field(default=100, description="depth of nested function calls")
    depth: Whole = Field(default=8, description="saved skills inside of saved skills")
    printed: Whole = Field(default=10_000, description="characters that a program may print")
    source: Whole = Field(default=20_000, description="characters of a program's text")
