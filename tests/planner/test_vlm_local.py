"""Checkpoints of four real families with random weights: whatever they mumble, it is a plan or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.planner.vlm.answers import answer_schema, read_answer
from hiervla.planner.vlm.backend import Backend, Message, Sampling
from hiervla.planner.vlm.local import TransformersBackend
from hiervla.representations import CheckpointError
from hiervla.skills import SkillLibrary
from tests.planner import families

SKILLS = SkillLibrary.load().signatures()
SCHEMA = answer_schema(SKILLS)
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
ASK = [Message("user", "put the red mug on the top shelf")]
SHORT = {
    "type": "object",
    "properties": {"point": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 1000}]}},
    "required": ["point"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=list(families.FAMILIES))
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    torch.set_num_threads(1)
    return TransformersBackend(str(families.make(request.param, tmp_path_factory.mktemp(request.param))), device="cpu")


def test_is_a_backend(backend: TransformersBackend) -> None:
    assert isinstance(backend, Backend)
    assert backend.id.startswith("transformers:") and len(backend.id.rsplit("@", 1)[1]) == 8


@pytest.mark.parametrize("seed", range(3))
def test_every_answer_fits(backend: TransformersBackend, seed: int) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.95, seed=seed, max_tokens=3000)
    answer = backend.generate(ASK, [IMAGE], SCHEMA, sampling)
    assert answer.complete and answer.constrained == "grammar"
    draft = read_answer(answer.text, SKILLS)
    assert draft.calls or draft.refuse
    assert answer.tokens is not None and 0 < answer.forced < answer.tokens
    assert answer.prompt_tokens is not None and answer.prompt_tokens > 15
    again = backend.generate(ASK, [IMAGE], SCHEMA, sampling)
    assert again.text == answer.text, "the same seed gives the same answer"


def test_it_looks_at_the_image_and_reads_the_turns(backend: TransformersBackend) -> None:
    def scores(images: list[np.ndarray], *turns: Message) -> torch.Tensor:
        with torch.inference_mode():
            inputs = backend._inputs(turns, images)
            return backend._model(**inputs).logits[0, -1]

    plain = scores([IMAGE], *ASK)
    assert not torch.equal(plain, scores([255 - IMAGE], *ASK))
    assert not torch.equal(plain, scores([IMAGE], *ASK, Message("assistant", "{}"), Message("user", "no")))
    assert torch.equal(plain, scores([IMAGE], *ASK))


def test_reading_forced_tokens_at_once_changes_nothing(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers' own `generate` says, when it is allowed the very same tokens, is what our loop says."""
    answer = backend.generate(ASK, [IMAGE], SHORT, Sampling(max_tokens=200))
    assert set(json.loads(answer.text)) == {"point"}
    written = backend._tokens.tokenize_str(answer.text)
    with torch.inference_mode():
        inputs = backend._inputs(ASK, [IMAGE])
        start = inputs["input_ids"].shape[1]
        whole = backend._model.generate(
            **inputs,
            max_new_tokens=len(written),
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            prefix_allowed_tokens_fn=lambda _, ids: [written[min(len(ids) - start, len(written) - 1)]],
        )
    rows: list[torch.Tensor] = []
    wanted: list[int] = []

    def choose(self: Any, row: torch.Tensor) -> int:
        rows.append(row)
        return wanted[len(rows) - 1]

    monkeypatch.setattr("hiervla.planner.vlm.local._Decoding._choose", choose)
    for chunked in (True, False):
        rows.clear()
        constraint = _Script(written, chunked)
        wanted[:] = constraint.chosen
        from hiervla.planner.vlm.local import _Decoding

        with torch.inference_mode():
            _Decoding(backend._model, constraint, Sampling(), 10**6).run(inputs)  # type: ignore[arg-type]  # stands in
        for at, row in zip(constraint.at, rows, strict=True):
            torch.testing.assert_close(row, whole.logits[at][0], atol=1e-4, rtol=1e-4)


class _Script:
    """A grammar with one sentence, which forces every token but each fourth, or none."""

    def __init__(self, written: list[int], chunked: bool) -> None:
        self.at = [k for k in range(len(written)) if not chunked or k % 4 == 0]
        self.chosen = [written[k] for k in self.at]
        self._written, self._chunked, self._read = written, chunked, 0

    @property
    def finished(self) -> bool:
        return self._read >= len(self._written)

    def forced(self) -> list[int]:
        if not self._chunked or self._read % 4 == 0:
            return []
        return self._written[self._read : self._read // 4 * 4 + 4]

    def accept(self, tokens: list[int]) -> None:
        self._read += len(tokens)


def test_a_long_answer_is_cut_and_said_to_be(backend: TransformersBackend) -> None:
    answer = backend.generate(ASK, [IMAGE], SCHEMA, Sampling(max_tokens=7))
    assert not answer.complete and answer.tokens == 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.make("idefics3", tmp_path_factory.mktemp("whole"))


def copied(folder: Path, to: Path, without: str = "", **config: Any) -> Path:
    for file in folder.iterdir():
        if file.name != without:
            (to / file.name).write_bytes(file.read_bytes())
    settings = json.loads((to / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps(settings))
    return to


def test_unreadable_checkpoints_are_told_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    def problem(name: str, without: str = "", **config: Any) -> str:
        place = tmp_path / name
        place.mkdir()
        with pytest.raises(CheckpointError) as caught:
            TransformersBackend(str(copied(folder, place, without, **config)), device="cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "'bert' is no image-text-to-text model" in problem("text", model_type="bert")
    assert "safetensors" in problem("hollow", without="model.safetensors")
    assert "checkpoint" in problem("mute", without="tokenizer.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no readable config\.json"):
        TransformersBackend(str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match="no such folder"):
        TransformersBackend(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="device 'cuda:63'"):
        TransformersBackend(str(folder), device="cuda:63", dtype="float32")


def test_missing_weights_are_not_made_up(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = copied(folder, tmp_path)
    weights = load_file(place / "model.safetensors")
    del weights["model.connector.modality_projection.proj.weight"]
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 of its weights are missing"):
        TransformersBackend(str(place), device="cpu")


def test_offline_an_id_has_to_be_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="not in the cache.*HF_HUB_OFFLINE"):
        TransformersBackend("nobody/nothing-of-that-name")
