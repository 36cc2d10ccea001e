"""What an adapter writes it reads back, to within half a step of its format (a whole step for boxes)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.planner.adapters import ImageSize, MokaAdapter, OutputAdapter, adapter_names, get_adapter
from hiervla.planner.adapters.answer import clean
from hiervla.representations import (
    Box,
    Boxes,
    ImageRef,
    Keypoint,
    Keypoints,
    Waypoint2D,
    Waypoint3D,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.geometry import lift, project
from tests.planner.adapters.common import frame, image, places, ref_of, sent_for

SIZES = st.tuples(st.integers(28, 3000), st.integers(28, 3000))
SHARES = st.floats(0.0, 1.0, allow_nan=False)
LABELS = st.text(min_size=1, max_size=40).map(clean).filter(lambda label: label and not label.isdigit())
GRIPPERS = st.sampled_from(("open", "close", "keep"))
TOLERANCE = 1e-6


def step_px(adapter: OutputAdapter, ref: ImageRef, sent: ImageSize | None) -> tuple[float, float]:
    """Pixels of the original image that one step of the format stands for, across and down."""
    c = adapter.convention
    sides = ((ref.width, sent.width if sent else 0), (ref.height, sent.height if sent else 0))
    across, down = (side * c.step / ((size if c.high is None else c.high) - c.low) for side, size in sides)
    return across, down


def families(kind: str) -> list[str]:
    return [name for name in adapter_names() if kind in get_adapter(name).kinds and name != "moka"]


def near(found: list[tuple[float, ...]], true: list[tuple[float, ...]], bounds: tuple[float, float]) -> None:
    assert len(found) == len(true)
    for a, b in zip(found, true, strict=True):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert abs(x - y) <= bounds[i % 2] + TOLERANCE, (a, b)


@pytest.mark.parametrize("family", families("keypoints"))
@settings(max_examples=40, deadline=None)
@given(size=SIZES, shares=st.lists(st.tuples(SHARES, SHARES, LABELS), min_size=1, max_size=8))
def test_keypoints(family: str, size: tuple[int, int], shares: list[tuple[float, float, str]]) -> None:
    adapter, ref = get_adapter(family), image(*size)
    sent = sent_for(family, ref)
    points = tuple(Keypoint(label=label, u=x * ref.width, v=y * ref.height) for x, y, label in shares)
    artifact = Keypoints(image=ref, points=points)
    (back,) = adapter.parse(adapter.render(artifact, sent=sent), ref, sent=sent, kind="keypoints")
    across, down = step_px(adapter, ref, sent)
    near(places(back), places(artifact), (across / 2, down / 2))
    assert isinstance(back, Keypoints)
    if family in ("gemini-robotics-er", "qwen2.5-vl", "qwen3-vl", "molmo", "molmo2"):
        assert [p.label for p in back.points] == [p.label for p in artifact.points]
    (again,) = adapter.parse(adapter.render(back, sent=sent), ref, sent=sent, kind="keypoints")
    near(places(again), places(back), (TOLERANCE, TOLERANCE))


@pytest.mark.parametrize("family", families("boxes"))
@settings(max_examples=40, deadline=None)
@given(size=SIZES, shares=st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES, LABELS), min_size=1, max_size=6))
def test_boxes_hold_what_they_held(
    family: str, size: tuple[int, int], shares: list[tuple[float, float, float, float, str]]
) -> None:
    adapter, ref = get_adapter(family), image(*size)
    sent = sent_for(family, ref)
    boxes = []
    for x0, y0, x1, y1, label in shares:
        (u0, u1), (v0, v1) = sorted((x0 * ref.width, x1 * ref.width)), sorted((y0 * ref.height, y1 * ref.height))
        if u1 - u0 > 0.01 and v1 - v0 > 0.01:
            boxes.append(Box(label=label, u_min=u0, v_min=v0, u_max=u1, v_max=v1))
    artifact = Boxes(image=ref, boxes=tuple(boxes))
    answer = adapter.parse(adapter.render(artifact, sent=sent), ref, sent=sent, kind="boxes")
    if not boxes:
        assert answer == ()
        return
    (back,) = answer
    assert isinstance(back, Boxes)
    near(places(back), places(artifact), step_px(adapter, ref, sent))
    slack = 2e-6 * max(step_px(adapter, ref, sent)) + 1e-9
    for inner, outer in zip(artifact.boxes, back.boxes, strict=True):
        assert outer.u_min <= inner.u_min + slack and outer.v_min <= inner.v_min + slack
        assert outer.u_max >= inner.u_max - slack and outer.v_max >= inner.v_max - slack


@pytest.mark.parametrize("family", families("waypoints_2d"))
@settings(max_examples=40, deadline=None)
@given(size=SIZES, shares=st.lists(st.tuples(SHARES, SHARES, GRIPPERS), min_size=1, max_size=10))
def test_paths(family: str, size: tuple[int, int], shares: list[tuple[float, float, str]]) -> None:
    adapter, ref = get_adapter(family), image(*size)
    sent = sent_for(family, ref)
    keeps = family in ("hamster", "gemini-robotics-er", "qwen2.5-vl", "qwen3-vl")
    points = [
        Waypoint2D.model_validate({"u": x * ref.width, "v": y * ref.height, "gripper": g if keeps else "keep"})
        for x, y, g in shares
    ]
    artifact = Waypoints2D(image=ref, points=tuple(points))
    (back,) = adapter.parse(adapter.render(artifact, sent=sent), ref, sent=sent, kind="waypoints_2d")
    assert isinstance(back, Waypoints2D)
    across, down = step_px(adapter, ref, sent)
    # MolmoAct's ends are the centres of the first and the last pixel: half a pixel at the edges is beyond its words.
    edge = 0.5 if adapter.convention.ends == "pixel_centres" else 0.0
    near(places(back), places(artifact), (across / 2 + edge, down / 2 + edge))
    assert [p.gripper for p in back.points] == [p.gripper for p in artifact.points]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SHARES, SHARES, st.floats(0.2, 5.0)), min_size=1, max_size=6))
def test_places_in_the_world_through_the_camera(shares: list[tuple[float, float, float]]) -> None:
    adapter, seen = get_adapter("robobrain-2.5"), frame()
    ref = ref_of(seen)
    true = [lift(seen, x * ref.width, y * ref.height, d) for x, y, d in shares]
    points = tuple(Waypoint3D(position_w=(float(p[0]), float(p[1]), float(p[2]))) for p in true)
    artifact = Waypoints3D(points=points)
    try:
        text = adapter.render(artifact, frame=seen)
    except ValueError as error:
        assert "not in view" in str(error), "rounding may push a point at the very edge out of view"
        return
    for kind in (None, "waypoints_3d"):
        (back,) = adapter.parse(text, ref, frame=seen, kind=kind)  # type: ignore[arg-type]  # a literal in a loop
        assert isinstance(back, Waypoints3D)
        pixels, depths = project(seen, [p.position_w for p in back.points])
        near([tuple(p) for p in pixels.tolist()], [(x * 64, y * 48) for x, y, _ in shares], (0.032, 0.024))
        np.testing.assert_allclose(depths, [d for _, _, d in shares], atol=0.0005 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(size=SIZES, shares=st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=3))
def test_tiles(size: tuple[int, int], shares: list[tuple[float, float]]) -> None:
    adapter, ref = get_adapter("moka"), image(*size)
    points = tuple(Waypoint2D(u=x * ref.width, v=y * ref.height) for x, y in shares)
    artifact = Waypoints2D(image=ref, points=points)
    (back,) = adapter.parse(adapter.render(artifact), ref)
    near(places(back), places(artifact), (ref.width / 10, ref.height / 10))


def test_marks_are_where_the_caller_drew_them() -> None:
    ref = image()
    adapter = MokaAdapter().with_marks({"P1": (100.0, 50.0), "Q2": (300.0, 200.5)})
    points = (Keypoint(label="grasp", u=100.0, v=50.0), Keypoint(label="target", u=300.0, v=200.5))
    artifact = Keypoints(image=ref, points=points)
    assert adapter.render(artifact) == '{"grasp_keypoint": "P1", "target_keypoint": "Q2"}'
    assert adapter.parse(adapter.render(artifact), ref, kind="keypoints") == (artifact,)
    both = '{"grasp_keypoint": "P1", "target_keypoint": "Q2", "target_tile": "a1"}'
    assert [a.kind for a in adapter.parse(both, ref)] == ["keypoints", "waypoints_2d"]
    assert [a.kind for a in MokaAdapter().parse(both, ref)] == ["waypoints_2d"]
