"""The built-in skills. They enter the library by the same door as anybody else's: an entry point."""

from __future__ import annotations

from hiervla.representations import Parameter, SkillSignature, Step, Verdict
from hiervla.skills.base import Approach, Skill
from hiervla.skills.checks import appeared, hand_empty, holding, reachable, released, slid, strayed, wiped
from hiervla.skills.context import Belief, SkillContext
from hiervla.skills.registry import SkillLibrary
from hiervla.skills.routes import FOLLOW, POINTS, WAYS, approach_of, is_followed

GRASPABLE = ("block", "mug", "can", "sponge")
SURFACES = ("block", "bowl", "plate", "top_shelf", "bottom_shelf", "drawer", "bin")
DRAWER_TRAVEL_M = 0.15


def _both(name: str, *verdicts: Verdict) -> Verdict:
    """Yes if all are; the first that is not decides."""
    for verdict in verdicts:
        if not verdict.yes:
            return Verdict(
                name=f"{name}: {verdict.name}",
                value=verdict.value,
                confidence=verdict.confidence,
                evidence=verdict.evidence,
            )
    return Verdict(
        name=name,
        value="yes",
        confidence=min(v.confidence for v in verdicts),
        evidence={k: e for v in verdicts for k, e in v.evidence.items()},
    )


class _Carrying(Skill):
    """What picking up and putting down share: a point is the learned policy's, a way is followed."""

    def runner(self, step: Step) -> str:
        """The learned policy, or the one that follows a way."""
        return FOLLOW if is_followed(step) else self.policy


class Pick(_Carrying):
    """Grasp a thing from above and lift it."""

    signature = SkillSignature(
        name="pick",
        doc="grasp an object and lift it; the hand must be empty and nothing may lie on the object",
        params=(Parameter(name="object", type="object", categories=GRASPABLE, doc="what to grasp"),),
        accepts=(*POINTS, *WAYS),
    )
    timeout_s = 9.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover above the object, or where the way begins, with the gripper open."""
        return approach_of(context, Approach())

    def ready(self, context: SkillContext) -> Verdict:
        """The hand is empty and the keypoint within reach."""
        return _both("ready", hand_empty(context.proprio), reachable(context.target_w))

    def done(self, context: SkillContext) -> Verdict:
        """Something is between the fingers after the arm has come home."""
        return holding(context.proprio)

    def effect(self, context: SkillContext) -> Belief:
        """The object is in the hand."""
        return Belief(held=context.step.args.get("object"), source=context.step.args.get("source", ""))


class Place(_Carrying):
    """Put what is held on, in or beside something, and let go."""

    signature = SkillSignature(
        name="place",
        doc="put the held object on, in or beside a target and release it",
        params=(
            Parameter(name="object", type="object", categories=GRASPABLE, doc="the held object"),
            Parameter(name="relation", type="choice", choices=("on", "in", "at", "left_of", "right_of")),
            Parameter(name="target", type="location", categories=SURFACES, doc="where it goes"),
        ),
        accepts=(*POINTS, *WAYS),
    )
    timeout_s = 8.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover above the spot without changing the grip."""
        return approach_of(context, Approach(height_m=0.16, gripper_width_m=None))

    def ready(self, context: SkillContext) -> Verdict:
        """Something is held and the spot is within reach."""
        return _both("ready", holding(context.proprio), reachable(context.target_w))

    def done(self, context: SkillContext) -> Verdict:
        """The gripper is open and, where the camera can tell, something new stands on the spot."""
        if context.after is None:
            return released(context.proprio)
        seen = appeared(context.before, context.after, context.target_w)
        if seen.value == "unsure":
            return released(context.proprio)
        return _both("placed", released(context.proprio), seen)

    def lasts(self, context: SkillContext) -> Verdict | None:
        """Something still stands where it was put."""
        return appeared(context.before, context.after, context.target_w)

    def effect(self, context: SkillContext) -> Belief:
        """The hand is empty."""
        return Belief()


class ThrowAway(_Carrying):
    """Drop what is held into the bin."""

    signature = SkillSignature(
        name="throw_away",
        doc="drop the held object into the bin",
        params=(Parameter(name="object", type="object", categories=GRASPABLE, doc="the held object"),),
        accepts=(*POINTS, *WAYS),
    )
    timeout_s = 7.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover high above the bin without changing the grip."""
        return approach_of(context, Approach(height_m=0.24, gripper_width_m=None))

    def ready(self, context: SkillContext) -> Verdict:
        """Something is held and the bin is within reach."""
        return _both("ready", holding(context.proprio), reachable(context.target_w))

    def done(self, context: SkillContext) -> Verdict:
        """The gripper is open, and nothing has come to lie outside of the bin."""
        aside = strayed(context.before, context.after, context.target_w)
        opened = released(context.proprio)
        return _both("thrown away", opened, aside) if aside.value == "no" else opened

    def effect(self, context: SkillContext) -> Belief:
        """The hand is empty."""
        return Belief()


class _Drawer(Skill):
    """What opening and closing share."""

    shift_y_m: float

    def ready(self, context: SkillContext) -> Verdict:
        """The hand is empty and the handle within reach."""
        return _both("ready", hand_empty(context.proprio), reachable(context.target_w))

    def done(self, context: SkillContext) -> Verdict:
        """The handle was seen to move by the drawer's travel."""
        if context.after is None:
            return Verdict(name="slid", value="unsure", confidence=0.0)
        return slid(context.before, context.after, context.target_w, (0.0, self.shift_y_m, 0.0))

    def lasts(self, context: SkillContext) -> Verdict | None:
        """The handle is still where it was brought; what has come to stand at its old place is another thing."""
        moved = self.done(context)
        there = float(moved.evidence.get("points_new_place", 0.0))
        if moved.value == "no" and there > 0.3 * float(moved.evidence.get("points_before", 0.0)):
            return moved.replace(value="yes", confidence=0.5)
        return moved

    def effect(self, context: SkillContext) -> Belief:
        """The hand stays empty."""
        return Belief()


class OpenDrawer(_Drawer):
    """Pull the drawer open by its handle."""

    signature = SkillSignature(
        name="open_drawer",
        doc="pull the drawer open by its handle; the hand must be empty",
        params=(Parameter(name="drawer", type="object", categories=("drawer",)),),
        accepts=POINTS,
    )
    timeout_s = 9.0
    shift_y_m = -DRAWER_TRAVEL_M

    def approach(self, context: SkillContext) -> Approach:
        """Hover above the handle with the gripper open."""
        return Approach()


class CloseDrawer(_Drawer):
    """Push the drawer shut."""

    signature = SkillSignature(
        name="close_drawer",
        doc="push the drawer shut; the hand must be empty",
        params=(Parameter(name="drawer", type="object", categories=("drawer",)),),
        accepts=POINTS,
    )
    timeout_s = 9.0
    shift_y_m = DRAWER_TRAVEL_M

    def approach(self, context: SkillContext) -> Approach:
        """Hover above the handle with the gripper closed."""
        return Approach(gripper_width_m=0.0)


class Wipe(Skill):
    """Rub a spill off the table with the sponge that is held."""

    signature = SkillSignature(
        name="wipe",
        doc="rub a spill off the table; the sponge must be in the hand",
        params=(Parameter(name="surface", type="object", categories=("spill",), doc="the spill"),),
        accepts=POINTS,
    )
    timeout_s = 14.0
    naive_s = 9.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover above the spill without changing the grip."""
        return Approach(gripper_width_m=None)

    def ready(self, context: SkillContext) -> Verdict:
        """A sponge is held and the spill within reach."""
        held = context.belief.held or ""
        sponge = Verdict(
            name="sponge_in_hand",
            value="yes" if "sponge" in held else "no",
            evidence={"held": held or "nothing"},
        )
        return _both("ready", holding(context.proprio), sponge, reachable(context.target_w))

    def holds(self, context: SkillContext) -> Verdict:
        """The sponge is still between the fingers."""
        return holding(context.proprio)

    def done(self, context: SkillContext) -> Verdict:
        """The stain is gone from the picture."""
        if context.after is None:
            return Verdict(name="wiped", value="unsure", confidence=0.0)
        return wiped(context.before, context.after, context.target_w)

    def lasts(self, context: SkillContext) -> Verdict | None:
        """The stain has not come back."""
        return self.done(context)

    def effect(self, context: SkillContext) -> Belief:
        """The sponge stays in the hand."""
        return context.belief


def register(library: SkillLibrary) -> None:
    """Entry point ``hiervla.skills: builtin``."""
    for skill in (Pick(), Place(), OpenDrawer(), CloseDrawer(), Wipe(), ThrowAway()):
        library.register(skill)
