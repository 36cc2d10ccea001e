"""The embedded planner's steps in the kind that was asked for, and what people's corrections in words add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from hiervla.planner.base import PlannerContext
from hiervla.planner.embedded.slots import LOOSE
from hiervla.planner.expression import Expression, Lift
from hiervla.planner.kinds import kind_for
from hiervla.representations import (
    Artifact,
    ArtifactKind,
    Boxes,
    CameraFrame,
    ImageRef,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Observation,
    SkillSignature,
    Step,
)
from hiervla.representations.artifacts import Box
from hiervla.skills.language_motions import read_motion

if TYPE_CHECKING:
    from hiervla.planner.embedded.vision import Slot

KINDS: Final[tuple[ArtifactKind, ...]] = (
    "subtasks", "keypoints", "boxes", "affordance_map", "waypoints_2d", "waypoints_3d", "language_motion", "value_map",
    "constraints",
)  # fmt: skip
"""What the embedded planner can say a step as."""
_THINGS: Final[Mapping[str, str]] = {
    "pick": "object",
    "wipe": "surface",
    "open_drawer": "drawer",
    "close_drawer": "drawer",
}
"""Which argument names the thing that a built-in skill acts at."""


def say_steps(
    steps: Sequence[Step],
    context: PlannerContext,
    observation: Observation,
    frame: CameraFrame,
    slots: Sequence[Slot],
    lift: Lift,
) -> tuple[Step, ...]:
    """Steps that point, in the kind that was asked for; as they are where nothing was asked for."""
    signatures = {s.name: s for s in context.skills}
    others = [Keypoint(label=s.name, u=s.u, v=s.v) for s in slots if s.category_name in LOOSE]
    saying = Expression(observation, frame, lift, others)
    return tuple(_said(saying, step, signatures[step.skill], context.emit, slots) for step in steps)


def _said(
    saying: Expression, step: Step, signature: SkillSignature, wanted: ArtifactKind | None, slots: Sequence[Slot]
) -> Step:
    kind = kind_for(signature, wanted, KINDS)
    if wanted is None and kind == "keypoints":
        return step
    box = _box(step, slots) if kind == "boxes" else None
    return step.replace(artifacts=saying.say(kind, step.replace(artifacts=()), step.artifacts, box))


def _box(step: Step, slots: Sequence[Slot]) -> Box | None:
    """What the eyes put around the thing that a step acts at; None for a place, which has no box."""
    named = "bin" if step.skill == "throw_away" else step.args.get(_THINGS.get(step.skill, ""), "")
    points = next((a for a in step.artifacts if isinstance(a, Keypoints)), None)
    near = [s for s in slots if s.name == named]
    if points is None or not near:
        return None
    at, image = points.points[0], points.image
    slot = min(near, key=lambda s: float(np.hypot(s.u - at.u, s.v - at.v)))
    return box_of(slot, image)


def box_of(slot: Slot, image: ImageRef) -> Box | None:
    """A slot's box within the image; None where nothing of it is inside."""
    a, b = max(0.0, slot.box[0]), max(0.0, slot.box[1])
    c, d = min(float(image.width), slot.box[2]), min(float(image.height), slot.box[3])
    if not (a < c and b < d):
        return None
    return Box(label=slot.name, u_min=a, v_min=b, u_max=c, v_max=d, confidence=slot.score)


def scene_of(slots: Sequence[Slot], image: ImageRef) -> tuple[Artifact, ...]:
    """Everything that was seen, as boxes and keypoints."""
    if not slots:
        return ()
    boxes, points = [], []
    for s in slots:
        box = box_of(s, image)
        boxes += [] if box is None else [box]
        state = s.state_name.replace("_", " ")
        label = s.name if state == "none" else f"{s.name} ({state})"
        u, v = min(max(s.u, 0.0), float(image.width)), min(max(s.v, 0.0), float(image.height))
        points.append(Keypoint(label=label, u=u, v=v, confidence=s.score))
    return (Boxes(image=image, boxes=tuple(boxes)), Keypoints(image=image, points=tuple(points)))


def corrections(context: PlannerContext) -> tuple[LanguageMotion, ...]:
    """What people said last, as far as it is motions, such as "a bit to the left"; none once the robot has gone on.

    They speak of the step that they interrupted, so they hold only as long as that is the last thing that happened.
    """
    if context.history and context.history[-1].outcome != "cancelled":
        return ()
    found: list[LanguageMotion] = []
    for words in reversed(context.said):
        motion = read_motion(words)
        if motion is None or motion.translation_m is None:
            break
        found.insert(0, motion)
    return tuple(found)


def without_motions(said: Sequence[str]) -> list[str]:
    """What people said, without motions: those change a step and not the instruction."""
    return [words for words in said if read_motion(words) is None]


def kept_motions(step: Step) -> tuple[Artifact, ...]:
    """Corrections that stand beside what a step points at, to be kept when it is pointed at anew."""
    motions = [a for a in step.artifacts if isinstance(a, LanguageMotion)]
    return tuple(motions) if len(motions) < len(step.artifacts) else ()
