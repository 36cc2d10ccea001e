from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.collision import MAX_BOXES, Box, HeldObject
from hiervla.controllers.kinematics import Kinematics
from hiervla.controllers.limits import Array
from hiervla.controllers.obstacles import ColumnGrid, RobotMask, deproject, obstacles_from_depth
from hiervla.representations.errors import CameraError
from hiervla.representations.observations import CameraFrame, Proprioception

CRATE = Box("crate", (0.5, -0.1, 0.06), (0.05, 0.04, 0.06))


def _proprio(q: Array = panda.HOME_Q, width: float = 0.08) -> Proprioception:
    pose = Kinematics().forward(q)
    return Proprioception(q=q, dq=np.zeros(7), T_world_ee=pose, gripper_width_m=width, time_s=0.0)


def _camera() -> tuple[Array, Array]:
    """K and T_world_camera of a camera at the front that looks back at the table."""
    place, target = np.array([1.25, 0.0, 0.9]), np.array([0.42, 0.0, 0.0])
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = place
    K = np.array([[150.0, 0, 80.0], [0, 150.0, 60.0], [0, 0, 1.0]])
    return K, pose


def _frame(*boxes: Box, depth: bool = True) -> CameraFrame:
    """Depth image of boxes on a table, by casting rays."""
    K, pose = _camera()
    rows, columns = np.mgrid[0:120, 0:160]
    rays = np.stack([(columns + 0.5 - K[0, 2]) / K[0, 0], (rows + 0.5 - K[1, 2]) / K[1, 1], np.ones(rows.shape)], -1)
    rays = rays @ pose[:3, :3].T
    origin = pose[:3, 3]
    best = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
    for box in boxes:
        low = (np.array(box.centre) - box.half_extents - origin) / rays
        high = (np.array(box.centre) + box.half_extents - origin) / rays
        enter, leave = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
        best = np.where((enter < leave) & (enter > 0), np.minimum(best, enter), best)
    best[~np.isfinite(best)] = 0.0
    return CameraFrame(
        name="front",
        rgb=np.zeros((120, 160, 3), dtype=np.uint8),
        depth_m=best.astype(np.float32) if depth else None,
        K=K,
        T_world_camera=pose,
        time_s=0.0,
    )


def _height_at(boxes: tuple[Box, ...], x: float, y: float) -> float:
    tops = [0.0]
    for box in boxes:
        if abs(x - box.centre[0]) <= box.half_extents[0] and abs(y - box.centre[1]) <= box.half_extents[1]:
            tops.append(box.centre[2] + box.half_extents[2])
    return max(tops)


def test_points_come_back_to_the_table() -> None:
    points = deproject(_frame())
    assert len(points) > 5000
    np.testing.assert_allclose(points[:, 2], 0.0, atol=1e-4)


def test_empty_table_has_no_obstacles() -> None:
    assert obstacles_from_depth([_frame()], _proprio(), stride=1).boxes == ()


def test_a_crate_becomes_columns_down_to_the_table() -> None:
    found = obstacles_from_depth([_frame(CRATE)], _proprio(), stride=1).boxes
    assert found
    for dx in (-0.045, 0.0, 0.045):
        for dy in (-0.035, 0.0, 0.035):
            assert _height_at(found, 0.5 + dx, -0.1 + dy) == pytest.approx(0.12, abs=0.005)
    assert _height_at(found, 0.5, 0.1) == 0.0
    assert all(box.centre[2] == pytest.approx(box.half_extents[2]) for box in found), "columns start at the table"
    assert len(found) < 6, "equal columns are merged"


def test_several_cameras_add_up() -> None:
    other = Box("other", (0.4, 0.2, 0.03), (0.03, 0.03, 0.03))
    found = obstacles_from_depth([_frame(CRATE), _frame(other)], _proprio(), stride=1).boxes
    assert _height_at(found, 0.5, -0.1) > 0.1 and _height_at(found, 0.4, 0.2) > 0.05


def test_ignored_and_held_points_leave_no_obstacle() -> None:
    around = Box("around", CRATE.centre, (0.08, 0.08, 0.08))
    assert obstacles_from_depth([_frame(CRATE)], _proprio(), ignore=[around], stride=1).boxes == ()
    q = Kinematics().solve_topdown([0.5, -0.1, 0.2], 0.0, panda.HOME_Q)
    assert obstacles_from_depth([_frame(CRATE)], _proprio(q), stride=1).boxes
    held = HeldObject((0.05, 0.04, 0.06), below_m=0.14)
    assert obstacles_from_depth([_frame(CRATE)], _proprio(q), held=held, stride=1).boxes == ()


def test_the_arm_is_not_an_obstacle_to_itself() -> None:
    # A thing exactly where the hand is: the mask takes it away; with the arm elsewhere it stays.
    hand = Box("hand", (0.45, 0.1, 0.13), (0.02, 0.05, 0.03))
    q = Kinematics().solve_topdown([0.45, 0.1, 0.05], 0.0, panda.HOME_Q)
    there = obstacles_from_depth([_frame(hand)], _proprio(q), stride=1)
    assert _height_at(there.boxes, 0.45, 0.1) == 0.0
    assert _height_at(obstacles_from_depth([_frame(hand)], _proprio(), stride=1).boxes, 0.45, 0.1) > 0.1


def test_mask_follows_the_fingers() -> None:
    mask, ee = RobotMask(), Kinematics().forward(panda.HOME_Q)[:3, 3]
    beside = ee + [[0.0, 0.035, 0.0]]
    assert mask.near(beside, _proprio(width=0.08), distance_m=0.01).all()
    assert not mask.near(beside, _proprio(width=0.0), distance_m=0.01).any()
    assert not mask.near(ee + [[0.3, 0.0, 0.0]], _proprio()).any()


def test_rugged_scenes_are_told_coarsely_not_cut_short() -> None:
    rng = np.random.default_rng(0)
    boxes = [
        Box("bump", (x, y, h / 2), (0.011, 0.011, h / 2))
        for x in np.arange(0.3, 0.7, 0.025)
        for y in np.arange(-0.3, 0.3, 0.025)
        for h in [float(rng.uniform(0.02, 0.2))]
    ]
    found = obstacles_from_depth([_frame(*boxes)], _proprio(), stride=1, grid=ColumnGrid(cell_m=0.01)).boxes
    assert 0 < len(found) <= MAX_BOXES
    seen = deproject(_frame(*boxes))
    inside = (seen[:, 2] > 0.02) & (seen[:, 0] > 0.3) & (seen[:, 0] < 0.6) & (np.abs(seen[:, 1]) < 0.25)
    for point in seen[inside][::200]:
        assert _height_at(found, point[0], point[1]) >= point[2] - 1e-6


def test_a_camera_without_depth_is_named() -> None:
    with pytest.raises(CameraError, match="'front': gives no depth"):
        obstacles_from_depth([_frame(depth=False)], _proprio())
