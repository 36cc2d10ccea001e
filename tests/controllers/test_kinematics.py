from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.errors import UnreachablePose
from hiervla.controllers.kinematics import (
    DifferentialIK,
    Kinematics,
    motion_limits,
    nearest_yaw,
    pose_error,
    tool_yaw,
    topdown_pose,
)
from hiervla.representations.observations import Proprioception


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics()


def test_home_points_down_with_fingers_along_y(kinematics: Kinematics) -> None:
    pose = kinematics.forward(panda.HOME_Q)
    np.testing.assert_allclose(pose, topdown_pose([0.35, 0.0, 0.42], 0.0), atol=1e-5)


@pytest.mark.parametrize("yaw", [-1.5, -0.4, 0.0, 0.7, 1.5])
def test_yaw_is_the_convention_of_proprioception(yaw: float) -> None:
    pose = topdown_pose([0.4, 0.1, 0.2], yaw)
    zeros = np.zeros(7)
    sensed = Proprioception(q=zeros, dq=zeros, T_world_ee=pose, gripper_width_m=0.0, time_s=0.0)
    assert sensed.ee_yaw == pytest.approx(yaw)
    assert tool_yaw(pose) == pytest.approx(yaw)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(pose[:3, 2], [0.0, 0.0, -1.0])


def test_nearest_yaw_counts_modulo_pi() -> None:
    assert nearest_yaw(0.1 + 3 * np.pi, 0.0) == pytest.approx(0.1)
    assert nearest_yaw(-1.5, 1.5) == pytest.approx(np.pi - 1.5)


def test_reachable_poses_are_reached(kinematics: Kinematics) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        position = rng.uniform([0.3, -0.5, 0.01], [0.58, 0.45, 0.4])
        yaw = float(rng.uniform(-np.pi / 2, np.pi / 2))
        q = kinematics.solve_topdown(position, yaw, panda.HOME_Q)
        assert kinematics.limits.contain(q, 1e-9)
        pose = kinematics.forward(q)
        distance, angle = pose_error(pose, topdown_pose(position, nearest_yaw(yaw, tool_yaw(pose))))
        assert distance < 1e-3 and angle < 5e-3


def test_equal_questions_get_equal_answers(kinematics: Kinematics) -> None:
    first = kinematics.solve_topdown([0.5, -0.3, 0.1], 1.2, panda.HOME_Q)
    kinematics.solve_topdown([0.3, 0.3, 0.3], 0.0, panda.HOME_Q)
    assert np.array_equal(first, kinematics.solve_topdown([0.5, -0.3, 0.1], 1.2, panda.HOME_Q))
    assert np.array_equal(first, Kinematics().solve_topdown([0.5, -0.3, 0.1], 1.2, panda.HOME_Q))


def test_both_sides_of_the_gripper_are_offered(kinematics: Kinematics) -> None:
    sides = [tool_yaw(kinematics.forward(q)) for q in kinematics.topdown_candidates([0.45, 0, 0.2], 0.3, panda.HOME_Q)]
    assert len(sides) == 2
    assert abs(abs(sides[0] - sides[1]) - np.pi) < 0.01
    assert abs(sides[0] - 0.3) < 0.01


def test_unreachable_pose_says_what_and_how_far(kinematics: Kinematics) -> None:
    words = r"cannot reach position \(1.300, 0.000, 0.200\) m, yaw .*nearer"
    with pytest.raises(UnreachablePose, match=words) as caught:
        kinematics.solve_topdown([1.3, 0.0, 0.2], 0.0, panda.HOME_Q)
    assert caught.value.residual_m > 0.3
    assert caught.value.position == (1.3, 0.0, 0.2)


def test_nan_target_is_refused(kinematics: Kinematics) -> None:
    with pytest.raises(ValueError, match="not finite"):
        kinematics.solve_topdown([np.nan, 0.0, 0.2], 0.0, panda.HOME_Q)


def test_servo_keeps_limits_whatever_the_target(kinematics: Kinematics) -> None:
    servo, limits = DifferentialIK(), motion_limits()
    rng = np.random.default_rng(5)
    q = np.array(panda.HOME_Q)
    for k in range(400):
        if k % 25 == 0:
            target = topdown_pose(rng.uniform([-0.5, -1.2, -0.3], [1.2, 1.2, 1.0]), float(rng.uniform(-3, 3)))
        following = servo.step(q, target)
        assert limits.contain(following, 1e-9)
        assert (np.abs(following - q) <= limits.velocity * servo.tick_s + 1e-9).all()
        q = following


def test_servo_arrives(kinematics: Kinematics) -> None:
    servo = DifferentialIK()
    target = topdown_pose([0.5, 0.2, 0.1], 0.5)
    q = np.array(panda.HOME_Q)
    for _ in range(80):
        q = servo.step(q, target)
    distance, angle = pose_error(kinematics.forward(q), target)
    assert distance < 1e-3 and angle < 1e-2
    assert servo.residual()[0] < 1e-3
