"""What steps need and leave behind, all together: the contract of a skill that is made of them."""

from __future__ import annotations

from collections.abc import Iterable

from hiervla.representations import Condition, Step

Fact = tuple[str, tuple[str, ...]]
_EMPTY: Fact = ("hand_empty", ())
_PLACES = ("on", "in", "at", "left_of", "right_of")


def inferred_contract(steps: Iterable[Step]) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """Preconditions that no earlier step establishes, and what holds after the last one.

    Steps that name no conditions add none. That a hand with something in it is not empty, and that a thing leaves its
    place when it is picked up, is known here; all else is what the steps say.

    Args:
        steps: that succeeded, in order.
    """
    known: dict[Fact, bool] = {}
    needed: list[Condition] = []
    changed: dict[Fact, bool] = {}
    for step in steps:
        for condition in step.preconditions:
            if _known(known, condition) is None:
                needed.append(condition)
                known[_fact(condition)] = condition.holds
        for condition in step.postconditions:
            for fact, holds in _effects(condition, known):
                known[fact] = changed[fact] = holds
    left = [
        Condition(predicate=name, args=args, holds=holds)
        for (name, args), holds in changed.items()
        if (holds or name not in {"hand_empty", "holding", *_PLACES})
    ]
    return tuple(dict.fromkeys(needed)), tuple(left)


def _effects(condition: Condition, known: dict[Fact, bool]) -> list[tuple[Fact, bool]]:
    """A postcondition with what follows from it."""
    fact = _fact(condition)
    effects = [(fact, condition.holds)]
    if condition.predicate == "holding" and condition.holds:
        effects.append((_EMPTY, False))
        thing = condition.args[0]
        effects += [(f, False) for f in known if f[0] in _PLACES and f[1][:1] == (thing,)]
    if fact == _EMPTY and condition.holds:
        effects += [(f, False) for f in known if f[0] == "holding"]
    return effects


def _fact(condition: Condition) -> Fact:
    return condition.predicate, condition.args


def _known(known: dict[Fact, bool], condition: Condition) -> bool | None:
    """Whether something holds, None where nothing says so; "sponge" is met by a "green sponge"."""
    fact = _fact(condition)
    if fact in known:
        return known[fact]
    for (name, args), holds in known.items():
        if name == condition.predicate and len(args) == len(condition.args):
            if holds and all(a == b or a.split()[-1:] == [b] for a, b in zip(args, condition.args, strict=True)):
                return True
    return None
