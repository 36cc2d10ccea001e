"""The typed signature of a skill: what the planner is shown, the grammar is made from and the docs list."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hiervla.representations._base import Typed


class Parameter(Typed):
    """One typed parameter of a skill."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    type: Literal["object", "location", "choice", "number", "text"] = Field(
        description="object: a thing in view; location: a thing or place to go to; choice: one of `choices`"
    )
    categories: tuple[str, ...] = Field(default=(), description="object categories that fit; empty: any")
    choices: tuple[str, ...] = Field(default=(), description="the values of a choice")
    doc: str = ""


class SkillSignature(Typed):
    """Name and parameters of a skill."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    params: tuple[Parameter, ...] = ()
    doc: str = Field(default="", description="one sentence that the planner reads")
    accepts: tuple[str, ...] = Field(
        default=("keypoints",), description="artifact kinds that the policy can use"
    )
