"""Fine-tuning tiny checkpoints of four real families: what is learned, what stays, what comes back from a folder."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hiervla.planner.base import PlannerContext, make_planner
from hiervla.planner.vlm import Sampling
from hiervla.planner.vlm.answers import Call, Draft, Point, answer_schema, read_answer
from hiervla.planner.vlm.checkpoint import load_checkpoint
from hiervla.planner.vlm.local import TransformersBackend
from hiervla.planner.vlm.planner import VLMPlanner
from hiervla.representations import (
    CheckpointError,
    MissingDependencyError,
    Parameter,
    Plan,
    SkillSignature,
    UnknownNameError,
)
from hiervla.training.lora.adapting import adapt, language_part
from hiervla.training.lora.batches import IGNORED, Encoder, answer_loss
from hiervla.training.lora.finetune import fine_tune
from hiervla.training.lora.samples import Sample, samples_of, split
from hiervla.training.lora.scoring import score
from hiervla.training.lora.trainer import LoraSpec
from tests import records
from tests.planner import families

PICK = SkillSignature(name="pick", params=(Parameter(name="object", type="object"),), accepts=("keypoints",))
CONTEXT = PlannerContext(skills=(PICK,))
ASKED = "pick up the red mug"
QUICK = LoraSpec(steps=4, batch=2, lr=1e-2, rank=4, alpha=8.0, dropout=0.1, held_out=0.0, save_every=1)


def sample(name: str = "red mug", x: int = 512, number: int = 0) -> Sample:
    draft = Draft((name,), (Call("pick", {"object": name}, Point(x=x, y=300)),))
    image = records.frame(number).rgb
    made = samples_of(f"pick up the {name}", CONTEXT, image, draft, group=f"run {number}", origin="run")
    assert [s.kind for s in made] == ["plan", "point"]
    return made[0]


@pytest.fixture(scope="module", params=list(families.FAMILIES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return families.make(request.param, tmp_path_factory.mktemp("bases") / str(request.param))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return families.make("llava", tmp_path_factory.mktemp("one"))


def encoder_of(loaded: Any, place: Path) -> Encoder:
    return Encoder(loaded.processor, int(loaded.model.get_output_embeddings().weight.shape[0]), str(place))


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()}


def test_only_the_answer_carries_loss_and_only_the_language_part_learns(base: Path) -> None:
    loaded = load_checkpoint(str(base), "cpu", "float32")
    encoder, one = encoder_of(loaded, base), sample()
    encoded = encoder.encode(one)
    asked = TransformersBackend(str(base), device="cpu")._inputs(one.messages, [one.image])
    assert torch.equal(encoded.inputs["input_ids"][:, : encoded.prompt], asked["input_ids"]), "as the planner asks"
    assert (encoded.labels[0, : encoded.prompt] == IGNORED).all()
    written = encoded.labels[0, encoded.prompt :].tolist()
    assert encoder.text(written) == one.answer and written[-1:] == encoder.end(one)
    loss = answer_loss(loaded.model, encoded, "cpu")
    own = loaded.model(**encoded.inputs, labels=encoded.labels).loss
    torch.testing.assert_close(loss / encoded.answer, own, rtol=1e-4, atol=1e-4)

    adapted = adapt(loaded.model, str(base), rank=4, alpha=8.0, dropout=0.0, targets=("all-linear",))
    torch.testing.assert_close(answer_loss(loaded.model, encoded, "cpu"), loss, msg="a fresh adapter changes nothing")
    answer_loss(loaded.model, encoded, "cpu").backward()
    learning = {n for n, p in adapted.named_parameters() if p.requires_grad}
    part = language_part(loaded.model)[0]
    assert learning and all("lora_" in n and f".{part}." in n for n in learning)
    assert all(p.grad is None for n, p in adapted.named_parameters() if n not in learning)
    assert any("q_proj" in n for n in learning) and any("down_proj" in n for n in learning)


def test_it_learns_an_answer_by_heart_and_comes_back_as_a_planner(base: Path, tmp_path: Path) -> None:
    before, one = hashes(base), sample()
    # Random weights of these families take a minute to learn by heart what they learn in seconds with these two.
    by_heart = base.name.startswith(("llava", "gemma3"))
    steps = (40 if base.name == "llava" else 25) if by_heart else 8
    lr = 2e-2 if by_heart else 3e-3
    spec = LoraSpec(steps=steps, batch=1, lr=lr, dropout=0.0, held_out=0.0, save_every=1)
    losses: list[float] = []
    report = fine_tune(
        str(base),
        [one],
        tmp_path / "lora",
        spec,
        merge=True,
        device="cpu",
        on_progress=lambda p: losses.append(p["loss"]),
    )
    assert report.steps == len(losses) == steps and losses[-1] < (0.3 if by_heart else losses[0])
    assert hashes(base) == before, "the base is only read"

    planner = make_planner(f"transformers:{tmp_path / 'lora'}")
    assert isinstance(planner, VLMPlanner) and isinstance(make_planner(str(tmp_path / "lora")), VLMPlanner)
    assert planner.id.startswith("transformers:lora@")
    look = records.observation(0)
    plan = planner.plan(look, ASKED, CONTEXT)
    if by_heart:
        assert isinstance(plan, Plan) and not planner.rejected
        assert plan.provenance is not None and plan.provenance.raw_text == one.answer
    free = planner.backend.generate(
        one.messages, [one.image], answer_schema((PICK,)), Sampling(temperature=1.0, seed=3)
    )
    assert free.complete and read_answer(free.text, (PICK,))

    merged = load_checkpoint(str(tmp_path / "lora" / "merged"), "cpu", "float32")
    alone = score(merged.model, encoder_of(merged, base), [one], "cpu", 1)
    assert alone["loss"] < losses[-1] + 0.3
    if by_heart:
        assert alone["same"] == alone["parses"] == 1.0, "without a grammar and without peft"


def test_an_interrupted_training_ends_as_one_that_was_not(llava: Path, tmp_path: Path) -> None:
    data = [sample("red mug", 512, 0), sample("blue block", 100, 1), sample("can", 900, 2)]
    whole = fine_tune(str(llava), data, tmp_path / "whole", QUICK, device="cpu")

    def stop(progress: Mapping[str, float]) -> None:
        if progress["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(str(llava), data, tmp_path / "parts", QUICK, device="cpu", on_progress=stop)
    assert not (tmp_path / "parts" / "adapter_model.safetensors").exists()
    parts = fine_tune(str(llava), data, tmp_path / "parts", QUICK, device="cpu")
    assert whole.steps == parts.steps == 4
    first, second = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("whole", "parts"))
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert any(v.abs().max() > 0 for k, v in first.items() if "lora_B" in k)

    lean = LoraSpec(**{**QUICK.__dict__, "checkpointing": True})
    fine_tune(str(llava), data, tmp_path / "lean", lean, device="cpu")
    third = load_file(tmp_path / "lean" / "adapter_model.safetensors")
    for name, value in first.items():
        torch.testing.assert_close(third[name], value, rtol=1e-3, atol=1e-4)
    with pytest.raises(CheckpointError, match="belongs to another base, other data or other settings"):
        fine_tune(str(llava), data[:2], tmp_path / "parts", QUICK, device="cpu")


def test_scores_and_card_tell_of_what_was_held_out(llava: Path, tmp_path: Path) -> None:
    data = [sample("red mug", 512, 0), sample("red mug", 512, 1), sample("red mug", 512, 2)]
    spec = LoraSpec(**{**QUICK.__dict__, "steps": 8, "held_out": 0.3, "answers": 1, "dropout": 0.0})
    report = fine_tune(str(llava), data, tmp_path, spec, device="cpu", command="hiervla train planner --lora")
    assert report.train == {"plans of runs": 2} and report.held_out == {"plans of runs": 1}
    assert report.after["loss"] < report.before["loss"]
    assert set(report.after) == {"loss", "parses", "same"} and report.before["parses"] == 0.0
    card = (tmp_path / "README.md").read_text()
    assert "hiervla train planner --lora" in card and "| plans of runs | 2 | 1 |" in card and "seed 0" in card
    assert f"{report.after['loss']:.3f}" in card
    facts = json.loads((tmp_path / "hiervla.json").read_text())
    assert facts["before"] == report.before and facts["base"] == str(llava.resolve())

    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "/no/such"}))
    with pytest.raises(CheckpointError, match="its base '/no/such' cannot be loaded"):
        make_planner(f"transformers:{tmp_path}")
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "r": 2}))
    with pytest.raises(CheckpointError, match="does not fit its base"):
        make_planner(f"transformers:{tmp_path}")
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "hiervla.json").write_text(json.dumps({**facts, "base_id": "transformers:other@1"}))
    with pytest.raises(CheckpointError, match="was trained on transformers:other@1"):
        make_planner(f"transformers:{tmp_path}")
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        make_planner(f"transformers:{tmp_path}")


def test_mistakes_are_told_in_one_sentence(llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = LoraSpec(**{**QUICK.__dict__, "targets": ("q_prog",)})
    with pytest.raises(UnknownNameError, match="Did you mean 'q_proj'"):
        fine_tune(str(llava), [sample()], tmp_path, odd, device="cpu")
    text = tmp_path / "text"
    text.mkdir()
    (text / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="'bert' is no image-text-to-text model"):
        fine_tune(str(text), [sample()], tmp_path, QUICK, device="cpu")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hiervla\[lora\]'"):
        fine_tune(str(llava), [sample()], tmp_path, QUICK, device="cpu")


def test_whole_runs_are_held_out() -> None:
    data = [sample("red mug", k, k // 3) for k in range(30)]
    learned, held = split(data, 0.2, seed=4)
    assert len(learned) + len(held) == 30 and len({s.group for s in held}) == 2
    assert not {s.group for s in held} & {s.group for s in learned}
    assert [s.group for s in split(data, 0.2, seed=4)[1]] == [s.group for s in held]
    assert split(data[:3], 0.5, seed=0)[1] == [], "one run cannot be held out of itself"
    assert np.unique([s.group for s in split(data, 0.0, seed=0)[0]]).size == 10
