"""Lists, tuples, dictionaries, strings and numbers as models write them, JSON and Python alike, with limits.

Models mix both notations (single quotes, tuples, trailing commas, ``//`` comments), so that neither ``json`` nor
``ast`` reads them all, and neither tells where in the answer a value stands. This reader evaluates nothing, looks at
each character a bounded number of times, and refuses what is nested too deeply or too long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from hiervla.planner.adapters.base import MAX_ITEMS, MAX_NESTING

Value = int | float | str | bool | None | tuple["Node", ...] | dict[str, "Node"]

MAX_NUMBER: Final = 32
"""Characters of a number."""
MAX_STRING: Final = 1_000
"""Characters of a string."""
MAX_NODES: Final = 16 * MAX_ITEMS
"""Values of all kinds in one answer."""

_BLANK: Final = re.compile(r"(?:\s+|//[^\n]{0,200})*+")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"', "'": "'"}
_WORDS: Final[dict[str, bool | None]] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}
_NOT_FINITE: Final = {"nan", "inf", "infinity"}
_CLOSING: Final = {"[": "]", "(": ")"}


@dataclass(frozen=True, slots=True)
class Node:
    """One value and the part of the text that it was read from, ``text[at:end]``."""

    value: Value
    at: int
    end: int


@dataclass(frozen=True, slots=True)
class Action(Node):
    """An ``<action>...</action>`` tag inside a list; its value is the text between the tags."""


class LiteralError(Exception):
    """What is wrong where; adapters turn it into their own error, so it never leaves the package.

    Attributes:
        at: offset in the text.
        problem: in words.
        remedy: what to do.
        final: is there no use in reading on elsewhere?
    """

    def __init__(self, at: int, problem: str, remedy: str, *, final: bool = False) -> None:
        super().__init__(problem)
        self.at = at
        self.problem = problem
        self.remedy = remedy
        self.final = final


_FORM = "Ask for the family's form again"
_LONGER = "Let the model write more tokens"


@dataclass
class Reader:
    """Reads values from ``text[:stop]``."""

    text: str
    stop: int
    nodes: int = field(default=0, init=False)

    def value(self, at: int, depth: int = 0) -> Node:
        """The value that starts at `at` or after the blanks there.

        Raises:
            LiteralError: there is none, it is not finished, or it is beyond the limits.
        """
        at = self.skip(at)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            problem = f"there are more than {MAX_NODES} values"
            raise LiteralError(at, problem, "Ask for fewer things at once", final=True)
        if at >= self.stop:
            raise LiteralError(at, "the text ends where a value should be", _LONGER)
        char = self.text[at]
        if char in "[(":
            nodes, end = self.sequence(at + 1, _CLOSING[char], depth)
            return Node(nodes, at, end)
        if char == "{":
            return self._mapping(at, depth)
        if char in "\"'":
            return self._string(at)
        if char == "<":
            return self._action(at)
        return self._atom(at)

    def skip(self, at: int) -> int:
        """Offset of the first character from `at` on that is neither blank nor comment."""
        found = _BLANK.match(self.text, at, self.stop)
        return found.end() if found else at

    def sequence(self, at: int, closing: str, depth: int = 0) -> tuple[tuple[Node, ...], int]:
        """Values with commas between them, from `at` to `closing`, and the offset after that.

        An empty `closing` stands for the end of the text. A comma may follow the last value.

        Raises:
            LiteralError: see :meth:`value`; or a comma is missing.
        """
        if depth >= MAX_NESTING:
            raise LiteralError(at, f"lists are nested more than {MAX_NESTING} deep", _FORM)
        nodes: list[Node] = []
        while True:
            at = self.skip(at)
            if at >= self.stop:
                if closing:
                    raise LiteralError(at, f"the text ends before '{closing}'", _LONGER)
                return tuple(nodes), at
            if closing and self.text[at] == closing:
                return tuple(nodes), at + 1
            if len(nodes) >= MAX_ITEMS:
                raise LiteralError(at, f"there are more than {MAX_ITEMS} items", "Ask for fewer things at once")
            nodes.append(self.value(at, depth + 1))
            at = self.skip(nodes[-1].end)
            if at < self.stop and self.text[at] == ",":
                at += 1
            elif at < self.stop and self.text[at] != closing:
                expected = f"',' or '{closing}'" if closing else "','"
                raise LiteralError(at, f"{self.text[at]!r} stands where {expected} should", _FORM)

    def _mapping(self, start: int, depth: int) -> Node:
        if depth >= MAX_NESTING:
            raise LiteralError(start, f"objects are nested more than {MAX_NESTING} deep", _FORM)
        found: dict[str, Node] = {}
        at = start + 1
        while True:
            at = self.skip(at)
            if at >= self.stop:
                raise LiteralError(at, "the text ends before '}'", _LONGER)
            if self.text[at] == "}":
                return Node(found, start, at + 1)
            if self.text[at] not in "\"'":
                raise LiteralError(at, f"{self.text[at]!r} stands where a quoted key should", _FORM)
            key = self._string(at)
            at = self.skip(key.end)
            if at >= self.stop or self.text[at] != ":":
                raise LiteralError(at, f"the key '{str(key.value)[:20]}' has no ':' after it", _FORM)
            node = self.value(at + 1, depth + 1)
            if str(key.value) in found:
                raise LiteralError(key.at, f"the key '{str(key.value)[:20]}' is there twice", _FORM)
            found[str(key.value)] = node
            at = self.skip(node.end)
            if at < self.stop and self.text[at] == ",":
                at += 1
            elif at < self.stop and self.text[at] != "}":
                raise LiteralError(at, f"{self.text[at]!r} stands where ',' or '}}' should", _FORM)

    def _string(self, start: int) -> Node:
        quote, at = self.text[start], start + 1
        parts: list[str] = []
        while True:
            if at >= self.stop:
                raise LiteralError(start, "a quoted text does not end", _LONGER)
            if at - start > MAX_STRING:
                raise LiteralError(start, f"a quoted text has more than {MAX_STRING} characters", _FORM)
            char = self.text[at]
            if char == quote:
                return Node(_paired("".join(parts)), start, at + 1)
            if char != "\\":
                parts.append(char)
                at += 1
                continue
            escape = self.text[at + 1 : at + 2]
            if escape == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", self.text[at + 2 : at + 6]):
                parts.append(chr(int(self.text[at + 2 : at + 6], 16)))
                at += 6
            elif escape in _ESCAPES:
                parts.append(_ESCAPES[escape])
                at += 2
            else:
                raise LiteralError(at, "a backslash in a quoted text stands before no known letter", _FORM)

    def _action(self, at: int) -> Node:
        opening, closing = "<action>", "</action>"
        if not self.text.startswith(opening, at):
            raise LiteralError(at, "'<' starts no action tag", _FORM)
        end = self.text.find(closing, at, min(self.stop, at + 100))
        if end < 0:
            raise LiteralError(at, "an action tag does not end", _LONGER)
        return Action(self.text[at + len(opening) : end], at, end + len(closing))

    def _atom(self, at: int) -> Node:
        if found := _NUMBER.match(self.text, at, self.stop):
            return Node(number(found.group(), at), at, found.end())
        if self.text.startswith("...", at) or self.text[at] == "…":
            raise LiteralError(at, "dots stand where a value should", "Ask for every value in full")
        if found := _NAME.match(self.text, at, self.stop):
            word = found.group()
            if word in _WORDS:
                return Node(_WORDS[word], at, found.end())
            if word.lower() in _NOT_FINITE:
                raise LiteralError(at, f"'{word}' is no finite number", _FORM)
            raise LiteralError(at, f"the word '{word[:20]}' stands where a value should", _FORM)
        raise LiteralError(at, f"{self.text[at]!r} stands where a value should", _FORM)


def _paired(text: str) -> str:
    """JSON escapes characters beyond 16 bits as two surrogates; lone ones stay."""
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def number(text: str, at: int) -> int | float:
    """The number that a text of digits, sign, point and exponent stands for.

    Raises:
        LiteralError: too long, or too large for a float.
    """
    if len(text) > MAX_NUMBER:
        raise LiteralError(at, f"a number has more than {MAX_NUMBER} characters", _FORM)
    if text.lstrip("+-").isdigit():
        return int(text)
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise LiteralError(at, f"'{text}' is no finite number", _FORM)
    return value


def quoted_number(node: Node) -> int | float | None:
    """The number of a node, also of a number in quotes (Qwen2.5-VL writes ``["394", "105"]``); None for others."""
    if isinstance(node.value, bool):
        return None
    if isinstance(node.value, int | float):
        return node.value
    if isinstance(node.value, str) and _NUMBER.fullmatch(node.value.strip()):
        return number(node.value.strip(), node.at)
    return None
