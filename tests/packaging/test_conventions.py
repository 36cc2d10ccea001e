"""The conventions page is true: of the types, and of what the embedded world really shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hiervla.representations import ActionChunk, AffordanceMap, CameraFrame, ImageRef, Proprioception, Waypoint3D

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conventions.md").read_text()


def page_code() -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def run_page(code: str) -> None:
    exec(compile(code, "docs/conventions.md", "exec"), {})


def test_the_code_of_the_page_runs() -> None:
    assert page_code().count("assert ") == 4
    run_page(page_code())


@pytest.mark.parametrize(
    ("convention", "inverted"),
    [
        ("int(v), int(u)", "int(u), int(v)"),
        ("(u, v, 1.0)", "(v, u, 1.0)"),
        ("np.linalg.inv(frame.T_world_camera)", "frame.T_world_camera"),
        ("[0.0, 0.0, -1.0, 1.0]", "[0.0, 0.0, 1.0, 1.0]"),
        ("np.isclose(proprio.ee_yaw, yaw)", "np.isclose(proprio.ee_yaw, -yaw)"),
    ],
)
def test_an_inverted_convention_fails(convention: str, inverted: str) -> None:
    assert convention in page_code()
    with pytest.raises((AssertionError, IndexError, ValidationError)):
        run_page(page_code().replace(convention, inverted))


def frame(**changes: Any) -> CameraFrame:
    values: dict[str, Any] = {
        "name": "front",
        "rgb": np.zeros((4, 6, 3), np.uint8),
        "K": np.diag([5.0, 5.0, 1.0]),
        "T_world_camera": np.eye(4),
        "time_s": 0.0,
    }
    return CameraFrame(**{**values, **changes})


def test_images_are_row_major_and_channels_last() -> None:
    assert (frame().height, frame().width) == (4, 6)
    with pytest.raises(ValidationError, match="shape"):
        frame(rgb=np.zeros((3, 4, 6), np.uint8))
    with pytest.raises(ValidationError, match="depth_m"):
        frame(depth_m=np.zeros((6, 4), np.float32))


@pytest.mark.parametrize("flip", [np.diag([-1.0, 1.0, 1.0, 1.0]), np.diag([2.0, 2.0, 2.0, 1.0])])
def test_camera_poses_are_rigid_and_right_handed(flip: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValidationError, match="rigid"):
        frame(T_world_camera=flip)


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        frame().rgb[0, 0] = 1


def test_pixels_are_column_then_row_from_the_corner() -> None:
    image = ImageRef(camera="front", sha256="0" * 64, width=6, height=4, time_s=0.0)
    assert (image.axis_order, image.unit, image.origin) == ("uv", "pixel", "top_left_corner")
    with pytest.raises(ValidationError, match="axis_order"):
        ImageRef(camera="front", sha256="0" * 64, width=6, height=4, time_s=0.0, axis_order="vu")  # type: ignore[arg-type]


def test_affordance_maps_are_distributions() -> None:
    image = ImageRef(camera="front", sha256="0" * 64, width=6, height=4, time_s=0.0)
    AffordanceMap(image=image, label="mug", values=np.full((2, 3), 1 / 6, np.float32))
    with pytest.raises(ValidationError, match="distribution"):
        AffordanceMap(image=image, label="mug", values=np.ones((2, 3), np.float32))


def test_quaternions_have_unit_length() -> None:
    Waypoint3D(position_w=(0.0, 0.0, 0.0), quaternion_wxyz=(1.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValidationError, match="unit quaternion"):
        Waypoint3D(position_w=(0.0, 0.0, 0.0), quaternion_wxyz=(1.0, 1.0, 0.0, 0.0))


@pytest.mark.parametrize("degrees", [-80.0, -30.0, 0.0, 30.0, 80.0])
def test_yaw_counts_modulo_half_a_turn(degrees: float) -> None:
    for half_turns in (0, 1):
        yaw = np.deg2rad(degrees) + half_turns * np.pi
        pose = np.eye(4)
        # Columns: hand x, hand y (the closing axis, turned from world y by yaw), hand z (down).
        pose[:3, 1] = -np.sin(yaw), np.cos(yaw), 0.0
        pose[:3, 2] = 0.0, 0.0, -1.0
        pose[:3, 0] = np.cross(pose[:3, 1], pose[:3, 2])
        proprio = Proprioception(q=np.zeros(7), dq=np.zeros(7), T_world_ee=pose, gripper_width_m=0.0, time_s=0.0)
        assert proprio.ee_yaw == pytest.approx(np.deg2rad(degrees))


def test_rows_of_a_chunk_share_one_horizon() -> None:
    rows: dict[str, Any] = {"positions": np.zeros((3, 3)), "yaws": np.zeros(3), "gripper": np.zeros(3)}
    assert ActionChunk(**rows, rate_hz=10.0, observed_at_s=0.0).horizon == 3
    with pytest.raises(ValidationError, match="horizon"):
        ActionChunk(**{**rows, "yaws": np.zeros(2)}, rate_hz=10.0, observed_at_s=0.0)
