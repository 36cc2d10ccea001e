"""One decision in whichever kind was asked for: what a step points at, said as a box, a map, a way, words, relations.

A planner that points has the keypoint of each step. Everything else is made here from that, from the depth image of the
very frame, and from where the arm is: nothing that the planner could not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.fields import value_map
from hiervla.planner.grounding import UngroundedError
from hiervla.planner.reduction import region_of_map
from hiervla.planner.relations import constraints
from hiervla.planner.surface import Surface
from hiervla.planner.ways import HELD_M, draw_way, way_to
from hiervla.representations import (
    AffordanceMap,
    Artifact,
    ArtifactKind,
    Boxes,
    CameraFrame,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Observation,
    Step,
    SubtaskList,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.artifacts import Box
from hiervla.skills.language_motions import say_gripper, say_shift

Vector = NDArray[np.float64]
Lift = Callable[[CameraFrame, Step, Keypoint], Keypoint]
"""Lifts a step's keypoint to the world; raises :class:`UngroundedError`."""

WAY_KINDS: Final[tuple[ArtifactKind, ...]] = (
    "waypoints_2d", "waypoints_3d", "value_map", "constraints", "language_motion",
)  # fmt: skip
"""What can be made of a keypoint, depth and the arm's state."""
_CLEAR_PX: Final = 10.0
"""Keypoints of other things this near to the target are of the same thing, or of what it stands on [px]."""


@dataclass
class Expression:
    """Says the steps of one plan, in order, as artifacts of a kind.

    Attributes:
        observation: what the plan was made from.
        frame: the planner's frame of it.
        lift: how the planner lifts its keypoints.
        others: keypoints of all that was seen, not lifted.
    """

    observation: Observation
    frame: CameraFrame
    lift: Lift
    others: Sequence[Keypoint] = ()
    _surface: Surface | None = None
    _at: Vector | None = field(default=None)

    def say(
        self, kind: ArtifactKind, step: Step, pointed: Sequence[Artifact], box: Box | None = None
    ) -> tuple[Artifact, ...]:
        """The artifacts of a step, all of one kind.

        What cannot be made for want of depth or because a point stands on nothing stays a keypoint; grounding then says
        what is wrong with it. Later steps of a plan begin where the one before acts.

        Args:
            kind: what is asked for.
            step: the step, without artifacts.
            pointed: its keypoint and, where the planner has one, its affordance map.
            box: what the planner's eyes put around the thing that the step points at, if it points at one.
        """
        if kind == "subtasks":
            return (SubtaskList(subtasks=(str(step),)),)
        points = next((a for a in pointed if isinstance(a, Keypoints)), None)
        if points is None:
            return ()
        heat = next((a for a in pointed if isinstance(a, AffordanceMap)), None)
        if kind == "boxes":
            found = box if box is not None else None if heat is None else region_of_map(heat, points.image)
            return (points,) if found is None else (Boxes(image=points.image, boxes=(found,)),)
        if kind == "affordance_map":
            return (points,) if heat is None else (heat,)
        if kind in WAY_KINDS and self.frame.depth_m is not None:
            try:
                lifted = self.lift(self.frame, step, points.points[0])
            except UngroundedError:
                return (points,)
            return self._way(kind, step, points, lifted)
        return (points,)

    def _way(self, kind: ArtifactKind, step: Step, points: Keypoints, target: Keypoint) -> tuple[Artifact, ...]:
        assert target.position_w is not None
        contact = np.array(target.position_w)
        acts = acts_of(step)
        start = np.array(self.observation.proprio.ee_position) if self._at is None else self._at
        way = way_to(start, contact, acts, self.surface)
        self._at = contact
        match kind:
            case "waypoints_3d":
                return (Waypoints3D(points=way),)
            case "waypoints_2d":
                drawn = draw_way(self.frame, way)
                return (points,) if drawn is None else (Waypoints2D(image=points.image, points=drawn),)
            case "value_map":
                carried = HELD_M if acts == "open" else 0.03
                return (value_map(target.label, start, contact, self.surface, carried),)
            case "constraints":
                return (constraints(target, self._avoided(step, target), acts),)
            case _:
                return motions_of([np.array(p.position_w) for p in way], [p.gripper for p in way])

    @property
    def surface(self) -> Surface:
        """What stands on the table, looked at once."""
        if self._surface is None:
            self._surface = Surface(self.frame, self.observation.proprio)
        return self._surface

    def _avoided(self, step: Step, target: Keypoint) -> list[Keypoint]:
        """Keypoints of other things, lifted; those that stand on nothing are left out."""
        kept = []
        for other in self.others:
            if np.hypot(other.u - target.u, other.v - target.v) < _CLEAR_PX * self.frame.width / 256:
                continue
            try:
                found = self.lift(self.frame, step.replace(skill="look", args={}), other)
            except UngroundedError:
                continue
            at, goal = np.array(found.position_w), np.array(target.position_w)
            # What is held hangs at the hand, and what the target lies on or in is not to be kept away from.
            near_hand = np.linalg.norm(at - self.observation.proprio.ee_position) < 0.15
            if not near_hand and np.hypot(*(at - goal)[:2]) > 0.08:
                kept.append(found)
        return kept


def acts_of(step: Step) -> Literal["open", "close"]:
    """What the gripper does where a step is about: it closes to pick up, and opens to put down."""
    return "close" if step.skill == "pick" else "open"


def subtasks_of(steps: Sequence[Step]) -> SubtaskList:
    """The whole plan in words, with its dependencies."""
    index = {s.id: k for k, s in enumerate(steps)}
    pairs = tuple((k, index[needed]) for k, s in enumerate(steps) for needed in s.depends_on if needed in index)
    return SubtaskList(subtasks=tuple(str(s) for s in steps), depends_on=pairs)


def motions_of(places: Sequence[Vector], grippers: Sequence[Literal["open", "close", "keep"]]) -> tuple[Artifact, ...]:
    """A way in words, from its first place on: whole centimetres along one axis after the other.

    What is lost by rounding is not carried along: each motion is said from where the words before it lead.
    """
    motions: list[LanguageMotion] = []
    here = places[0]
    for k, (place, gripper) in enumerate(zip(places, grippers, strict=True)):
        dx, dy, dz = (float(c) for c in place - here)
        # Up comes before across, and across before down.
        told = say_shift((dx, dy, dz), (2, 0, 1) if dz > 0 else (0, 1, 2))
        for motion in told:
            here = here + np.array(motion.translation_m)
        motions += told
        if gripper != "keep" and k > 0:
            motions.append(say_gripper(gripper))
    return tuple(motions)
