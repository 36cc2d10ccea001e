"""Whether the things that an instruction names are in view.

The language model reads soft slots and makes the best of them: asked for a red block where there is none, it takes
another block more often than it says so. Names of kind and colour are plain words, which a rule holds against what is
seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from hiervla.planner.embedded.interjections import COLOUR_WORDS, NOUNS, plain_noun
from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, SceneSlots

# Nothing but a name stands behind an article or a colour: "can you" is not one, "a can" is.
_NAMED: Final = re.compile(
    rf"\b(?:(?:the|a|an|this|that)\s+(?:(?P<colour>{COLOUR_WORDS})\s+)?|(?P<bare>{COLOUR_WORDS})\s+)(?P<noun>{NOUNS})\b"
)
_FAINT: Final = 0.1
"""A slot that is less likely than this to hold a thing does not hold it."""


def named(instruction: str) -> list[str]:
    """The single things that an instruction names, such as "red block" or "plate", in the order of the words.

    >>> named("Put the red cube on a dish and throw all cans away, can you?")
    ['red block', 'plate']
    """
    text = " ".join(instruction.lower().split())
    found = (f"{m['colour'] or m['bare'] or ''} {plain_noun(m['noun'])}".strip() for m in _NAMED.finditer(text))
    return list(dict.fromkeys(found))


def absent(instruction: str, slots: SceneSlots, handled: Iterable[str] = ()) -> str:
    """The first thing that is named and not in view; "" when all are there.

    Args:
        instruction: free text. Only single things count: of "all cans" there may be none.
        slots: what is seen.
        handled: names of things that steps have dealt with, which may be out of sight by now.
    """
    before = set(handled)
    before |= {name.rpartition(" ")[2] for name in before}
    for name in named(instruction):
        colour, _, kind = name.rpartition(" ")
        likely = slots.category[:, CATEGORIES.index(kind)]
        if colour:
            likely = likely * slots.colour[:, COLOURS.index(colour)]
        if likely.max(initial=0.0) < _FAINT and name not in before:
            return name
    return ""
