"""Where in an answer the lists are: models put words, bullets and code fences around them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from hiervla.planner.adapters.answer import Answer
from hiervla.planner.adapters.literals import LiteralError, Node, Reader, quoted_number

_START: Final = re.compile(r"\[(?=\s*[\[\](){}0-9.+\-<\"'…])|\{(?=\s*[\"'}])")
_CERTAIN: Final = re.compile(r"\{|\[\s*[\[({<]")
"""What starts like this is meant as the answer: when it is broken, the answer is."""

Row = tuple[tuple[float, ...], int]
"""Two to four numbers and where they stand."""


def lists(answer: Answer, wanted: Callable[[Node], bool]) -> list[Node]:
    """The lists and objects in an answer that are wanted, in order; others, such as ``[1]`` in prose, are passed over.

    Raises:
        LiteralError: what must be the answer is broken, or there is nothing else.
    """
    start, stop = answer.body()
    found: list[Node] = []
    broken: LiteralError | None = None
    reader = Reader(answer.text, stop)
    at = start
    while (opening := _START.search(answer.text, at, stop)) is not None:
        at = opening.start()
        try:
            node = reader.value(at)
        except LiteralError as error:
            if error.final or _CERTAIN.match(answer.text, at, stop):
                raise
            broken = broken or error
            at += 1
            continue
        if wanted(node):
            found.append(node)
        at = node.end
    if not found and broken is not None:
        raise broken
    return found


def rows(node: Node) -> list[Row] | None:
    """Numbers in groups: ``[1, 2]``, ``[[1, 2], [3, 4]]``, ``[(1, 2)]``, ``[]``; None for anything else."""
    if not isinstance(node.value, tuple):
        return None
    flat = _row(node)
    if flat is not None:
        return [flat]
    inner = [_row(child) for child in node.value]
    known = [row for row in inner if row is not None]
    return known if len(known) == len(inner) else None


def _row(node: Node) -> Row | None:
    if not isinstance(node.value, tuple) or not 2 <= len(node.value) <= 4:
        return None
    numbers = [quoted_number(child) for child in node.value]
    known = tuple(float(n) for n in numbers if n is not None)
    return (known, node.at) if len(known) == len(numbers) else None
