"""Pixels and metres agree with the stated convention, and a flipped axis would be noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hiervla.representations import CameraFrame, Proprioception
from hiervla.representations.geometry import deproject, lift, project


def looking_down(height_m: float = 1.0) -> CameraFrame:
    """A camera straight above the origin: image right is world +x, image down is world -y."""
    T = np.eye(4)
    T[:3, :3] = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    T[2, 3] = height_m
    return CameraFrame(
        name="top",
        rgb=np.zeros((4, 8, 3), np.uint8),
        depth_m=np.full((4, 8), height_m, np.float32),
        K=np.array([[10.0, 0, 4], [0, 10, 2], [0, 0, 1]]),
        T_world_camera=T,
        time_s=0.0,
    )


def test_pixel_centres_are_at_a_half() -> None:
    cloud = deproject(looking_down())
    assert cloud.shape == (4, 8, 3)
    np.testing.assert_allclose(cloud[0, 0], [(0.5 - 4) / 10, -(0.5 - 2) / 10, 0.0], atol=1e-9)
    np.testing.assert_allclose(cloud[:, :, :2].mean(axis=(0, 1)), 0.0, atol=1e-9)


def test_right_in_the_image_is_plus_x_and_down_is_minus_y() -> None:
    camera = looking_down()
    (u, v), depth = project(camera, (0.1, 0.0, 0.0))
    assert u == pytest.approx(5.0)
    assert v == pytest.approx(2.0)
    assert depth == pytest.approx(1.0)
    (_, v), _ = project(camera, (0.0, 0.1, 0.0))
    assert v == pytest.approx(1.0)


@given(
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(0.2, 3.0),
    st.tuples(st.floats(0, 8), st.floats(0, 4)),
)
def test_lift_and_project_are_inverse(turn: tuple[float, ...], depth: float, uv: tuple[float, float]) -> None:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    T[:3, 3] = turn[::-1]
    camera = looking_down().replace(T_world_camera=T)
    pixels, z = project(camera, lift(camera, *uv, depth))
    np.testing.assert_allclose(pixels, uv, atol=1e-6)
    assert z == pytest.approx(depth)


def test_holes_in_depth_become_nan_and_not_the_camera_centre() -> None:
    depth = np.array(looking_down().depth_m)
    depth[1, 1], depth[2, 2] = 0.0, np.nan
    cloud = deproject(looking_down().replace(depth_m=depth))
    assert np.isnan(cloud[1, 1]).all()
    assert np.isnan(cloud[2, 2]).all()
    assert np.isfinite(cloud[0]).all()


@pytest.mark.parametrize("yaw", [-1.2, -0.3, 0.0, 0.4, 1.5])
def test_yaw_is_the_finger_axis_about_world_z(yaw: float) -> None:
    T = np.eye(4)
    # A top-down hand: z of the tool points down, its y axis is the direction in which the fingers close.
    T[:3, :3] = Rotation.from_euler("z", yaw).as_matrix() @ np.diag([-1.0, 1.0, -1.0])
    hand = Proprioception(q=np.zeros(7), dq=np.zeros(7), T_world_ee=T, gripper_width_m=0.0, time_s=0.0)
    assert hand.ee_yaw == pytest.approx(yaw)
