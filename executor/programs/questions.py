"""Answers to a program's questions, from what the planner says that it sees: a function of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hiervla.representations import SeenThing


def answer(
    function: str, args: Mapping[str, str], things: Sequence[SeenThing], held: str | None
) -> bool | int | str | list[str]:
    """What a question of :data:`hiervla.skills.programs.vocabulary.QUESTIONS` is answered with.

    Args:
        function: the question.
        args: its arguments.
        things: what is in view.
        held: the executor's belief of what is in the hand.
    """
    match function:
        case "see":
            return any(is_called(t, args["name"]) for t in things)
        case "count":
            return len(_matching(args["kind"], args["on"], things))
        case "things":
            return [t.name for t in _matching(args["kind"], args["on"], things)]
        case "is_on":
            return bool(_matching(args["thing"], args["place"], things))
        case "is_open":
            return any(is_called(t, args["name"]) and t.where == "open" for t in things)
        case _:
            return held or ""


def is_called(thing: SeenThing, words: str) -> bool:
    """Do these words name the thing, by its name or by its kind?"""
    plain = _plain(words)
    return plain in {thing.name.lower(), thing.kind.lower()}


def _matching(kind: str, on: str, things: Sequence[SeenThing]) -> list[SeenThing]:
    found = [t for t in things if not kind or is_called(t, kind)]
    if not on:
        return found
    # A place is named by its kind too: "plate" for any plate.
    places = {_plain(on), *(t.name.lower() for t in things if is_called(t, on))}
    return [t for t in found if t.where.lower() in places]


def _plain(words: str) -> str:
    return " ".join(words.lower().split()).removeprefix("the ")
