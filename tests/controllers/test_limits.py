from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers.kinematics import motion_limits, panda_limits
from hiervla.controllers.limits import TABLETOP_WORKSPACE, JointLimits, Workspace


def test_scaled_limits_are_inside_the_robots() -> None:
    robot, motion = panda_limits(), motion_limits()
    assert (motion.lower > robot.lower).all() and (motion.upper < robot.upper).all()
    assert (motion.velocity < robot.velocity).all() and (motion.acceleration < robot.acceleration).all()


@pytest.mark.parametrize("change", [{"velocity": 1.2}, {"jerk": 0.0}, {"position_margin": -0.1}])
def test_limits_cannot_be_widened(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="tightened"):
        panda_limits().scaled(**change)


def test_limits_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        panda_limits().velocity[0] = 99.0


def test_nonsense_limits_are_refused() -> None:
    one, zero = np.ones(7), np.zeros(7)
    with pytest.raises(ValueError, match="one length"):
        JointLimits(-one, one, one, one, np.ones(6))
    with pytest.raises(ValueError, match="below its upper"):
        JointLimits(one, -one, one, one, one)
    with pytest.raises(ValueError, match="positive"):
        JointLimits(-one, one, zero, one, one)


def test_nan_is_not_contained() -> None:
    q = np.array(panda_limits().lower + 0.1)
    assert panda_limits().contain(q)
    q[3] = np.nan
    assert not panda_limits().contain(q)


def test_workspace_clamps_and_measures() -> None:
    assert TABLETOP_WORKSPACE.excess([0.4, 0.0, 0.2]) == 0.0
    assert TABLETOP_WORKSPACE.excess([0.4, 0.0, -0.1]) == pytest.approx(0.1 + TABLETOP_WORKSPACE.low[2])
    assert TABLETOP_WORKSPACE.clamp([2.0, 0.0, 0.2])[0] == TABLETOP_WORKSPACE.high[0]
    with pytest.raises(ValueError, match="low < high"):
        Workspace(np.ones(3), np.zeros(3))
