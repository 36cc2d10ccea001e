"""Mistakes in programs, found before anything moves."""

from __future__ import annotations

from dataclasses import dataclass

from hiervla.representations import HiervlaError

_SHOWN = 4


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a program's text.

    Attributes:
        line: where, from 1; 0 for the whole.
        message: what, in words.
        code: the checker's name for it, such as ``"unresolved-reference"``.
    """

    line: int
    message: str
    code: str = ""

    def __str__(self) -> str:
        """``line 3: …``."""
        return f"line {self.line}: {self.message}" if self.line else self.message


class ProgramError(HiervlaError, ValueError):
    """A program that may not run: it does not parse, its types are wrong, or it breaks before its first call.

    Attributes:
        name: of the program, such as its file.
        problems: what is wrong, in the text's order.
    """

    exit_code = 2

    def __init__(
        self,
        name: str,
        problems: tuple[Problem, ...],
        remedy: str = "Correct the text; `hiervla skills stubs` prints what a program may call",
    ) -> None:
        shown = "; ".join(str(p).rstrip(".") for p in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"program '{name}': {shown}{more}. {remedy}.")
        self.name = name
        self.problems = problems
