"""A skill of your own: a signature that the planner reads, a contract that the executor checks, a policy to run it.

In a package of yours, name the `register` function as an entry point and the skill is there for everybody:

    [project.entry-points."hiervla.skills"]
    mine = "my_package.skills:register"
"""

from __future__ import annotations

from hiervla.representations import Parameter, SkillSignature, Verdict
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary
from hiervla.skills.checks import hand_empty


class Point(Skill):
    """Point at something with the closed gripper."""

    signature = SkillSignature(
        name="point_at",
        doc="point at an object with the closed gripper",
        params=(Parameter(name="object", type="object"),),
    )
    timeout_s = 3.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover close above it, fingers closed."""
        return Approach(height_m=0.12, gripper_width_m=0.0)

    def ready(self, context: SkillContext) -> Verdict:
        """The hand has to be empty."""
        return hand_empty(context.proprio)

    def done(self, context: SkillContext) -> Verdict:
        """Pointing leaves no trace to check."""
        return Verdict(name="pointed", value="yes")

    def effect(self, context: SkillContext) -> Belief:
        """The hand stays empty."""
        return Belief()


def register(library: SkillLibrary) -> None:
    """What the entry point names."""
    library.register(Point())


if __name__ == "__main__":
    library = SkillLibrary.load()
    register(library)
    for skill in library:
        print(f"{skill.name:13} {skill.signature.doc}")
