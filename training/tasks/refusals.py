"""Instructions that a truthful planner declines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from hiervla.training.tasks.domain import COLOURS, LOOSE, PICKABLE
from hiervla.training.tasks.phrases import NOUNS, Split, choose
from hiervla.training.tasks.references import View, noun, refer
from hiervla.training.tasks.wordings import say

Reason = Literal["not_in_scene", "nothing_to_do", "cannot_do", "not_understood"]

IMPOSSIBLE: Final[dict[Split, tuple[str, ...]]] = {
    "train": (
        "fly to the window", "make me a coffee", "cook dinner", "sing a song", "dance", "wash the dishes",
        "write a letter", "drive to work", "jump over the table", "cut the bread", "peel the potatoes",
        "pour water into {x}", "fill {x} with tea", "break {x}", "eat {x}", "paint {x} blue", "buy a new {y}",
        "call my mother", "switch off the light", "turn on the music", "read me a book", "open the window",
        "close the door", "walk the dog", "vacuum the floor", "throw {x} at the wall", "pick up the table",
        "lift the shelf", "move the shelf", "pick up the drawer", "carry the table outside", "take {x} to the kitchen",
        "heat {x} in the oven", "fold the towel", "iron my shirt", "feed the cat", "book a flight", "fix {x}",
        "pour the coffee out of {x}", "bring me a beer", "shake {x}", "spin {x} around", "burn {x}", "melt {x}",
        "put {x} on the moon", "count to ten", "what time is it", "tell me a joke", "play music",
        "hide under the table",
        "pick up the bin", "throw the table away", "throw the drawer away", "move the bin onto the table",
        "go to the kitchen", "clean the window", "cook {x}", "cook the {y} for dinner", "drink from {x}",
    ),
    "test": (
        "cook tea", "fly to the moon", "drive to the kitchen", "make dinner", "paint the wall", "eat the bread",
        "buy me a book", "turn off the music", "read me a letter", "clean the floor", "lift the table",
        "throw the shelf away", "heat the water", "fix the door", "walk to the window", "bring me a coffee",
    ),
}  # fmt: skip

_CHORES: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("clean", "wash", "sweep", "vacuum", "mop", "wipe", "scrub"), ("the floor", "the window", "the wall", "the door")),
    (("lift", "carry", "push", "pull", "break", "turn over", "throw", "throw away", "paint", "move", "pick up"),
     ("the table", "the shelf", "the wall", "the robot", "the floor", "the door", "the window", "the whole drawer")),
    (("cook", "make", "bring me", "make me", "prepare", "buy", "order", "pour me"),
     ("dinner", "tea", "coffee", "a coffee", "bread", "the bread", "lunch", "a beer", "some water", "potatoes",
      "breakfast", "the food", "some food")),
    (("turn on", "turn off", "switch on", "switch off", "fix", "repair"),
     ("the light", "the music", "the oven", "the door", "the window", "the radio", "the robot")),
    (("read", "write", "read me", "buy", "buy me", "bring me", "tell me"),
     ("a book", "a letter", "a story", "the time", "a joke", "the news")),
    (("go to", "walk to", "drive to", "fly to", "run to", "jump to", "move to"),
     ("the kitchen", "the window", "the door", "the moon", "work", "my mother", "the wall")),
    (("heat", "boil", "drink", "cook", "spill", "freeze"), ("the water", "the tea", "the coffee", "the bread")),
)  # fmt: skip
"""Verbs and what they go with, for things that this robot cannot do."""

SENSELESS: Final[dict[Split, tuple[str, ...]]] = {
    "train": (
        "hello", "hi", "yes", "no", "why", "ok", "blue", "the", "on the", "red the on", "of of of", "maybe", "hmm",
        "thank you", "thanks", "good morning", "left", "and then", "it", "please", "mug", "table", "robot", "what",
        "who are you", "how are you", "put", "pick up", "the red", "in the", "do it", "something", "go", "stop",
        "shelf top the on", "a b c", "1 2 3", "test", "test test", "foo bar", "lorem ipsum", "move", "clear",
    ),
    "test": ("hello robot", "good", "the the the", "thanks robot", "put the", "blue red", "then", "what it", "no no"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Declined:
    """An instruction and the answer to it."""

    text: str
    reason: Reason
    missing: str = ""


def decline(rng: np.random.Generator, view: View, split: Split) -> Declined | None:
    """An instruction to decline in this scene, or None if the draw did not work out."""
    chance = rng.random()
    if chance < 0.40:
        return _absent(rng, view, split)
    if chance < 0.62:
        return _done_already(rng, view, split)
    if chance < 0.86:
        return _impossible(rng, view, split)
    return _senseless(rng, split)


def _absent(rng: np.random.Generator, view: View, split: Split) -> Declined | None:
    if rng.random() < 0.12 and not view.things("sponge") and view.scene.category("spill"):
        return Declined(say(rng, "wipe", split), "not_in_scene", "sponge")
    kind, colour = choose(rng, PICKABLE), choose(rng, COLOURS)
    word = noun(rng, kind)
    peers = view.things(kind)
    if not peers and rng.random() < 0.4:
        missing, name = kind, f"the {word}"
    elif all(o.colour != colour for o in peers):
        missing, name = f"{colour} {kind}", f"the {colour} {word}"
    else:
        return None
    if rng.random() < 0.25:
        # The thing is there, the dish that it should go to is not.
        dish = choose(rng, ("bowl", "plate"))
        blocks = view.things("block")
        if any(o.colour == colour for o in view.things(dish)) or not blocks:
            return None
        x = refer(rng, view, blocks[int(rng.integers(len(blocks)))].id)
        if x is None:
            return None
        d = f"{'in' if dish == 'bowl' else 'on'} the {colour} {noun(rng, dish)}"
        return Declined(say(rng, "put", split, x=x, d=d, it="it"), "not_in_scene", f"{colour} {dish}")
    if rng.random() < 0.3:
        return Declined(say(rng, "throw", split, x=name, it="it"), "not_in_scene", missing)
    places = [f"on the {noun(rng, 'top_shelf')}", f"on the {noun(rng, 'bottom_shelf')}"]
    if kind in {"block", "sponge"}:
        places.append("in the drawer")
    if rng.random() < 0.2:
        return Declined(say(rng, "pick", split, x=name), "not_in_scene", missing)
    return Declined(say(rng, "put", split, x=name, d=choose(rng, places), it="it"), "not_in_scene", missing)


def _done_already(rng: np.random.Generator, view: View, split: Split) -> Declined | None:
    scene = view.scene
    chance = rng.random()
    if chance < 0.25:
        rest = [o for o in view.things() if o.category in {"mug", "block", "can"} and scene.root(o.id) == "table"]
        return None if rest or scene.held else Declined(say(rng, "clear", split), "nothing_to_do")
    if chance < 0.45:
        dirty = any(scene.visible(s) for s in scene.category("spill"))
        return None if dirty or not view.things("sponge") else Declined(say(rng, "wipe", split), "nothing_to_do")
    if chance < 0.6:
        return Declined(say(rng, "open" if scene.drawer_open else "close", split), "nothing_to_do")
    stored = [o for o in view.things() if o.support not in {"table", "gripper"} and o.category in PICKABLE]
    if not stored:
        return None
    o = stored[int(rng.integers(len(stored)))]
    x, y = refer(rng, view, o.id, simple=True), refer(rng, view, o.support, simple=True)
    if x is None or y is None:
        return None
    inside = scene.objects[o.support].category in {"bowl", "drawer"}
    return Declined(say(rng, "put", split, x=x, d=f"{'in' if inside else 'on'} {y}", it="it"), "nothing_to_do")


def _impossible(rng: np.random.Generator, view: View, split: Split) -> Declined | None:
    things = view.things()
    if not things:
        return None
    o = things[int(rng.integers(len(things)))]
    x = refer(rng, view, o.id)
    if x is None:
        return None
    chance = rng.random()
    if split == "train" and chance < 0.3:
        return Declined(_chore(rng), "cannot_do")
    if chance < 0.6:
        return Declined(choose(rng, IMPOSSIBLE[split]).format(x=x, y=noun(rng, o.category)), "cannot_do")
    if o.category in {"bowl", "plate"}:
        kind = choose(rng, ("pick", "throw", "put"))
        place = f"on the {noun(rng, 'top_shelf')}" if rng.random() < 0.5 else "in the drawer"
        return Declined(say(rng, kind, split, x=x, d=place, it="it"), "cannot_do")
    if o.category in {"mug", "can"}:
        bowls = view.things("bowl")
        where = refer(rng, view, bowls[0].id) if bowls and rng.random() < 0.5 else "the drawer"
        return Declined(say(rng, "put", split, x=x, d=f"in {where}", it="it"), "cannot_do") if where else None
    return None


def _chore(rng: np.random.Generator) -> str:
    """An impossible errand put together from a verb and a noun, but none that is held out for tests."""
    while True:
        verbs, nouns = _CHORES[int(rng.integers(len(_CHORES)))]
        words = f"{choose(rng, verbs)} {choose(rng, nouns)}"
        if words not in IMPOSSIBLE["test"]:
            return words


def _senseless(rng: np.random.Generator, split: Split) -> Declined:
    if rng.random() < 0.5:
        return Declined(choose(rng, SENSELESS[split]), "not_understood")
    if rng.random() < 0.6:
        letters = "abcdefghijklmnopqrstuvwxyz"
        lengths = rng.integers(2, 8, size=int(rng.integers(1, 5)))
        words = ["".join(choose(rng, list(letters)) for _ in range(n)) for n in lengths]
        return Declined(" ".join(words), "not_understood")
    bag = [w for nouns in NOUNS.values() for w in nouns]
    bag += ["the", "on", "in", "of", "and", "with", "to", *COLOURS, *LOOSE]
    return Declined(" ".join(choose(rng, bag) for _ in range(int(rng.integers(2, 7)))), "not_understood")
