"""Single requests: words and the clauses that they ask for, for a scene that has what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from hiervla.training.tasks.domain import DISHES, PICKABLE, SHELVES, Fact, SymbolicScene, fits, support_problem
from hiervla.training.tasks.goals import Clause, on
from hiervla.training.tasks.mentions import mark_request
from hiervla.training.tasks.phrases import NOUNS, SIDES, Split, choose, tower_words
from hiervla.training.tasks.references import View, noun, refer, refer_all
from hiervla.training.tasks.wordings import say


@dataclass(frozen=True, slots=True)
class Request:
    """Words, the clauses they mean (in groups counted from 0), and facts that must not hold in the end.

    `marked` says that the words have marks of their own for each clause as a request by itself, in order of the groups.
    """

    text: str
    clauses: tuple[Clause, ...]
    never: frozenset[Fact] = frozenset()
    marked: bool = False


@dataclass(slots=True)
class Context:
    """What a request is made from."""

    rng: np.random.Generator
    view: View
    split: Split

    @property
    def scene(self) -> SymbolicScene:
        """The scene."""
        return self.view.scene

    def pick(self, ids: list[str]) -> str | None:
        """One of `ids` by chance."""
        return ids[int(self.rng.integers(len(ids)))] if ids else None

    def movable(self, *categories: str) -> list[str]:
        """Visible things that can be picked up, of some categories if given."""
        return [o.id for o in self.view.things() if o.category in (categories or PICKABLE)]

    def say(self, kind: str, **parts: str) -> str:
        """A wording of this split."""
        return say(self.rng, kind, self.split, **parts)


def _to(context: Context, support: str) -> str | None:
    """Words for a destination: "onto the top shelf"."""
    scene, rng = context.scene, context.rng
    if support == "table":
        return f"{choose(rng, ('on', 'onto'))} the {noun(rng, 'table')}"
    name = refer(rng, context.view, support)
    if name is None:
        return None
    inside = scene.objects[support].category in {"drawer", "bowl"}
    return f"{choose(rng, ('in', 'in', 'into') if inside else ('on', 'on', 'onto'))} {name}"


def _preferred_shelves(category: str) -> tuple[str, str]:
    """Where things go that belong on no shelf in particular: mugs on top, the rest below."""
    return ("top_shelf", "bottom_shelf") if category == "mug" else ("bottom_shelf", "top_shelf")


def put_one(c: Context, supports: list[str]) -> Request | None:
    """One thing to one of `supports`."""
    support = c.pick(supports)
    if support is None:
        return None
    kind = support if support == "table" else c.scene.objects[support].category
    options = [
        o for o in c.movable() if c.scene.objects[o].support != support and o != support
        and fits(c.scene.objects[o].category, kind)
    ]  # fmt: skip
    o = c.pick(options)
    if o is None:
        return None
    x, d = refer(c.rng, c.view, o), _to(c, support)
    return Request(c.say("put", x=x, d=d, it="it"), (on(o, support),)) if x and d else None


def put_shelf(c: Context) -> Request | None:
    """Something onto a shelf, at times without saying which."""
    if c.rng.random() < 0.2:
        o = c.pick([o for o in c.movable() if c.scene.objects[o].support not in SHELVES])
        x = refer(c.rng, c.view, o) if o else None
        if o is None or x is None:
            return None
        clause = on(o, *_preferred_shelves(c.scene.objects[o].category))
        return Request(c.say("put", x=x, d=f"{choose(c.rng, ('on', 'onto'))} the shelf", it="it"), (clause,))
    return put_one(c, list(SHELVES))


def put_set(c: Context) -> Request | None:
    """Several things under one phrase to a shelf or into the drawer."""
    support = choose(c.rng, ("top_shelf", "bottom_shelf", "drawer"))
    allowed = tuple(k for k in PICKABLE if fits(k, support))
    group = refer_all(c.rng, c.view, allowed=allowed)
    d = _to(c, support)
    if group is None or d is None:
        return None
    return Request(c.say("put", x=group.text, d=d, it="them"), tuple(on(o, support) for o in group.ids))


def put_pair(c: Context) -> Request | None:
    """Two named things to one place, in the order in which they are named."""
    support = choose(c.rng, ("top_shelf", "bottom_shelf", "drawer", "top_shelf", "bottom_shelf"))
    options = [o for o in c.movable() if fits(c.scene.objects[o].category, support)]
    options = [o for o in options if c.scene.objects[o].support != support]
    if len(options) < 2:
        return None
    a, b = (options[int(i)] for i in c.rng.permutation(len(options))[:2])
    x, y, d = refer(c.rng, c.view, a), refer(c.rng, c.view, b), _to(c, support)
    if not (x and y and d):
        return None
    text = c.say("put", x=f"{x} and {y}", d=d, it="them")
    return Request(text, (on(a, support), on(b, support, group=1)))


def put_drawer(c: Context) -> Request | None:
    """Something into the drawer, at times closed afterwards."""
    inner = put_one(c, ["drawer"]) if c.rng.random() < 0.8 else None
    if inner is None:
        return None
    if c.rng.random() < 0.55:
        return inner
    text = choose(c.rng, ("{a} and {b}", "{a}, then {b}", "{a} and then {b}", "{a}. {b}."))
    return Request(text.format(a=inner.text, b=c.say("close_it")), inner.clauses, frozenset({("drawer_open",)}))


def take_out(c: Context) -> Request | None:
    """Something out of the open drawer."""
    options = [o for o in c.movable() if c.scene.objects[o].support == "drawer"]
    o = c.pick(options)
    x = refer(c.rng, c.view, o) if o else None
    if o is None or x is None:
        return None
    train = (
        "take {x} out of the drawer", "get {x} out of the drawer", "remove {x} from the drawer",
        "take {x} out of the drawer and put it on the table", "move {x} from the drawer to the table",
    )  # fmt: skip
    test = ("remove {x} from the drawer and put it on the table", "move {x} out of the drawer")
    return Request(choose(c.rng, train if c.split == "train" else test).format(x=x), (on(o, "table"),))


def put_dish(c: Context) -> Request | None:
    """Something into a bowl or onto a plate, which may have to be freed first."""
    return put_one(c, [o.id for o in c.view.things() if o.category in DISHES])


def stack(c: Context) -> Request | None:
    """One block on another."""
    blocks = c.movable("block")
    bases = [b for b in blocks if c.scene.root(b) == "table"]
    base, top = c.pick(bases), c.pick(blocks)
    if base is None or top is None or base == top or c.scene.objects[top].support == base:
        return None
    x, y = refer(c.rng, c.view, top), refer(c.rng, c.view, base)
    if not (x and y):
        return None
    clauses = [on(top, base, group=1)]
    if c.scene.objects[base].support != "table":
        # A tower stands on the table: the lower block comes down first.
        clauses.insert(0, on(base, "table"))
    return Request(c.say("stack", x=x, y=y), tuple(clauses))


def tower(c: Context) -> Request | None:
    """Three blocks on each other."""
    blocks = [b for b in c.movable("block") if c.scene.objects[b].support == "table"]
    if len(blocks) < 3:
        return None
    a, b, d = (blocks[int(i)] for i in c.rng.permutation(len(blocks))[:3])
    x, y, z = (refer(c.rng, c.view, i, simple=True) for i in (a, b, d))
    if not (x and y and z):
        return None
    words = tower_words(c.rng, c.split)
    parts = tuple(p.format(x=x, y=y, z=z) for p in words.parts)
    text = words.frame.format(*(mark_request(p, k) for k, p in enumerate(parts)), x=x, y=y, z=z)
    return Request(text, (on(b, d), on(a, b, group=1)), marked=bool(parts))


def unstack(c: Context) -> Request | None:
    """Something down from a dish, a block or a shelf."""
    o = c.pick([o for o in c.movable() if c.scene.objects[o].support not in {"table", "drawer", "gripper"}])
    if o is None:
        return None
    x, s = refer(c.rng, c.view, o), refer(c.rng, c.view, c.scene.objects[o].support)
    return Request(c.say("unstack", x=x, s=s), (on(o, "table"),)) if x and s else None


def swap(c: Context) -> Request | None:
    """Two things that lie on dishes change places."""
    loaded = {o.support: o for o in c.view.things() if c.scene.objects.get(o.support) and
              c.scene.objects[o.support].category in DISHES}  # fmt: skip
    names = list(loaded)
    if len(names) < 2:
        return None
    c.rng.shuffle(names)
    p, q = names[:2]
    a, b = loaded[p].id, loaded[q].id
    kinds = [c.scene.objects[i].category for i in (p, q)]
    if not (fits(loaded[p].category, kinds[1]) and fits(loaded[q].category, kinds[0])):
        return None
    same = kinds[0] == kinds[1] and len([o for o in c.view.things(kinds[0])]) == 2
    if same and c.rng.random() < 0.5:
        # Nobody is named first here, so the thing on the left counts as the first.
        if c.view.columns[a] > c.view.columns[b]:
            a, b, p, q = b, a, q, p
        text = c.say("swap_all", dishes={"bowl": "bowls", "plate": choose(c.rng, ("plates", "dishes"))}[kinds[0]])
        return Request(text, (on(a, q), on(b, p, group=1)))
    x, y = refer(c.rng, c.view, a), refer(c.rng, c.view, b)
    if not (x and y):
        return None
    return Request(c.say("swap", x=x, y=y), (on(a, q), on(b, p, group=1)))


def clear(c: Context) -> Request | None:
    """Everything off the table: mugs on the top shelf, blocks on the bottom shelf, cans into the bin.

    Dishes stay, and so does the sponge, which belongs on the table.
    """
    clauses: list[Clause] = []
    for o in c.view.things():
        if o.category in {"mug", "block"} and c.scene.root(o.id) == "table":
            clauses.append(on(o.id, *_preferred_shelves(o.category)))
        elif o.category == "can" and c.scene.root(o.id) == "table":
            clauses.append(on(o.id, "bin"))
    return Request(c.say("clear"), tuple(clauses)) if clauses else None


def throw(c: Context) -> Request | None:
    """One thing into the bin."""
    o = c.pick(c.movable())
    x = refer(c.rng, c.view, o) if o else None
    return Request(c.say("throw", x=x, it="it"), (on(o, "bin"),)) if o and x else None


def throw_set(c: Context) -> Request | None:
    """Several things into the bin."""
    group = refer_all(c.rng, c.view, "can" if c.rng.random() < 0.4 else None)
    if group is None:
        return None
    return Request(c.say("throw", x=group.text, it="them"), tuple(on(o, "bin") for o in group.ids))


def wipe(c: Context) -> Request | None:
    """Wipe the table, and what becomes of the sponge: back on the table when nothing is said."""
    sponges = c.movable("sponge")
    spills = [s for s in c.scene.category("spill") if c.scene.visible(s)]
    if len(sponges) != 1 or not spills:
        return None
    sponge = sponges[0]
    cleaned = Clause((("spill_clean", spills[0]),))
    text = c.say("wipe")
    chance = c.rng.random()
    if chance < 0.3:
        return Request(text, (cleaned, on(sponge, "table", group=1)))
    if chance < 0.65:
        tail, where = c.say("sponge_throw"), "bin"
    elif chance < 0.8:
        tail, where = c.say("sponge_back"), "table"
    else:
        where = choose(c.rng, ("drawer", "bottom_shelf", "top_shelf"))
        d = _to(c, where)
        tail = c.say("put", x=choose(c.rng, ("the sponge", "it", "the sponge")), d=d or "", it="it")
    link = (" and ", ", then ", " and then ", ". then ", ", and ", ", ")
    return Request(f"{text}{choose(c.rng, link)}{tail}", (cleaned, on(sponge, where, group=1)))


def open_drawer(c: Context) -> Request | None:
    """Open the drawer."""
    return None if c.scene.drawer_open else Request(c.say("open"), (Clause((("drawer_open",),)),))


def close_drawer(c: Context) -> Request | None:
    """Close the drawer."""
    return Request(c.say("close"), (), frozenset({("drawer_open",)})) if c.scene.drawer_open else None


def beside(c: Context) -> Request | None:
    """One thing left or right of another that stands on the table, where there is room."""
    anchors = [o for o in c.view.things() if o.support == "table"]
    a, o = c.pick([x.id for x in anchors]), c.pick(c.movable())
    if a is None or o is None or a == o or c.scene.objects[o].support == a:
        return None
    side = choose(c.rng, ("left_of", "right_of"))
    ax, ay, _ = c.scene.objects[a].position
    spot = ay + (-0.14 if side == "left_of" else 0.14)
    rivals = [t.position for t in c.scene.objects.values() if t.support == "table" and t.id not in {a, o}]
    if not -0.25 < spot < 0.17 or any(np.hypot(p[0] - ax, p[1] - spot) < 0.10 for p in rivals):
        return None
    x, y = refer(c.rng, c.view, o), refer(c.rng, c.view, a)
    if not (x and y):
        return None
    return Request(c.say("beside", x=x, y=y, side=choose(c.rng, SIDES[side])), (Clause(((side, o, a),)),))


def pick_up(c: Context) -> Request | None:
    """Take something and hold it."""
    o = c.pick(c.movable())
    x = refer(c.rng, c.view, o) if o else None
    return Request(c.say("pick", x=x), (on(o, "gripper"),)) if o and x else None


def free_for(scene: SymbolicScene, object_id: str, support: str) -> bool:
    """Whether `support` could take the object as things stand."""
    return support_problem(scene, object_id, support) is None


Maker = Callable[[Context], Request | None]

SINGLE: Final[Mapping[str, tuple[Maker, ...]]] = {
    "clear_table": (clear,),
    "wipe": (wipe,),
    "shelf": (put_shelf, put_set, put_pair, put_shelf),
    "drawer": (put_drawer, put_drawer, put_drawer, take_out, open_drawer, close_drawer),
    "stack": (stack, tower, tower, unstack, put_dish),
    "swap": (swap,),
    "rubbish": (throw, throw_set),
    "other": (beside, pick_up),
}
"""Makers of one request by family."""

CHAINABLE: Final[tuple[Maker, ...]] = (
    put_shelf, put_shelf, put_drawer, put_dish, throw, throw_set, stack, unstack, wipe, clear, open_drawer,
    close_drawer, put_set, beside, take_out,
)  # fmt: skip
"""Makers whose requests can be joined to others."""

__all__ = ["CHAINABLE", "NOUNS", "SINGLE", "Context", "Maker", "Request", "free_for"]
