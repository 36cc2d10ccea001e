"""Train the embedded planner from nothing, in one command: render, eyes, language, pointing, and put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

Progress = Callable[[Mapping[str, float]], None]

DEFAULT_MINUTES: Final = 150.0
_SHARES: Final = {"vision": 0.40, "language": 0.45, "pointing": 0.15}
HELD_OUT_SEED: Final = 1_000_000
"""Scenes from here on are for measuring; training scenes count from 0."""


def train_planner(
    out: Path,
    minutes: float | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    scenes: int = 10_000,
    held_out: int = 500,
) -> Path:
    """Make a planner checkpoint.

    Stages keep what they made in `out/stages` and are not repeated when the command is given again.

    Args:
        out: folder of the checkpoint.
        minutes: training time of all stages together, rendering not counted (it takes about 50 ms a scene).
        seed: of weights, order, tasks and augmentation.
        on_progress: is told which stage begins, as ``{"stage": k}``.
        scenes: pictures to render for training.
        held_out: pictures to render for measuring.

    Returns:
        `out`, ready for `--planner` or `EmbeddedPlanner(path=...)`.
    """
    from hiervla.training import planner_language
    from hiervla.training.planner_pointing import train_pointing
    from hiervla.training.planner_vision import train_vision
    from hiervla.training.render_scenes import render_shards

    budget = DEFAULT_MINUTES if minutes is None else minutes
    stages = out / "stages"
    images, test = stages / "scenes", stages / "held_out"
    vision, language, pointing = stages / "vision", stages / "language", stages / "pointing"

    def begin(stage: int) -> None:
        if on_progress is not None:
            on_progress({"stage": float(stage), "of": 4.0})

    begin(1)
    for _ in render_shards(test, held_out, HELD_OUT_SEED):
        pass
    for _ in render_shards(images, scenes):
        pass
    begin(2)
    if not (vision / "scores.json").exists():
        train_vision(images, test, vision, budget * _SHARES["vision"], seed=seed, min_scenes=1)
    begin(3)
    if not (language / "scores.json").exists():
        share = budget * _SHARES["language"]
        planner_language.main(["--out", str(language), "--minutes", f"{share:.2f}", "--seed", str(seed)])
    begin(4)
    if not (pointing / "scores.json").exists():
        hidden = int(json.loads((language / "config.json").read_text())["hidden_size"])
        train_pointing(
            images, test, vision / "vision.safetensors", pointing, budget * _SHARES["pointing"], hidden, seed=seed,
            language=language,
        )  # fmt: skip
    assemble(vision, language, pointing, out)
    return out


def assemble(vision: Path, language: Path, pointing: Path, out: Path, ask_language: bool = True) -> None:
    """Put trained parts together into one transformers checkpoint.

    Args:
        vision: folder with `vision.safetensors`.
        language: folder that `save_language` wrote.
        pointing: folder with `pointing.safetensors`.
        out: where the checkpoint goes.
        ask_language: whether the pointing head was trained with the language model's states.
    """
    from safetensors.torch import load_file

    from hiervla.planner.embedded.generation import load_language
    from hiervla.planner.embedded.modeling import HierVLAPlannerConfig, HierVLAPlannerForPlanning
    from hiervla.planner.embedded.processing import HierVLAPlannerImageProcessor, HierVLAPlannerProcessor
    from hiervla.planner.embedded.vision import VisionConfig

    speaker, tokenizer = load_language(language)
    vision_config = VisionConfig()
    config = HierVLAPlannerConfig(
        vision=vision_config.to_dict(), language=speaker.config.to_dict(), ask_language=ask_language
    )
    model = HierVLAPlannerForPlanning(config)
    model.vision.load_state_dict(load_file(vision / "vision.safetensors"))
    model.language.load_state_dict(speaker.state_dict())
    model.pointing.load_state_dict(load_file(pointing / "pointing.safetensors"))
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    images = HierVLAPlannerImageProcessor(vision_config.height, vision_config.width)
    HierVLAPlannerProcessor(images, tokenizer).save_pretrained(out)
    scores: dict[str, Any] = {}
    for name, folder in (("vision", vision), ("language", language), ("pointing", pointing)):
        if (folder / "scores.json").exists():
            scores[name] = json.loads((folder / "scores.json").read_text())
    (out / "scores.json").write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Put trained parts of the planner together.")
    parser.add_argument("--vision", type=Path, default=Path(".work/planner_vision"))
    parser.add_argument("--language", type=Path, default=Path(".work/planner_lm"))
    parser.add_argument("--pointing", type=Path, default=Path(".work/planner_pointing"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without-language-states", action="store_true")
    options = parser.parse_args()
    assemble(
        options.vision, options.language, options.pointing, options.out,
        ask_language=not options.without_language_states,
    )  # fmt: skip
