"""Trained parts become one checkpoint that the planner loads, and a part that is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from hiervla.planner.embedded.generation import save_language
from hiervla.planner.embedded.modeling import HierVLAPlannerForPlanning
from hiervla.planner.embedded.planner import WEIGHTS, EmbeddedPlanner
from hiervla.representations import CheckpointError
from hiervla.training.planner import assemble, train_planner


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoint, taken apart as the training stages leave it."""
    folder = tmp_path_factory.mktemp("parts")
    model = HierVLAPlannerForPlanning.from_pretrained(WEIGHTS, local_files_only=True)
    for name in ("vision", "pointing"):
        (folder / name).mkdir()
        weights = {k: v.contiguous() for k, v in getattr(model, name).state_dict().items()}
        save_file(weights, folder / name / f"{name}.safetensors")
    (folder / "vision" / "vision.json").write_text(json.dumps(model.vision.config.to_dict()))
    save_language(model.language, PreTrainedTokenizerFast.from_pretrained(WEIGHTS), folder / "language")
    return folder


def test_assembled_parts_are_the_whole(parts: Path, tmp_path: Path) -> None:
    out = assemble(parts / "vision", parts / "language", parts / "pointing", tmp_path / "whole")
    EmbeddedPlanner(out)
    made, shipped = load_file(out / "model.safetensors"), load_file(WEIGHTS / "model.safetensors")
    assert made.keys() == shipped.keys()
    assert all((made[k] == shipped[k]).all() for k in made)


def test_a_pointing_head_without_language_does_not_read_it(parts: Path, tmp_path: Path) -> None:
    out = assemble(parts / "vision", parts / "language", parts / "pointing", tmp_path / "whole", with_language=False)
    assert not load_file(out / "model.safetensors")["pointing.language.1.weight"].any()


@pytest.mark.parametrize("missing", ["vision", "language", "pointing"])
def test_a_missing_part_is_named(parts: Path, tmp_path: Path, missing: str) -> None:
    folders = {name: parts / name for name in ("vision", "language", "pointing")} | {missing: tmp_path / "nothing"}
    with pytest.raises(CheckpointError, match="nothing"):
        assemble(folders["vision"], folders["language"], folders["pointing"], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_training_without_scenes_or_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 scenes"):
        train_planner(tmp_path, scenes=0)
    with pytest.raises(ValueError, match=r"0\.0 min"):
        train_planner(tmp_path, minutes=0.0)
