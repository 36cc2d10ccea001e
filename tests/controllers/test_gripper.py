from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.gripper import Gripper, GripState
from hiervla.controllers.timing import TICK_S
from hiervla.representations.observations import Proprioception


def _sense(width: float, effort: float = 0.0) -> Proprioception:
    zeros = np.zeros(7)
    return Proprioception(
        q=zeros, dq=zeros, T_world_ee=np.eye(4), gripper_width_m=width, gripper_effort_n=effort, time_s=0.0
    )


def _settle(gripper: Gripper, width: float, effort: float) -> GripState:
    for _ in range(gripper.thresholds.settled_ticks + 1):
        state = gripper.update(_sense(width, effort))
    return state


def test_width_moves_at_the_rated_speed_and_stays_in_range() -> None:
    rng, gripper = np.random.default_rng(0), Gripper(0.03)
    last = 0.03
    for _ in range(300):
        width = gripper.command(float(rng.uniform(-2.0, 3.0)))
        assert abs(width - last) <= panda.GRIPPER_MAX_SPEED_M_S * TICK_S + 1e-12
        assert 0.0 <= width <= panda.GRIPPER_MAX_WIDTH_M
        last = width


def test_nan_is_refused() -> None:
    gripper = Gripper(0.05)
    with pytest.raises(ValueError, match="NaN"):
        gripper.command(float("nan"))
    assert gripper.width_m == 0.05


def test_grasp_needs_stalled_fingers_force_and_stillness() -> None:
    gripper = Gripper(0.0)
    assert gripper.update(_sense(0.04, 30.0)) is GripState.MOVING
    assert _settle(gripper, 0.04, 30.0) is GripState.HOLDING
    assert _settle(gripper, 0.04, 0.5) is GripState.OPEN, "without force nothing is held"
    assert _settle(gripper, 0.001, 40.0) is GripState.CLOSED_EMPTY, "fingers on fingers hold nothing"
    gripper.reset(0.04)
    assert _settle(gripper, 0.04, 10.0) is GripState.OPEN, "the fingers are where they were sent"


def test_a_slipping_object_is_held_until_the_force_goes() -> None:
    gripper = Gripper(0.0)
    _settle(gripper, 0.04, 30.0)
    assert gripper.update(_sense(0.038, 25.0)) is GripState.HOLDING
    assert gripper.update(_sense(0.030, 0.0)) is GripState.MOVING
