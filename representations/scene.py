"""What somebody sees in an image, in words: the answers that programs branch on."""

from __future__ import annotations

from pydantic import Field

from hiervla.representations._base import Fraction, Typed


class SeenThing(Typed):
    """One thing in view, by the planner's name for it."""

    name: str = Field(description="such as 'red mug' or 'top shelf'")
    kind: str = Field(description="its category in words, such as 'mug'")
    where: str = Field(
        default="",
        description="the name of what it is on or in, 'table' or 'gripper'; for what opens, 'open' or 'closed'; empty "
        "where that is not known",
    )
    confidence: Fraction = 1.0
