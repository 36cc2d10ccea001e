"""Grounding of every kind: what a step carries becomes a point or a way in the world, or is refused.

- keypoints are lifted by the planner's own checks;
- boxes and affordance maps are reduced to a keypoint, which is lifted and stands beside them;
- a path in the image becomes a path in the world, which stands beside it, as do motions in words;
- paths in the world, value maps and constraints are checked.

Motions in words beside anything else are a person's corrections: they shift what they stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.base import GroundingError
from hiervla.planner.expression import Lift, acts_of
from hiervla.planner.grounding import WORKSPACE, UngroundedError
from hiervla.planner.pile import DROPS, above_pile
from hiervla.planner.reduction import point_of_box, point_of_map
from hiervla.planner.surface import Surface
from hiervla.planner.ways import LiftContact, check_way, lift_way
from hiervla.representations import (
    AffordanceMap,
    Artifact,
    Boxes,
    CameraFrame,
    Constraints,
    ConventionError,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Observation,
    Step,
    ValueMap,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations._base import Vec3
from hiervla.representations.geometry import project
from hiervla.skills.routes import told
from hiervla.skills.value_maps import peak_of

Vector = NDArray[np.float64]

_HIGHEST_M = 0.60
"""Ways in the air may go higher than keypoints on things [m]."""


def ground_step(observation: Observation, frame: CameraFrame, step: Step, lift: Lift) -> Step:
    """The step with its artifacts in the world frame.

    Args:
        observation: the observation that they were computed from.
        frame: the planner's frame of it, with depth.
        step: a step with at least one artifact that says where.
        lift: the planner's own lifting of a keypoint.

    Raises:
        GroundingError: an artifact stands on nothing, leads out of reach or through things, belongs to another image;
            or there is none.
    """
    for artifact in step.artifacts:
        image = getattr(artifact, "image", None)
        if image is not None and image.sha256 != frame.sha256:
            what = "keypoint" if artifact.kind == "keypoints" else artifact.kind.replace("_", " ")
            raise GroundingError(step.id, f"its {what} belongs to another image than the one given")
    try:
        grounded = _grounded(observation, frame, step, lift)
    except UngroundedError as error:
        problem = f"keypoint '{error.label}' at (u={error.u:.0f}, v={error.v:.0f}): {error.problem}"
        raise GroundingError(step.id, problem) from error
    except ConventionError as error:
        raise GroundingError(step.id, str(error).rstrip(".")) from error
    return step.replace(artifacts=tuple(grounded))


def _grounded(observation: Observation, frame: CameraFrame, step: Step, lift: Lift) -> list[Artifact]:
    hand = np.array(observation.proprio.ee_position)
    pointed = [a for a in step.artifacts if isinstance(a, Keypoints)]
    motions = [a for a in step.artifacts if isinstance(a, LanguageMotion)]
    out: list[Artifact] = []
    found = False
    for artifact in step.artifacts:
        out.append(artifact)
        match artifact:
            case Keypoints():
                lifted = tuple(lift(frame, step, p) for p in artifact.points)
                if step.skill in DROPS:
                    lifted = tuple(above_pile(frame, p) for p in lifted)
                out[-1] = artifact.replace(points=lifted)
            case AffordanceMap() | Boxes() if not pointed:
                points = (
                    point_of_map(artifact) if isinstance(artifact, AffordanceMap) else point_of_box(artifact, frame)
                )
                out.append(points.replace(points=tuple(lift(frame, step, p) for p in points.points)))
            case Waypoints2D() if not pointed:
                way = lift_way(frame, artifact, hand, acts_of(step), _contact(frame, step, lift))
                out.append(Waypoints3D(points=way, provenance=artifact.provenance))
            case Waypoints3D() | ValueMap() | Constraints():
                pass
            case _:
                continue
        found = True
    if motions and not found:
        out.append(Waypoints3D(points=told(motions, hand)))
        found = True
    elif motions:
        out = [_shifted(frame, a, motions) for a in out]
    if not found:
        raise GroundingError(step.id, f"there is no point in the image for '{step}'")
    _check(out, observation, frame)
    return out


def _contact(frame: CameraFrame, step: Step, lift: Lift) -> LiftContact:
    def contact(u: float, v: float) -> Vec3:
        label = step.args.get("target") or step.args.get("object") or step.skill
        lifted = lift(frame, step, Keypoint(label=label, u=u, v=v)).position_w
        assert lifted is not None, "a planner's lift gives a place or raises"
        return lifted

    return contact


def _check(artifacts: Sequence[Artifact], observation: Observation, frame: CameraFrame) -> None:
    """Refuse ways that leave the workspace or lead through things.

    Raises:
        ConventionError: such a way.
    """
    for artifact in artifacts:
        match artifact:
            case Waypoints3D():
                for k, point in enumerate(artifact.points):
                    _check_place(f"waypoint {k + 1}", point.position_w)
                check_way(artifact.points, Surface(frame, observation.proprio))
            case ValueMap():
                _check_place(f"the highest place of the value map '{artifact.label}'", peak_of(artifact))
            case Constraints():
                if any(k.position_w is None for k in artifact.keypoints):
                    raise ConventionError("constraints.keypoints", "are not all in the world", "Lift them")
            case _:
                pass


def _check_place(what: str, place: Vec3) -> None:
    (x0, y0, z0), (x1, y1, _) = WORKSPACE
    for axis, value, low, high in zip("xyz", place, (x0, y0, z0), (x1, y1, _HIGHEST_M), strict=True):
        if not low <= value <= high:
            problem = f"{axis} = {value:.2f} m is outside of the workspace ({low:g} to {high:g} m)"
            raise ConventionError(what, problem, "Look again and replan")


def _shifted(frame: CameraFrame, artifact: Artifact, motions: Sequence[LanguageMotion]) -> Artifact:
    """What a person's corrections make of an artifact in the world.

    Raises:
        ConventionError: a correction in the end effector's frame.
    """
    shift = np.array(told(motions, np.zeros(3))[-1].position_w)
    match artifact:
        case Keypoints():
            return artifact.replace(points=tuple(_moved(frame, p, shift) for p in artifact.points))
        case Waypoints3D():
            points = tuple(
                p if k == 0 else p.replace(position_w=_vec(np.array(p.position_w) + shift))
                for k, p in enumerate(artifact.points)
            )
            return artifact.replace(points=points)
        case ValueMap():
            return artifact.replace(origin_w=_vec(np.array(artifact.origin_w) + shift))
        case Constraints():
            first = _moved(frame, artifact.keypoints[0], shift)
            return artifact.replace(keypoints=(first, *artifact.keypoints[1:]))
        case _:
            return artifact


def _moved(frame: CameraFrame, point: Keypoint, shift: Vector) -> Keypoint:
    """A keypoint elsewhere, in the world and, as far as the image reaches, in its pixels."""
    if point.position_w is None:
        return point
    place = np.array(point.position_w) + shift
    (u, v), _ = project(frame, place)
    u, v = min(max(float(u), 0.0), float(frame.width)), min(max(float(v), 0.0), float(frame.height))
    return point.replace(u=u, v=v, position_w=_vec(place))


def _vec(p: Vector) -> Vec3:
    return float(p[0]), float(p[1]), float(p[2])
