"""From depth images to obstacles: what stands on the table, as columns, without the robot itself.

Every observed point above the table raises the column of its cell; columns reach down to the table, because what is
under a seen surface was not seen. Neighbouring columns of about equal height are merged into boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from hiervla.controllers import panda
from hiervla.controllers.collision import MAX_BOXES, Box, HeldObject, Obstacles
from hiervla.controllers.kinematics import arm_model
from hiervla.controllers.limits import Array
from hiervla.representations.geometry import lift
from hiervla.representations.observations import CameraFrame, Proprioception

_TOLERANCE_M = 0.015


@dataclass(frozen=True)
class ColumnGrid:
    """How the table is divided into columns.

    Attributes:
        x: extent of the grid along x, in the world frame [m].
        y: extent along y [m].
        cell_m: side of a cell [m].
        min_height_m: lower columns are the table (or the noise on it) [m].
        max_height_m: points above cannot be furniture; they are dropped [m].
    """

    x: tuple[float, float] = (0.10, 0.90)
    y: tuple[float, float] = (-0.80, 0.80)
    cell_m: float = 0.02
    min_height_m: float = 0.01
    max_height_m: float = 0.60

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells along x and y."""
        return (
            round((self.x[1] - self.x[0]) / self.cell_m),
            round((self.y[1] - self.y[0]) / self.cell_m),
        )


class RobotMask:
    """Tells which points belong to the arm itself; one object serves one thread."""

    def __init__(self) -> None:
        self._model = arm_model()
        self._data = mujoco.MjData(self._model)
        self._fingers = [
            (self._model.body("left_finger").id, 1.0),
            (self._model.body("right_finger").id, -1.0),
        ]
        self._closed = [self._model.body_pos[body].copy() for body, _ in self._fingers]

    def near(
        self,
        points: Array,
        proprio: Proprioception,
        *,
        distance_m: float = 0.025,
        held: HeldObject | None = None,
        held_margin_m: float = 0.02,
    ) -> Array:
        """Whether each point (N, 3) is nearer than `distance_m` to the arm, or in the held object; (N,) bool."""
        model, data = self._model, self._data
        for (body, side), closed in zip(self._fingers, self._closed, strict=True):
            model.body_pos[body] = closed + (0.0, side * proprio.gripper_width_m / 2, 0.0)
        data.qpos[:] = proprio.q
        mujoco.mj_kinematics(model, data)
        near = np.zeros(len(points), dtype=bool)
        for geom in range(model.ngeom):
            size, centre = model.geom_size[geom], data.geom_xpos[geom]
            reach = float(model.geom_rbound[geom]) + distance_m
            close = np.flatnonzero(~near & (np.abs(points - centre).max(axis=1) <= reach))
            if not len(close):
                continue
            local = (points[close] - centre) @ data.geom_xmat[geom].reshape(3, 3)
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
                gap = np.linalg.norm(np.maximum(np.abs(local) - size, 0.0), axis=1)
            else:  # a capsule; cylinders lie inside theirs
                along = np.clip(local[:, 2], -size[1], size[1])
                local[:, 2] -= along
                gap = np.linalg.norm(local, axis=1) - size[0]
            near[close[gap <= distance_m]] = True
        if held is not None:
            site = model.site(panda.EE_SITE).id
            local = (points - data.site_xpos[site]) @ data.site_xmat[site].reshape(3, 3)
            local[:, 2] -= held.below_m
            near |= (np.abs(local) <= np.asarray(held.half_extents) + held_margin_m).all(axis=1)
        return near


def deproject(frame: CameraFrame, stride: int = 1) -> Array:
    """World points (N, 3) of all pixels with a depth return; every `stride`-th row and column [m].

    Raises:
        CameraError: the camera gives no depth.
    """
    depth = frame.require_depth()[::stride, ::stride]
    rows, columns = np.nonzero(np.isfinite(depth) & (depth > 0.0))
    return lift(frame, columns * stride + 0.5, rows * stride + 0.5, depth[rows, columns])


def obstacles_from_depth(
    frames: Iterable[CameraFrame],
    proprio: Proprioception,
    *,
    ignore: Sequence[Box] = (),
    held: HeldObject | None = None,
    furniture: Sequence[Box] = (),
    grid: ColumnGrid | None = None,
    table_z: float = 0.0,
    stride: int = 2,
    mask: RobotMask | None = None,
) -> Obstacles:
    """Conservative boxes around everything that depth images show above the table, without the robot.

    Args:
        frames: RGB-D frames taken at the posture of `proprio`.
        proprio: where the arm was when they were taken.
        ignore: points in these boxes are dropped, such as the surroundings of what is to be grasped.
        held: what the gripper holds; its points are dropped.
        furniture: fixed boxes to add.
        grid: how the table is divided.
        table_z: height of the table [m].
        stride: use every n-th pixel of every n-th row.
        mask: reuse one to save building the arm's model again.

    Raises:
        CameraError: a frame has no depth.
    """
    grid = grid or ColumnGrid()
    clouds = [deproject(frame, stride) for frame in frames]
    points = np.concatenate(clouds) if clouds else np.zeros((0, 3))
    low = (grid.x[0], grid.y[0], table_z + grid.min_height_m)
    high = (grid.x[1], grid.y[1], table_z + grid.max_height_m)
    points = points[((points >= low) & (points < high)).all(axis=1)]
    for box in ignore:
        points = points[~_inside(points, box)]
    points = points[~(mask or RobotMask()).near(points, proprio, held=held)]
    heights = np.zeros(grid.shape)
    cells = ((points[:, :2] - (grid.x[0], grid.y[0])) / grid.cell_m).astype(int)
    cells = np.minimum(cells, np.array(grid.shape) - 1)
    np.maximum.at(heights, (cells[:, 0], cells[:, 1]), points[:, 2] - table_z)
    boxes = _merge(heights, grid, _TOLERANCE_M, table_z)
    # A scene too rugged for the collision model is told with coarser columns, never cut short.
    while len(boxes) > MAX_BOXES - len(furniture) and min(heights.shape) > 1:
        heights, grid = _coarser(heights, grid)
        boxes = _merge(heights, grid, 2.0 * _TOLERANCE_M, table_z)
    return Obstacles(boxes=tuple(boxes), furniture=tuple(furniture), table_z=table_z)


def _coarser(heights: Array, grid: ColumnGrid) -> tuple[Array, ColumnGrid]:
    """Cells of twice the side, as high as the highest of the four that they replace."""
    rows, columns = (n + n % 2 for n in heights.shape)
    padded = np.zeros((rows, columns))
    padded[: heights.shape[0], : heights.shape[1]] = heights
    pooled = padded.reshape(rows // 2, 2, columns // 2, 2).max(axis=(1, 3))
    cell = 2.0 * grid.cell_m
    x = (grid.x[0], grid.x[0] + rows // 2 * cell)
    y = (grid.y[0], grid.y[0] + columns // 2 * cell)
    return pooled, replace(grid, x=x, y=y, cell_m=cell)


def _inside(points: Array, box: Box) -> Array:
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    offset = points - np.asarray(box.centre)
    local = np.column_stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0], offset[:, 2]])
    return np.asarray((np.abs(local) <= np.asarray(box.half_extents)).all(axis=1))


def _merge(heights: Array, grid: ColumnGrid, tolerance: float, table_z: float) -> list[Box]:
    """Cover all occupied cells with boxes as high as their highest cell; greedy, highest cells first."""
    left = heights >= grid.min_height_m
    boxes = []
    order = np.argsort(-heights, axis=None, kind="stable")
    for flat in order[: int(left.sum())]:
        i, j = divmod(int(flat), heights.shape[1])
        if not left[i, j]:
            continue
        top = heights[i, j]
        like = left & (heights >= top - tolerance)
        i0, i1, j0, j1 = _grow(like, i, j)
        left[i0:i1, j0:j1] = False
        boxes.append(_column(grid, (i0, i1, j0, j1), float(top), table_z))
    return boxes


def _grow(like: Array, i: int, j: int) -> tuple[int, int, int, int]:
    """Largest rectangle found by widening row by row and column by column: (i0, i1, j0, j1), ends exclusive."""
    i0, i1, j0, j1 = i, i + 1, j, j + 1
    grew = True
    while grew:
        grew = False
        if i0 > 0 and like[i0 - 1, j0:j1].all():
            i0, grew = i0 - 1, True
        if i1 < like.shape[0] and like[i1, j0:j1].all():
            i1, grew = i1 + 1, True
        if j0 > 0 and like[i0:i1, j0 - 1].all():
            j0, grew = j0 - 1, True
        if j1 < like.shape[1] and like[i0:i1, j1].all():
            j1, grew = j1 + 1, True
    return i0, i1, j0, j1


def _column(grid: ColumnGrid, cells: tuple[int, int, int, int], top: float, table_z: float) -> Box:
    i0, i1, j0, j1 = cells
    cell = grid.cell_m
    x = grid.x[0] + (i0 + i1) / 2 * cell
    y = grid.y[0] + (j0 + j1) / 2 * cell
    return Box(
        name=f"something at ({x:.2f}, {y:.2f}), {top * 100:.0f} cm high",
        centre=(x, y, table_z + top / 2),
        half_extents=((i1 - i0) * cell / 2, (j1 - j0) * cell / 2, top / 2),
    )
