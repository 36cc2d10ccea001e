"""The planner as a transformers model: what is saved is what is loaded, by its class or by Auto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel

from hiervla.planner.embedded.modeling import HierVLAPlannerConfig, HierVLAPlannerForPlanning
from hiervla.planner.embedded.processing import HierVLAPlannerImageProcessor, HierVLAPlannerProcessor
from tests.planner import tiny


def inputs() -> dict[str, Any]:
    processor = HierVLAPlannerProcessor(HierVLAPlannerImageProcessor(48, 64), tiny.tokenizer())
    images = np.random.default_rng(0).integers(0, 255, (2, 48, 64, 3)).astype(np.uint8)
    return dict(processor(list(images), ["tidy up", "put the red mug on the top shelf"]))


def outputs(model: Any) -> list[torch.Tensor]:
    given = inputs()
    with torch.no_grad():
        out = model(**given, plan_ids=torch.tensor([[5, 6], [7, 8]]))
        keys = model.pointing.keys(model.see(given["pixel_values"]).dense)
    return [out.logits, out.hidden_states, out.features, out.centres, keys]


def test_a_saved_planner_is_the_same_planner(tmp_path: Path) -> None:
    model = tiny.planner(1)
    model.save_pretrained(tmp_path)
    expected = outputs(model)
    for loaded in (HierVLAPlannerForPlanning.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is HierVLAPlannerForPlanning
        assert not loaded.training
        for a, b in zip(outputs(loaded), expected, strict=True):
            torch.testing.assert_close(a, b, atol=0, rtol=0)
        buffers = dict(loaded.named_buffers())
        assert {"language.fourier", "language.inverse_frequency", "pointing.position", "vision.near"} <= set(buffers)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, atol=0, rtol=0)
    for a, b in zip(outputs(tiny.planner(2)), expected, strict=True):
        assert not torch.allclose(a, b, atol=1e-4), "another model says something else"


def test_buffers_that_are_not_saved_matter() -> None:
    """The check above would notice their loss."""
    for name in ("language.fourier", "language.inverse_frequency", "pointing.position"):
        model = tiny.planner(1)
        expected = outputs(model)
        model.get_buffer(name).zero_()
        assert any(not torch.allclose(a, b, atol=1e-5) for a, b in zip(outputs(model), expected, strict=True)), name


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    config = HierVLAPlannerConfig(vision=tiny.VISION, language=tiny.language_config().to_dict(), threshold=0.4)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is HierVLAPlannerConfig
    assert again.threshold == 0.4
    assert again.vision["out"] == tiny.VISION["out"]
    assert again.language["hidden_size"] == 32
    assert HierVLAPlannerConfig().vision["out"] != tiny.VISION["out"]
    assert HierVLAPlannerForPlanning(again).image_size == (48, 64)


def test_the_loss_is_that_of_the_labels() -> None:
    model = tiny.planner(1)
    given = inputs()
    with torch.no_grad():
        free = model(**given, plan_ids=torch.tensor([[5], [7]]))
        best = free.logits.argmax(-1)
        good = model(**given, plan_ids=torch.tensor([[5], [7]]), labels=best).loss
        bad = model(**given, plan_ids=torch.tensor([[5], [7]]), labels=free.logits[..., :800].argmin(-1)).loss
        masked = best.clone()
        masked[:, 1] = -100
        half = model(**given, plan_ids=torch.tensor([[5], [7]]), labels=masked).loss
    assert free.loss is None
    assert 0 < float(good) < float(bad)
    first = torch.nn.functional.cross_entropy(free.logits[:, 0], best[:, 0])
    assert float(half) == pytest.approx(float(first), rel=1e-4)


def test_images_are_brought_to_size_and_refused_when_they_are_none(tmp_path: Path) -> None:
    processor = HierVLAPlannerImageProcessor(48, 64)
    large = np.zeros((96, 128, 3), np.uint8)
    large[:, 64:] = 255
    pixels = processor.preprocess(large)["pixel_values"]
    assert pixels.shape == (1, 3, 48, 64)
    assert float(pixels[..., :32].max()) == 0.0
    assert float(pixels[..., 32:].min()) == 1.0
    picture = processor.preprocess([Image.fromarray(large), large])["pixel_values"]
    torch.testing.assert_close(picture, pixels.expand(2, -1, -1, -1))
    for bad in (np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32), np.zeros((48, 64, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            processor.preprocess(bad)


def test_a_saved_processor_reads_the_same(tmp_path: Path) -> None:
    processor = HierVLAPlannerProcessor(HierVLAPlannerImageProcessor(48, 64), tiny.tokenizer())
    processor.save_pretrained(tmp_path)
    again = HierVLAPlannerProcessor.from_pretrained(tmp_path)
    assert (again.image_processor.height, again.image_processor.width) == (48, 64)
    texts, history = ["tidy up", "wipe the table please"], [["pick sponge from table ok"], []]
    a, b = processor(text=texts, history=history), again(text=texts, history=history)
    torch.testing.assert_close(a["input_ids"], b["input_ids"])
    assert a["attention_mask"][1, 0] == 0, "the shorter one is padded on the left"
    assert not torch.equal(processor(text="tidy up")["input_ids"], processor(text="tidy in")["input_ids"])
