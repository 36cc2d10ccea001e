"""Ways of the tool from where it is to where it acts: made over what the depth image shows, drawn in the image, lifted.

A path in an image has no depth (HAMSTER, arXiv 2502.05485). Where the gripper acts, the surface that the pixel shows
gives it; between, the tool is in the air, and its point is taken where the pixel's ray meets the upright plane through
the places before and after. Where the camera looks along that plane, the ray's point nearest to the line between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.surface import Surface
from hiervla.representations import CameraFrame, ConventionError, Waypoint2D, Waypoint3D, Waypoints2D
from hiervla.representations._base import Vec3
from hiervla.representations.geometry import lift, project

Vector = NDArray[np.float64]

CLEARANCE_M: Final = 0.10
"""Kept between the tool centre point and what stands under its way [m]."""
HELD_M: Final = 0.08
"""Kept besides for what is held [m]."""
HIGHEST_M: Final = 0.42
"""A way goes no higher: the arm's home [m]."""
BESIDE_M: Final = 0.10
"""What stands this near to the line counts as under the way: half the hand's width [m]."""
ABOVE_M: Final = 0.12
"""A contact is come down to from this high above it [m]."""
_AT_HAND_PX: Final = 8.0
"""A path that begins this near to the hand begins there, for images 256 wide [px]."""
_DOWN_M: Final = 0.06
"""This near to a contact, a way may come down into what is seen [m]."""
_ALONG: Final = 0.2
"""Sine of the angle between ray and plane below which the camera looks along the plane."""


def way_to(
    start_w: Vector, contact_w: Vector, gripper: Literal["open", "close"], surface: Surface
) -> tuple[Waypoint3D, ...]:
    """A way over everything seen: up, across, down to the contact, where the gripper acts, and up again.

    Args:
        start_w: (3,) where the tool is when the way is begun [m].
        contact_w: (3,) point on the surface at which the gripper acts [m].
        gripper: what it does there.
        surface: what stands on the table.
    """
    carrying = HELD_M if gripper == "open" else 0.0
    high = surface.ridge(start_w, contact_w, BESIDE_M) + CLEARANCE_M + carrying
    high = min(max(high, float(contact_w[2]) + ABOVE_M + carrying), HIGHEST_M)
    first: Literal["open", "keep"] = "open" if gripper == "close" else "keep"
    way = [Waypoint3D(position_w=_vec(start_w), gripper=first)]
    if start_w[2] < high - 0.01:
        way.append(Waypoint3D(position_w=(float(start_w[0]), float(start_w[1]), high)))
    across = (float(contact_w[0]), float(contact_w[1]), high)
    away = (across[0], across[1], min(float(contact_w[2]) + ABOVE_M, HIGHEST_M))
    return (
        *way,
        Waypoint3D(position_w=across),
        Waypoint3D(position_w=_vec(contact_w), gripper=gripper),
        Waypoint3D(position_w=away),
    )


def draw_way(frame: CameraFrame, way: Sequence[Waypoint3D]) -> tuple[Waypoint2D, ...] | None:
    """The way in the image; None where a point of it is out of view."""
    pixels, depths = project(frame, [p.position_w for p in way])
    inside = (pixels >= 0.0).all(axis=1) & (pixels <= (frame.width, frame.height)).all(axis=1) & (depths > 0.0)
    if not inside.all():
        return None
    return tuple(
        Waypoint2D(u=float(u), v=float(v), gripper=p.gripper) for (u, v), p in zip(pixels.tolist(), way, strict=True)
    )


LiftContact = Callable[[float, float], Vec3]
"""The surface that a pixel shows, in the world frame [m]; raises `UngroundedError`."""


def lift_way(
    frame: CameraFrame, path: Waypoints2D, hand_w: Vector, acts: Literal["open", "close"], lift_contact: LiftContact
) -> tuple[Waypoint3D, ...]:
    """A path of an image in the world.

    The path's contacts are the points at which the gripper does what the step is about, or the path's last point where
    it never does. Its first point is the hand where it is drawn there, and otherwise on the surface that it shows.

    Args:
        frame: the frame that the path speaks of.
        path: the path.
        hand_w: (3,) where the tool is [m].
        acts: what the gripper does where the step is about: "close" for picking up, "open" for putting down.
        lift_contact: lifts a contact.

    Raises:
        UngroundedError: a contact stands on nothing.
    """
    points = path.points
    contacts = [k for k, p in enumerate(points) if p.gripper == acts and k > 0] or [len(points) - 1]
    fixed: dict[int, Vector] = {k: np.array(lift_contact(points[k].u, points[k].v)) for k in contacts}
    if 0 not in fixed:
        pixel, _ = project(frame, hand_w)
        off = float(np.hypot(points[0].u - pixel[0], points[0].v - pixel[1]))
        at_hand = off <= _AT_HAND_PX * frame.width / 256
        fixed[0] = np.array(hand_w) if at_hand else np.array(lift_contact(points[0].u, points[0].v))
    order = sorted(fixed)
    places: list[Vector] = []
    for k, point in enumerate(points):
        if k in fixed:
            places.append(fixed[k])
            continue
        before = max(i for i in order if i < k)
        after = next((i for i in order if i > k), None)
        if after is None:
            # After the last contact: in the plane of the way that led there, straight above where that is not told.
            origin = order[-2] if len(order) > 1 else before
            places.append(_on_ray(frame, point, fixed[before], fixed[before], fixed[origin]))
            continue
        share = _length(points[before : k + 1]) / max(_length(points[before : after + 1]), 1e-9)
        near = fixed[before] + share * (fixed[after] - fixed[before])
        places.append(_on_ray(frame, point, near, fixed[before], fixed[after]))
    return tuple(
        Waypoint3D(position_w=_vec(at), gripper=_first(p.gripper, k, contacts, acts))
        for k, (at, p) in enumerate(zip(places, points, strict=True))
    )


def check_way(way: Sequence[Waypoint3D], surface: Surface) -> None:
    """Refuse a way that leads through what is seen; where it begins, and around its contacts, it may come down to it.

    Raises:
        ConventionError: a point in the air lies below the surface that is seen there.
    """
    contacts = [np.array(p.position_w) for p in way if p.gripper != "keep"] or [np.array(way[-1].position_w)]
    for k, point in enumerate(way):
        at = np.array(point.position_w)
        if k == 0 or min(float(np.hypot(*(at - c)[:2])) for c in contacts) < _DOWN_M:
            continue
        height = surface.height(at, 0.015)
        if at[2] < height - 0.01:
            problem = f"leads {height - at[2]:.2f} m below what is seen there"
            raise ConventionError(f"waypoint {k + 1}", problem, "Go over it")


def _on_ray(frame: CameraFrame, point: Waypoint2D, near: Vector, a: Vector, b: Vector) -> Vector:
    """Where a pixel's ray meets the upright plane through two places, or comes nearest to a place, from above."""
    eye = frame.T_world_camera[:3, 3]
    ray = lift(frame, point.u, point.v, 1.0) - eye
    along = (b - a)[:2]
    length = float(np.hypot(*along))
    flat = float(np.hypot(*ray[:2]))
    if length > 0.03 and flat > 1e-9:
        normal = np.array([-along[1], along[0]]) / length
        sine = float(ray[:2] @ normal) / flat
        if abs(sine) > _ALONG:
            return np.asarray(eye + ray * (float((a[:2] - eye[:2]) @ normal) / float(ray[:2] @ normal)))
    t = float((near[:2] - eye[:2]) @ ray[:2]) / max(flat**2, 1e-12)
    return np.asarray(eye + ray * t)


def _length(points: Sequence[Waypoint2D]) -> float:
    steps = zip(points[:-1], points[1:], strict=True)
    return float(sum(np.hypot(b.u - a.u, b.v - a.v) for a, b in steps))


def _first(
    gripper: Literal["open", "close", "keep"], k: int, contacts: Sequence[int], acts: Literal["open", "close"]
) -> Literal["open", "close", "keep"]:
    """A path without any token acts at its end."""
    return acts if k in contacts else gripper


def _vec(p: Vector) -> Vec3:
    return float(p[0]), float(p[1]), float(p[2])
