"""Episodes, frames and what their columns mean: the one form in which all datasets are read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hiervla.training.data.errors import EpisodeError
from hiervla.training.data.images import ImageColumn

ACTION = "action"
IMAGE_PREFIX = "observation.images."
"""A camera's column is this and the camera's name, as in LeRobot."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Feature:
    """One column of a dataset.

    Attributes:
        name: as in LeRobot: ``"observation.state"``, ``"observation.images.front"``, ``"action"``; no slashes.
        dtype: numpy name of the elements; ``"uint8"`` for images.
        shape: of one frame; ``(H, W, 3)`` for images, ``(1,)`` for scalars.
        names: of the elements of a vector; empty where they are not known.
        meaning: what it is, with unit and frame; empty where that is not known.
        image: whether it is a camera's.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    meaning: str = ""
    image: bool = False


@dataclass(frozen=True)
class ActionMeaning:
    """What the numbers of ``action`` are.

    Attributes:
        space: ``joint_position`` targets [rad], ``joint_velocity`` [rad/s], ``ee_pose`` targets [m, rad], ``ee_delta``:
            a change of the end effector's pose, ``ee_velocity``, or ``unknown``.
        frame: in which an end-effector action is expressed.
        gripper: last element: ``width_m`` between the fingers, ``open_1`` (0 closed, 1 open), ``closed_1`` (0 open, 1
            closed), ``closed_1_signed`` (-1 open, 1 closed), ``none``, or ``unknown``.
        normalised: whether a controller still has to scale it, as robosuite's does.
        text: the rest, in words.
    """

    space: Literal["joint_position", "joint_velocity", "ee_pose", "ee_delta", "ee_velocity", "unknown"] = "unknown"
    frame: Literal["world", "base", "ee", "keypoint", "unknown"] = "unknown"
    gripper: Literal["width_m", "open_1", "closed_1", "closed_1_signed", "none", "unknown"] = "unknown"
    normalised: bool = False
    text: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset says of itself before any episode is read.

    Attributes:
        format: ``"lerobot-v3"``, ``"rlds"``, ``"robomimic"``, ``"libero"``, ``"hiervla-run"`` or ``"hiervla-demos"``.
        features: its columns, cameras last.
        action: what ``action`` means.
        fps: frames a second; None where the format does not tell.
        robot: as the dataset calls it.
        declared: number of episodes that it says it has; None where it does not.
        extra: facts of ours that travel along, JSON values only.
    """

    format: str
    features: tuple[Feature, ...]
    action: ActionMeaning = ActionMeaning()
    fps: float | None = None
    robot: str = "unknown"
    declared: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def feature(self, name: str) -> Feature:
        """The column of that name.

        Raises:
            KeyError: there is none.
        """
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"no feature '{name}'; there are {[f.name for f in self.features]}")


Role = Literal["user", "assistant"]
Style = Literal["subtask", "plan", "memory", "motion", "task_aug", "interjection", "vqa", "trace"]


@dataclass(frozen=True)
class Utterance:
    """A piece of language that belongs to a moment of an episode; the styles are LeRobot's.

    Attributes:
        time_s: since the episode's first frame [s].
        content: the words; JSON for answers about pixels.
        style: those in :data:`PERSISTENT` hold until replaced, the others are events.
        role: ``user`` or ``assistant``.
        camera: the image column that ``vqa`` and ``trace`` speak of; None for the other styles.
    """

    time_s: float
    content: str
    style: Style
    role: Role = "assistant"
    camera: str | None = None


PERSISTENT: frozenset[str] = frozenset({"subtask", "plan", "memory", "motion", "task_aug"})


@dataclass(frozen=True)
class Frame:
    """One moment.

    Attributes:
        index: in its episode, from 0.
        time_s: since the episode's first frame [s]; None where the dataset has no rate.
        values: numeric columns other than ``action``, each of its feature's shape.
        action: (A,) what was commanded from here on; see the dataset's :class:`ActionMeaning`.
        images: (H, W, 3) uint8 by column name.
        instruction: what was asked.
        subtask: the step at hand, in words; empty where there is none.
    """

    index: int
    time_s: float | None
    values: Mapping[str, Array]
    action: Array
    images: Mapping[str, NDArray[np.uint8]]
    instruction: str
    subtask: str = ""


@dataclass(frozen=True)
class Episode:
    """A whole demonstration. Numbers lie in memory, images are decoded when they are asked for.

    Attributes:
        source: the file and the place in it.
        instruction: what was asked.
        columns: (N, ...) arrays by name, ``action`` among them; read-only.
        images: images by column name, N each.
        subtasks: N words, or empty.
        language: in order of time.
        fps: frames a second, if known.
        success: if known.
        facts: what else the dataset says of the episode.

    Raises:
        EpisodeError: no frame, no action, an action that is not finite, or columns of different lengths.
    """

    source: str
    instruction: str
    columns: Mapping[str, Array]
    images: Mapping[str, ImageColumn] = field(default_factory=dict)
    subtasks: tuple[str, ...] = ()
    language: tuple[Utterance, ...] = ()
    fps: float | None = None
    success: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if ACTION not in self.columns:
            raise EpisodeError(self.source, "it has no action")
        frozen = {}
        for name, column in self.columns.items():
            # A view: the caller's own array stays as it is.
            view = np.asarray(column)[:]
            view.flags.writeable = False
            frozen[name] = view
        object.__setattr__(self, "columns", MappingProxyType(frozen))
        object.__setattr__(self, "images", MappingProxyType(dict(self.images)))
        lengths = {name: len(c) for name, c in [*self.columns.items(), *self.images.items()]}
        if self.subtasks:
            lengths["subtask"] = len(self.subtasks)
        if len(set(lengths.values())) > 1:
            raise EpisodeError(self.source, f"its columns have different lengths: {lengths}")
        if len(self) == 0:
            raise EpisodeError(self.source, "it has no frames")
        bad = ~np.isfinite(self.columns[ACTION]).reshape(len(self), -1).all(axis=1)
        if bad.any():
            raise EpisodeError(self.source, f"the action of frame {int(np.flatnonzero(bad)[0])} is NaN or infinite")

    def __len__(self) -> int:
        return len(self.columns[ACTION])

    @property
    def duration_s(self) -> float | None:
        """Length [s], if the rate is known."""
        return None if self.fps is None else len(self) / self.fps

    def frames(self) -> Iterator[Frame]:
        """Frame after frame; only one frame's images are decoded at a time."""
        streams = {name: iter(column) for name, column in self.images.items()}
        for i in range(len(self)):
            yield Frame(
                index=i,
                time_s=None if self.fps is None else i / self.fps,
                values={n: c[i] for n, c in self.columns.items() if n != ACTION},
                action=self.columns[ACTION][i],
                images={n: next(s) for n, s in streams.items()},
                instruction=self.instruction,
                subtask=self.subtasks[i] if self.subtasks else "",
            )

    def require(self, spec: DatasetSpec) -> None:
        """Check that the columns are those of a dataset.

        Raises:
            EpisodeError: a column is missing, or has another shape or type.
        """
        for feature in spec.features:
            if feature.image:
                if feature.name not in self.images:
                    raise EpisodeError(self.source, f"it lacks the camera '{feature.name}'")
                shape: tuple[int, ...] = self.images[feature.name].shape
                dtype = "uint8"
            else:
                if feature.name not in self.columns:
                    raise EpisodeError(self.source, f"it lacks the column '{feature.name}'")
                shape, dtype = self.columns[feature.name].shape[1:], str(self.columns[feature.name].dtype)
            if shape != feature.shape or dtype != feature.dtype:
                found, wanted = f"{dtype} {shape}", f"{feature.dtype} {feature.shape}"
                raise EpisodeError(self.source, f"its '{feature.name}' is {found}, not {wanted}")


@dataclass(frozen=True)
class Skip:
    """An episode that was left out.

    Attributes:
        place: file and episode.
        reason: why, in words.
        episodes: how many, where a file's end is missing.
    """

    place: str
    reason: str
    episodes: int = 1

    def to_json(self) -> dict[str, str | int]:
        """Plain JSON values."""
        return {"place": self.place, "reason": self.reason, "episodes": self.episodes}


@runtime_checkable
class Source(Protocol):
    """A dataset opened for reading."""

    @property
    def spec(self) -> DatasetSpec:
        """What the dataset says of itself."""
        ...

    @property
    def skipped(self) -> list[Skip]:
        """What the last pass over :meth:`episodes` left out, so far."""
        ...

    def episodes(self) -> Iterator[Episode]:
        """Every whole episode, one at a time. Each was checked before it is given out, images included.

        Raises:
            DatasetError: the dataset as a whole cannot be read; a bad episode raises nothing, it is skipped.
        """
        ...
