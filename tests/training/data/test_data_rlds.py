"""RLDS: files as tfds writes them, made here with an encoder of their own."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiervla.training.data.images import encode_png
from hiervla.training.data.rlds.crc32c import crc32c
from hiervla.training.data.rlds.example import WireError, read_example
from hiervla.training.data.rlds.reader import RldsSource

CLASSES = "tensorflow_datasets.core.features."


def slow_crc(data: bytes) -> int:
    """CRC-32C, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def block(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def example(values: dict[str, Any], packed: bool = True) -> bytes:
    entries = b""
    for key, value in values.items():
        if isinstance(value, list):
            feature = block(1, b"".join(block(1, v) for v in value))
        elif value.dtype.kind == "f":
            raw = [struct.pack("<f", float(v)) for v in value.ravel()]
            feature = block(2, block(1, b"".join(raw)) if packed else b"".join(varint(1 << 3 | 5) + r for r in raw))
        else:
            raw = [varint(int(v)) for v in value.ravel()]
            feature = block(3, block(1, b"".join(raw)) if packed else b"".join(varint(1 << 3) + r for r in raw))
        entries += block(1, block(1, key.encode()) + block(2, feature))
    return block(1, entries)


def record(data: bytes) -> bytes:
    def mask(part: bytes) -> bytes:
        crc = slow_crc(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + mask(length) + data + mask(data)


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    dims = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {
        "pythonClassName": CLASSES + "tensor_feature.Tensor",
        "tensor": {"shape": dims, "dtype": dtype, "encoding": "none"},
    }


def image(*shape: int) -> dict[str, Any]:
    dims = {"dimensions": [str(n) for n in shape]}
    return {
        "pythonClassName": CLASSES + "image_feature.Image",
        "image": {"shape": dims, "dtype": "uint8", "encodingFormat": "png"},
    }


def text() -> dict[str, Any]:
    return {"pythonClassName": CLASSES + "text_feature.Text", "text": {}}


def many(**features: Any) -> dict[str, Any]:
    return {"pythonClassName": CLASSES + "features_dict.FeaturesDict", "featuresDict": {"features": features}}


def dataset(folder: Path, name: str, steps: dict[str, Any], records: list[bytes], told: int | None = None) -> Path:
    top = many(
        steps={
            "pythonClassName": CLASSES + "dataset_feature.Dataset",
            "sequence": {"feature": steps, "length": "-1"},
        },
        episode_metadata=many(file_path=text()),
    )
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(json.dumps(top))
    lengths = [str(len(records) if told is None else told)]
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "splits": [{"name": "train", "shardLengths": lengths}],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / f"{name}-train.tfrecord-00000-of-00001").write_bytes(b"".join(records))
    return folder


BRIDGE_STEPS = many(
    action=tensor("float32", 7),
    is_first=tensor("bool"),
    language_instruction=text(),
    observation=many(image_0=image(8, 10, 3), state=tensor("float32", 7)),
)


def bridge(seed: int, n: int = 5, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 8, 10, 3)).astype(np.uint8)
    return {
        "steps/action": rng.normal(size=(n, 7)).astype(np.float32),
        "steps/is_first": (np.arange(n) == 0).astype(np.int64),
        "steps/language_instruction": [b"put the spoon in the pot"] * n,
        "steps/observation/image_0": [encode_png(p) for p in pixels],
        "steps/observation/state": rng.normal(size=(n, 7)).astype(np.float32),
        "episode_metadata/file_path": [b"/bridge/%d" % seed],
        **changes,
    }


@given(st.binary(max_size=3000))
def test_checksum_agrees_with_the_definition(data: bytes) -> None:
    assert crc32c(data) == slow_crc(data)


def test_checksum_of_the_standard() -> None:
    # RFC 3720, appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats(width=32)), st.booleans())
def test_examples_packed_or_not(integers: list[int], floats: list[float], packed: bool) -> None:
    values = {"i": np.array(integers, np.int64), "f": np.array(floats, np.float32), "b": [b"", b"xy"]}
    back = read_example(example(values, packed))
    assert np.asarray(back["i"], np.int64).tolist() == integers
    assert np.asarray(back["f"], np.float32).tobytes() == values["f"].tobytes()  # type: ignore[attr-defined]
    assert back["b"] == [b"", b"xy"]


@given(st.binary(max_size=60))
def test_any_bytes_are_an_example_or_a_wire_error(data: bytes) -> None:
    try:
        read_example(data)
    except WireError:
        pass


def test_bridge_layout(tmp_path: Path) -> None:
    made = [bridge(i, 3 + i) for i in range(3)]
    source = RldsSource(dataset(tmp_path / "1.0.0", "bridge_dataset", BRIDGE_STEPS, [record(example(m)) for m in made]))
    assert (source.spec.fps, source.spec.action.space, source.spec.declared) == (5.0, "ee_delta", 3)
    episodes = list(source.episodes())
    assert source.skipped == []
    for one, episode in zip(made, episodes, strict=True):
        assert episode.instruction == "put the spoon in the pot"
        assert np.array_equal(episode.columns["action"], one["steps/action"])
        assert np.array_equal(episode.columns["observation.state"], one["steps/observation/state"])
        assert episode.columns["is_first"].dtype == np.bool_ and episode.columns["is_first"][0, 0]
        frame = next(iter(episode.images["observation.images.image_0"]))
        assert encode_png(frame) == one["steps/observation/image_0"][0]
        episode.require(source.spec)


def test_droid_layout(tmp_path: Path) -> None:
    steps = many(
        action=tensor("float64", 7),
        action_dict=many(joint_position=tensor("float64", 7), gripper_position=tensor("float64", 1)),
        language_instruction=text(),
        language_instruction_2=text(),
        observation=many(
            joint_position=tensor("float64", 7),
            gripper_position=tensor("float64", 1),
            exterior_image_1_left=image(6, 8, 3),
        ),
    )
    rng = np.random.default_rng(0)
    n = 4
    joints, grip = rng.normal(size=(n, 7)).astype(np.float32), rng.random((n, 1)).astype(np.float32)
    values = {
        "steps/action": np.zeros((n, 7), np.float32),
        "steps/action_dict/joint_position": joints,
        "steps/action_dict/gripper_position": grip,
        "steps/language_instruction": [b""] * n,
        "steps/language_instruction_2": [b"close the drawer"] * n,
        "steps/observation/joint_position": joints + 1,
        "steps/observation/gripper_position": grip,
        "steps/observation/exterior_image_1_left": [encode_png(np.zeros((6, 8, 3), np.uint8))] * n,
    }
    source = RldsSource(dataset(tmp_path / "d", "droid_100", steps, [record(example(values))]))
    (episode,) = source.episodes()
    assert episode.instruction == "close the drawer" and episode.fps == 15.0
    assert np.array_equal(episode.columns["action"], np.concatenate([joints, grip], axis=1))
    assert "rlds_action" in episode.columns and source.spec.action.gripper == "closed_1"


def nan_action() -> np.ndarray[Any, Any]:
    action = np.zeros((5, 7), np.float32)
    action[3, 2] = np.nan
    return action


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps/action": nan_action()}, "the action of frame 3 is NaN"),
        ({"steps/action": np.zeros(34, np.float32)}, "34 numbers, no multiple"),
        ({"steps/observation/state": None}, "lacks the field 'steps/observation/state'"),
        ({"steps/observation/image_0": [b"no image"] * 5}, "cannot be decoded"),
        ({"steps/observation/image_0": [encode_png(np.zeros((4, 4, 3), np.uint8))] * 5}, r"image 0 is \(4, 4, 3\)"),
        ({"steps/language_instruction": [b"x"] * 4}, "4 texts for 5 frames"),
        ({"steps/observation/state": np.zeros((4, 7), np.float32)}, "different lengths"),
    ],
)
def test_a_bad_episode_is_named_and_left_out(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    bad = {k: v for k, v in bridge(1, **changes).items() if v is not None}
    records = [record(example(m)) for m in (bridge(0), bad, bridge(2))]
    source = RldsSource(dataset(tmp_path / "d", "bridge", BRIDGE_STEPS, records))
    assert [e.facts["file_path"] for e in source.episodes()] == ["/bridge/0", "/bridge/2"]
    (skip,) = source.skipped
    assert "record 1" in skip.place
    assert re.search(reason, skip.reason), skip.reason


@pytest.mark.parametrize(("damage", "left", "lost"), [("data", 2, 1), ("length", 1, 2), ("cut", 2, 1), ("short", 3, 1)])
def test_damaged_files(tmp_path: Path, damage: str, left: int, lost: int) -> None:
    records = [bytearray(record(example(bridge(i)))) for i in range(3)]
    if damage == "data":
        records[1][200] ^= 1
    elif damage == "length":
        records[1][0] ^= 1
    elif damage == "cut":
        records[2] = records[2][:-100]
    told = 4 if damage == "short" else 3
    source = RldsSource(dataset(tmp_path / "d", "bridge", BRIDGE_STEPS, [bytes(r) for r in records], told))
    assert len(list(source.episodes())) == left
    assert sum(s.episodes for s in source.skipped) == lost
