"""Maps to pixels: keypoints finer than a cell, and maps that are distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hiervla.planner.embedded.pointing import ROLES, PointRequest, make_batch, peak_of, request_of
from hiervla.planner.embedded.vision import STRIDE, to_tensor
from tests.planner import tiny

GRID = (12, 16)


def blob(u: float, v: float, width: float = 0.7) -> Tensor:
    """A map (12, 16) around a place in cells."""
    rows, columns = torch.meshgrid(torch.arange(GRID[0]) + 0.5, torch.arange(GRID[1]) + 0.5, indexing="ij")
    values = torch.exp(-((rows - v) ** 2 + (columns - u) ** 2) / (2 * width**2))
    return values / values.sum()


def test_the_peak_is_finer_than_a_cell() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform((2, 2), (GRID[1] - 2, GRID[0] - 2), (200, 2))
    points, mass = peak_of(torch.stack([blob(u, v) for u, v in places]))
    error = np.hypot(*(points.numpy() / STRIDE - places).T)
    coarse = np.hypot(*(np.floor(places) + 0.5 - places).T)
    assert error.max() < 0.3
    assert error.mean() < 0.4 * coarse.mean(), "better than the centre of the highest cell"
    assert bool((mass > 0.7).all())
    assert bool((mass <= 1 + 1e-5).all())


def test_a_second_peak_does_not_draw_the_point_away_but_costs_confidence() -> None:
    two = 0.6 * blob(4.2, 5.1) + 0.4 * blob(12.0, 8.0)
    points, mass = peak_of(torch.stack([two, blob(4.2, 5.1)]))
    assert float((points[0] - points[1]).norm()) < 0.1
    assert float(mass[0]) == pytest.approx(0.6 * float(mass[1]), abs=0.01)
    mean = np.array([0.6 * 4.2 + 0.4 * 12, 0.6 * 5.1 + 0.4 * 8]) * STRIDE
    assert np.hypot(*(points[0].numpy() - mean)) > 10, "which is where the mean of the whole map is"


@pytest.mark.parametrize("corner", [(0, 0), (15, 0), (0, 11), (15, 11)])
def test_a_peak_in_the_corner_stays_in_the_image(corner: tuple[int, int]) -> None:
    points, _ = peak_of(blob(corner[0] + 0.5, corner[1] + 0.5, 0.2)[None])
    assert points[0].tolist() == pytest.approx([corner[0] * 4 + 2, corner[1] * 4 + 2], abs=0.1)
    flat, mass = peak_of(torch.full((1, *GRID), 1 / (GRID[0] * GRID[1])))
    assert 0 <= float(flat.min()) <= float(flat.max()) < 64
    assert float(mass[0]) < 0.05, "a map that knows nothing says so"


def test_maps_are_distributions_and_depend_on_what_is_asked() -> None:
    model = tiny.planner(3)
    rng = np.random.default_rng(0)
    images = to_tensor(rng.integers(0, 255, (2, 48, 64, 3)).astype(np.uint8))
    seen = model.see(images)
    slots = [s[:1] for s in _some_slots()]
    rows = [
        (0, PointRequest("object", 0, "object"), slots[0], None),
        (0, PointRequest("on", 0, "target"), slots[0], None),
        (0, PointRequest("at", None, "target"), slots[0], None),
        (1, PointRequest("object", 0, "object"), slots[0], None),
        (0, PointRequest("object", 0, "object"), slots[0], torch.ones(32) + torch.arange(32)),
        (0, PointRequest("object", 0, "object"), slots[0], None),
    ]
    maps, points, mass = model.point(seen.dense, make_batch(rows, 64, 48, 32))
    assert maps.shape == (6, *GRID)
    assert float(maps.min()) >= 0.0
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(6), atol=1e-5, rtol=0)
    assert bool((points >= 0).all())
    assert bool((points < torch.tensor([64.0, 48.0])).all())
    assert bool((mass > 0).all())
    torch.testing.assert_close(maps[0], maps[5])
    for other in (1, 2, 3, 4):
        assert not torch.allclose(maps[0], maps[other], atol=1e-7), f"request {other} is another one"


def test_what_is_pointed_at() -> None:
    kinds = ["top_shelf", "mug", "bin", "drawer"]
    by_name = {s.name: s for s in tiny.signatures()}

    def ask(**step: str) -> PointRequest | None:
        return request_of(step, by_name[step["skill"]], kinds)

    assert ask(skill="pick", object="o1") == PointRequest("object", 1, "object")
    assert ask(skill="place", object="o1", relation="on", target="o0") == PointRequest("on", 0, "target")
    assert ask(skill="place", object="o1", relation="at", target="table") == PointRequest("at", None, "target")
    assert ask(skill="throw_away", object="o1") == PointRequest("in", 2, "object")
    assert ask(skill="open_drawer", drawer="o3") == PointRequest("object", 3, "drawer")
    assert ask(skill="pick", object="o9") is None
    assert request_of({"skill": "throw_away", "object": "o1"}, by_name["throw_away"], ["mug", "mug"]) is None
    assert set(ROLES) >= {"object", "on", "in", "at", "left_of", "right_of"}


def _some_slots() -> list[list[object]]:
    from hiervla.planner.embedded.vision import Slot

    even = [np.full(n, 1 / n, np.float32) for n in (11, 9, 9)]
    return [[Slot(even[0], even[1], even[2], 20.0, 30.0)]]
