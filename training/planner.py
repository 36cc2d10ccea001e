"""Train the whole planner, from random scenes to the folder that ships: `python -m hiervla.training.planner`.

Five stages, each of which is skipped when its result lies in the work folder already: render labelled scenes, train
the eyes on them, train the language model on symbolic tasks, train the pointing head on the finished eyes, train it
on for a little while with the language model's state. Then the parts become one checkpoint in transformers form.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hiervla.representations.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from hiervla.planner.embedded.language import PlannerLanguage

WIDTH: Final = 128
"""Width of the language model that ships."""
HELD_OUT_SEED: Final = 1_000_000
HELD_OUT: Final = 500
_SHARES: Final = {"vision": 50.0, "language": 75.0, "pointing": 12.0, "together": 4.0}
"""Minutes of each stage on one core, as the checkpoint that ships was trained."""

Progress = Callable[[Mapping[str, float]], None]


def assemble(vision: Path, language: Path, pointing: Path, out: Path, with_language: bool = True) -> Path:
    """Put trained parts together into the folder that `EmbeddedPlanner` reads.

    Args:
        vision: folder with `vision.safetensors` and `vision.json`.
        language: folder of the language model: what `save_language` wrote, or a run that is not over (`last.pt`).
        pointing: folder with `pointing.safetensors`.
        out: where `config.json`, `model.safetensors` and the tokenizer go.
        with_language: whether the pointing head has learned to read the language model's state. If not, that input
            of it was never trained and is closed.

    Returns:
        `out`.

    Raises:
        CheckpointError: a part is missing, cannot be read, or does not fit the others.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from hiervla.planner.embedded.modeling import HierVLAPlannerConfig, HierVLAPlannerForPlanning

    model_of_language, tokenizer = _language(language)
    try:
        sizes = json.loads((vision / "vision.json").read_text())
        config = HierVLAPlannerConfig(vision=sizes, language=model_of_language.config.to_dict())
        model = HierVLAPlannerForPlanning(config)
        model.vision.load_state_dict(load_file(vision / "vision.safetensors"))
        model.language.load_state_dict(model_of_language.state_dict())
        model.pointing.load_state_dict(load_file(pointing / "pointing.safetensors"))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        remedy = "Run the stage that makes it, `python -m hiervla.training.planner`"
        raise CheckpointError(f"{vision}, {pointing}", str(error).splitlines()[0], remedy) from error
    if not with_language:
        with torch.no_grad():
            for p in model.pointing.language[1].parameters():
                p.zero_()
    out.mkdir(parents=True, exist_ok=True)
    model.eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    for path in out.iterdir():
        if path.is_file():
            path.chmod(0o644)
    return out


def _language(folder: Path) -> tuple[PlannerLanguage, PreTrainedTokenizerFast]:
    """The language model and its tokenizer, from a finished run or from one that still goes on."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from hiervla.planner.embedded.configuration import LanguageConfig
    from hiervla.planner.embedded.generation import WEIGHTS, load_language
    from hiervla.planner.embedded.language import PlannerLanguage

    if (folder / WEIGHTS).exists() or not (folder / "last.pt").exists():
        return load_language(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    state = torch.load(folder / "last.pt", weights_only=True)["model"]
    model = PlannerLanguage(
        LanguageConfig(
            vocab_size=len(tokenizer),
            slot_token_id=int(tokenizer.convert_tokens_to_ids("o0")),
            pad_token_id=int(tokenizer.pad_token_id),
            eos_token_id=int(tokenizer.eos_token_id),
        )
    )
    model.load_state_dict(state)
    return model.eval(), tokenizer


def train_planner(
    out: Path,
    *,
    work: Path | None = None,
    scenes: int = 9500,
    vision_minutes: float = _SHARES["vision"],
    language_minutes: float = _SHARES["language"],
    pointing_minutes: float = _SHARES["pointing"],
    together_minutes: float = _SHARES["together"],
    minutes: float | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Path:
    """All stages, one after the other; started again with the same `work` it goes on where it was.

    Finished stages, rendered shards and the language model's last checkpoint are kept. Eyes and pointing head begin
    their stage anew when they were cut off in the middle of it, because their learning rate follows the clock.

    Args:
        out: folder for the checkpoint.
        work: folder for scenes and parts; `work` in `out` by default.
        scenes: pictures to train on (about 0.25 MB each).
        vision_minutes: wall time for the eyes.
        language_minutes: wall time for the language model.
        pointing_minutes: wall time for the pointing head alone.
        together_minutes: wall time for the pointing head with the language model's state; 0 leaves that out.
        minutes: wall time for all training; replaces the four above, in the same proportions.
        seed: of weights, order and noise.
        on_progress: told the scores of each stage when it is over.

    Returns:
        `out`.

    Raises:
        ValueError: no scenes, or no time.
    """
    from hiervla.training.planner_language import main as train_language
    from hiervla.training.planner_pointing import train_pointing
    from hiervla.training.planner_vision import train_vision
    from hiervla.training.render_scenes import render_shards

    if minutes is not None:
        scale = minutes / sum(_SHARES.values())
        vision_minutes, language_minutes, pointing_minutes, together_minutes = (scale * m for m in _SHARES.values())
    if scenes < 1 or min(vision_minutes, language_minutes, pointing_minutes) <= 0:
        raise ValueError(f"{scenes} scenes, {vision_minutes} min: give every stage scenes and time")
    work = out / "work" if work is None else work
    tell = on_progress or (lambda _: None)
    pictures, held_out = work / "scenes", work / "scenes_held_out"
    for n, _ in enumerate(render_shards(pictures, scenes), start=1):
        tell({"shards": n})
    for _ in render_shards(held_out, min(HELD_OUT, scenes), HELD_OUT_SEED):
        pass

    vision, language = work / "vision", work / "language"
    if not _finished(vision):
        train_vision(pictures, held_out, vision, vision_minutes, seed=seed, min_scenes=scenes)
    _report(tell, "vision", vision, ("recall", "fully_right", "perfect_scenes"))

    if not _finished(language):
        budget = ["--minutes", str(language_minutes), "--seed", str(seed), "--width", str(WIDTH)]
        train_language(["--out", str(language), *budget])
    _report(tell, "language", language, ("held_out",))

    alone, together = work / "pointing", work / "pointing_together"
    eyes = vision / "vision.safetensors"
    if not _finished(alone):
        train_pointing(pictures, held_out, eyes, alone, pointing_minutes, WIDTH, seed=seed)
    _report(tell, "pointing", alone, ("all",))
    if together_minutes <= 0:
        return assemble(vision, language, alone, out, with_language=False)
    if not _finished(together):
        finetune(pictures, held_out, vision, language, alone, together, together_minutes, seed)
    _report(tell, "pointing together", together, ("all",))
    return assemble(vision, language, together, out)


def finetune(
    pictures: Path,
    held_out: Path,
    vision: Path,
    language: Path,
    pointing: Path,
    out: Path,
    minutes: float,
    seed: int = 0,
    max_shards: int | None = None,
) -> None:
    """Train a pointing head on, most of the time with the state of the language model as it writes the plan.

    What reads that state starts at zero, so that the head begins as good as it was without it.
    """
    import torch
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(pointing / "pointing.safetensors")
    weights["language.1.weight"] = torch.zeros_like(weights["language.1.weight"])
    start = out / "start.safetensors"
    save_file(weights, start)
    from hiervla.training.planner_pointing import train_pointing

    train_pointing(
        pictures, held_out, vision / "vision.safetensors", out, minutes, WIDTH, peak_rate=6e-4, seed=seed + 1,
        resume=start, max_shards=max_shards, language=language,
    )  # fmt: skip


def _finished(folder: Path) -> bool:
    return (folder / "scores.json").exists()


def _report(tell: Progress, stage: str, folder: Path, names: Sequence[str]) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    told = {}
    for name in names:
        value = scores[name]["all"] if isinstance(scores[name], dict) else scores[name]
        told[f"{stage} {name}"] = float(value)
    tell(told)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the whole planner; goes on where it was when started again.")
    parser.add_argument("--out", type=Path, default=Path("runs/planner"), help="folder for the checkpoint")
    parser.add_argument("--work", type=Path, help="folder for scenes and parts; `work` in --out by default")
    parser.add_argument("--scenes", type=int, default=9500)
    parser.add_argument("--vision-minutes", type=float, default=_SHARES["vision"])
    parser.add_argument("--language-minutes", type=float, default=_SHARES["language"])
    parser.add_argument("--pointing-minutes", type=float, default=_SHARES["pointing"])
    parser.add_argument("--together-minutes", type=float, default=_SHARES["together"])
    parser.add_argument("--minutes", type=float, help="for all training, instead of the four above")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    path = train_planner(
        options.out,
        work=options.work,
        scenes=options.scenes,
        vision_minutes=options.vision_minutes,
        language_minutes=options.language_minutes,
        pointing_minutes=options.pointing_minutes,
        together_minutes=options.together_minutes,
        minutes=options.minutes,
        seed=options.seed,
        on_progress=lambda p: print(", ".join(f"{k} {v:.4g}" for k, v in p.items()), file=sys.stderr, flush=True),
    )
    print(f"checkpoint: {path}")


if __name__ == "__main__":
    main()
