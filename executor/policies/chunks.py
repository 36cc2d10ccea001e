"""What all families of policies have in common: from observation to chunk, memory within an attempt, weights."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hiervla.executor.policies.base import HOVER_M, MissingTargetError, target_point
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
from hiervla.executor.policies.network import POSITIVE, ChunkNet, NetworkSpec
from hiervla.executor.policies.words import words_of
from hiervla.representations import ActionChunk, Observation, Step
from hiervla.representations.errors import CheckpointError, UnknownNameError

FORMAT = 1
WEIGHTS = Path(__file__).parent / "weights"
BLANK_POINT_W = (0.48, 0.0, 0.0)
"""What every keypoint becomes with ``blank_artifact``: the middle of the table [m]."""

N = TypeVar("N", bound=ChunkNet)
Rows = NDArray[np.float64]
WithoutPoint = Literal["refuse", "hover"]


@dataclass(frozen=True)
class Past:
    """A chunk that was given earlier in the attempt.

    Attributes:
        observed_at_s: time of the observation that it answered [s].
        rows: (H, 6) as the network gave them; the frame is the same throughout an attempt.
    """

    observed_at_s: float
    rows: Rows

    def at(self, due_s: float, rate_hz: float) -> Rows | None:
        """(6,) what it says of a moment, between its rows; None before the first and after the last."""
        place = (due_s - self.observed_at_s) * rate_hz - 1.0
        last = len(self.rows) - 1
        if not -1e-6 <= place <= last + 1e-6:
            return None
        k = min(max(int(place + 1e-6), 0), last)
        share = min(max(place - k, 0.0), 1.0)
        return np.asarray((1.0 - share) * self.rows[k] + share * self.rows[min(k + 1, last)])


class ChunkPolicy(ABC, Generic[N]):
    """One network for all skills.

    Between the calls of an attempt it keeps the seed, their number, the chunks it gave, and where it first saw what it
    acts on. Families say how a chunk is drawn.
    """

    network_class: ClassVar[type[ChunkNet]]
    choices: ClassVar[tuple[str, ...]] = ()
    """Options of the family that a folder's config may set under `acting`."""

    def __init__(
        self,
        network: N,
        features: FeatureSpec | None = None,
        *,
        version: str = "",
        blank_artifact: bool = False,
        without_point: WithoutPoint = "refuse",
    ) -> None:
        """Wrap a network.

        Args:
            network: the weights.
            features: what the network was trained to see.
            version: id that the chunks carry.
            blank_artifact: ablation: hide where the planner points, and use the middle of the table instead.
            without_point: what to do in a step whose artifacts give no point: refuse it, or act on what lies under the
                tool at the start, which is where a transit that knew better has brought it.
        """
        self.network = network.eval()
        self.features = features or FeatureSpec()
        self.blank_artifact = blank_artifact
        self.without_point: WithoutPoint = without_point
        self._version = version or f"{network.family}-untrained"
        self.history: deque[Past] = deque(maxlen=4)
        self._seed = 0
        self._calls = 0
        self._frame: GraspFrame | None = None
        self._under_tool: NDArray[np.float64] | None = None

    @property
    def id(self) -> str:
        """Name and version."""
        return self._version + ("-blank" if self.blank_artifact else "")

    @abstractmethod
    def draw(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """A chunk (1, H, 6) in metres for a condition (1, context).

        Args:
            context: the encoded observation.
            generator: all chance comes from it.
            past: what the previous chunk says of this chunk's moments, rows that it does not reach left out; None at
                the start of an attempt.
        """

    def advised(self, context: Tensor, advantage: int = POSITIVE) -> Tensor:
        """A condition (1, context) with the advantage that the chunk shall have, where the network can be told."""
        return self.network.advised(context, torch.tensor([advantage]))

    def draw_good(self, context: Tensor, generator: torch.Generator, past: Past | None) -> Tensor:
        """Like :meth:`draw`, and told to be good where the network can be told."""
        return self.draw(self.advised(context), generator, past)

    def settle(self, rows: Rows, now_s: float) -> Rows:
        """The rows (H, 6) to give out, where that takes more than the newest chunk; :attr:`history` has the others."""
        return rows

    def reset(self, step: Step, seed: int) -> None:
        """Start a new attempt; the noise of its chunks follows from `seed` and their number.

        Raises:
            UnknownNameError: the policy was not trained for the step's skill.
        """
        self._skill(step)
        self._seed = seed
        self._calls = 0
        self._frame = None
        self._under_tool = None
        self.history.clear()

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next chunk; see :class:`hiervla.executor.policies.base.Policy`.

        Raises:
            MissingTargetError: the step carries no grounded keypoint, and the policy was not trained to do without.
            CameraError: a camera is missing or gives no depth.
            UnknownNameError: the policy was not trained for the step's skill.
        """
        target = self._target(observation, step)
        inputs = observe_features(observation, target, self.features)
        frame = None
        if step.skill in FRAMED:
            # Found once, before the hand comes near; afterwards the thing moves with the hand.
            if self._frame is None:
                self._frame = grasp_frame(observe_features(observation, target, self.features.finer()))
            frame = self._frame
            inputs = in_frame(inputs, frame)
        rows, done, progress = self.infer(inputs, self._skill(step), observation.time_s, words_of(step))
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
            policy=self.id,
        )

    def infer(self, inputs: PolicyInput, skill: int, now_s: float = 0.0, words: str = "") -> tuple[Rows, float, float]:
        """Rows (H, 6) float64 relative to the keypoint [m], probability of being done, progress."""
        generator = torch.Generator().manual_seed((self._seed * 1000003 + self._calls) % 2**63)
        self._calls += 1
        points = torch.from_numpy(inputs.points)[None]
        valid = torch.arange(points.shape[1])[None] < max(inputs.count, 1)
        with torch.no_grad():
            proprio, said = torch.from_numpy(inputs.proprio)[None], self.network.read([words])
            context = self.network.encode(points, valid, proprio, torch.tensor([skill]), said)
            drawn = self.draw_good(context, generator, self._overlap(now_s))[0].double().numpy()
            done, progress = torch.sigmoid(self.network.judge(context))[0].tolist()
        rows = self.settle(drawn, now_s)
        self.history.append(Past(now_s, drawn))
        return rows, done, progress

    def _overlap(self, now_s: float) -> Past | None:
        if not self.history:
            return None
        last, rate = self.history[-1], self.network.spec.rate_hz
        due = (now_s + (k + 1) / rate for k in range(self.network.spec.horizon))
        known = [row for t in due if (row := last.at(t, rate)) is not None]
        return Past(now_s, np.array(known)) if known else None

    def _target(self, observation: Observation, step: Step) -> NDArray[np.float64]:
        if self.blank_artifact:
            return np.array(BLANK_POINT_W)
        try:
            return target_point(step)
        except MissingTargetError:
            if self.without_point == "refuse":
                raise
        if self._under_tool is None:
            self._under_tool = observation.proprio.ee_position - (0.0, 0.0, HOVER_M[step.skill])
        return self._under_tool

    def _skill(self, step: Step) -> int:
        if step.skill not in self.network.spec.skills:
            raise UnknownNameError("skill", step.skill, self.network.spec.skills, f"policy {self.id}")
        return self.network.spec.skills.index(step.skill)

    @classmethod
    def load(cls, path: str | Path | None = None, **options: Any) -> Self:
        """Read a folder with `model.safetensors` and `config.json`; the shipped weights of the family by default.

        Args:
            path: the folder.
            options: as in the constructor; they go before what the folder's config says.

        Raises:
            CheckpointError: files are missing, unreadable, of another family, or do not fit each other.
        """
        family = cls.network_class.family
        folder = Path(path) if path is not None else WEIGHTS / family
        config = read_config(folder)
        file, remedy = (
            folder / "config.json",
            f"Fetch the folder again, or train it: hiervla train policy --family {family}",
        )
        if family_of(config) != family:
            problem = f"is of a policy of family '{family_of(config)}' and not '{family}'"
            raise CheckpointError(str(file), problem, "Load it by `load_policy`, which takes any family")
        try:
            network = cls.network_class(NetworkSpec.from_json(config["network"]), config.get("head"))
            spec = FeatureSpec.from_json(config["features"])
            version = str(config["version"])
            acting = {k: v for k, v in config.get("acting", {}).items() if k in (*cls.choices, "without_point")}
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            problem = f"does not describe a {family} policy ({error})"
            raise CheckpointError(str(file), problem, remedy) from error
        file = folder / "model.safetensors"
        try:
            tensors = load_file(file)
            network.load_state_dict({k: v.float() for k, v in tensors.items()})
        except (OSError, SafetensorError) as error:
            raise CheckpointError(str(file), f"cannot be read ({error})", remedy) from error
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise CheckpointError(str(file), f"does not fit config.json ({first})", remedy) from error
        return cls(network, spec, version=version, **(acting | options))  # type: ignore[arg-type]  # made by network_class

    def save(self, path: str | Path, *, half: bool = False, **extra: Any) -> None:
        """Write `model.safetensors` and `config.json` into a folder; `extra` goes into the config."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = torch.float16 if half else torch.float32
        tensors = {k: v.detach().to(dtype).contiguous() for k, v in self.network.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        config = {
            "format": FORMAT,
            "family": self.network.family,
            "version": self.id,
            "network": self.network.spec.to_json(),
            "head": self.network.head,
            "acting": {k: getattr(self, k) for k in (*self.choices, "without_point")},
            "features": asdict(self.features),
            **extra,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def family_of(config: dict[str, Any]) -> str:
    """The family that a folder's config names; folders of before there were several hold flow policies."""
    return str(config.get("family", "flow"))


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.

    Raises:
        CheckpointError: it cannot be read, or is of another format.
    """
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
