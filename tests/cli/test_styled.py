"""Styled texts look as rich's do on a terminal, and are plain lines where nobody looks."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from hiervla.cli.styled import Branch, PlainPrinter, Styled, printer


def drawn(thing: object, *, colour: bool = True) -> str:
    """What rich makes of something on a terminal."""
    file = io.StringIO()
    Console(file=file, force_terminal=colour, color_system="truecolor" if colour else None, width=60).print(thing)
    return file.getvalue()


def plain(thing: Styled | Branch) -> str:
    file = io.StringIO()
    PlainPrinter(file).print(thing)
    return file.getvalue()


def tree(kind: Callable[[Any], Any], text: Any) -> Any:
    root = kind(text("plan", "bold"))
    pick = root.add(text("✓ ", "green").append("pick up the red mug", "none").append("  3.1 s", "dim"))
    pick.add(text("succeeded")).add(text("done holding: yes", "green"))
    root.add(text("○ ").append("place it on the top shelf, which is so far up that the line has to be wrapped", "dim"))
    return root


def test_a_text_has_its_own_style_under_those_of_its_parts() -> None:
    ours = Styled("a", "bold red").append("b", "dim").append(Styled("c", "italic").append("d", "green")).append("e")
    inner = Text("c", "italic").append("d", "green")
    theirs = Text("a", "bold red").append("b", "dim").append_text(inner).append("e")
    assert drawn(ours) == drawn(theirs)
    assert "\x1b[" in drawn(ours)
    assert plain(ours) == "abcde\n"


def test_a_tree_is_drawn_as_rich_draws_it() -> None:
    assert drawn(tree(Branch, Styled)) == drawn(tree(partial(Tree, guide_style="dim"), Text))


def test_plain_lines_are_those_of_the_drawing() -> None:
    root = Branch(Styled("plan"))
    for name in ("one", "two "):
        step = root.add(Styled(name))
        step.add(Styled("ready")).add(Styled("yes"))
        step.add(Styled("done"))
    assert plain(root) == "".join(line.rstrip() + "\n" for line in drawn(root, colour=False).splitlines())
    assert "└── two\n    ├── ready\n" in plain(root)


def test_what_moves_the_cursor_is_left_out() -> None:
    assert plain(Styled("a\rb\bc\x07d").append("\x0be\x0cf")) == "abcdef\n"
    assert str(Text("a\rb\bc\x07d\x0be\x0cf")) == "abcdef"


@pytest.mark.parametrize(
    ("variable", "value", "is_plain"), [("", "", True), ("FORCE_COLOR", "1", False), ("TTY_COMPATIBLE", "1", False)]
)
def test_rich_prints_where_colours_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, is_plain: bool
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, value)
    assert isinstance(printer(), PlainPrinter) is is_plain
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(printer(), Console)
