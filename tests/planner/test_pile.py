"""What is dropped onto others is let go above them."""

from __future__ import annotations

import numpy as np
import pytest

from hiervla.planner.pile import above_pile
from hiervla.representations import CameraFrame, Keypoint

SIZE, FAR_M = 41, 1.0


def frame(heights: np.ndarray) -> CameraFrame:
    """A camera that looks straight down from 1 m; a pixel is a centimetre at the floor."""
    centre = SIZE / 2
    down = np.array([[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, -1.0, FAR_M], [0, 0, 0, 1.0]])
    K = np.array([[100.0, 0, centre], [0, 100.0, centre], [0, 0, 1.0]])
    rgb = np.zeros((SIZE, SIZE, 3), np.uint8)
    depth = (FAR_M - heights).astype(np.float32)
    return CameraFrame(name="front", rgb=rgb, depth_m=depth, K=K, T_world_camera=down, time_s=0.0)


def raised(heights: np.ndarray, z: float = 0.0) -> float:
    point = above_pile(frame(heights), Keypoint(label="in bin", u=20, v=20, position_w=(0.0, 0.0, z)))
    assert point.position_w is not None
    assert point.position_w[:2] == (0.0, 0.0)
    return point.position_w[2]


def test_a_place_is_as_high_as_what_lies_there_asks_for() -> None:
    bare = np.zeros((SIZE, SIZE))
    assert raised(bare) == 0.0
    pile = bare.copy()
    pile[18:23, 18:23] = 0.15
    assert raised(pile) == pytest.approx(0.06, abs=0.002)
    assert raised(pile, z=0.08) == 0.08, "the point lies on the pile already"
    low = bare.copy()
    low[18:23, 18:23] = 0.06
    assert raised(low) == 0.0, "it is out of the way"


def test_what_stands_beside_hangs_above_or_is_noise_raises_nothing() -> None:
    for rows, height in ((slice(32, 38), 0.2), (slice(18, 23), 0.5)):
        other = np.zeros((SIZE, SIZE))
        other[rows, 18:23] = height
        assert raised(other) == 0.0
    speck = np.zeros((SIZE, SIZE))
    speck[20, 20:22] = 0.2
    assert raised(speck) == 0.0
    nothing = np.full((SIZE, SIZE), np.nan)
    assert raised(nothing) == 0.0
    unlifted = Keypoint(label="in bin", u=20, v=20)
    assert above_pile(frame(np.zeros((SIZE, SIZE))), unlifted) is unlifted
