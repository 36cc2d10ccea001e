"""`features.json` and `dataset_info.json` of tfds: which features there are, and under which keys they are stored.

tfds joins nested names with slashes, and stores a sequence of steps as one flat list a feature: `steps/action` of N
steps with 7 numbers is a list of 7 N. Sequences inside steps have another list with their lengths; no robot dataset
that we know has them in what a policy needs, so those features are left out and named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hiervla.training.data.errors import DatasetError


@dataclass(frozen=True)
class Leaf:
    """A stored feature.

    Attributes:
        key: in the Example, such as ``"steps/observation/image_0"``.
        kind: ``"number"``, ``"text"`` or ``"image"``.
        dtype: numpy name for numbers.
        shape: of one step, without the sequence's axis.
        stepwise: whether there is one a step.
        doc: what the dataset says of it.
    """

    key: str
    kind: Literal["number", "text", "image"]
    dtype: str
    shape: tuple[int, ...]
    stepwise: bool
    doc: str = ""


@dataclass(frozen=True)
class Shards:
    """The files of one split, with the number of records that each should hold (-1: not told)."""

    split: str
    files: tuple[tuple[Path, int], ...]


def read_features(path: Path) -> tuple[list[Leaf], list[str]]:
    """Stored features, and the keys of those that are not read.

    Raises:
        DatasetError: `features.json` is missing or malformed.
    """
    top = _json(path / "features.json", path)
    left: list[str] = []
    try:
        leaves = list(_walk(top, "", False, left))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(path, f"features.json is malformed ({error!r})", "Download it again") from error
    if not any(leaf.stepwise for leaf in leaves):
        raise DatasetError(path, "features.json has no sequence 'steps'", "Only RLDS datasets are read")
    return leaves, left


def _walk(node: Mapping[str, Any], key: str, stepwise: bool, left: list[str]) -> Iterator[Leaf]:
    doc = str(node.get("description") or "")
    if "featuresDict" in node:
        for name, child in sorted(node["featuresDict"]["features"].items()):
            yield from _walk(child, f"{key}/{name}" if key else name, stepwise, left)
    elif "sequence" in node:
        if stepwise or key != "steps":
            left.append(key)
        else:
            yield from _walk(node["sequence"]["feature"], key, True, left)
    elif "image" in node:
        yield Leaf(key, "image", "uint8", _shape(node["image"]), stepwise, doc)
    elif "text" in node:
        yield Leaf(key, "text", "str", (), stepwise, doc)
    elif "tensor" in node:
        tensor = node["tensor"]
        shape, dtype = _shape(tensor), str(tensor["dtype"])
        if tensor.get("encoding", "none") != "none" or min(shape, default=1) < 0:
            left.append(key)
        elif dtype in ("string", "object"):
            yield Leaf(key, "text", "str", shape, stepwise, doc)
        else:
            yield Leaf(key, "number", dtype, shape, stepwise, doc)
    else:
        left.append(key)


def _shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in node.get("shape", {}).get("dimensions", ()))


def read_shards(path: Path) -> list[Shards]:
    """The files of every split.

    Raises:
        DatasetError: `dataset_info.json` is malformed, or there is no TFRecord file.
    """
    info = _json(path / "dataset_info.json", path)
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        problem = f"its files are {info['fileFormat']}"
        raise DatasetError(path, problem, "Only TFRecord files are read; convert it with tfds")
    found = []
    for split in info.get("splits", ()):
        try:
            name, lengths = str(split["name"]), [int(n) for n in split.get("shardLengths", ())]
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(path, f"dataset_info.json is malformed ({error!r})", "Download it again") from error
        files = sorted(path.glob(f"*-{name}.tfrecord*"))
        told = len(lengths) == len(files)
        found.append(Shards(name, tuple((f, lengths[i] if told else -1) for i, f in enumerate(files))))
    if not any(shards.files for shards in found):
        remedy = "Name the folder of one version, such as bridge_dataset/1.0.0"
        raise DatasetError(path, "holds no TFRecord file of a split that dataset_info.json names", remedy)
    return found


def dataset_name(path: Path) -> str:
    """The dataset's name, from `dataset_info.json`.

    Raises:
        DatasetError: the file cannot be read.
    """
    return str(_json(path / "dataset_info.json", path).get("name", ""))


def _json(file: Path, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        raise DatasetError(path, f"has no {file.name}", "Name the folder that holds features.json") from None
    except (OSError, ValueError) as error:
        raise DatasetError(path, f"{file.name} cannot be read ({error})", "Download it again") from error
    if not isinstance(found, dict):
        raise DatasetError(path, f"{file.name} is no JSON object", "Download it again")
    return found
