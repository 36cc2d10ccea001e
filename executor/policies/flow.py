"""The default policy: flow matching over action chunks, conditioned on points around the planner's keypoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hiervla.executor.policies.base import target_point
from hiervla.executor.policies.features import (
    FRAMED,
    FeatureSpec,
    GraspFrame,
    PolicyInput,
    from_frame,
    grasp_frame,
    in_frame,
    observe_features,
)
from hiervla.executor.policies.network import ACTION_DIM, FlowNet, NetworkSpec
from hiervla.representations import ActionChunk, Observation, Step
from hiervla.representations.errors import CheckpointError, UnknownNameError

FORMAT = 1
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "flow"
BLANK_POINT_W = (0.48, 0.0, 0.0)
"""What every keypoint becomes with ``blank_artifact``: the middle of the table [m]."""


class FlowPolicy:
    """One network for all skills.

    Between the calls of an attempt it keeps the seed, their number, and where it first saw the thing to pick.
    """

    def __init__(
        self,
        network: FlowNet,
        features: FeatureSpec | None = None,
        *,
        version: str = "flow-untrained",
        steps: int = 5,
        noise: float = 0.3,
        blank_artifact: bool = False,
    ) -> None:
        """Wrap a network.

        Args:
            network: the weights.
            features: what the network was trained to see.
            version: id that the chunks carry.
            steps: Euler steps of the flow.
            noise: spread of the initial noise, 1 as in training, 0 for the flow from the origin.
            blank_artifact: ablation: hide where the planner points, and use the middle of the table instead.
        """
        self.network = network.eval()
        self.features = features or FeatureSpec()
        self.steps = steps
        self.noise = noise
        self.blank_artifact = blank_artifact
        self._id = version + ("-blank" if blank_artifact else "")
        self._seed = 0
        self._calls = 0
        self._frame: GraspFrame | None = None

    @property
    def id(self) -> str:
        """Name and version."""
        return self._id

    def reset(self, step: Step, seed: int) -> None:
        """Start a new attempt; the noise of its chunks follows from `seed` and their number.

        Raises:
            UnknownNameError: the policy was not trained for the step's skill.
        """
        self._skill(step)
        self._seed = seed
        self._calls = 0
        self._frame = None

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next chunk; see :class:`hiervla.executor.policies.base.Policy`.

        Raises:
            MissingTargetError: the step carries no grounded keypoint.
            CameraError: a camera is missing or gives no depth.
            UnknownNameError: the policy was not trained for the step's skill.
        """
        target = np.array(BLANK_POINT_W) if self.blank_artifact else target_point(step)
        inputs = observe_features(observation, target, self.features)
        frame = None
        if step.skill in FRAMED:
            # Found once, before the hand comes near; afterwards the thing moves with the hand.
            if self._frame is None:
                self._frame = grasp_frame(observe_features(observation, target, self.features.finer()))
            frame = self._frame
            inputs = in_frame(inputs, frame)
        rows, done, progress = self.infer(inputs, self._skill(step))
        if frame is not None:
            rows = from_frame(rows, frame)
        return ActionChunk(
            positions=rows[:, :3] + target,
            yaws=0.5 * np.arctan2(rows[:, 3], rows[:, 4]),
            gripper=np.clip(rows[:, 5], 0.0, 1.0),
            rate_hz=self.network.spec.rate_hz,
            observed_at_s=observation.time_s,
            done_prob=done,
            progress=progress,
            policy=self._id,
        )

    def infer(self, inputs: PolicyInput, skill: int) -> tuple[np.ndarray[Any, Any], float, float]:
        """Rows (H, 6) float64 relative to the keypoint [m], probability of being done, progress."""
        spec = self.network.spec
        generator = torch.Generator().manual_seed((self._seed * 1000003 + self._calls) % 2**63)
        self._calls += 1
        noise = self.noise * torch.randn(1, spec.horizon, ACTION_DIM, generator=generator)
        points = torch.from_numpy(inputs.points)[None]
        valid = torch.arange(points.shape[1])[None] < max(inputs.count, 1)
        with torch.inference_mode():
            context = self.network.encode(points, valid, torch.from_numpy(inputs.proprio)[None], torch.tensor([skill]))
            rows = self.network.sample(context, noise, self.steps)[0]
            done, progress = torch.sigmoid(self.network.judge(context))[0].tolist()
        return rows.double().numpy(), done, progress

    def _skill(self, step: Step) -> int:
        if step.skill not in self.network.spec.skills:
            raise UnknownNameError("skill", step.skill, self.network.spec.skills, f"policy {self._id}")
        return self.network.spec.skills.index(step.skill)

    @classmethod
    def load(cls, path: str | Path | None = None, **options: Any) -> FlowPolicy:
        """Read a folder with `model.safetensors` and `config.json`; the shipped weights by default.

        Args:
            path: the folder.
            options: `steps`, `noise`, `blank_artifact` as in the constructor.

        Raises:
            CheckpointError: files are missing, unreadable, or do not fit each other.
        """
        folder = Path(path) if path is not None else DEFAULT_WEIGHTS
        config = _read_config(folder)
        remedy = "Fetch the folder again, or train it: hiervla train policy"
        try:
            network = FlowNet(NetworkSpec.from_json(config["network"]))
            spec = FeatureSpec.from_json(config["features"])
            version = str(config["version"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            problem = f"does not describe a flow policy ({error})"
            raise CheckpointError(str(folder / "config.json"), problem, remedy) from error
        file = folder / "model.safetensors"
        try:
            tensors = load_file(file)
            network.load_state_dict({k: v.float() for k, v in tensors.items()})
        except (OSError, SafetensorError) as error:
            raise CheckpointError(str(file), f"cannot be read ({error})", remedy) from error
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise CheckpointError(str(file), f"does not fit config.json ({first})", remedy) from error
        return cls(network, spec, version=version, **options)

    def save(self, path: str | Path, *, half: bool = False, **extra: Any) -> None:
        """Write `model.safetensors` and `config.json` into a folder; `extra` goes into the config."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = torch.float16 if half else torch.float32
        tensors = {k: v.detach().to(dtype).contiguous() for k, v in self.network.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        config = {
            "format": FORMAT,
            "version": self._id,
            "network": self.network.spec.to_json(),
            "features": asdict(self.features),
            **extra,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    remedy = "Name a folder that `hiervla train policy` wrote"
    try:
        config = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(str(file), f"cannot be read ({error})", remedy) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise CheckpointError(str(file), f"has format {found}, this version reads {FORMAT}", remedy)
    return config
