"""Which words of an instruction name which things: marked where the phrases are made, read off at the end.

Phrases travel through templates and frames as plain text, so that the marks have to be text too: characters of
Unicode's private use area, which no wording contains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_OPEN, _CLOSE, _END, _COMMA = "\ue000", "\ue001", "\ue002", "\ue003"
MARKS: Final = frozenset((_OPEN, _CLOSE, _END, _COMMA))


@dataclass(frozen=True, slots=True)
class Mention:
    """A phrase that names things.

    Attributes:
        start: index of its first character in the instruction.
        end: index after its last character.
        ids: ids of what it names in the scene; several for "all cans".
    """

    start: int
    end: int
    ids: tuple[str, ...]


def mark(phrase: str, ids: Sequence[str]) -> str:
    """The phrase with invisible marks around it that say what it names."""
    return f"{_OPEN}{phrase}{_CLOSE}{_COMMA.join(ids)}{_END}"


def read_marks(text: str) -> tuple[str, tuple[Mention, ...]]:
    """The text without marks, and its mentions in the order in which they end; phrases may lie within phrases."""
    plain: list[str] = []
    opened: list[int] = []
    mentions: list[Mention] = []
    position = 0
    while position < len(text):
        c = text[position]
        if c == _OPEN:
            opened.append(len(plain))
        elif c == _CLOSE:
            end = text.index(_END, position)
            ids = text[position + 1 : end].split(_COMMA)
            mentions.append(Mention(opened.pop(), len(plain), tuple(ids)))
            position = end
        else:
            plain.append(c)
        position += 1
    return "".join(plain), tuple(mentions)
