"""A LeRobot policy as a function from a request to rows of actions.

Everything is done by LeRobot's own classes, as its ``lerobot-record`` and ``lerobot-eval`` do it: the policy from
``config.json`` and ``model.safetensors``, normalisation and tokens by the processors beside them
(``policy_preprocessor.json``, ``policy_postprocessor.json``). What LeRobot passes over in silence is an error here:
weights that are missing, and features whose statistics are (they would go in and out as they are).
"""

from __future__ import annotations

from typing import Any

import numpy as np

CHECKED = ("act", "diffusion", "smolvla", "pi0")
"""Kinds of policies that tests have run; others of LeRobot's are served in the same way."""
_EMPTY_CAMERA = "observation.images.empty_camera"
_STATE, _ACTION, _PROMPT = "observation.state", "action", "prompt"


class ServedError(Exception):
    """A policy that cannot be served, or a request that cannot be answered; its text is for the other side."""


class ServedPolicy:
    """A policy with its processors.

    Attributes:
        kind: LeRobot's name of its class, such as ``act``.
        images: key of a request to (H, W).
        state_width, action_width: columns.
        rows: of a chunk.
        normalisation: feature to LeRobot's mode, such as ``MEAN_STD``.
    """

    def __init__(self, source: str, device: str | None = None) -> None:
        """Load a policy.

        Args:
            source: folder that LeRobot's ``save_pretrained`` wrote, or a name at the Hugging Face hub.
            device: torch's name of where it runs; by default what its configuration says, or what there is.

        Raises:
            ServedError: the policy is of a kind that gives no chunks, or lacks statistics.
        """
        from lerobot.configs.policies import PreTrainedConfig

        # The factory knows all kinds of policies; without it a configuration cannot tell which one it is.
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        config = PreTrainedConfig.from_pretrained(source)
        if device is not None:
            config.device = device
        self.kind: str = config.type
        self.rows = _rows(config)
        self._policy = get_policy_class(config.type).from_pretrained(source, config=config, strict=True)
        self._policy.eval()
        placed = {"device_processor": {"device": config.device}}
        self._before, self._after = make_pre_post_processors(
            config, pretrained_path=source, preprocessor_overrides=placed
        )
        self._config = config
        features = config.input_features
        # A processor may rename what a robot sends to what the policy was made with.
        renamed = {new: old for s in self._before.steps for old, new in (getattr(s, "rename_map", None) or {}).items()}
        self.images: dict[str, tuple[int, int]] = {
            renamed.get(key, key): (int(feature.shape[-2]), int(feature.shape[-1]))
            for key, feature in config.image_features.items()
            if not key.startswith(_EMPTY_CAMERA)
        }
        others = set(features) - set(config.image_features) - {_STATE}
        if others or _STATE not in features or _ACTION not in config.output_features:
            raise ServedError(
                f"it wants {', '.join(sorted(features))} and gives {', '.join(sorted(config.output_features))}, where "
                f"images and {_STATE} for {_ACTION} can be served"
            )
        self.state_key = renamed.get(_STATE, _STATE)
        self.state_width = int(features[_STATE].shape[0])
        self.action_width = int(config.output_features[_ACTION].shape[0])
        self.normalisation = self._normalisation()

    @property
    def lerobot(self) -> str:
        """LeRobot's version."""
        import lerobot

        return str(getattr(lerobot, "__version__", "of an unknown version"))

    def _normalisation(self) -> dict[str, str]:
        """Each feature's mode, from the processors that are really run.

        Raises:
            ServedError: a feature that is to be normalised has no statistics, or the actions are not restored.
        """
        modes: dict[str, str] = {}
        for steps, output in ((self._before.steps, False), (self._after.steps, True)):
            for step in steps:
                norm_map, stats = getattr(step, "norm_map", None), getattr(step, "stats", None)
                if norm_map is None:
                    continue
                for key, feature in step.features.items():
                    if (key == _ACTION) != output:
                        continue
                    mode = getattr(norm_map.get(feature.type), "name", "IDENTITY")
                    if mode != "IDENTITY" and not (stats or {}).get(key):
                        raise ServedError(
                            f"its processors have no statistics of '{key}' to normalise it by {mode}; save them with "
                            "the policy (make_pre_post_processors with dataset_stats, then save_pretrained of both)"
                        )
                    modes[key] = mode
        wanted = getattr(self._config.normalization_mapping.get("ACTION"), "name", "IDENTITY")
        if wanted != "IDENTITY" and _ACTION not in modes:
            raise ServedError(f"its postprocessor does not restore actions that were normalised by {wanted}")
        return modes

    def chunk(self, request: dict[str, Any]) -> np.ndarray[Any, Any]:
        """The actions of a request, (rows, columns) float32, physical.

        One observation is all there is: a policy that wants the last few sees this one repeated, as LeRobot begins an
        episode.

        Raises:
            ServedError: the request lacks something or has another shape, or the policy gives no numbers.
        """
        import torch

        seen: dict[str, Any] = {}
        for key, size in self.images.items():
            picture = _array(request, key, (*size, 3), "u")
            seen[key] = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float().div(255.0)[None]
        state = _array(request, self.state_key, (self.state_width,), "iuf").astype(np.float32)
        if not np.isfinite(state).all():
            raise ServedError(f"request, '{self.state_key}' is not finite")
        seen[self.state_key] = torch.from_numpy(state)[None]
        prompt = request.get(_PROMPT, "")
        if not isinstance(prompt, str):
            raise ServedError(f"request, '{_PROMPT}' is a {type(prompt).__name__}; send text")
        seen["task"] = prompt
        seed = [request.get(name, 0) for name in ("seed", "call")]
        if not all(isinstance(n, (int, np.integer)) and 0 <= n < 2**40 for n in seed):
            raise ServedError("request, 'seed' and 'call' are whole numbers from 0")
        torch.manual_seed(int(seed[0]) * 1_000_003 + int(seed[1]))
        with torch.inference_mode():
            self._policy.reset()
            batch = self._before(seen)
            # The first call thinks, the others take the next row from LeRobot's queue.
            rows = [self._after(self._policy.select_action(dict(batch))) for _ in range(self.rows)]
            actions: np.ndarray[Any, Any] = torch.cat([row.reshape(1, -1) for row in rows]).float().cpu().numpy()
        if actions.shape != (self.rows, self.action_width) or not np.isfinite(actions).all():
            raise ServedError(f"the policy gave actions of shape {actions.shape}, or that are not finite")
        return actions


def _rows(config: Any) -> int:
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        raise ServedError(
            "it averages over the chunks of every single step (temporal_ensemble_coeff), which needs an answer a step; "
            "set temporal_ensemble_coeff to null and n_action_steps to chunk_size in its config.json"
        )
    rows = getattr(config, "n_action_steps", None)
    if not isinstance(rows, int) or rows < 1:
        raise ServedError(f"a policy of the kind '{config.type}' gives no chunks of actions (n_action_steps is {rows})")
    return rows


def _array(request: dict[str, Any], key: str, shape: tuple[int, ...], kinds: str) -> np.ndarray[Any, Any]:
    value = request.get(key)
    if not isinstance(value, np.ndarray):
        there = ", ".join(sorted(str(k) for k in request)[:20]) or "nothing"
        raise ServedError(f"request, '{key}' is missing or no array; there are {there}")
    if value.dtype.kind not in kinds or (kinds == "u" and value.dtype != np.uint8) or value.shape != shape:
        wanted = "uint8" if kinds == "u" else "numbers"
        raise ServedError(f"request, '{key}' is {value.dtype} {value.shape}, where {wanted} {shape} are expected")
    return value
