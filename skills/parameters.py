"""From a function's annotations to a skill's typed parameters, and from a step's words to the function's arguments."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from hiervla.representations import ConventionError, Parameter
from hiervla.skills.errors import SkillDefinitionError


@dataclass(frozen=True)
class Doc:
    """Words about a parameter: ``Annotated[Literal["on", "in"], Doc("how it lies there")]``."""

    text: str


class Thing:
    """A thing in view, by the planner's name for it: ``Annotated[str, Thing("block", "can")]``.

    Args:
        categories: the kinds of thing that fit; none for any.
        doc: words about it.
    """

    type: Literal["object", "location"] = "object"

    def __init__(self, *categories: str, doc: str = "") -> None:
        self.categories = categories
        self.doc = doc


class Place(Thing):
    """A thing or a place to go to: ``Annotated[str, Place("plate", "drawer")]``."""

    type = "location"


@dataclass(frozen=True)
class Number:
    """Limits and unit of a number: ``Annotated[float, Number(0.02, 0.15, unit="m")]``."""

    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    doc: str = ""


REMEDY = (
    'Annotate it as Annotated[str, Thing("block")], Annotated[str, Place()], Literal["left", "right"], '
    'Annotated[float, Number(0.0, 0.1, unit="m")], int or str'
)


@dataclass(frozen=True)
class Arguments:
    """The parameters of a function, and how to read its arguments from a step.

    Attributes:
        params: what the planner is shown.
        whole: names of numbers that the function wants as int.
    """

    params: tuple[Parameter, ...]
    whole: frozenset[str] = frozenset()

    def read(self, args: Mapping[str, str]) -> dict[str, Any]:
        """A step's arguments as the function takes them.

        Raises:
            ConventionError: one is missing, or none that its parameter can take.
        """
        values: dict[str, Any] = {}
        for p in self.params:
            word = args.get(p.name, p.default)
            if word is None:
                raise ConventionError(p.name, "is missing", f"Give {', '.join(q.name for q in self.params)}")
            p.check(word)
            values[p.name] = word if p.type != "number" else p.number(word)
            if p.name in self.whole:
                if values[p.name] != int(values[p.name]):
                    raise ConventionError(p.name, f"{word} is no whole number", "Give one without decimals")
                values[p.name] = int(values[p.name])
        return values


def arguments_of(function: Callable[..., Any], skill: str) -> Arguments:
    """The parameters of a skill's function: all but its first, which is the context.

    Raises:
        SkillDefinitionError: an annotation is missing, cannot be resolved, or is none that a planner can fill.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise SkillDefinitionError(
            skill, "annotations", str(error), "Define and import what they name at the top of the module"
        ) from None
    found = list(inspect.signature(function).parameters.values())
    if not found or found[0].kind not in {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}:
        raise SkillDefinitionError(
            skill, "function", "takes no context", "Let its first parameter be `context: SkillContext`"
        )
    params, whole = [], set()
    for p in found[1:]:
        if p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD}:
            raise SkillDefinitionError(skill, f"parameter {p.name}", "is open-ended", REMEDY)
        params.append(_parameter(skill, p, hints.get(p.name)))
        if _bare(hints.get(p.name))[0] is int:
            whole.add(p.name)
    return Arguments(tuple(params), frozenset(whole))


def _parameter(skill: str, p: inspect.Parameter, hint: Any) -> Parameter:
    place = f"parameter {p.name}"
    base, marks = _bare(hint)
    doc = next((m.text for m in marks if isinstance(m, Doc)), "")
    fields: dict[str, Any] = {"name": p.name, "doc": doc}
    thing = next((m for m in marks if isinstance(m, Thing)), None)
    number = next((m for m in marks if isinstance(m, Number)), Number())
    if base is str and thing is not None:
        fields |= {"type": thing.type, "categories": thing.categories, "doc": doc or thing.doc}
    elif typing.get_origin(base) is Literal:
        choices = typing.get_args(base)
        if not all(isinstance(c, str) for c in choices):
            raise SkillDefinitionError(skill, place, f"offers {choices}, which are not all words", "Offer strings")
        fields |= {"type": "choice", "choices": choices}
    elif base in {int, float}:
        fields |= {"type": "number", "minimum": _float(number.minimum), "maximum": _float(number.maximum)}
        fields |= {"unit": number.unit, "doc": doc or number.doc}
    elif base is str:
        fields["type"] = "text"
    else:
        found = "is not annotated" if hint is None else f"is annotated as {hint}"
        raise SkillDefinitionError(skill, place, found, REMEDY)
    if p.default is not inspect.Parameter.empty:
        fields["default"] = str(p.default)
    try:
        made = Parameter(**fields)
        if made.default is not None:
            made.check(made.default)
    except ValidationError as error:
        problem = error.errors()[0]
        raise SkillDefinitionError(skill, place, f"{problem['loc'][0]}: {problem['msg']}", "Change it") from None
    except ConventionError as error:
        raise SkillDefinitionError(skill, place, f"its default {error.problem}", error.remedy) from None
    return made


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without ``Annotated``, and what was attached to it."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *marks = typing.get_args(hint)
        return base, tuple(marks)
    return (hint, ()) if not isinstance(hint, types.NoneType) else (None, ())


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
