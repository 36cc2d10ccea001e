"""Points as tags: ``<point x="52.3" y="61.0" alt="dog">dog</point>``, ``<points x1="..." y1="..." x2=...>``.

Molmo and PixMo (arXiv 2409.17146, section on pointing) write percent; Qwen-VL models write the same tags with their own
numbers. Molmo2 writes ``<points coords="1 1 308 305 2 752 377">``: the number of the image, then for each point its
own number, x and y.
"""

from __future__ import annotations

import re
from typing import Final

from hiervla.planner.adapters.answer import OTHER_FAMILY, Answer, Mark
from hiervla.planner.adapters.base import MAX_ITEMS
from hiervla.planner.adapters.literals import LiteralError, number

_OPENING: Final = re.compile(r"<points?(?=[\s/>])")
_ATTRIBUTE: Final = re.compile(
    r"\s*([A-Za-z_][A-Za-z_0-9]{0,15})\s{0,9}=\s{0,9}(?:\"([^\"]{0,20000})\"|'([^']{0,20000})')"
)
_END: Final = re.compile(r"\s*(/?)>")
_COORDINATE: Final = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_AXIS: Final = re.compile(r"([xy])([0-9]{0,4})")
_NONE: Final = re.compile(r"\s*(?:there (?:are|is) (?:none|no such [^.!]{1,80})|none|nothing)[.!]?\s*", re.IGNORECASE)
_ENTITIES: Final = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&"))


def says_none(answer: Answer) -> bool:
    """Does it say in words that there is no such thing? Molmo was trained to write "There are none."."""
    start, stop = answer.body()
    return stop - start < 200 and _NONE.fullmatch(answer.text, start, stop) is not None


def tagged_points(answer: Answer, *, triplets: bool = False) -> list[Mark]:
    """Points of all tags in an answer, in order.

    Args:
        answer: what is being read.
        triplets: read ``coords="..."`` of Molmo2 instead of ``x1="..." y1="..."``.

    Raises:
        AdapterError: a tag is of the other form, or its coordinates make no pairs or are outside of the image.
        LiteralError: a tag does not end, or there are too many points.
    """
    start, stop = answer.body()
    marks: list[Mark] = []
    at = start
    while (opening := _OPENING.search(answer.text, at, stop)) is not None:
        attributes, at = _attributes(answer.text, opening.end(), stop)
        label, at = _content(answer.text, opening, at, stop)
        label = _unescaped(attributes["alt"][0] if "alt" in attributes else label)
        if ("coords" in attributes) != triplets:
            form, other = ("x1 and y1", "coords") if triplets else ("coords", "x1 and y1")
            problem = f"the tag has {form}, and '{answer.family}' writes {other}"
            raise answer.error(problem, OTHER_FAMILY, opening.start())
        pairs = _triplets(answer, *attributes["coords"]) if triplets else _pairs(answer, opening, attributes)
        for x, y, place in pairs:
            if len(marks) >= MAX_ITEMS:
                raise LiteralError(place, f"there are more than {MAX_ITEMS} points", "Ask for fewer things at once")
            u, v = answer.pixel(x, y, place, f"point {len(marks) + 1}")
            marks.append(Mark(u, v, label, at=place))
    return marks


def escaped(label: str) -> str:
    """A label as it may stand inside and between tags."""
    for entity, char in reversed(_ENTITIES):
        label = label.replace(char, entity) if entity != "&#39;" else label
    return label


def _attributes(text: str, at: int, stop: int) -> tuple[dict[str, tuple[str, int]], int]:
    """Attributes of a tag with their offsets, and the offset behind its ``>``."""
    found: dict[str, tuple[str, int]] = {}
    while (attribute := _ATTRIBUTE.match(text, at, stop)) is not None:
        name = attribute.group(1)
        which = 2 if attribute.group(2) is not None else 3
        if name in found:
            raise LiteralError(attribute.start(1), f"the attribute '{name}' is there twice", "Ask again")
        found[name] = (attribute.group(which), attribute.start(which))
        at = attribute.end()
    end = _END.match(text, at, stop)
    if end is None:
        raise LiteralError(at, "the tag does not end", "Let the model write more tokens, or ask again")
    return found, end.end()


def _content(text: str, opening: re.Match[str], at: int, stop: int) -> tuple[str, int]:
    """Text between a tag and its closing one; nothing where it is closed at once or not at all."""
    if text[at - 2] == "/":
        return "", at
    closing = f"</{opening.group()[1:]}>"
    end = text.find(closing, at, min(stop, at + 1_000))
    return (text[at:end], end + len(closing)) if end >= 0 else ("", at)


def _pairs(
    answer: Answer, opening: re.Match[str], attributes: dict[str, tuple[str, int]]
) -> list[tuple[float, float, int]]:
    axes: dict[str, dict[str, tuple[float, int]]] = {"x": {}, "y": {}}
    for name, (value, at) in attributes.items():
        if axis := _AXIS.fullmatch(name):
            axes[axis.group(1)][axis.group(2)] = (_coordinate(answer, value, at), at)
    if axes["x"].keys() != axes["y"].keys() or not axes["x"]:
        raise answer.error("the tag has not one y for each x", "Ask again", opening.start())
    return [(x, axes["y"][index][0], at) for index, (x, at) in axes["x"].items()]


def _triplets(answer: Answer, coords: str, at: int) -> list[tuple[float, float, int]]:
    parts = [(found.group(), at + found.start()) for found in re.finditer(r"[^\s;,]+", coords)]
    if ";" in coords or len(parts) % 3 != 1:
        raise answer.error(
            "coords is not the number of one image and then number, x and y of each point",
            "Ask about one image at a time",
            at,
        )
    values = [(_coordinate(answer, part, place), place) for part, place in parts]
    return [(values[i + 1][0], values[i + 2][0], values[i + 1][1]) for i in range(1, len(values), 3)]


def _coordinate(answer: Answer, text: str, at: int) -> float:
    if not _COORDINATE.fullmatch(text.strip()):
        raise answer.error(f"'{text[:20]}' is no number", "Ask again", at)
    return float(number(text.strip(), at))


def _unescaped(label: str) -> str:
    for entity, char in _ENTITIES:
        label = label.replace(entity, char)
    return label
