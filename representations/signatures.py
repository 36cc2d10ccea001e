"""The typed signature of a skill: what the planner is shown, the grammar is made from and the docs list."""

# Without `from __future__ import annotations`: pydantic would compile and evaluate every annotation once more.
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, FiniteFloat

from hiervla.representations._base import Typed
from hiervla.representations.errors import ConventionError
from hiervla.representations.plans import Condition


class Parameter(Typed):
    """One typed parameter of a skill. Arguments are words, as a plan's steps hold them."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    type: Literal["object", "location", "choice", "number", "text"] = Field(
        description="object: a thing in view; location: a thing or place to go to; choice: one of `choices`"
    )
    categories: tuple[str, ...] = Field(default=(), description="object categories that fit; empty: any")
    choices: tuple[str, ...] = Field(default=(), description="the values of a choice")
    minimum: FiniteFloat | None = Field(default=None, description="lowest value of a number")
    maximum: FiniteFloat | None = Field(default=None, description="highest value of a number")
    unit: str = Field(default="", description="unit of a number, such as 'm'")
    default: str | None = Field(default=None, description="the value where a step gives none; None: it must give one")
    doc: str = ""

    def check(self, value: str) -> None:
        """See whether a step's argument is one that this parameter can take.

        Raises:
            ConventionError: no number, a number outside of its limits, or none of the choices.
        """
        if self.type == "choice" and value not in self.choices:
            raise ConventionError(self.name, f"'{value}' is not on offer", f"Choose one of {', '.join(self.choices)}")
        if self.type == "number":
            self.number(value)

    def number(self, value: str) -> float:
        """A number's value from its words.

        Raises:
            ConventionError: it is no finite number, or outside of its limits.
        """
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        limits = f" from {low:g} to {high:g}" if math.isfinite(high - low) else ""
        remedy = f"Give a number{limits} {self.unit}".rstrip()
        try:
            number = float(value)
        except ValueError:
            raise ConventionError(self.name, f"'{value}' is no number", remedy) from None
        if not (math.isfinite(number) and low <= number <= high):
            raise ConventionError(self.name, f"{value} is not allowed", remedy)
        return number

    def argument_schema(self) -> dict[str, Any]:
        """JSON Schema of an argument, without a scene: things and places are strings."""
        schema: dict[str, Any] = {"type": "string"}
        if self.type == "choice":
            schema["enum"] = list(self.choices)
        if self.type == "number":
            schema["pattern"] = NUMBER
        about = [self.doc] if self.doc else []
        if self.type in {"object", "location"}:
            kinds = f" of kind {', '.join(self.categories)}" if self.categories else ""
            about.append(("a thing in view" if self.type == "object" else "a thing or place in view") + kinds)
        if self.minimum is not None or self.maximum is not None:
            low = "" if self.minimum is None else f"from {self.minimum:g} "
            high = "" if self.maximum is None else f"to {self.maximum:g} "
            about.append(f"{low}{high}{self.unit}".strip())
        elif self.unit:
            about.append(f"in {self.unit}")
        if about:
            schema["description"] = "; ".join(about)
        if self.default is not None:
            schema["default"] = self.default
        return schema


NUMBER = r"^-?[0-9]{1,4}(\.[0-9]{1,4})?$"
"""How a number is written in a step's arguments."""


class Resources(Typed):
    """What a skill occupies while it runs; empty means whatever the robot has."""

    arms: tuple[str, ...] = Field(default=(), description="names of arms")
    cameras: tuple[str, ...] = Field(default=(), description="names of cameras that the policy looks through")


class SkillSignature(Typed):
    """Name and parameters of a skill, what it takes and what it leaves behind."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    params: tuple[Parameter, ...] = ()
    doc: str = Field(default="", description="one sentence that the planner reads")
    accepts: tuple[str, ...] = Field(default=("keypoints",), description="artifact kinds that the policy can use")
    preconditions: tuple[Condition, ...] = Field(
        default=(), description="what has to hold before; '{object}' stands for the argument of that name"
    )
    postconditions: tuple[Condition, ...] = Field(default=(), description="what holds after success")
    resources: Resources = Resources()

    def __str__(self) -> str:
        """``place(object: object, relation: on|in, target: location)``: one line for people and prompts."""
        return f"{self.name}({', '.join(f'{p.name}: {_type(p)}' for p in self.params)})"

    def param(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        return next((p for p in self.params if p.name == name), None)

    def conditions(self, args: Mapping[str, str]) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
        """Pre- and postconditions of one call; placeholders of arguments that are missing stay as they are."""
        return tuple(_filled(c, args) for c in self.preconditions), tuple(_filled(c, args) for c in self.postconditions)

    def call_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of a call's arguments, as tool-calling models are given it."""
        return {
            "type": "object",
            "title": self.name,
            "description": self.doc,
            "properties": {p.name: p.argument_schema() for p in self.params},
            "required": [p.name for p in self.params if p.default is None],
            "additionalProperties": False,
        }


def _type(p: Parameter) -> str:
    kinds = "|".join(p.choices or p.categories)
    text = kinds if p.type == "choice" else f"{p.type}{f'[{kinds}]' if kinds else ''}"
    if p.type == "number" and p.unit:
        text += f" [{p.unit}]"
    return text if p.default is None else f"{text} = {p.default}"


def _filled(condition: Condition, args: Mapping[str, str]) -> Condition:
    words = (re.sub(r"\{(\w+)\}", lambda m: args.get(m[1], m[0]), word) for word in condition.args)
    return condition.replace(args=tuple(words))
