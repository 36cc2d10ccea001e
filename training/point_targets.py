"""What the pointing head should answer in a rendered scene, and whether an answer is right.

Places are judged in the world: the keypoint's viewing ray is cut with the surface that the thing should go to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiervla.planner.embedded.vision import STRIDE
from hiervla.training.render_scenes import RenderedScene, Thing, project_points
from hiervla.training.spots import BESIDE_ROOM, Floats, beside_spots, free_spots, gaps, splat, visible_map
from hiervla.worlds.tabletop.specs import BIN_HEIGHT, HANDLE_Z, TABLE_X, TABLE_Y

LOOSE: Final = ("block", "mug", "can", "sponge", "bowl", "plate")
SHELVES: Final = ("top_shelf", "bottom_shelf")
ROOM: Final = 0.045
"""Distance that a spot must keep to other things' edges where the scene allows it [m]."""


@dataclass(frozen=True)
class Question:
    """A role and the thing that it has to do with; None for the table."""

    role: str
    thing: Thing | None


def questions(scene: RenderedScene) -> list[Question]:
    """All places in the picture that a step could act at."""
    spec = scene.spec
    asked = [Question("at", None)]
    for t in scene.things:
        asked.append(Question("object", t))
        if t.category in SHELVES:
            asked.append(Question("on", t))
        elif t.category == "bin" or (t.category == "drawer" and spec.drawer_open > 0.06):
            asked.append(Question("in", t))
        elif t.category in LOOSE and t.state != "gripper":
            if t.category in ("block", "plate", "bowl") and not spec.carried_by(t.id):
                asked.append(Question("in" if t.category == "bowl" else "on", t))
            if t.state == "table":
                asked += [Question("left_of", t), Question("right_of", t)]
    return asked


def target_map(scene: RenderedScene, question: Question) -> NDArray[np.float32] | None:
    """The affordance map (h, w) that answers a question, or None where there is no answer."""
    grid = (scene.segments.shape[0] // STRIDE, scene.segments.shape[1] // STRIDE)
    t = question.thing
    pixels = {thing.id: thing.pixel for thing in scene.things}
    if t is None or question.role in ("left_of", "right_of"):
        points, weights = free_spots(scene.spec, "table") if t is None else _beside(scene, question)
        return _seen(scene, points, weights, 0)
    if question.role == "object":
        if t.category in LOOSE or t.category == "spill":
            return _mask_map(scene, t)
        return _bump((t.u, t.v), 0.7, grid)
    if t.category in SHELVES or t.category == "drawer":
        points, weights = free_spots(scene.spec, t.category)
        return _seen(scene, points, weights, pixels[t.id])
    if t.category == "bin":
        return _bump((t.u, t.v), 0.9, grid)
    uv = project_points(scene.K, scene.T_world_camera, _top(scene, t))
    return _bump((float(uv[0]), float(uv[1])), 0.6, grid)


def point_problem(scene: RenderedScene, question: Question, u: float, v: float) -> str:
    """What is wrong with a keypoint, or "" when it is right."""
    t, role, spec = question.thing, question.role, scene.spec
    if role == "object" and t is not None and (t.category in LOOSE or t.category == "spill"):
        row = min(max(int(v), 0), scene.segments.shape[0] - 1)
        column = min(max(int(u), 0), scene.segments.shape[1] - 1)
        # What is left of a spill may lie around its centre, which is where a wipe goes.
        central = t.category == "spill" and float(np.hypot(u - t.u, v - t.v)) < 5.0
        return "" if central or scene.segments[row, column] == t.pixel else f"not on {t.id}"
    if t is None or role in ("left_of", "right_of"):
        return _table_problem(scene, question, _cut(scene, u, v, 0.0))
    if role == "object" and t.category == "drawer":
        x, y = _cut(scene, u, v, HANDLE_Z)
        hx, hy, _ = spec.furniture.handle(spec.drawer_open)
        return "" if abs(x - hx) < 0.045 and abs(y - hy) < 0.02 else "not on the handle"
    if t.category == "bin":
        x, y = _cut(scene, u, v, BIN_HEIGHT)
        bx, by = spec.furniture.bin_xy
        return "" if max(abs(x - bx), abs(y - by)) < 0.06 else "not over the bin"
    if t.category in SHELVES or t.category == "drawer":
        region = spec.furniture.region(t.category, spec.drawer_open)  # type: ignore[arg-type]
        x, y = _cut(scene, u, v, region.z)
        if not region.contains(x, y, 0.02):
            return f"not on the {t.category}"
        room = 0.03 if t.category == "drawer" else ROOM
        return "" if role == "object" else _crowded(spec_gap(scene, t.category, x, y), room, scene, t.category)
    x, y, z = _top(scene, t)
    px, py = _cut(scene, u, v, z)
    o = spec.object(t.id)
    reach = 0.4 * o.size[0] if t.category == "block" else 0.25 * o.size[0]
    return "" if float(np.hypot(px - x, py - y)) < reach else f"not in the middle of {t.id}"


def spec_gap(scene: RenderedScene, support: str, x: float, y: float) -> float:
    """Distance from a place to the nearest thing on the same support [m]."""
    return float(gaps(scene.spec, support, np.array([[x, y]]))[0])


def _crowded(gap: float, room: float, scene: RenderedScene, surface: str) -> str:
    if gap >= room:
        return ""
    points, _ = free_spots(scene.spec, surface)
    best = float(gaps(scene.spec, surface, points[:, :2]).max()) if len(points) else 0.0
    return "" if gap >= best - 0.015 else f"{gap:.3f} m from the next thing"


def _table_problem(scene: RenderedScene, question: Question, at: tuple[float, float]) -> str:
    x, y = at
    if not (TABLE_X[0] - 0.06 <= x <= TABLE_X[1] + 0.04 and TABLE_Y[0] - 0.10 <= y <= TABLE_Y[1] + 0.08):
        return "not within reach on the table"
    if question.thing is None:
        return _crowded(spec_gap(scene, "table", x, y), ROOM, scene, "table")
    o = scene.spec.object(question.thing.id)
    dy = (y - o.position[1]) * (-1.0 if question.role == "left_of" else 1.0)
    if not (0.06 < dy < 0.22 and abs(x - o.position[0]) < 0.08):
        return f"not {question.role} {o.id}"
    gap = float(gaps(scene.spec, "table", np.array([[x, y]]), ignore=o.id)[0])
    return "" if gap >= BESIDE_ROOM - 0.01 else f"{gap:.3f} m from the next thing"


def _beside(scene: RenderedScene, question: Question) -> tuple[Floats, Floats]:
    assert question.thing is not None
    return beside_spots(scene.spec, question.thing.id, question.role)


def _seen(scene: RenderedScene, points: Floats, weights: Floats, pixel: int) -> NDArray[np.float32] | None:
    if not len(points):
        return None
    shown = visible_map(points, weights, scene.K, scene.T_world_camera, scene.segments, pixel)
    return shown if shown.sum() > 0.5 else None


def _top(scene: RenderedScene, t: Thing) -> tuple[float, float, float]:
    """The middle of the surface on which a thing carries others [m]."""
    o = scene.spec.object(t.id)
    return (o.position[0], o.position[1], o.position[2] + o.carry_z)


def _mask_map(scene: RenderedScene, t: Thing) -> NDArray[np.float32]:
    mask = scene.segments == t.pixel
    rows, columns = np.nonzero(mask)
    spread = 2 * (0.30 * np.sqrt(len(rows))) ** 2
    weights = np.exp(-((columns + 0.5 - t.u) ** 2 + (rows + 0.5 - t.v) ** 2) / spread)
    h, w = scene.segments.shape[0] // STRIDE, scene.segments.shape[1] // STRIDE
    out = np.bincount((rows // STRIDE) * w + columns // STRIDE, weights, h * w)
    return (out / out.sum()).reshape(h, w).astype(np.float32)


def _bump(uv: tuple[float, float], sigma: float, grid: tuple[int, int]) -> NDArray[np.float32]:
    """A Gaussian of `sigma` cells around a pixel; its weighted mean stays at that pixel, edges apart."""
    steps = np.arange(-1.5, 1.51, 0.5) * sigma
    du, dv = np.meshgrid(steps, steps)
    weights = np.exp(-(du**2 + dv**2) / (2 * sigma**2)).ravel()
    points = np.stack([uv[0] + du.ravel() * STRIDE, uv[1] + dv.ravel() * STRIDE], axis=1)
    out = splat(points, weights / weights.sum(), grid)
    total: float = float(out.sum())
    return out / max(total, 1e-6)


def _cut(scene: RenderedScene, u: float, v: float, z: float) -> tuple[float, float]:
    """Where the viewing ray of a pixel meets the horizontal plane at height `z` [m]."""
    ray = scene.T_world_camera[:3, :3] @ np.linalg.solve(scene.K, np.array([u, v, 1.0]))
    eye = scene.T_world_camera[:3, 3]
    reach = (z - eye[2]) / min(ray[2], -1e-6)
    return float(eye[0] + reach * ray[0]), float(eye[1] + reach * ray[1])


def find_thing(things: Sequence[Thing], thing_id: str) -> Thing | None:
    """The visible thing with that id."""
    return next((t for t in things if t.id == thing_id), None)
