"""Small planners with random weights, and random scenes in slots: what planner tests are made from."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hiervla.planner.embedded.configuration import LanguageConfig
from hiervla.planner.embedded.language import PlannerLanguage
from hiervla.planner.embedded.modeling import HierVLAPlannerConfig, HierVLAPlannerForPlanning
from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, LOOSE, SceneSlots, one_hot_slots
from hiervla.planner.embedded.tokenizer import train_tokenizer
from hiervla.representations import SkillSignature
from hiervla.skills import SkillLibrary

VISION: dict[str, Any] = {"height": 48, "width": 64, "widths": (8, 8, 16, 16), "out": 12, "heads": 2, "layers": 1}
PLACES = {"table": 0.5, "top_shelf": 0.10, "bottom_shelf": 0.25, "gripper": 0.5}


@lru_cache(maxsize=1)
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with few words of its own."""
    return train_tokenizer([" put the red mug on the top shelf", " pick blue block from table ok"] * 3)


@lru_cache(maxsize=1)
def signatures() -> tuple[SkillSignature, ...]:
    """The installed skills; the built-in ones are among them."""
    return SkillLibrary.load().signatures()


def language_config(**changes: Any) -> LanguageConfig:
    """Sizes that a test can afford."""
    words = tokenizer()
    first = words.convert_tokens_to_ids("o0")
    assert isinstance(first, int)
    fields: dict[str, Any] = {
        "vocab_size": len(words), "hidden_size": 32, "num_layers": 2, "num_heads": 2, "slot_token_id": first,
        "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id,
    }  # fmt: skip
    return LanguageConfig(**{**fields, **changes})


def language(seed: int) -> PlannerLanguage:
    """A language part that knows nothing."""
    torch.manual_seed(seed)
    return PlannerLanguage(language_config()).eval()


class Talker(PlannerLanguage):
    """Random weights that rather plan than refuse, and rather stop than ramble."""

    def logits(self, hidden: Tensor, slot_keys: Tensor, slot_mask: Tensor) -> Tensor:
        """Token scores with a nudge."""
        scores = super().logits(hidden, slot_keys, slot_mask).clone()
        for text, nudge in {'{"done":[],"remaining":[': 1e3, '{"done":["': 1e3, '"}]}': 3.0, "]}": -1e3}.items():
            token = tokenizer().convert_tokens_to_ids(text)
            assert isinstance(token, int)
            scores[..., token] += nudge
        return scores


def talker(seed: int) -> PlannerLanguage:
    """A language part that knows nothing, but has a plan."""
    torch.manual_seed(seed)
    return Talker(language_config()).eval()


def planner(seed: int) -> HierVLAPlannerForPlanning:
    """A whole planner that knows nothing, but takes many places for things; batch statistics are random too."""
    torch.manual_seed(seed)
    model = HierVLAPlannerForPlanning(HierVLAPlannerConfig(vision=VISION, language=language_config().to_dict()))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.02, 0.1)
    bias = model.vision.dense.bias
    assert bias is not None
    with torch.no_grad():
        bias[: len(CATEGORIES)] = -0.5
    model.train(False)
    return model


def scene(rng: np.random.Generator, with_furniture: bool = True) -> SceneSlots:
    """A random scene, from nothing at all to seven loose things."""
    things: list[tuple[str, str, str, float, float]] = []
    places = list(PLACES)
    for _ in range(int(rng.integers(0, 8))):
        kind, colour = str(rng.choice(LOOSE)), str(rng.choice(COLOURS[1:]))
        where = str(rng.choice(places, p=(0.7, 0.15, 0.1, 0.05)))
        u, v = PLACES[where] + float(rng.uniform(-0.1, 0.1)), float(rng.uniform(0.3, 0.7))
        things.append((kind, colour, where, u, v))
    if with_furniture:
        state = "open" if rng.random() < 0.4 else "closed"
        things += [("bin", "none", "none", 0.77, 0.34), ("drawer", "none", state, 0.77, 0.51)]
        things += [("top_shelf", "none", "none", 0.11, 0.33), ("bottom_shelf", "none", "none", 0.26, 0.42)]
        if rng.random() < 0.5:
            things.append(("spill", "none", "table", float(rng.uniform(0.4, 0.6)), 0.6))
    return one_hot_slots(sorted(things, key=lambda t: t[3]))
