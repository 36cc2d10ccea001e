"""Wordings: for each kind of request the ones that are trained on and the ones that are held out for tests.

No held-out wording is ever used in training, but every word of it occurs in some training wording: a model
that starts from nothing cannot know a word that it has never met. A test guards both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Split = Literal["train", "test"]

NOUNS: Final[Mapping[str, tuple[str, ...]]] = {
    "block": ("block", "block", "cube"),
    "mug": ("mug", "mug", "cup"),
    "can": ("can", "can", "tin"),
    "sponge": ("sponge",),
    "bowl": ("bowl",),
    "plate": ("plate", "plate", "dish"),
    "top_shelf": ("top shelf", "top shelf", "upper shelf", "upper board"),
    "bottom_shelf": ("bottom shelf", "bottom shelf", "lower shelf", "lower board"),
    "drawer": ("drawer",),
    "bin": ("bin", "trash", "rubbish bin", "trash can", "garbage"),
    "table": ("table", "table", "dining table"),
    "spill": ("spill", "stain", "mess", "puddle"),
}
"""Words for each category, the usual one repeated so that it comes more often."""

PLURAL: Final[Mapping[str, str]] = {
    "block": "blocks",
    "cube": "cubes",
    "mug": "mugs",
    "cup": "cups",
    "can": "cans",
    "tin": "tins",
    "sponge": "sponges",
    "bowl": "bowls",
    "plate": "plates",
    "dish": "dishes",
}

TEMPLATES: Final[Mapping[str, Mapping[Split, tuple[str, ...]]]] = {
    # {x}: what, {d}: where to, {it}: it or them
    "put": {
        "train": (
            "put {x} {d}",
            "put {x} {d}",
            "place {x} {d}",
            "move {x} {d}",
            "set {x} {d}",
            "set {x} down {d}",
            "get {x} {d}",
            "bring {x} {d}",
            "lay {x} {d}",
            "take {x} and put {it} {d}",
            "grab {x} and place {it} {d}",
            "pick up {x} and put {it} {d}",
            "pick {x} up and set {it} {d}",
            "i want {x} {d}",
            "i would like {x} to be {d}",
            "{x} should go {d}",
            "{x} belongs {d}",
            "make sure that {x} ends up {d}",
            "store {x} {d}",
            "i need you to move {x} {d}",
            "transfer {x} {d}",
        ),
        "test": (
            "get {x} and set {it} down {d}",
            "take {x} and move {it} {d}",
            "i would like you to put {x} {d}",
            "{x} has to go {d}",
            "grab {x} and store {it} {d}",
            "i need {x} {d}",
            "pick up {x} and lay {it} {d}",
        ),
    },
    "throw": {
        "train": (
            "throw {x} away",
            "throw away {x}",
            "throw {x} in the {bin}",
            "throw {x} into the {bin}",
            "put {x} in the {bin}",
            "put {x} into the {bin}",
            "drop {x} in the {bin}",
            "toss {x} into the {bin}",
            "dispose of {x}",
            "get rid of {x}",
            "discard {x}",
            "bin {x}",
            "{x} can go in the {bin}",
            "{x} should be thrown away",
            "pick up {x} and throw {it} away",
            "move {x} to the {bin}",
            "throw {x} out",
            "throw out {x}",
            "toss {x} out",
            "toss out {x}",
        ),
        "test": (
            "toss {x} in the {bin}",
            "take {x} and throw {it} in the {bin}",
            "drop {x} into the {bin}",
            "grab {x} and get rid of {it}",
            "{x} belongs in the {bin}",
            "toss {x} away",
        ),
    },
    "clear": {
        "train": (
            "clear the {table}",
            "clear the {table}",
            "clear the {table}",
            "clear off the {table}",
            "clear up the {table}",
            "tidy the {table}",
            "tidy up the {table}",
            "tidy up",
            "clear everything off the {table}",
            "put everything on the {table} away",
            "put away everything that is on the {table}",
            "empty the {table}",
            "get everything off the {table}",
            "make the {table} tidy",
            "the {table} should be empty",
            "take everything off the {table}",
            "the {table} has to be cleared",
        ),
        "test": (
            "clear away everything on the {table}",
            "tidy everything off the {table}",
            "make the {table} empty",
            "put everything away that is on the {table}",
            "the {table} should be cleared",
            "get the {table} tidy",
        ),
    },
    "wipe": {
        "train": (
            "wipe the {table}",
            "wipe the {table}",
            "wipe off the {table}",
            "wipe up the {spill}",
            "wipe away the {spill}",
            "wipe the {spill}",
            "wipe the {spill} off the {table}",
            "wipe the {table} with the sponge",
            "clean up the {spill}",
            "clean the {spill}",
            "pick up the sponge and wipe the {table}",
            "pick up the sponge, wipe the {table}",
            "take the sponge and wipe up the {spill}",
            "use the sponge to wipe the {table}",
            "use the sponge to clean up the {spill}",
            "remove the {spill} with the sponge",
            "there is a {spill} on the {table}, wipe it up",
            "grab the sponge, wipe off the {table}",
            "mop up the {spill}",
            "somebody spilled something, wipe it up",
        ),
        "test": (
            "use the sponge to remove the {spill}",
            "take the sponge, wipe the {table}",
            "clean the {spill} off the {table}",
            "grab the sponge and mop up the {spill}",
            "there is a {spill} on the {table}, clean it up",
            "take the sponge and wipe off the {table}",
        ),
    },
    "sponge_back": {
        "train": (
            "put the sponge back",
            "put the sponge back on the {table}",
            "put it back",
            "lay the sponge down again",
        ),
        "test": ("put the sponge down again", "lay it back on the {table}"),
    },
    "sponge_throw": {
        "train": (
            "throw the sponge away",
            "throw away the sponge",
            "throw it away",
            "discard the sponge",
            "throw the sponge in the {bin}",
            "get rid of the sponge",
            "put the sponge in the {bin}",
        ),
        "test": ("toss the sponge in the {bin}", "dispose of the sponge", "get rid of it"),
    },
    "swap": {
        "train": (
            "swap {x} and {y}",
            "swap {x} with {y}",
            "exchange {x} and {y}",
            "switch {x} and {y}",
            "make {x} and {y} change places",
            "{x} and {y} should trade places",
            "put {x} where {y} is and {y} where {x} is",
        ),
        "test": (
            "exchange {x} with {y}",
            "make {x} and {y} trade places",
            "{x} and {y} should change places",
            "switch {x} with {y}",
        ),
    },
    "swap_all": {
        "train": (
            "swap the things on the two {dishes}",
            "swap what is on the two {dishes}",
            "exchange the things on the {dishes}",
            "switch the contents of the two {dishes}",
            "swap the contents of the {dishes}",
            "make the things on the two {dishes} change places",
        ),
        "test": (
            "switch what is on the two {dishes}",
            "exchange the contents of the two {dishes}",
            "make the things on the {dishes} trade places",
        ),
    },
    "open": {
        "train": (
            "open the drawer",
            "pull the drawer open",
            "pull out the drawer",
            "make sure that the drawer is open",
        ),
        "test": ("get the drawer open", "i want the drawer open"),
    },
    "close": {
        "train": (
            "close the drawer",
            "shut the drawer",
            "push the drawer shut",
            "push the drawer closed",
            "make sure that the drawer is closed",
        ),
        "test": ("get the drawer shut", "make sure that the drawer is shut"),
    },
    "close_it": {
        "train": ("close it", "close the drawer", "shut it", "close it again", "shut the drawer"),
        "test": ("close the drawer again", "push it shut"),
    },
    "stack": {
        "train": (
            "stack {x} on {y}",
            "stack {x} on top of {y}",
            "put {x} on {y}",
            "put {x} on top of {y}",
            "place {x} on {y}",
            "pile {x} on {y}",
            "{x} should stand on {y}",
            "build a tower with {x} on {y}",
            "set {x} on top of {y}",
        ),
        "test": (
            "pile {x} on top of {y}",
            "{x} should be on top of {y}",
            "take {x} and stack it on {y}",
            "move {x} on top of {y}",
        ),
    },
    "unstack": {
        "train": (
            "take {x} off {s}",
            "take {x} off {s} and put it on the {table}",
            "put {x} down on the {table}",
            "put {x} on the {table}",
            "move {x} from {s} to the {table}",
            "take {x} down",
            "remove {x} from {s}",
            "get {x} off {s}",
            "unstack {x}",
        ),
        "test": (
            "get {x} down",
            "remove {x} from {s} and put it on the {table}",
            "move {x} off {s}",
            "place {x} on the {table}",
        ),
    },
    "beside": {
        "train": (
            "put {x} {side} {y}",
            "place {x} {side} {y}",
            "move {x} {side} {y}",
            "set {x} down {side} {y}",
            "{x} should stand {side} {y}",
        ),
        "test": ("get {x} {side} {y}", "i want {x} {side} {y}"),
    },
    "pick": {
        "train": ("pick up {x}", "grab {x}", "take {x}", "pick {x} up", "lift {x}", "hold {x}", "grasp {x}"),
        "test": ("lift up {x}", "grab hold of {x}"),
    },
}

SIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "left_of": ("left of", "to the left of"),
    "right_of": ("right of", "to the right of"),
}

WRAPPERS: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": (
        "{a}",
        "{a}",
        "{a}",
        "{a}",
        "{a}.",
        "please {a}",
        "{a} please",
        "{a}, please.",
        "can you {a}?",
        "could you {a}",
        "robot, {a}",
        "now {a}",
        "hey robot, {a}",
        "would you {a} for me?",
        "i want you to {a}",
        "ok, {a} now",
        "your task: {a}",
        "you should {a}",
    ),
    "test": (
        "{a}",
        "please {a} now",
        "could you please {a}?",
        "hey robot, can you {a}",
        "now {a} for me",
        "ok robot, {a}.",
    ),
}
"""Frames around a whole instruction `{a}`."""

JOINS: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": (
        "{a} and {b}",
        "{a} and {b}",
        "{a}, then {b}",
        "{a} and then {b}",
        "{a}. then {b}",
        "first {a}, then {b}",
        "{a}, and {b}",
        "{a}. {b}.",
        "{a}; {b}",
        "{a}. after that, {b}",
        "{b}, but first {a}",
        "before anything else {a}, afterwards {b}",
    ),
    "test": (
        "{a}, afterwards {b}",
        "first {a} and then {b}",
        "{a} and after that {b}",
        "first {a}. afterwards {b}",
        "first {a} and {b} after that",
    ),
}
"""Frames around two requests; `{a}` comes first in time."""


@dataclass(frozen=True, slots=True)
class TowerWords:
    """A sentence for a tower: {x} on {y}, which is on {z}.

    Attributes:
        frame: the sentence; {0} and {1} are its parts, where it has any.
        parts: what is asked for first and second in time, each a request by itself.
    """

    frame: str
    parts: tuple[str, ...] = ()


TOWERS: Final[Mapping[Split, tuple[TowerWords, ...]]] = {
    "train": (
        TowerWords("build a tower: {z}, then {y}, then {x}"),
        TowerWords("build a tower of {z}, {y} and {x} from the bottom up"),
        TowerWords("stack {y} on {z}, then {x} on top"),
        TowerWords("i want {x} on top of {y} and that one on top of {z}"),
        TowerWords("pile {x} on top of {y} with {y} on top of {z}"),
        TowerWords("get {x} on top of {y}, which belongs on top of {z}"),
        TowerWords("{z} at the bottom, {y} on top of it and {x} on top of that"),
    ),
    "test": (
        TowerWords("{0} and then {1}", ("stack {y} on {z}", "{x} on {y}")),
        TowerWords("{1} and {0}", ("{y} on top of {z}", "put {x} on top of {y}")),
    ),
}
"""Whole sentences for a tower of three; most of the training ones are put together by :func:`tower_words`."""


def tower_words(rng: np.random.Generator, split: Split) -> TowerWords:
    """Words for a tower: from the bottom up or from the top down, with or without a second verb."""
    if split == "test" or rng.random() < 0.3:
        return TOWERS[split][int(rng.integers(len(TOWERS[split])))]
    held_out = {t.frame.format(*t.parts, x="{x}", y="{y}", z="{z}") for t in TOWERS["test"]}
    while True:
        verb, again = (choose(rng, ("put", "place", "set", "stack", "pile", "move")) for _ in range(2))
        on = choose(rng, ("on", "on", "on top of", "onto"))
        parts = [f"{{y}} {on} {{z}}", f"{{x}} {on} {{y}}"]
        first = int(rng.random() < 0.5)
        link = choose(rng, (" and ", " and ", " and then ", ", then ", ", and ", ", "))
        parts[first] = f"{verb} {parts[first]}"
        if rng.random() < 0.35:
            parts[1 - first] = f"{again} {parts[1 - first]}"
        words = TowerWords(f"{{{first}}}{link}{{{1 - first}}}", (parts[0], parts[1]))
        if words.frame.format(*words.parts) not in held_out:
            return words


def choose(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """One of `options`."""
    return options[int(rng.integers(len(options)))]
