"""A skill of your own: one function, tried in the real loop without physics.

In a package of yours, name it as an entry point and it is there for every planner and executor:

    [project.entry-points."hiervla.skills"]
    point_at = "my_package:point_at"

`hiervla skills new point_at` writes such a package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from hiervla.executor.policies import unfit
from hiervla.executor.testing import run_skill
from hiervla.skills import Approach, Recovery, SkillContext, SkillLibrary, Thing, Waypoint, skill
from hiervla.skills.checks import hand_empty
from hiervla.skills.lint import check_skill


@skill(
    approach=Approach(height_m=0.15, gripper_width_m=0.0),
    ready=lambda context: hand_empty(context.proprio),
    recovery=Recovery(retreat_m=0.05),
)
def point_at(
    context: SkillContext,
    object: Annotated[str, Thing(doc="what to point at")],
    how: Literal["once", "twice"] = "once",
) -> Iterator[Waypoint]:
    """Point at an object with the closed gripper."""
    x, y, z = context.target_w
    for _ in range(2 if how == "twice" else 1):
        yield Waypoint((x, y, z + 0.06), dwell_s=0.5)
        yield Waypoint((x, y, z + 0.12))


if __name__ == "__main__":
    library = SkillLibrary.load()
    library.register(point_at)
    for known in library:
        print(f"{known.signature}\n    {known.signature.doc}")
    print("findings:", check_skill(point_at, unfit) or "none")
    result, events, world = run_skill(point_at, (0.5, 0.1, 0.05), object="red mug", how="twice")
    print(f"{result.outcome} after {result.duration_s:.1f} s and {len(world.commands)} commands: {result.message}")
