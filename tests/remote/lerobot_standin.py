"""A stand-in for LeRobot: the few names that our server calls, with a policy whose numbers can be worked out by hand.

In a process of its own, ``PYTHON lerobot_standin.py FOLDER`` runs our server's folder with these names in place.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections import deque
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

FEATURES: dict[str, tuple[str, tuple[int, ...]]] = {
    "observation.images.top": ("VISUAL", (3, 48, 64)),
    "observation.state": ("STATE", (8,)),
}
STATE_MEAN, STATE_STD, ACTION_MEAN, ACTION_STD = 0.5, 2.0, 0.1, 0.25


class Mode(Enum):
    """LeRobot's ``NormalizationMode``."""

    MEAN_STD = "MEAN_STD"
    IDENTITY = "IDENTITY"


class Normaliser:
    """LeRobot's step of that name, for the state (and for actions, backwards)."""

    def __init__(self, features: dict[str, Any], stats: dict[str, Any], inverse: bool) -> None:
        self.features, self.stats, self.inverse = features, stats, inverse
        self.norm_map = {"VISUAL": Mode.IDENTITY, "STATE": Mode.MEAN_STD, "ACTION": Mode.MEAN_STD}

    def __call__(self, value: Any) -> Any:
        if self.inverse:
            return value * self.stats["action"]["std"] + self.stats["action"]["mean"]
        s = self.stats["observation.state"]
        return {**value, "observation.state": (value["observation.state"] - s["mean"]) / s["std"]}


class Pipeline:
    """Steps one after another."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps

    def __call__(self, value: Any) -> Any:
        for step in self.steps:
            value = step(value)
        return value


class Rename:
    """LeRobot's step that renames what a robot sends."""

    def __init__(self, rename_map: dict[str, str]) -> None:
        self.rename_map = rename_map

    def __call__(self, value: Any) -> Any:
        return {self.rename_map.get(key, key): entry for key, entry in value.items()}


class Policy:
    """Row n of a chunk is the normalised state plus n, plus the mean of the picture, plus a random number.

    Attributes:
        thought: how many chunks were made.
    """

    def __init__(self, config: Any) -> None:
        self.config, self.thought = config, 0
        self._queue: deque[Any] = deque()

    @classmethod
    def from_pretrained(cls, source: str, config: Any, strict: bool) -> Policy:
        assert strict
        if not (Path(source) / "model.safetensors").is_file():
            raise FileNotFoundError(f"model.safetensors is not in {source}")
        return cls(config)

    def eval(self) -> Policy:
        return self

    def reset(self) -> None:
        self._queue.clear()

    def select_action(self, batch: dict[str, Any]) -> Any:
        # Not before: most tests of the process never think, and importing torch takes seconds.
        import torch

        if not self._queue:
            self.thought += 1
            picture = batch["observation.images.top"]
            assert picture.shape == (1, 3, 48, 64) and picture.dtype == torch.float32 and batch["task"]
            start = batch["observation.state"] + picture.mean() + torch.rand(1)
            self._queue.extend(start + n for n in range(self.config.n_action_steps))
        return self._queue.popleft()


def read_config(source: str) -> Any:
    """What ``PreTrainedConfig.from_pretrained`` gives."""
    print("LeRobot prints as it likes")
    told = json.loads((Path(source) / "config.json").read_text())
    features = {k: SimpleNamespace(type=t, shape=s) for k, (t, s) in (told.pop("features", None) or FEATURES).items()}
    return SimpleNamespace(
        **{"type": "act", "n_action_steps": 5, "device": "cpu", "stats": True, "rename": {}, **told},
        input_features=features,
        image_features={k: f for k, f in features.items() if f.type == "VISUAL"},
        output_features={"action": SimpleNamespace(type="ACTION", shape=(8,))},
        normalization_mapping={"ACTION": Mode.MEAN_STD},
    )


def processors(config: Any, pretrained_path: str, preprocessor_overrides: dict[str, Any]) -> tuple[Pipeline, Pipeline]:
    """What ``make_pre_post_processors`` gives."""
    assert preprocessor_overrides == {"device_processor": {"device": "cpu"}}
    stats = {
        "observation.state": {"mean": STATE_MEAN, "std": STATE_STD},
        "action": {"mean": ACTION_MEAN, "std": ACTION_STD},
    }
    features = {**config.input_features, **config.output_features}
    before = Normaliser(features, stats if config.stats else {}, inverse=False)
    return Pipeline(Rename(config.rename), before), Pipeline(Normaliser(config.output_features, stats, inverse=True))


def modules() -> dict[str, ModuleType]:
    """LeRobot's modules that our server imports."""
    made = {n: ModuleType(n) for n in ("lerobot", "lerobot.configs", "lerobot.policies")}
    configs, factory = ModuleType("lerobot.configs.policies"), ModuleType("lerobot.policies.factory")
    vars(made["lerobot"])["__version__"] = "0.0-standin"
    vars(configs)["PreTrainedConfig"] = SimpleNamespace(from_pretrained=read_config)
    vars(factory).update(get_policy_class=lambda kind: Policy, make_pre_post_processors=processors)
    return {**made, "lerobot.configs.policies": configs, "lerobot.policies.factory": factory}


def save(folder: Path, **config: Any) -> str:
    """A policy's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


if __name__ == "__main__":
    sys.modules.update(modules())
    runpy.run_path(sys.argv[1], run_name="__main__")
