"""Referring expressions: how a person singles out one thing, or some things, of a scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hiervla.training.tasks.domain import LOOSE, PICKABLE, SHELVES, SymbolicObject, SymbolicScene
from hiervla.training.tasks.mentions import mark
from hiervla.training.tasks.phrases import NOUNS, PLURAL, choose

MARGIN = 0.045
"""Least distance in image widths between things that "left" and "right" must tell apart."""


@dataclass(frozen=True, slots=True)
class View:
    """What can be referred to: the visible things of a scene and their image columns (0..1).

    Attributes:
        scene: the scene.
        columns: image column of each visible thing.
        marked: whether phrases carry the marks of `mentions`, to be read off the finished instruction.
    """

    scene: SymbolicScene
    columns: Mapping[str, float]
    marked: bool = False

    def things(self, category: str | None = None) -> list[SymbolicObject]:
        """Visible loose things, of one category if given."""
        loose = [o for o in self.scene.objects.values() if o.category in LOOSE and o.id in self.columns]
        return [o for o in loose if category is None or o.category == category]

    def naming(self, phrase: str, *ids: str) -> str:
        """The phrase, with marks that say what it names where they are asked for."""
        return mark(phrase, ids) if self.marked else phrase


def noun(rng: np.random.Generator, category: str) -> str:
    """A word for a category."""
    return choose(rng, NOUNS[category])


def plain_name(scene: SymbolicScene, object_id: str) -> str:
    """The name that the history uses: "red mug", "top shelf", "table"."""
    if object_id not in scene.objects:
        return object_id.replace("_", " ")
    o = scene.objects[object_id]
    return f"{o.colour} {o.category}" if o.category in LOOSE else o.category.replace("_", " ")


def refer(rng: np.random.Generator, view: View, object_id: str, simple: bool = False) -> str | None:
    """A phrase that names exactly this thing, or None when there is none.

    Args:
        rng: chooses the words.
        view: what can be seen.
        object_id: the thing.
        simple: only colour and category.
    """
    o = view.scene.objects[object_id]
    if o.category not in LOOSE:
        return view.naming(f"the {noun(rng, o.category)}", object_id)
    word = noun(rng, o.category)
    peers = view.things(o.category)
    options: list[str] = []
    if sum(p.colour == o.colour for p in peers) == 1:
        options += [f"the {o.colour} {word}"] * 3
    if len(peers) == 1:
        options += [f"the {word}"] * 2
    if not simple and len(peers) > 1:
        options += _by_place(rng, view, o, word, peers)
    return view.naming(choose(rng, options), object_id) if options else None


def _by_place(
    rng: np.random.Generator, view: View, o: SymbolicObject, word: str, peers: list[SymbolicObject]
) -> list[str]:
    options: list[str] = []
    u = view.columns[o.id]
    others = [view.columns[p.id] for p in peers if p.id != o.id]
    if all(u < x - MARGIN for x in others):
        options += [f"the leftmost {word}", f"the {word} on the left", f"the {word} furthest to the left"]
    if all(u > x + MARGIN for x in others):
        options += [f"the rightmost {word}", f"the {word} on the right", f"the {word} furthest to the right"]
    if sum(p.support == o.support for p in peers) == 1:
        options += _on_support(rng, view, o, word)
    anchors = [a for a in view.things() if a.category != o.category and len(view.things(a.category)) == 1]
    for a in anchors:
        x = view.columns[a.id]
        if u < x - MARGIN and all(y > x + MARGIN for y in others):
            options.append(f"the {word} {choose(rng, ('left of', 'to the left of'))} the {noun(rng, a.category)}")
        if u > x + MARGIN and all(y < x - MARGIN for y in others):
            options.append(f"the {word} {choose(rng, ('right of', 'to the right of'))} the {noun(rng, a.category)}")
    return options


def _on_support(rng: np.random.Generator, view: View, o: SymbolicObject, word: str) -> list[str]:
    support = o.support
    if support == "table":
        # "on the table" would also be said of what stands in a bowl on it.
        alone = [p for p in view.things(o.category) if view.scene.root(p.id) == "table"]
        return [f"the {word} on the {noun(rng, 'table')}"] if len(alone) == 1 else []
    if support not in view.scene.objects:
        return []
    base = view.scene.objects[support]
    if base.category in (*SHELVES, "drawer"):
        relation = "in" if base.category == "drawer" else "on"
        return [f"the {word} {relation} the {noun(rng, base.category)}"]
    name = refer(rng, view, support, simple=True)
    if name is None or base.category == "block":
        return []
    relation = "in" if base.category == "bowl" else "on"
    return [f"the {word} {relation} {name}", f"the {word} that is {relation} {name}"]


@dataclass(frozen=True, slots=True)
class Group:
    """Some things and the phrase for them."""

    text: str
    ids: tuple[str, ...]


def refer_all(
    rng: np.random.Generator, view: View, category: str | None = None, allowed: tuple[str, ...] = PICKABLE
) -> Group | None:
    """Two or more things under one phrase: "all cans", "both red mugs", "everything red"."""
    things = [o for o in view.things() if o.category in allowed]
    if category is None and rng.random() < 0.5:
        colours = sorted({o.colour for o in things})
        rng.shuffle(colours)
        for colour in colours:
            red = [o for o in things if o.colour == colour]
            if len(red) >= 2 and all(o.category in allowed for o in view.things() if o.colour == colour):
                text = choose(rng, (f"everything {colour}", f"all {colour} things", f"everything that is {colour}"))
                return _group(view, text, red)
        return None
    kinds = [category] if category else sorted({o.category for o in things})
    rng.shuffle(kinds)
    for kind in kinds:
        same = [o for o in things if o.category == kind]
        if len(same) < 2:
            continue
        word = PLURAL[noun(rng, kind)]
        forms = [f"all {word}", f"all the {word}", f"the {word}", f"every one of the {word}"]
        if len(same) == 2:
            forms += [f"both {word}", f"the two {word}", f"both of the {word}"]
        on_table = [o for o in same if view.scene.root(o.id) == "table"]
        if 1 < len(on_table) < len(same) and rng.random() < 0.5:
            return _group(view, f"all {word} on the {noun(rng, 'table')}", on_table)
        return _group(view, choose(rng, forms), same)
    return None


def _group(view: View, text: str, things: list[SymbolicObject]) -> Group:
    ids = tuple(o.id for o in things)
    return Group(view.naming(text, *ids), ids)
