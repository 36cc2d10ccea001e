"""A stranger's skills: one as a function, one as a class with a policy of the same package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from hiervla.representations import Condition, Parameter, Resources, SkillSignature, Verdict
from hiervla.skills import (
    Approach,
    Belief,
    Number,
    Recovery,
    Skill,
    SkillContext,
    SkillLibrary,
    Thing,
    Waypoint,
    skill,
)
from hiervla.skills.checks import gone, hand_empty, reachable

REACH_BACK_M = 0.09


@skill(
    approach=Approach(height_m=0.15, gripper_width_m=0.0),
    ready=lambda context: hand_empty(context.proprio),
    done=lambda context: gone(context.before, context.after, context.target_w),
    recovery=Recovery(retreat_m=0.08, retries=1),
    resources=Resources(cameras=("front",)),
    preconditions=(Condition(predicate="hand_empty"),),
    postconditions=(Condition(predicate="pushed", args=("{object}",)),),
)
def push(
    context: SkillContext,
    object: Annotated[str, Thing("block", "can", doc="what to push")],
    distance_m: Annotated[float, Number(0.03, 0.12, unit="m", doc="how far")] = 0.06,
) -> Iterator[Waypoint]:
    """Push an object away from the robot with the closed fingers."""
    x, y, z = context.target_w
    low = max(0.02, z - 0.02)
    yield Waypoint((x - REACH_BACK_M, y, z + 0.12))
    yield Waypoint((x - REACH_BACK_M, y, low))
    yield Waypoint((x - 0.03 + distance_m, y, low), speed_m_s=0.08)
    yield Waypoint((x - REACH_BACK_M, y, z + 0.12))


class Poke(Skill):
    """Come down on a thing and stop there."""

    signature = SkillSignature(
        name="poke",
        doc="poke an object from above",
        params=(Parameter(name="object", type="object"),),
    )
    policy = "straight-down"
    timeout_s = 4.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover with closed fingers."""
        return Approach(height_m=0.1, gripper_width_m=0.0)

    def ready(self, context: SkillContext) -> Verdict:
        """The spot is within reach."""
        return reachable(context.target_w)

    def done(self, context: SkillContext) -> Verdict:
        """Nothing is left of a poke to see."""
        return Verdict(name="poked", value="unsure", confidence=0.0)

    def effect(self, context: SkillContext) -> Belief:
        """The hand is as it was."""
        return context.belief


def register(library: SkillLibrary) -> None:
    """What the entry point `poke` names."""
    library.register(Poke())
