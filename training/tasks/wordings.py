"""Wordings put together from verbs, prepositions and turns of politeness, for training alone.

The lists of :mod:`hiervla.training.tasks.phrases` hold a few sentences for each kind of request, and a model that reads
nothing else learns those sentences. What is put together here comes in hundreds of forms, so that the words that
carry the meaning have to be read. A held-out wording is never among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import numpy as np

from hiervla.training.tasks.phrases import JOINS, NOUNS, TEMPLATES, WRAPPERS, Split, choose

COMPOSED: Final = 0.5
"""Share of the training wordings that are put together."""

Maker = Callable[[np.random.Generator], str]

_LAY: Final = ("put", "put", "place", "move", "set", "lay", "bring", "get", "store", "transfer", "leave")
_LAY_IT: Final = ("put", "put", "place", "move", "set", "lay", "store", "bring", "leave")
_TAKE: Final = ("take", "grab", "pick up", "get", "lift", "fetch")
_AND: Final = (" and ", " and ", " and then ", ", then ", ", ")
_MUST: Final = ("should", "must", "has to", "needs to", "ought to", "can")
_WISH: Final = ("i want you to", "i would like you to", "i need you to", "you should", "you have to", "make sure to")


def _take_and(rng: np.random.Generator, then: str) -> str:
    take = "pick {x} up" if rng.random() < 0.15 else f"{choose(rng, _TAKE)} {{x}}"
    return f"{take}{choose(rng, _AND)}{then}"


def _asked(rng: np.random.Generator, order: str) -> str:
    """An order, at times as a wish."""
    return f"{choose(rng, _WISH)} {order}" if rng.random() < 0.12 else order


def _put(rng: np.random.Generator) -> str:
    coin = rng.random()
    if coin < 0.35:
        down = " down" if rng.random() < 0.12 else ""
        return _asked(rng, f"{choose(rng, _LAY)} {{x}}{down} {{d}}")
    if coin < 0.65:
        down = " down" if rng.random() < 0.12 else ""
        return _asked(rng, _take_and(rng, f"{choose(rng, _LAY_IT)} {{it}}{down} {{d}}"))
    if coin < 0.85:
        return f"{{x}} {choose(rng, _MUST)} {choose(rng, ('go', 'be', 'be put', 'lie', 'end up', 'stand'))} {{d}}"
    return choose(
        rng,
        (
            "i want {x} to be {d}", "i want {x} {d}", "i would like {x} {d}", "i want to have {x} {d}", "{x} goes {d}",
            "{x} belongs {d}", "{x} is to be put {d}", "see to it that {x} is {d}", "make sure {x} is {d}",
            "make sure that {x} is {d}", "let {x} be {d}", "have {x} put {d}",
        ),
    )  # fmt: skip


def _throw(rng: np.random.Generator) -> str:
    where = f"{choose(rng, ('in', 'into', 'to'))} the {{bin}}"
    verb = choose(rng, ("throw", "throw", "toss", "drop", "put"))
    coin = rng.random()
    if coin < 0.25:
        return _asked(rng, f"{verb} {{x}} {where}")
    if coin < 0.45:
        return _asked(rng, f"{choose(rng, ('throw', 'toss', 'chuck'))} {{x}} {choose(rng, ('away', 'out'))}")
    if coin < 0.70:
        ends = (f"{verb} {{it}} {where}", "throw {it} away", "throw {it} out", "discard {it}", "dispose of {it}")
        return _asked(rng, _take_and(rng, choose(rng, ends)))
    if coin < 0.85:
        return f"{{x}} {choose(rng, _MUST)} {choose(rng, (f'go {where}', 'be thrown away', f'be thrown {where}'))}"
    return choose(
        rng,
        (
            "get rid of {x}", "dispose of {x}", "discard {x}", "bin {x}", "i want {x} in the {bin}",
            "{x} goes in the {bin}", "{x} goes into the {bin}", "throw away {x}",
            "i do not need {x} any more, throw {it} away",
        ),
    )  # fmt: skip


def _stack(rng: np.random.Generator) -> str:
    on = choose(rng, ("on", "on", "on top of", "onto", "on top of"))
    verb = choose(rng, ("stack", "stack", "pile", "put", "place", "set", "lay"))
    coin = rng.random()
    if coin < 0.5:
        return _asked(rng, f"{verb} {{x}} {on} {{y}}")
    if coin < 0.75:
        return _asked(rng, _take_and(rng, f"{verb} it {on} {{y}}"))
    if coin < 0.9:
        return f"{{x}} {choose(rng, _MUST)} {choose(rng, ('be', 'stand', 'go', 'sit', 'lie'))} {on} {{y}}"
    return choose(
        rng, ("i want {x} on {y}", "i want {x} on top of {y}", "{x} goes on {y}", "{x} belongs on top of {y}")
    )


def _unstack(rng: np.random.Generator) -> str:
    verb, coin = choose(rng, ("take", "get", "move", "remove", "lift")), rng.random()
    off = "from" if verb == "remove" else choose(rng, ("off", "from"))
    table = f"{choose(rng, ('on', 'onto'))} the {{table}}"
    if coin < 0.3:
        return f"{verb} {{x}} {off} {{s}}"
    if coin < 0.6:
        tail = f"{choose(rng, ('put', 'place', 'set', 'lay'))} it{choose(rng, ('', '', ' down'))} {table}"
        return f"{verb} {{x}} {off} {{s}}{choose(rng, _AND)}{tail}"
    if coin < 0.85:
        return f"{choose(rng, _LAY)} {{x}}{choose(rng, ('', '', ' down', ' back'))} {table}"
    return choose(rng, ("take {x} down", "bring {x} down", "i want {x} on the {table}", "{x} should be on the {table}"))


def _swap(rng: np.random.Generator) -> str:
    verb = choose(rng, ("swap", "exchange", "switch"))
    trade = choose(rng, ("change", "trade", "swap", "switch"))
    coin = rng.random()
    if coin < 0.5:
        return f"{verb} {{x}} {choose(rng, ('and', 'with', 'for'))} {{y}}"
    if coin < 0.75:
        return f"{choose(rng, ('make', 'let', 'have'))} {{x}} and {{y}} {trade} places"
    return f"{{x}} and {{y}} {choose(rng, ('should', 'must', 'have to'))} {trade} places"


def _beside(rng: np.random.Generator) -> str:
    coin = rng.random()
    if coin < 0.5:
        return f"{choose(rng, _LAY)} {{x}} {{side}} {{y}}"
    if coin < 0.75:
        return _take_and(rng, f"{choose(rng, _LAY_IT)} it {{side}} {{y}}")
    return f"{{x}} {choose(rng, _MUST)} {choose(rng, ('be', 'stand', 'go'))} {{side}} {{y}}"


def _drawer(rng: np.random.Generator, verbs: tuple[str, ...], state: str) -> str:
    return choose(
        rng,
        (
            *(f"{v} the drawer" for v in verbs), f"the drawer should be {state}", f"i need the drawer {state}",
            f"make sure the drawer is {state}", f"the drawer has to be {state}", f"have the drawer {state}",
        ),
    )  # fmt: skip


def _clear(rng: np.random.Generator) -> str:
    coin, verb = rng.random(), choose(rng, ("clear", "tidy", "tidy up"))
    thing = choose(rng, ("everything", "all things", "everything that is"))
    if coin < 0.3:
        return f"{verb} the {{table}}"
    if coin < 0.65:
        return f"{choose(rng, ('put', 'tidy'))} away {thing} on the {{table}}".replace(
            "things on", "things that are on"
        )
    if coin < 0.85:
        return f"{choose(rng, ('get', 'take', 'clear', 'move'))} {thing.removesuffix(' that is')} off the {{table}}"
    state = choose(rng, ("empty", "tidy", "clear", "tidied up"))
    return f"{choose(rng, ('the {table} should be', 'i want the {table}', 'the {table} must be'))} {state}"


def _wipe(rng: np.random.Generator) -> str:
    what = choose(
        rng, ("the {table}", "up the {spill}", "away the {spill}", "the {spill}", "the {spill} off the {table}")
    )
    verb = choose(rng, ("wipe", "wipe", "clean", "mop") if "{spill}" in what else ("wipe", "clean"))
    coin = rng.random()
    if coin < 0.35:
        return f"{verb} {what}{choose(rng, ('', '', ' with the sponge'))}"
    if coin < 0.75:
        return f"{choose(rng, ('take', 'grab', 'get', 'pick up'))} the sponge{choose(rng, _AND)}{verb} {what}"
    if coin < 0.9:
        return f"use the sponge to {verb} {what}"
    remedy = f"{choose(rng, ('wipe', 'mop', 'clean'))} it {choose(rng, ('up', 'away'))}"
    return f"there is a {{spill}} on the {{table}}, {remedy}"


def _pick(rng: np.random.Generator) -> str:
    return f"{choose(rng, ('pick up', 'grab', 'take', 'lift', 'hold', 'fetch', 'get hold of'))} {{x}}"


_MAKERS: Final[Mapping[str, Maker]] = {
    "put": _put,
    "throw": _throw,
    "stack": _stack,
    "unstack": _unstack,
    "swap": _swap,
    "beside": _beside,
    "clear": _clear,
    "wipe": _wipe,
    "pick": _pick,
    "open": lambda rng: _drawer(rng, ("open", "open up", "pull open", "pull out"), "open"),
    "close": lambda rng: _drawer(rng, ("close", "shut", "push in", "push shut"), choose(rng, ("closed", "shut"))),
}

KINDS: Final = frozenset(_MAKERS)
"""Kinds of requests whose words can be put together; the others have those of the lists."""

_LATER: Final = ("then", "then", "after that", "afterwards", "next", "finally", "when that is done", "later")
_LAST: Final = ("after that", "afterwards", "then", "next", "too", "as well", "when that is done", "at the end")


def _join(rng: np.random.Generator) -> str:
    coin, gap = rng.random(), choose(rng, (", ", ". ", "; ", " and ", " and ", ", and "))
    opener = choose(rng, ("", "", "first ", "first ", "first, ", "first of all ", "to begin with "))
    if coin < 0.15:
        return f"{{b}}{choose(rng, (', but ', ' but ', '. but '))}{choose(rng, ('first', 'before that'))} {{a}}"
    if coin < 0.55:
        comma = "," if rng.random() < 0.2 else ""
        return f"{opener}{{a}}{gap}{choose(rng, _LATER)}{comma} {{b}}"
    if coin < 0.85:
        return f"{opener}{{a}}{gap}{{b}}{choose(rng, (' ', ' ', ', '))}{choose(rng, _LAST)}"
    return f"{opener}{{a}}{gap}{{b}}"


def _wrap(rng: np.random.Generator) -> str:
    call = choose(rng, ("", "", "", "robot, ", "hey robot, ", "ok robot, ", "ok, ", "now, ", "so, ", "hello, "))
    ask = choose(
        rng,
        (
            "", "", "", "", "please ", "could you ", "can you ", "would you ", "will you ", "could you please ",
            "now ", "your task is to ", "i want you to ", "i need you to ", "you have to ", "kindly ",
        ),
    )  # fmt: skip
    end = choose(
        rng, ("", "", "", "", ".", " please", ", please", " now", " for me", "?", " right now", ", thanks", "!")
    )
    return f"{call}{ask}{{a}}{end}"


@cache
def _held_out() -> frozenset[str]:
    lists = [*TEMPLATES.values(), JOINS, WRAPPERS]
    return frozenset(blank(words) for table in lists for words in table["test"]) - {"{}"}


def blank(words: str) -> str:
    """The words of a template without punctuation, its fields made alike."""
    kept = "".join(c for c in re.sub(r"\{\w+\}", "{}", words) if c.isalnum() or c in " {}")
    return " ".join(kept.lower().split())


def _composed(rng: np.random.Generator, maker: Maker) -> str:
    while True:
        words = maker(rng)
        if blank(words) not in _held_out():
            return words


def request_words(rng: np.random.Generator, kind: str) -> str:
    """A template for a request of one of `KINDS`, with the fields of the lists in `phrases.TEMPLATES`."""
    return _composed(rng, _MAKERS[kind])


def join_words(rng: np.random.Generator) -> str:
    """A frame for two requests; `{a}` comes first in time."""
    return _composed(rng, _join)


def wrap_words(rng: np.random.Generator) -> str:
    """A frame of politeness around an instruction `{a}`."""
    return _composed(rng, _wrap)


def say(rng: np.random.Generator, kind: str, split: Split, **parts: str) -> str:
    """A request of one kind in words; fixtures are named by one of their nouns."""
    words = {k: choose(rng, NOUNS[k]) for k in ("table", "bin", "spill")}
    composed = split == "train" and kind in KINDS and rng.random() < COMPOSED
    template = request_words(rng, kind) if composed else choose(rng, TEMPLATES[kind][split])
    return template.format(**{**words, **parts})


def wrap(rng: np.random.Generator, split: Split, text: str) -> str:
    """A whole instruction in a frame of politeness."""
    composed = split == "train" and rng.random() < COMPOSED
    return (wrap_words(rng) if composed else choose(rng, WRAPPERS[split])).format(a=text)


def join(rng: np.random.Generator, split: Split, first: str, second: str) -> str:
    """Two requests as one instruction."""
    composed = split == "train" and rng.random() < COMPOSED
    return (join_words(rng) if composed else choose(rng, JOINS[split])).format(a=first, b=second)
