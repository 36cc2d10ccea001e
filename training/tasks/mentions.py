"""Which words of an instruction name which things, and which make up each of its requests.

Both are marked where the phrases are made, and read off at the end.

Phrases travel through templates and frames as plain text, so that the marks have to be text too: characters of
Unicode's private use area, which no wording contains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_OPEN, _CLOSE, _END, _COMMA = "\ue000", "\ue001", "\ue002", "\ue003"
_REQUEST: Final = "\ue004"
MARKS: Final = frozenset((_OPEN, _CLOSE, _END, _COMMA, _REQUEST))


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


@dataclass(frozen=True, slots=True)
class Marked:
    """A text whose marks were read off.

    Attributes:
        text: the words alone.
        mentions: phrases that name things, in the order in which they end; phrases may lie within phrases.
        requests: (start, end) of the words of each request, in the order in which the requests are to be carried out.
    """

    text: str
    mentions: tuple[Mention, ...]
    requests: tuple[tuple[int, int], ...]


def mark_request(text: str, index: int) -> str:
    """The words of one request, with invisible marks around them that say when its turn is, counted from 0."""
    return f"{_OPEN}{text}{_CLOSE}{_REQUEST}{index}{_END}"


def mark(phrase: str, ids: Sequence[str]) -> str:
    """The phrase with invisible marks around it that say what it names."""
    return f"{_OPEN}{phrase}{_CLOSE}{_COMMA.join(ids)}{_END}"


def read_marks(text: str) -> Marked:
    """The text without marks, and what the marks say."""
    plain: list[str] = []
    opened: list[int] = []
    mentions: list[Mention] = []
    requests: dict[int, tuple[int, int]] = {}
    position = 0
    while position < len(text):
        c = text[position]
        if c == _OPEN:
            opened.append(len(plain))
        elif c == _CLOSE:
            end = text.index(_END, position)
            start, says = opened.pop(), text[position + 1 : end]
            if says.startswith(_REQUEST):
                requests[int(says[1:])] = (start, len(plain))
            else:
                mentions.append(Mention(start, len(plain), tuple(says.split(_COMMA))))
            position = end
        else:
            plain.append(c)
        position += 1
    return Marked("".join(plain), tuple(mentions), tuple(requests[k] for k in sorted(requests)))
