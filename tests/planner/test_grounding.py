"""Pixels to metres in frames made by hand: a camera one metre above the table that looks straight down."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hiervla.planner.grounding import (
    UngroundedError,
    check_inside,
    check_workspace,
    lift_bar,
    lift_on_plane,
    lift_opening,
    lift_point,
)
from hiervla.representations import CameraError, CameraFrame, HiervlaError, Keypoint

W, H, F = 64, 48, 60.0
POINT = Keypoint(label="mug", u=20.0, v=10.0)


def frame(depth: NDArray[np.floating] | None) -> CameraFrame:
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1.0, -1.0])
    T[:3, 3] = (0.5, 0.0, 1.0)
    return CameraFrame(
        name="front", rgb=np.zeros((H, W, 3), np.uint8), depth_m=None if depth is None else depth.astype(np.float32),
        K=np.array([[F, 0.0, W / 2], [0.0, F, H / 2], [0.0, 0.0, 1.0]]), T_world_camera=T, time_s=0.0,
    )  # fmt: skip


def table(height_m: float = 0.0) -> NDArray[np.float64]:
    return np.full((H, W), 1.0 - height_m)


def test_a_pixel_is_lifted_to_the_surface_that_it_shows() -> None:
    middle = lift_point(frame(table()), W / 2, H / 2)
    np.testing.assert_allclose(middle.position_w, (0.5, 0.0, 0.0), atol=1e-6)
    assert middle.confidence == 1.0
    off = lift_point(frame(table(0.1)), 40.5, 12.5)
    np.testing.assert_allclose(off.position_w, (0.5 + 8.5 / F * 0.9, 11.5 / F * 0.9, 0.1), atol=1e-6)
    assert off.position_w != middle.position_w


def test_the_centre_of_a_pixel_is_half_a_pixel_from_its_corner() -> None:
    depth = table()
    depth[20, 30] = 0.95
    raised = lift_point(frame(depth), 30.5, 20.5, reach=0)
    assert raised.position_w[2] == pytest.approx(0.05, abs=1e-6)
    for u, v in ((29.9, 20.5), (31.1, 20.5), (30.5, 19.9), (30.5, 21.1)):
        assert lift_point(frame(depth), u, v, reach=0).position_w[2] == pytest.approx(0.0, abs=1e-6)


def test_at_an_edge_a_point_stays_on_its_side_and_is_less_sure() -> None:
    depth = table()
    depth[:, 32:] = 0.9
    near, far = lift_point(frame(depth), 32.5, 20.5), lift_point(frame(depth), 31.5, 20.5)
    assert near.position_w[2] == pytest.approx(0.1, abs=1e-6)
    assert far.position_w[2] == pytest.approx(0.0, abs=1e-6)
    assert near.confidence < 0.7
    assert lift_point(frame(depth), 50.5, 20.5).confidence == 1.0


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_a_hole_in_the_depth_is_nothing_to_stand_on(nothing: float) -> None:
    depth = table()
    depth[18:25, 28:35] = nothing
    for lifted in (lift_point, lift_bar):
        with pytest.raises(UngroundedError, match=r"'mug'.*u=31\.5.*no depth") as caught:
            lifted(frame(depth), 31.5, 21.5, "mug")
        assert (caught.value.u, caught.value.v, caught.value.label) == (31.5, 21.5, "mug")
        assert isinstance(caught.value, HiervlaError)
    assert lift_point(frame(depth), 31.5, 30.5).confidence == 1.0
    depth = table()
    depth[21, 31] = nothing
    speck = lift_point(frame(depth), 31.5, 21.5)
    assert speck.position_w[2] == pytest.approx(0.0, abs=1e-6), "one lost pixel is no hole"
    assert speck.confidence < 1.0


def test_a_camera_without_depth_is_named() -> None:
    with pytest.raises(CameraError, match="front"):
        lift_point(frame(None), 9, 9)
    with pytest.raises(CameraError, match="front"):
        lift_bar(frame(None), 9, 9)
    with pytest.raises(CameraError, match="front"):
        lift_opening(frame(None), 9, 9, (0, 0, 20, 20))


@pytest.mark.parametrize(("u", "v"), [(0.0, 0.0), (W - 0.01, H - 0.01), (float(W), float(H))])
def test_the_border_of_the_image_can_be_lifted(u: float, v: float) -> None:
    x, y, z = lift_point(frame(table()), u, v).position_w
    assert (x, y, z) == pytest.approx((0.5 + (u - W / 2) / F, -(v - H / 2) / F, 0.0), abs=1e-6)


def test_a_thin_bar_is_found_beside_the_pixel() -> None:
    depth = table()
    depth[22, 20:44] = 0.93
    bar = lift_bar(frame(depth), 32.5, 24.5)
    assert bar.position_w[2] == pytest.approx(0.07, abs=1e-6)
    assert bar.position_w[1] == pytest.approx(1.5 / F * 0.93, abs=1e-6)
    assert lift_bar(frame(depth), 32.5, 34.5).position_w[2] == pytest.approx(0.0, abs=1e-6)


def test_an_opening_is_in_the_plane_of_the_rim_above_the_floor() -> None:
    depth = table()
    depth[10:30, 20:40] = 0.9
    depth[12:28, 22:38] = 1.0
    spot = lift_opening(frame(depth), 30.0, 20.0, (20.0, 10.0, 40.0, 30.0))
    assert spot.position_w == pytest.approx((0.5 - 2.0 / F * 0.9, 4.0 / F * 0.9, 0.0), abs=1e-4)
    with pytest.raises(UngroundedError, match="flat"):
        lift_opening(frame(table()), 30.0, 20.0, (20.0, 10.0, 40.0, 30.0))
    with pytest.raises(UngroundedError, match="no container"):
        lift_opening(frame(np.zeros((H, W))), 30.0, 20.0, (20.0, 10.0, 40.0, 30.0))


def test_rays_meet_a_plane() -> None:
    flat = frame(table())
    points = lift_on_plane(flat, np.array([32.0, 44.0]), np.array([24.0, 24.0]), 0.5)
    np.testing.assert_allclose(points, [(0.5, 0.0, 0.5), (0.6, 0.0, 0.5)], atol=1e-9)
    assert abs(lift_on_plane(flat, 44.0, 24.0, 0.0)[0] - 0.6) > 0.05


@pytest.mark.parametrize(
    ("position", "axis"),
    [
        ((1.2, 0.0, 0.0), "x"),
        ((0.02, 0.0, 0.0), "x"),
        ((0.5, -0.9, 0.0), "y"),
        ((0.5, 0.0, 0.6), "z"),
        ((0.5, 0.0, -0.2), "z"),
    ],
)
def test_what_no_arm_reaches_is_refused(position: tuple[float, float, float], axis: str) -> None:
    check_workspace("mug", POINT, (0.5, 0.0, 0.1))
    with pytest.raises(UngroundedError, match=f"{axis} = .* outside of the workspace"):
        check_workspace("mug", POINT, position)


def test_a_point_beside_its_thing_is_refused() -> None:
    box = (16.0, 4.0, 30.0, 20.0)
    check_inside("mug", POINT, box, 256)
    check_inside("mug", POINT.replace(u=35.0), box, 256)
    for beside in (POINT.replace(u=37.0), POINT.replace(u=9.0), POINT.replace(v=27.0)):
        with pytest.raises(UngroundedError, match="away from where 'mug' was seen"):
            check_inside("mug", beside, box, 256)
    check_inside("mug", POINT.replace(u=41.0), box, 512)
    with pytest.raises(UngroundedError):
        check_inside("mug", POINT.replace(u=43.0), box, 512)
