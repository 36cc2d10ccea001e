"""The embedded world's robot and cameras keep to the conventions page."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from hiervla.representations import CameraFrame, Observation
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld


@pytest.fixture(scope="module")
def world() -> Iterator[TabletopWorld]:
    things = [("block", "red", "table"), ("can", "blue", "table"), ("block", "green", "bottom_shelf")]
    scene = sample_scene(
        5, n_objects=3, require=things, spill=False, drawer_open=False, stacks=0, shelf_prob=0.0, randomise_look=False
    )
    world = TabletopWorld(scene)
    yield world
    world.close()


@pytest.fixture(scope="module")
def observation(world: TabletopWorld) -> Observation:
    return world.observe()


def pixel(frame: CameraFrame, point_w: NDArray[np.float64]) -> tuple[float, float]:
    """(u, v) of a point in the world, by the formula of the page."""
    x, y, z, _ = np.linalg.inv(frame.T_world_camera) @ (*point_w, 1.0)
    u, v, _ = frame.K @ (x / z, y / z, 1.0)
    return float(u), float(v)


def lifted(frame: CameraFrame, u: float, v: float) -> NDArray[np.float64]:
    """The point in the world under a pixel, by the formula of the page."""
    depth = frame.require_depth()[int(v), int(u)]
    point: NDArray[np.float64] = frame.T_world_camera @ (*(depth * (np.linalg.inv(frame.K) @ (u, v, 1.0))), 1.0)
    return point[:3]


def top(truth: GroundTruth, name: str) -> NDArray[np.float64]:
    """Middle of an object's upper face."""
    return truth.position(name) + (0.0, 0.0, truth.spec(name).size[2])


def test_objects_are_where_their_pixels_say(world: TabletopWorld, observation: Observation) -> None:
    truth, frame = GroundTruth(world), observation.frame("front")
    labels = truth.segmentation("front")
    for name in truth.object_ids:
        u, v = pixel(frame, top(truth, name))
        assert labels.mask(name)[int(v), int(u)]
        assert lifted(frame, u, v) == pytest.approx(top(truth, name), abs=0.004)


def test_pixels_with_axes_exchanged_are_elsewhere(world: TabletopWorld, observation: Observation) -> None:
    truth, frame = GroundTruth(world), observation.frame("front")
    labels = truth.segmentation("front")
    hits = 0
    for name in truth.object_ids:
        v, u = pixel(frame, top(truth, name))
        hits += 0 <= v < frame.height and 0 <= u < frame.width and bool(labels.mask(name)[int(v), int(u)])
    assert hits < len(truth.object_ids)


def test_the_silhouette_is_centred_to_a_fraction_of_a_pixel(world: TabletopWorld, observation: Observation) -> None:
    """Half a pixel, the difference between corner and centre conventions, shows in the mean of the table's depth."""
    frame = observation.frame("front")
    labels = GroundTruth(world).segmentation("front")
    rows, columns = np.nonzero(labels.mask("table"))
    centres = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    depth = frame.require_depth()[rows, columns]
    points = frame.T_world_camera[:3, :3] @ (np.linalg.inv(frame.K) @ centres * depth)
    heights = points[2] + frame.T_world_camera[2, 3]
    assert abs(float(np.median(heights))) < 5e-4
    corners = frame.T_world_camera[:3, :3] @ (np.linalg.inv(frame.K) @ (centres - [[0.5], [0.5], [0]]) * depth)
    assert abs(float(np.median(corners[2] + frame.T_world_camera[2, 3]))) > 5e-4


def test_camera_axes_are_opencv(observation: Observation) -> None:
    front = observation.frame("front")
    right_w, down_w, forward_w = front.T_world_camera[:3, :3].T
    assert right_w[1] > 0.9  # image right is world +y: the camera looks back at the robot
    assert down_w[2] < -0.3
    assert forward_w @ (np.array([0.42, 0.0, 0.0]) - front.T_world_camera[:3, 3]) > 0.0
    assert front.K[0, 2] == pytest.approx(front.width / 2)
    assert front.K[1, 2] == pytest.approx(front.height / 2)


def test_the_hand_points_down_and_closes_along_its_y_axis(observation: Observation) -> None:
    proprio = observation.proprio
    assert proprio.T_world_ee[:3, 2] == pytest.approx((0.0, 0.0, -1.0), abs=0.02)
    assert proprio.ee_yaw == pytest.approx(0.0, abs=0.02)
    assert abs(proprio.T_world_ee[1, 1]) > 0.99
    wrist = observation.frame("wrist")
    assert wrist.T_world_camera[:3, 2] @ proprio.T_world_ee[:3, 2] > 0.7  # looks along the fingers
