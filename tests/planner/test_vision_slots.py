"""The tower's shapes, its peaks, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES, one_hot_slots
from hiervla.planner.embedded.vision import (
    STRIDE,
    Slot,
    VisionConfig,
    VisionOutput,
    VisionTower,
    decode_slots,
    peaks,
    scene_slots,
    to_tensor,
)


@pytest.fixture(scope="module")
def tower() -> VisionTower:
    torch.manual_seed(0)
    return VisionTower(VisionConfig()).eval()


def empty(tower: VisionTower) -> VisionOutput:
    """An output that sees nothing."""
    with torch.no_grad():
        out = tower(torch.zeros(1, 3, 192, 256))
    out.centres = torch.full_like(out.centres, -9.0)
    out.offsets = torch.full_like(out.offsets, 0.5)
    return out


def test_shapes_and_size(tower: VisionTower) -> None:
    out = tower(to_tensor(np.zeros((2, 192, 256, 3), np.uint8)))
    assert out.features.shape == (2, 48, 48, 64)
    assert out.centres.shape == (2, 11, 48, 64)
    assert out.segments.shape == (2, 12, 48, 64)
    assert out.spots.shape == (2, 4, 48, 64)
    assert sum(p.numel() for p in tower.parameters()) < 2_000_000


def test_config_survives_json() -> None:
    config = VisionConfig(out=32)
    assert VisionConfig.from_dict({**config.to_dict(), "widths": list(config.widths)}) == config


def test_nothing_seen_gives_no_slots(tower: VisionTower) -> None:
    assert decode_slots(tower, empty(tower)) == [[]]


def test_a_peak_becomes_a_slot_at_its_pixel(tower: VisionTower) -> None:
    out = empty(tower)
    out.centres[0, CATEGORIES.index("mug"), 10, 20] = 5.0
    (slot,) = decode_slots(tower, out)[0]
    assert slot.category_name == "mug"
    assert (slot.u, slot.v) == pytest.approx((20.5 * STRIDE, 10.5 * STRIDE))
    assert slot.category.sum() == pytest.approx(1.0)
    assert slot.colour.sum() == pytest.approx(1.0)


def fake_attributes(monkeypatch: pytest.MonkeyPatch, tower: VisionTower, reach: dict[str, float]) -> None:
    """Everything is red, and reaches so far [cells] to all sides by its category."""

    def attributes(
        features: torch.Tensor, batch: torch.Tensor, cells: torch.Tensor, category: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        red = torch.eye(len(COLOURS))[COLOURS.index("red")].repeat(len(category), 1) * 9
        size = torch.tensor([[np.log(reach[CATEGORIES[k]])] * 4 for k in category.tolist()])
        return red, torch.zeros(len(category), len(STATES)), size

    monkeypatch.setattr(tower, "attributes", attributes)


def test_block_on_plate_is_two_slots(tower: VisionTower, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_attributes(monkeypatch, tower, {"plate": 4.0, "block": 1.2})
    out = empty(tower)
    out.centres[0, CATEGORIES.index("plate"), 30, 30] = 5.0
    out.centres[0, CATEGORIES.index("block"), 30, 30] = 5.0
    assert {s.category_name for s in decode_slots(tower, out)[0]} == {"plate", "block"}


def test_stacked_blocks_in_neighbouring_cells_are_two_slots(tower: VisionTower) -> None:
    out = empty(tower)
    kind = CATEGORIES.index("block")
    out.centres[0, kind, 30, 30], out.centres[0, kind, 31, 30] = 5.0, 3.0
    assert len(decode_slots(tower, out)[0]) == 2
    # The tail of a single peak is not a second thing.
    out.centres[0, kind, 31, 30] = -0.5
    assert len(decode_slots(tower, out)[0]) == 1


def test_two_readings_of_one_box_are_one_slot(tower: VisionTower, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_attributes(monkeypatch, tower, {"mug": 2.0, "can": 2.1})
    out = empty(tower)
    out.centres[0, CATEGORIES.index("mug"), 30, 30] = 4.0
    out.centres[0, CATEGORIES.index("can"), 30, 30] = 3.0
    assert [s.category_name for s in decode_slots(tower, out)[0]] == ["mug"]


def test_weaker_second_reading_of_one_thing_is_dropped(tower: VisionTower) -> None:
    out = empty(tower)
    out.centres[0, CATEGORIES.index("mug"), 30, 30] = 4.0
    out.centres[0, CATEGORIES.index("can"), 30, 30] = -0.2
    assert [s.category_name for s in decode_slots(tower, out)[0]] == ["mug"]


def test_there_is_one_bin(tower: VisionTower) -> None:
    out = empty(tower)
    out.centres[0, CATEGORIES.index("bin"), 5, 5] = 4.0
    out.centres[0, CATEGORIES.index("bin"), 40, 50] = 3.0
    assert len(decode_slots(tower, out)[0]) == 1


def test_slots_come_left_to_right_and_are_bounded(tower: VisionTower) -> None:
    out = empty(tower)
    kind = CATEGORIES.index("can")
    for k in range(30):
        out.centres[0, kind, 2 + 3 * (k % 15), 60 - 2 * k] = 3.0 + 0.01 * k
    slots = decode_slots(tower, out, max_slots=20)[0]
    assert len(slots) == 20
    assert [s.u for s in slots] == sorted(s.u for s in slots)


def test_peaks_respect_the_threshold() -> None:
    centres = torch.full((1, 11, 48, 64), -9.0)
    centres[0, 0, 3, 3] = 0.0
    assert len(peaks(centres, 0.4)[0]) == 1
    assert len(peaks(centres, 0.6)[0]) == 0


def test_attributes_depend_on_the_category_that_is_asked_for(tower: VisionTower) -> None:
    out = tower(torch.rand(1, 3, 192, 256))
    where = torch.tensor([[20.0, 20.0], [20.0, 20.0]])
    colours, _, _ = tower.attributes(out.features, torch.tensor([0, 0]), where, torch.tensor([0, 5]))
    assert not torch.allclose(colours[0], colours[1])


def test_attributes_at_the_border_are_finite(tower: VisionTower) -> None:
    out = tower(torch.rand(1, 3, 192, 256))
    corners = torch.tensor([[0.0, 0.0], [64.0, 48.0]])
    for values in tower.attributes(out.features, torch.tensor([0, 0]), corners, torch.tensor([0, 1])):
        assert torch.isfinite(values).all()


def make_slot(category: str, colour: str, state: str, u: float, v: float) -> Slot:
    """A certain slot."""
    hot = [np.eye(len(x), dtype=np.float32)[x.index(n)] for x, n in zip(
        (CATEGORIES, COLOURS, STATES), (category, colour, state), strict=True)]  # fmt: skip
    return Slot(hot[0], hot[1], hot[2], u, v)


def test_names_and_language_form() -> None:
    slots = [make_slot("mug", "red", "table", 64.0, 96.0), make_slot("top_shelf", "none", "none", 128.0, 48.0)]
    assert [s.name for s in slots] == ["red mug", "top shelf"]
    assert make_slot("spill", "purple", "table", 1.0, 1.0).name == "spill"
    seen = scene_slots(slots, 256, 192)
    assert seen.names() == ["red mug", "top shelf"]
    assert seen.uv.tolist() == [[0.25, 0.5], [0.5, 0.25]]
    assert len(scene_slots([], 256, 192)) == 0


def test_what_a_search_finds_takes_the_place_of_a_doubtful_reading() -> None:
    from hiervla.planner.embedded.second_look import is_surely, with_found

    def block(v: float, **colours: float) -> Slot:
        one = one_hot_slots([("block", "red", "table", 0.0, 0.0)])
        colour = np.zeros(len(COLOURS), np.float32)
        for name, share in colours.items():
            colour[COLOURS.index(name)] = share
        return Slot(one.category[0], colour, one.state[0], 40, v)

    doubtful, sure, sought = block(50, orange=0.46, black=0.54), block(50, orange=1.0), block(52.5, black=1.0)
    assert is_surely(sought, "block", "black") and is_surely(doubtful, "block", "")
    assert not is_surely(doubtful, "block", "black") and not is_surely(sought, "mug", "")
    assert [s.v for s in with_found([doubtful], sought, 20)] == [52.5]
    assert [s.v for s in with_found([sure], sought, 20)] == [50], "so near to what is sure it is the same thing"
    assert [s.v for s in with_found([sure], block(57, black=1.0), 20)] == [50, 57]
    assert [s.v for s in with_found([sure], block(57, black=1.0), 1)] == [50], "no more than fit"


def test_a_second_look_adds_what_the_first_one_missed() -> None:
    from dataclasses import replace

    from hiervla.planner.embedded.second_look import SHIFT_PX, both_looks, moved_down

    def block(u: float, v: float, colour: str, score: float = 0.9, category: str = "block") -> Slot:
        one = one_hot_slots([(category, colour, "table", 0.0, 0.0)])
        return Slot(one.category[0], one.colour[0], one.state[0], u, v, score, (u - 4, v - 4, u + 4, v + 4))

    upper, lower = block(40, 50, "red"), block(41, 57, "blue")
    below = [replace(s, v=s.v + SHIFT_PX) for s in (upper, lower)]
    found = both_looks([upper], below, 20)
    assert [(s.colour_name, s.v) for s in found] == [("red", 50), ("blue", 57)]
    assert found[1].box[1] == 57 - 4 - SHIFT_PX
    assert both_looks([upper], [replace(below[1], score=0.3)], 20) == [upper], "a weak one does not count"
    assert [s.v for s in both_looks([upper], below, 1)] == [50], "no more than fit"
    raised = replace(below[0], state=np.eye(len(STATES), dtype=np.float32)[STATES.index("on_object")], score=0.95)
    (agreed,) = both_looks([upper], [raised], 20)
    assert (agreed.v, agreed.state_name, agreed.colour_name) == (50, "on_object", "red"), "the surer look decides"
    assert float(agreed.state.sum()) == pytest.approx(1.0)
    above, beneath = (replace(b, v=b.v + SHIFT_PX) for b in (block(40, 48.5, "white"), block(40, 52, "red")))
    pair = both_looks([upper], [above, beneath], 20)
    assert [(s.colour_name, s.v) for s in pair] == [("white", 48.5), ("red", 50)], "two colours on one spot: two things"
    misread = block(40.5, 52, "red", category="sponge")
    assert both_looks([upper], [misread], 20) == [upper], "one thing, taken for two kinds"
    image = torch.arange(48.0).reshape(1, 1, 48, 1).expand(1, 3, 48, 4)
    rows = moved_down(image)[0, 0, :, 0].tolist()
    assert rows[:3] == [0.0, 0.0, 0.0] and rows[-1] == 47.0 - SHIFT_PX
