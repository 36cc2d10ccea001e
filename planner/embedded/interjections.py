"""What a correction in words makes of an instruction, for a planner that reads one whole instruction.

A person who interrupts rarely says a whole sentence: "no, the blue one" speaks of the instruction before it. The
small planner has never seen such dialogues, so the words are put together here, by rules that stand below; what they
do not cover is taken as a new instruction, which the planner may refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from hiervla.planner.embedded.slots import COLOURS

COLOUR_WORDS: Final = "|".join(c for c in COLOURS if c != "none")
NOUNS: Final = "block|cube|mug|cup|can|tin|sponge|bowl|plate|dish"
_LEAD: Final = re.compile(
    r"^(?:(?:no|nope|stop|wait|sorry|actually|rather|instead|please|i (?:mean|meant|said)|not that(?: one)?)\b"
    r"[\s,.;:!]*)+",
    re.IGNORECASE,
)
_ONE: Final = re.compile(rf"^(?:the|that)?\s*(?P<colour>{COLOUR_WORDS})\s+(?P<noun>one|{NOUNS})$", re.IGNORECASE)
_PLACE: Final = re.compile(r"^(?:on|onto|in|into|to)\s+the\s+[a-z ]+$", re.IGNORECASE)
_NAMED: Final = re.compile(rf"\bthe\s+(?:(?P<colour>{COLOUR_WORDS})\s+)?(?P<noun>{NOUNS})\b", re.IGNORECASE)
_GOAL: Final = re.compile(r"\b(?:on|onto|in|into|to)\s+the\s+[a-z ]+?(?=\s+and\b|[,.;]|$)", re.IGNORECASE)
_SAME: Final = {"cube": "block", "cup": "mug", "tin": "can", "dish": "plate"}


def amended(instruction: str, said: Iterable[str]) -> str:
    """The instruction after corrections in words, in the order in which they were said.

    - "no, the blue one", "I meant the blue mug": the colour takes the place of that of the first thing in the
      instruction (of the first thing of that name; of the first one without a colour, where there is one).
    - "on the bottom shelf", "no, into the drawer": takes the place of the last destination.
    - anything else is the new instruction.

    >>> amended("put the red mug on the top shelf", ["no, the blue one"])
    'put the blue mug on the top shelf'
    """
    text = instruction.strip()
    for words in said:
        text = _amend(text, words.strip())
    return text


def _amend(instruction: str, words: str) -> str:
    rest = _LEAD.sub("", words).strip().rstrip(".!?").strip()
    rest = re.sub(r",?\s*(?:please|instead)$", "", rest, flags=re.IGNORECASE)
    one = _ONE.match(rest)
    if one is not None:
        wanted = plain_noun(one["noun"])
        all_named = list(_NAMED.finditer(instruction))
        # What has no colour yet is what is left open.
        open_first = sorted(all_named, key=lambda m: m["colour"] is not None) if wanted != "one" else all_named
        for named in open_first:
            if wanted in {"one", plain_noun(named["noun"])}:
                new = f"the {one['colour'].lower()} {named['noun']}"
                return f"{instruction[: named.start()]}{new}{instruction[named.end() :]}"
    elif _PLACE.match(rest):
        goals = list(_GOAL.finditer(instruction))
        if goals:
            return f"{instruction[: goals[-1].start()]}{rest}{instruction[goals[-1].end() :]}"
    return rest or instruction


def plain_noun(noun: str) -> str:
    """The usual word for a thing: "block" for "cube"."""
    return _SAME.get(noun.lower(), noun.lower())
