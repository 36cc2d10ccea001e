from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.collision import MAX_BOXES, Box, CollisionModel, HeldObject, Obstacles, densify
from hiervla.controllers.kinematics import Kinematics
from hiervla.controllers.limits import Array

POST = Box("post", (0.5, 0.0, 0.05), (0.02, 0.06, 0.05))


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics()


@pytest.fixture
def model() -> CollisionModel:
    return CollisionModel(margin_m=0.01)


def _above(kinematics: Kinematics, height: float) -> Array:
    return kinematics.solve_topdown([0.5, 0.0, height], 0.0, panda.HOME_Q)


def test_home_is_free(model: CollisionModel) -> None:
    assert model.free(panda.HOME_Q)
    assert model.touched(panda.HOME_Q) == ()
    assert model.depth(panda.HOME_Q) == 0.0


def test_table_is_felt_a_margin_away(model: CollisionModel, kinematics: Kinematics) -> None:
    # The pads reach 10.5 mm beyond the tool centre point.
    assert model.free(_above(kinematics, 0.024))
    assert not model.free(_above(kinematics, 0.017))
    assert model.touched(_above(kinematics, 0.017)) == ("the table",)
    assert model.depth(_above(kinematics, 0.005)) == pytest.approx(0.0155, abs=1e-3)


def test_box_is_felt_where_it_is_put_and_gone_when_taken_away(model: CollisionModel, kinematics: Kinematics) -> None:
    q = _above(kinematics, 0.08)
    model.set_scene(Obstacles(boxes=(POST,)))
    assert model.touched(q) == ("post",)
    model.set_scene(Obstacles(boxes=(Box("post", (0.5, 0.3, 0.05), POST.half_extents),)))
    assert model.free(q)
    assert not model.free(kinematics.solve_topdown([0.5, 0.3, 0.08], 0.0, panda.HOME_Q))
    model.set_scene(Obstacles())
    assert model.free(q)


def test_yaw_of_a_box_counts(model: CollisionModel, kinematics: Kinematics) -> None:
    q = _above(kinematics, 0.05)
    wall = Box("wall", (0.5, 0.15, 0.05), (0.16, 0.01, 0.05))
    model.set_scene(Obstacles(furniture=(wall,)))
    assert model.free(q)
    model.set_scene(Obstacles(furniture=(Box(wall.name, wall.centre, wall.half_extents, yaw=np.pi / 2),)))
    assert not model.free(q)


def test_margin_can_be_changed(model: CollisionModel, kinematics: Kinematics) -> None:
    q = _above(kinematics, 0.017)
    assert not model.free(q)
    model.set_margin(0.002)
    assert model.free(q)


def test_held_object_meets_the_world_but_not_the_hand(model: CollisionModel, kinematics: Kinematics) -> None:
    q = _above(kinematics, 0.10)
    model.set_held(HeldObject((0.03, 0.03, 0.04), below_m=0.02))
    assert model.free(q)
    model.set_held(HeldObject((0.03, 0.03, 0.06), below_m=0.04))
    assert model.touched(q) == ("the table",)
    model.set_held(None)
    assert model.free(q)


def test_links_meet_each_other(model: CollisionModel) -> None:
    folded = np.array([0.0, 1.7, 0.0, -3.05, 0.0, 0.0, 0.0])
    assert not model.free(folded)
    assert "the arm itself" in model.touched(folded)


def test_path_is_checked_between_its_ends(model: CollisionModel, kinematics: Kinematics) -> None:
    left = kinematics.solve_topdown([0.5, -0.25, 0.05], 0.0, panda.HOME_Q)
    right = kinematics.solve_topdown([0.5, 0.25, 0.05], 0.0, left)
    path = np.stack([left, right])
    assert model.path_free(path)
    model.set_scene(Obstacles(boxes=(POST,)))
    assert model.free(left) and model.free(right)
    assert not model.path_free(path)


def test_too_many_boxes_are_refused(model: CollisionModel) -> None:
    with pytest.raises(ValueError, match=f"takes {MAX_BOXES}"):
        model.set_scene(Obstacles(boxes=(POST,) * (MAX_BOXES + 1)))


def test_densify_keeps_corners_and_spacing() -> None:
    path = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.3]])
    dense = densify(path, 0.05)
    assert np.abs(np.diff(dense, axis=0)).max() <= 0.05 + 1e-12
    for corner in path:
        assert np.abs(dense - corner).sum(axis=1).min() < 1e-12
