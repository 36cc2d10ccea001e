"""From heatmaps to slots, on heatmaps made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES
from hiervla.planner.embedded.vision import (
    STRIDE,
    Slot,
    VisionConfig,
    VisionOutput,
    VisionTower,
    decode_slots,
    scene_slots,
    to_tensor,
)
from tests.planner import tiny

CONFIG = VisionConfig.from_dict(tiny.VISION)


@dataclass(frozen=True)
class Dot:
    """A thing in a heatmap: category, centre [px], score, colour, half the side of its box [px]."""

    category: str
    u: float
    v: float
    score: float = 0.9
    colour: str = "red"
    half: float = 6.0


def look(dots: Sequence[Dot], monkeypatch: pytest.MonkeyPatch, **options: float) -> list[Slot]:
    """Slots of an image whose heatmaps show `dots`; colour and box are read where they were put."""
    height, width = CONFIG.grid
    tower = VisionTower(CONFIG).eval()
    output = VisionOutput(
        torch.zeros(1, CONFIG.out, height, width), torch.full((1, len(CATEGORIES), height, width), -9.0),
        torch.full((1, 2, height, width), 0.5), torch.zeros(1, 12, height, width), torch.zeros(1, 4, height, width),
    )  # fmt: skip
    for dot in dots:
        row, column = int(dot.v / STRIDE), int(dot.u / STRIDE)
        kind = CATEGORIES.index(dot.category)
        # A dot is a little blurred, as the tower's are; the blur is no thing of its own.
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                if 0 <= row + dr < height and 0 <= column + dc < width:
                    score = dot.score * (1.0 if dr == dc == 0 else 0.5)
                    old = output.centres[0, kind, row + dr, column + dc]
                    output.centres[0, kind, row + dr, column + dc] = max(old, torch.tensor(score).logit())
        output.offsets[0, :, row, column] = torch.tensor([dot.u / STRIDE - column, dot.v / STRIDE - row])

    def attributes(features: Tensor, batch: Tensor, cells: Tensor, category: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = len(cells)
        colour, state, size = torch.zeros(n, len(COLOURS)), torch.zeros(n, len(STATES)), torch.zeros(n, 4)
        for i in range(n):
            same = [d for d in dots if CATEGORIES.index(d.category) == category[i]]
            near = min(same, key=lambda d: abs(d.u / STRIDE - cells[i, 0]) + abs(d.v / STRIDE - cells[i, 1]))
            colour[i, COLOURS.index(near.colour)] = 9.0
            state[i, 1] = 9.0
            size[i] = np.log(near.half / STRIDE)
        return colour, state, size

    monkeypatch.setattr(tower, "attributes", attributes)
    (slots,) = decode_slots(tower, output, **options)  # type: ignore[arg-type]
    return slots


def test_centres_are_found_and_sorted_from_left_to_right(monkeypatch: pytest.MonkeyPatch) -> None:
    dots = [Dot("can", 50.3, 20.9, 0.95), Dot("mug", 9.1, 30.2, 0.5), Dot("block", 30.7, 10.4, 0.8, "blue")]
    slots = look(dots, monkeypatch)
    assert [s.name for s in slots] == ["red mug", "blue block", "red can"]
    for slot, dot in zip(slots, sorted(dots, key=lambda d: d.u), strict=True):
        assert np.hypot(slot.u - dot.u, slot.v - dot.v) < STRIDE / 2
        assert slot.score == pytest.approx(dot.score, abs=1e-3)
        np.testing.assert_allclose(slot.box, (dot.u - 6, dot.v - 6, dot.u + 6, dot.v + 6), atol=0.1)
        assert slot.category.sum() == pytest.approx(1.0, abs=1e-5)
    assert [s.category[1] > 0.7 for s in slots] == [True, False, False]


def test_what_is_below_the_threshold_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    dots = [Dot("can", 50, 20, 0.5), Dot("mug", 10, 30, 0.25)]
    assert [s.name for s in look(dots, monkeypatch, threshold=0.3)] == ["red can"]
    assert [s.name for s in look(dots, monkeypatch, threshold=0.2)] == ["red mug", "red can"]
    assert look(dots, monkeypatch, threshold=0.6) == []
    assert look([], monkeypatch) == []


def test_two_readings_of_one_thing_are_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    mug, other = Dot("mug", 30, 20, 0.9), Dot("block", 32, 20, 0.7)
    assert [s.name for s in look([mug, other], monkeypatch)] == ["red mug"]
    blue = Dot("block", 32, 20, 0.7, "blue")
    assert {s.name for s in look([mug, blue], monkeypatch)} == {"red mug", "blue block"}, "another colour"
    small = Dot("block", 32, 20, 0.7, half=2.5)
    assert len(look([mug, small], monkeypatch)) == 2, "a small thing before a large one"
    far = Dot("block", 50, 20, 0.7)
    assert len(look([mug, far], monkeypatch)) == 2


def test_there_is_one_of_each_fixture_and_as_many_loose_things_as_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    bins = [Dot("bin", 10, 20, 0.6), Dot("bin", 50, 20, 0.9)]
    found = look(bins, monkeypatch)
    assert [(s.name, round(s.u)) for s in found] == [("bin", 50)], "the surer one"
    cans = [Dot("can", 10, 20, 0.6), Dot("can", 50, 20, 0.9)]
    assert len(look(cans, monkeypatch)) == 2


def test_a_block_on_a_plate_is_two_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    plate, block = Dot("plate", 30, 24, 0.9, "red", 18), Dot("block", 30, 24, 0.8, "red", 5)
    assert {s.name for s in look([plate, block], monkeypatch)} == {"red plate", "red block"}


def test_the_surest_are_kept_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    dots = [Dot("can", 8.0 * k + 6, 20, 0.4 + 0.05 * k, half=2) for k in range(7)]
    assert len(look(dots, monkeypatch)) == 7
    assert [round(s.u) for s in look(dots, monkeypatch, max_slots=3)] == [38, 46, 54]


def test_attributes_are_read_where_the_thing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that hold their own position come back as the nine places around the centre."""
    tower = VisionTower(CONFIG).eval()
    height, width = CONFIG.grid
    features = torch.zeros(2, CONFIG.out, height, width)
    features[:, 0] = torch.arange(width) + 0.5
    features[:, 1] = (torch.arange(height) + 0.5)[:, None]
    features[1, 2] = 1.0
    read: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            read.append(x)
            return torch.zeros(len(x), 96)

    monkeypatch.setattr(tower, "read", Spy())
    cells = torch.tensor([[7.3, 5.8], [4.0, 3.5], [0.0, 0.0], [float(width), float(height)]])
    with torch.no_grad():
        colour, state, size = tower.attributes(features, torch.tensor([0, 1, 0, 1]), cells, torch.tensor([0, 1, 2, 3]))
    assert [tuple(t.shape) for t in (colour, state, size)] == [(4, 9), (4, 9), (4, 4)]
    sampled = read[0][:, : 9 * CONFIG.out].view(4, 9, CONFIG.out)
    near: Tensor = tower.near  # type: ignore[assignment]
    torch.testing.assert_close(sampled[:2, :, :2], cells[:2, None] + near, atol=1e-4, rtol=0)
    assert sampled[:, 0, 2].tolist() == pytest.approx([0.0, 1.0, 0.0, 1.0]), "each in its own image"
    assert 0.5 <= float(sampled[2:, :, :2].min()) <= float(sampled[2:, :, 0].max()) <= width - 0.5
    assert not torch.allclose(sampled[0, :, :2], cells[1] + near)


def test_pixels_become_numbers_from_0_to_1() -> None:
    image = np.zeros((2, 4, 6, 3), np.uint8)
    image[1, 2, 3] = (255, 51, 0)
    x = to_tensor(image)
    assert x.shape == (2, 3, 4, 6)
    assert x.dtype == torch.float32
    assert x[1, :, 2, 3].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    torch.testing.assert_close(to_tensor(list(image)), x)
    assert float(to_tensor(image[:1]).max()) == 0.0


def test_slots_reach_the_language_model_as_fractions_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = scene_slots(look([Dot("can", 48, 12)], monkeypatch), CONFIG.width, CONFIG.height)
    np.testing.assert_allclose(slots.uv, [[0.75, 0.25]], atol=1e-4)
    assert slots.names() == ["red can"]
    assert len(scene_slots([], 64, 48)) == 0
    assert scene_slots([], 64, 48).uv.shape == (0, 2)


def test_the_tower_does_not_mix_images_of_a_batch() -> None:
    tower = tiny.planner(0).vision
    rng = np.random.default_rng(0)
    images = to_tensor(rng.integers(0, 255, (2, 48, 64, 3)).astype(np.uint8))
    with torch.no_grad():
        both, alone = tower(images), tower(images[:1])
        changed = tower(torch.stack([images[1], images[1]]))
    torch.testing.assert_close(both.centres[:1], alone.centres, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(changed.centres[:1], alone.centres, atol=1e-3)
    assert both.features.shape == (2, CONFIG.out, *CONFIG.grid)
