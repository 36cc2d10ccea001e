"""Reads robomimic and LIBERO demonstrations: one HDF5 file, or a folder of them, an episode at a time.

Layout (https://robomimic.github.io/docs/datasets/overview.html): group `data` with the attributes `env_args` (JSON)
and `total`; `data/demo_<n>` with the attribute `num_samples` and the sets `actions`, `states`, `rewards`, `dones`,
`obs/<name>`. LIBERO (arXiv 2306.03310) adds `problem_info` with the instruction, and stores its images as OpenGL
does, bottom row first, which `macros_image_convention` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.training.data.errors import DatasetError, EpisodeError, need
from hiervla.training.data.images import ArrayImages
from hiervla.training.data.types import ACTION, IMAGE_PREFIX, ActionMeaning, Array, DatasetSpec, Episode, Feature, Skip

_SETS = {"states": "sim_state", "rewards": "next.reward", "dones": "next.done", "robot_states": "robot_state"}
"""Sets beside `actions` and `obs`, and their columns' names."""


class Hdf5Source:
    """Demonstrations opened for reading; all files must have the columns of the first.

    Attributes:
        spec: its columns; `obs/x` is called `observation.x`, a camera `observation.images.x`.
        skipped: what the last pass left out.
    """

    def __init__(self, path: str | Path) -> None:
        """Look at the first demonstration of the first file that can be read.

        Raises:
            DatasetError: no file holds demonstrations.
            MissingDependencyError: h5py is not installed.
        """
        self._h5 = need("h5py", "reading robomimic and LIBERO demonstrations")
        self.path = Path(path)
        self.skipped: list[Skip] = []
        self._files = sorted(self.path.glob("**/*.hdf5")) if self.path.is_dir() else [self.path]
        problem = "there is no .hdf5 file"
        for file in self._files:
            try:
                with self._h5.File(file, "r") as opened:
                    self.spec = self._spec(opened["data"])
                return
            except (OSError, KeyError, ValueError, EpisodeError) as error:
                problem = f"{file.name} is not readable ({_words(error)})"
        raise DatasetError(path, f"holds no demonstrations: {problem}", "Name a robomimic or LIBERO file or folder")

    def _spec(self, data: Any) -> DatasetSpec:
        env = _json(data.attrs, "env_args")
        kwargs = env.get("env_kwargs", {}) if isinstance(env.get("env_kwargs"), dict) else {}
        names = _demos(data)
        if not names:
            raise EpisodeError(self.path, "group 'data' holds no demo")
        features = []
        for name in names:
            try:
                columns, images = self._read(data, name)
            except (OSError, KeyError, ValueError) as error:
                if name == names[-1]:
                    raise
                del error
                continue
            features = [Feature(k, str(c.dtype), c.shape[1:], _parts(k, c)) for k, c in columns.items()]
            features += [Feature(k, "uint8", i.shape, image=True) for k, i in images.items()]
            break
        fps = kwargs.get("control_freq")
        robots = kwargs.get("robots")
        robot = robots[0] if isinstance(robots, list) and robots else robots
        return DatasetSpec(
            "libero" if "problem_info" in data.attrs else "robomimic",
            tuple(features),
            _meaning(kwargs),
            float(fps) if isinstance(fps, int | float) and fps > 0 else None,
            str(robot or "unknown").lower(),
            len(names) if len(self._files) == 1 else None,
            {"env": str(env.get("env_name") or data.attrs.get("env_name", "")), "files": len(self._files)},
        )

    def episodes(self) -> Iterator[Episode]:
        """Every whole episode, in order; see :class:`hiervla.training.data.types.Source`."""
        self.skipped = []
        for file in self._files:
            try:
                opened = self._h5.File(file, "r")
            except OSError as error:
                self.skipped.append(Skip(file.name, f"cannot be opened ({_words(error)})"))
                continue
            with opened:
                if "data" not in opened:
                    self.skipped.append(Skip(file.name, "has no group 'data'"))
                    continue
                data = opened["data"]
                for name in _demos(data):
                    place = f"{file.name}, {name}"
                    try:
                        episode = self._episode(data, name, place)
                        episode.require(self.spec)
                    except EpisodeError as error:
                        self.skipped.append(Skip(place, error.problem))
                        continue
                    except (OSError, KeyError, ValueError, RuntimeError) as error:
                        self.skipped.append(Skip(place, f"cannot be read ({_words(error)})"))
                        continue
                    yield episode

    def _episode(self, data: Any, name: str, place: str) -> Episode:
        columns, images = self._read(data, name)
        told = data[name].attrs.get("num_samples")
        if told is not None and int(told) != len(columns[ACTION]):
            raise EpisodeError(place, f"has {len(columns[ACTION])} actions, and its num_samples is {int(told)}")
        facts = {k: _fact(v) for k, v in data[name].attrs.items() if k not in ("num_samples", "model_file")}
        done = columns.get("next.done")
        reward = columns.get("next.reward")
        success = None
        if done is not None or reward is not None:
            success = any(c is not None and bool((c > 0).any()) for c in (done, reward))
        return Episode(
            place, _instruction(data.attrs), columns, images, fps=self.spec.fps, success=success, facts=facts
        )

    @staticmethod
    def _read(data: Any, name: str) -> tuple[dict[str, Array], dict[str, ArrayImages]]:
        group = data[name]
        upside_down = _text(data.attrs.get("macros_image_convention", "")) == "opengl"
        columns: dict[str, Array] = {}
        images: dict[str, ArrayImages] = {}
        if "actions" not in group:
            raise EpisodeError(name, "it lacks 'actions'")
        for key, values in sorted(group["obs"].items()) if "obs" in group else ():
            if not isinstance(values.shape, tuple) or not hasattr(values, "dtype"):
                continue
            if values.dtype == np.uint8 and values.ndim == 4 and values.shape[3] == 3:
                pixels = values[()]
                images[IMAGE_PREFIX + key] = ArrayImages(pixels[:, ::-1] if upside_down else pixels, name)
            else:
                columns[f"observation.{key}"] = _vectors(values[()])
        for key, column in _SETS.items():
            if key in group:
                columns[column] = _vectors(group[key][()])
        columns[ACTION] = _vectors(group["actions"][()])
        return columns, images


def _demos(data: Any) -> list[str]:
    """Names of demonstrations by number; `demo_10` comes after `demo_9`."""
    names = [n for n in data if n.startswith("demo_") and n[5:].isdigit()]
    return sorted(names, key=lambda n: int(n[5:]))


def _vectors(values: Any) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"holds {array.dtype}, no numbers")
    return array[:, None] if array.ndim == 1 else array


def _parts(name: str, column: Array) -> tuple[str, ...]:
    short = name.rsplit(".", 1)[-1]
    return tuple(f"{short}_{i}" for i in range(column.shape[1])) if column.ndim == 2 and column.shape[1] <= 64 else ()


def _meaning(kwargs: Mapping[str, Any]) -> ActionMeaning:
    """The action of a robosuite controller, from the environment's arguments."""
    controllers = kwargs.get("controller_configs")
    if not isinstance(controllers, dict):
        return ActionMeaning()
    kind, delta = str(controllers.get("type", "")), bool(controllers.get("control_delta", True))
    text = f"robosuite controller {kind}; its output_max and input_max scale the numbers"
    if kind.startswith("OSC"):
        return ActionMeaning("ee_delta" if delta else "ee_pose", "base", "closed_1_signed", delta, text)
    if kind == "JOINT_POSITION" and not delta:
        return ActionMeaning("joint_position", "base", "closed_1_signed", False, text)
    if kind == "JOINT_VELOCITY":
        return ActionMeaning("joint_velocity", "base", "closed_1_signed", True, text)
    return ActionMeaning(gripper="closed_1_signed", normalised=True, text=text)


def _instruction(attrs: Mapping[str, Any]) -> str:
    said = _json(attrs, "problem_info").get("language_instruction", "")
    return ("".join(map(str, said)) if isinstance(said, list) else str(said)).strip().strip('"')


def _json(attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(attrs.get(name, "{}")))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _fact(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else _text(value)


def _words(error: Exception) -> str:
    text = error.problem if isinstance(error, EpisodeError) else str(error)
    return " ".join(text.split())[:160]
