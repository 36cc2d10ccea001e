"""Pointing: what is asked, and how an attention map becomes a keypoint; the whole model saved and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hiervla.planner.embedded.configuration import LanguageConfig
from hiervla.planner.embedded.modeling import HierVLAPlannerConfig, HierVLAPlannerForPlanning
from hiervla.planner.embedded.pointing import PointRequest, make_batch, peak_of, request_of
from hiervla.planner.embedded.processing import HierVLAPlannerImageProcessor, HierVLAPlannerProcessor
from hiervla.planner.embedded.tokenizer import train_tokenizer
from hiervla.planner.embedded.vision import STRIDE
from hiervla.representations import Parameter, SkillSignature
from hiervla.skills.registry import SkillLibrary

KINDS = ["top_shelf", "mug", "plate", "bin", "drawer", "spill"]


def signature(name: str) -> SkillSignature:
    return next(s for s in SkillLibrary.load().signatures() if s.name == name)


@pytest.mark.parametrize(
    ("call", "role", "slot"),
    [
        ({"skill": "pick", "object": "o1"}, "object", 1),
        ({"skill": "place", "object": "o1", "relation": "on", "target": "o0"}, "on", 0),
        ({"skill": "place", "object": "o1", "relation": "left_of", "target": "o2"}, "left_of", 2),
        ({"skill": "place", "object": "o1", "relation": "at", "target": "table"}, "at", None),
        ({"skill": "throw_away", "object": "o1"}, "in", 3),
        ({"skill": "open_drawer", "drawer": "o4"}, "object", 4),
        ({"skill": "wipe", "surface": "o5"}, "object", 5),
    ],
)
def test_where_a_step_points(call: dict[str, str], role: str, slot: int | None) -> None:
    request = request_of(call, signature(call["skill"]), KINDS)
    assert request is not None
    assert (request.role, request.slot) == (role, slot)


def test_no_point_without_the_thing() -> None:
    assert request_of({"skill": "throw_away", "object": "o1"}, signature("throw_away"), ["mug", "mug"]) is None
    assert request_of({"skill": "pick", "object": "o9"}, signature("pick"), KINDS) is None
    wave = SkillSignature(name="wave", params=(Parameter(name="times", type="number"),))
    assert request_of({"skill": "wave", "times": "3"}, wave, KINDS) is None


def test_peak_is_the_weighted_middle_of_its_window() -> None:
    maps = torch.zeros(2, 48, 64)
    maps[0, 10, 20], maps[0, 10, 21] = 0.5, 0.5
    maps[1, 0, 0] = 0.6
    maps[1, 40, 60] = 0.4
    points, mass = peak_of(maps)
    assert points[0].tolist() == pytest.approx([21.0 * STRIDE, 10.5 * STRIDE])
    assert points[1].tolist() == pytest.approx([0.5 * STRIDE, 0.5 * STRIDE])
    assert mass.tolist() == pytest.approx([1.0, 0.6])


@pytest.fixture(scope="module")
def parts() -> tuple[HierVLAPlannerForPlanning, HierVLAPlannerProcessor]:
    tokenizer = train_tokenizer(["put the red mug on the table"] * 5, 700)
    ids = {f"{n}_token_id": int(getattr(tokenizer, f"{n}_token_id")) for n in ("pad", "eos")}
    language = LanguageConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_heads=2, num_layers=1,
        slot_token_id=tokenizer.get_vocab()["o0"], **ids,
    )  # fmt: skip
    torch.manual_seed(0)
    model = HierVLAPlannerForPlanning(HierVLAPlannerConfig(language=language.to_dict(), threshold=0.005)).eval()
    return model, HierVLAPlannerProcessor(HierVLAPlannerImageProcessor(), tokenizer)


def picture(seed: int = 0, height: int = 192, width: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_forward_gives_logits_and_a_loss(parts: tuple[HierVLAPlannerForPlanning, HierVLAPlannerProcessor]) -> None:
    model, processor = parts
    inputs = processor(images=[picture(0), picture(1)], text=["put it away", "wipe the table please"])
    plan = torch.tensor([[5, 6], [7, 8]])
    labels = torch.tensor([[5, 6, -100], [7, 8, 1]])
    out = model(**inputs, plan_ids=plan, labels=labels)
    assert out.logits.shape == (2, 3, model.language.config.vocab_size)
    assert out.loss.isfinite()
    out.loss.backward()


def test_saved_model_is_the_same_model(
    parts: tuple[HierVLAPlannerForPlanning, HierVLAPlannerProcessor], tmp_path: Path
) -> None:
    model, processor = parts
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    from transformers import AutoModel

    twin = AutoModel.from_pretrained(tmp_path).eval()
    again = HierVLAPlannerProcessor.from_pretrained(tmp_path)
    assert isinstance(twin, HierVLAPlannerForPlanning)
    # Buffers that are no part of the file have to be made anew.
    for (name, mine), (_, theirs) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        assert torch.equal(mine, theirs), name
    inputs, others = (p(images=picture(), text="wipe the table") for p in (processor, again))
    with torch.no_grad():
        assert torch.allclose(model(**inputs).logits, twin(**others).logits, atol=1e-4)


def test_point_returns_distributions(parts: tuple[HierVLAPlannerForPlanning, HierVLAPlannerProcessor]) -> None:
    model, processor = parts
    seen = model.see(processor(images=picture())["pixel_values"])
    width = model.language.config.hidden_size
    rows = [(0, PointRequest("object", 0, "object"), seen.slots[0], None),
            (0, PointRequest("at", None, "target"), seen.slots[0], torch.ones(width))]  # fmt: skip
    maps, points, mass = model.point(seen.dense, make_batch(rows, 256, 192, width))
    assert maps.shape == (2, 48, 64)
    assert maps.sum(dim=(1, 2)).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert (points >= 0).all() and (points[:, 0] < 256).all() and (points[:, 1] < 192).all()
    assert ((mass > 0) & (mass <= 1.0 + 1e-6)).all()


def test_images_of_other_sizes_are_fitted_and_other_shapes_refused() -> None:
    processor = HierVLAPlannerImageProcessor()
    assert processor.preprocess(picture(0, 384, 512))["pixel_values"].shape == (1, 3, 192, 256)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        processor.preprocess(np.zeros((192, 256), np.uint8))
