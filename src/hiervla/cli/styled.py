"""Text with styles, and trees of it: drawn by rich on a terminal, and plain lines where nobody looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

# They would move the cursor of whoever looks; rich leaves out the same.
_MOVES = dict.fromkeys(map(ord, "\a\b\v\f\r"))


class Styled:
    """A text in one of rich's styles, with other texts behind it; they have its style too, under their own.

    This is what rich's ``Text`` is, which takes longer to load than a run to print.
    """

    def __init__(self, text: str = "", style: str = "") -> None:
        self._text, self._style = text.translate(_MOVES), style
        self._more: list[Styled] = []

    def append(self, text: str | Styled, style: str = "") -> Self:
        """Put a text behind it; returns the whole."""
        self._more.append(text if isinstance(text, Styled) else Styled(text, style))
        return self

    def __str__(self) -> str:
        return "".join([self._text, *map(str, self._more)])

    def __rich__(self) -> Text:
        from rich.text import Text

        text = Text(self._text, self._style)
        for part in self._more:
            text.append_text(part.__rich__())
        return text


class Branch:
    """A line with others below it."""

    def __init__(self, label: Styled) -> None:
        self.label = label
        self.below: list[Branch] = []

    def add(self, label: Styled) -> Branch:
        """Put a line below it, after those that are there; returns that one."""
        self.below.append(Branch(label))
        return self.below[-1]

    def lines(self, first: str = "", rest: str = "") -> Iterator[str]:
        """It and all below as plain lines; the first of them begins with ``first``, the others with ``rest``."""
        yield f"{first}{self.label}"
        for branch in self.below:
            last = branch is self.below[-1]
            yield from branch.lines(rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

    def __rich__(self) -> Tree:
        from rich.tree import Tree

        tree = Tree(self.label, guide_style="dim")
        for branch in self.below:
            tree.children.append(branch.__rich__())
        return tree


class Printer(Protocol):
    """Prints styled texts and branches: rich's console, or :class:`PlainPrinter`."""

    def print(self, thing: Any, /) -> None:
        """Print it, on lines of its own."""


class PlainPrinter:
    """Prints styled texts and branches as plain lines."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def print(self, thing: Styled | Branch, /) -> None:
        """See :class:`Printer`."""
        lines = (line.rstrip() for line in thing.lines()) if isinstance(thing, Branch) else (str(thing),)
        self._file.write("".join(f"{line}\n" for line in lines))


def printer() -> Printer:
    """What prints to the standard output: rich where somebody looks, or asked for colours."""
    if sys.stdout.isatty() or os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE") == "1":
        from hiervla.cli.terminal import console

        return console()
    return PlainPrinter(sys.stdout)
