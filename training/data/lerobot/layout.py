"""Names, paths and Arrow types of a LeRobotDataset v3."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from hiervla.training.data.errors import DatasetError, need
from hiervla.training.data.types import PERSISTENT, Array, Feature, Role, Style, Utterance

VERSION = "v3.0"
INFO, STATS, TASKS, SUBTASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/subtasks.parquet"
OURS = "meta/hiervla.json"
"""What only we write: the meaning of the columns, and facts that travel along. Other readers do not look at it."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK = 1000
"""Files in a folder."""

BOOKKEEPING: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has, with their types."""
SUBTASK = "subtask_index"
LANGUAGE = ("language_persistent", "language_events")
FEATURES_OF_THE_FORMAT = frozenset({*BOOKKEEPING, SUBTASK, *LANGUAGE})

_PARQUET = "reading and writing LeRobot datasets"


def arrow() -> Any:
    """The module `pyarrow`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return need("pyarrow", _PARQUET)


def parquet() -> Any:
    """The module `pyarrow.parquet`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return need("pyarrow.parquet", _PARQUET)


def following(chunk: int, file: int) -> tuple[int, int]:
    """Chunk and file index after these."""
    return (chunk + 1, 0) if file == CHUNK - 1 else (chunk, file + 1)


def describe(feature: Feature, storage: str, fps: float) -> dict[str, Any]:
    """A feature as `info.json` has it; `storage` is ``"image"`` or ``"video"`` for images."""
    if not feature.image:
        return {"dtype": feature.dtype, "shape": list(feature.shape), "names": list(feature.names) or None}
    entry: dict[str, Any] = {"dtype": storage, "shape": list(feature.shape), "names": ["height", "width", "channels"]}
    if storage == "video":
        entry["info"] = {
            "video.height": feature.shape[0],
            "video.width": feature.shape[1],
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": plain(fps),
            "video.channels": 3,
            "has_audio": False,
        }
    return entry


def feature_from(name: str, entry: Mapping[str, Any], meaning: str, path: object) -> Feature:
    """The inverse of :func:`describe`; images of either storage.

    Raises:
        DatasetError: the entry is malformed.
    """
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        names = entry.get("names")
        # Datasets converted from older versions nest the names under the name of the axis.
        if isinstance(names, dict):
            names = next(iter(names.values()), None)
        if dtype in ("image", "video"):
            if shape[0] == 3 and shape[-1] != 3:
                shape = (*shape[1:], shape[0])
            return Feature(name, "uint8", shape, meaning=meaning, image=True)
        np.dtype(dtype)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        problem = f"feature '{name}' in {INFO} is malformed ({error})"
        raise DatasetError(path, problem, "Give it a dtype and a shape") from error
    return Feature(name, dtype, shape, tuple(str(n) for n in names or ()), meaning)


def plain(number: float) -> int | float:
    """An integer where that is what it is; LeRobot's rates are."""
    return int(number) if float(number).is_integer() else float(number)


def column_type(dtype: str, shape: Sequence[int]) -> Any:
    """The Arrow type of a numeric column: scalar, fixed-size list, or nested lists."""
    pa = arrow()
    kind = pa.from_numpy_dtype(np.dtype(dtype))
    if tuple(shape) == (1,):
        return kind
    if len(shape) == 1:
        return pa.list_(kind, shape[0])
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def column_array(values: Array) -> Any:
    """An Arrow array of (N, *shape) numbers, of :func:`column_type`."""
    pa = arrow()
    shape = values.shape[1:]
    made = pa.array(np.ascontiguousarray(values).reshape(-1))
    if shape == (1,):
        return made
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(made, shape[0])
    for size in reversed(shape):
        made = pa.ListArray.from_arrays(pa.array(np.arange(0, len(made) + 1, size, dtype=np.int32)), made)
    return made


def column_values(column: Any, dtype: str, shape: Sequence[int]) -> Array:
    """(N, *shape) numbers of an Arrow column.

    Raises:
        ValueError: they are not that many, or some are null.
    """
    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    count = len(flat)
    while hasattr(flat, "flatten") and arrow().types.is_nested(flat.type):
        if flat.null_count:
            raise ValueError("holds nulls")
        flat = flat.flatten()
    if flat.null_count:
        raise ValueError("holds nulls")
    values = flat.to_numpy(zero_copy_only=False)
    if values.size != count * int(np.prod(shape)):
        raise ValueError(f"holds {values.size} numbers for {count} frames of shape {tuple(shape)}")
    return np.asarray(values.astype(dtype, copy=False).reshape(count, *shape))


def image_type() -> Any:
    """The Arrow type of embedded images."""
    pa = arrow()
    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def language_types() -> tuple[Any, Any]:
    """Arrow types of `language_persistent` and `language_events`."""
    pa = arrow()
    head = [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string()),
        pa.field("style", pa.string()),
    ]
    # Calls are JSON, whose storage is a string; we make none.
    tail = [pa.field("camera", pa.string()), pa.field("tool_calls", pa.list_(pa.string()))]
    time = pa.field("timestamp", pa.float32(), nullable=False)
    return pa.list_(pa.struct([*head, time, *tail])), pa.list_(pa.struct([*head, *tail]))


def language_columns(language: Sequence[Utterance], frames: int, fps: float) -> tuple[Any, Any]:
    """Both language columns of an episode; what holds is repeated on every frame, an event sits on its frame."""
    pa = arrow()
    persistent: list[dict[str, Any]] = []
    events: list[list[dict[str, Any]]] = [[] for _ in range(frames)]
    for said in language:
        row = {"role": said.role, "content": said.content, "style": said.style, "camera": said.camera}
        at = min(frames - 1, max(0, round(said.time_s * fps)))
        if said.style in PERSISTENT:
            # Readers look for exact frame times.
            persistent.append({**row, "timestamp": float(np.float32(at / fps)), "tool_calls": None})
        else:
            events[at].append({**row, "tool_calls": None})
    kinds = language_types()
    return pa.array([persistent] * frames, type=kinds[0]), pa.array(events, type=kinds[1])


def language_from(table: Any, fps: float) -> tuple[Utterance, ...]:
    """The inverse of :func:`language_columns`; rows without words (tool calls) are left out."""
    said: list[Utterance] = []
    if LANGUAGE[0] in table.column_names and len(table):
        for row in table.column(LANGUAGE[0])[0].as_py() or ():
            said.append(_utterance(row, float(row["timestamp"])))
    if LANGUAGE[1] in table.column_names:
        for i, rows in enumerate(table.column(LANGUAGE[1])):
            said.extend(_utterance(row, i / fps) for row in rows.as_py() or ())
    kept = [s for s in said if s.content and s.style]
    return tuple(sorted(kept, key=lambda s: s.time_s))


def _utterance(row: Mapping[str, Any], time_s: float) -> Utterance:
    role: Role = "user" if row["role"] == "user" else "assistant"
    # Other projects may have styles of their own; they pass through.
    style = cast("Style", row["style"] or "")
    return Utterance(time_s, row["content"] or "", style, role, row["camera"])


def hub_metadata(features: Sequence[Feature], embedded: bool, extra: Mapping[str, str]) -> dict[bytes, bytes]:
    """Schema metadata by which Hugging Face's `datasets` and its viewer know images and matrices.

    Args:
        features: columns of the file; images among them only if they are embedded.
        embedded: whether images are in the parquet file.
        extra: bookkeeping columns with their types.
    """
    entries: dict[str, Any] = {}
    for f in features:
        if f.image:
            if embedded:
                entries[f.name] = {"_type": "Image"}
        elif f.shape == (1,):
            entries[f.name] = {"dtype": f.dtype, "_type": "Value"}
        elif len(f.shape) == 1:
            value = {"dtype": f.dtype, "_type": "Value"}
            entries[f.name] = {"feature": value, "length": f.shape[0], "_type": "Sequence"}
        else:
            entries[f.name] = {"shape": list(f.shape), "dtype": f.dtype, "_type": f"Array{len(f.shape)}D"}
    entries |= {name: {"dtype": dtype, "_type": "Value"} for name, dtype in extra.items()}
    return {b"huggingface": json.dumps({"info": {"features": entries}}).encode()}


def index_table(words: Sequence[str], number: str) -> Any:
    """`tasks.parquet` or `subtasks.parquet`: a table whose pandas index is the words, with one column `number`."""
    pa = arrow()
    index = "__index_level_0__"
    columns = [
        {"name": number, "field_name": number, "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
        {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ]
    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({number: pa.array(range(len(words)), pa.int64()), index: pa.array(list(words), pa.string())})
    return table.replace_schema_metadata({b"pandas": json.dumps(pandas).encode()})


def words_from(table: Any, number: str) -> dict[int, str]:
    """Words by index, from `tasks.parquet` or `subtasks.parquet`.

    Raises:
        KeyError: a column is missing.
    """
    texts = [name for name in table.column_names if name != number]
    if number not in table.column_names or not texts:
        raise KeyError(f"it has the columns {table.column_names}")
    return dict(zip(table.column(number).to_pylist(), table.column(texts[0]).to_pylist(), strict=True))
