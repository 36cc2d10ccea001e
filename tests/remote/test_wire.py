"""The bytes are openpi's own, and nothing that arrives is more than numbers and strings."""

from __future__ import annotations

import pickle
from typing import Any

import msgpack
import numpy as np
import pytest

from hiervla.executor.policies.remote.errors import WireError
from hiervla.executor.policies.remote.wire import pack, unpack

MESSAGE: dict[str, Any] = {
    "actions": np.arange(6, dtype=np.float32).reshape(2, 3),
    "image": np.array([[[1, 2, 3]]], dtype=np.uint8),
    "n": 0.5,
    "prompt": "pick",
    "deep": {"q": np.array([1, -2], dtype=np.int64)},
}
# What `openpi_client.msgpack_numpy.packb` 0.1.2 made of it, with numpy 1.26.4.
THEIRS = bytes.fromhex(
    "85a7616374696f6e7384c40b5f5f6e6461727261795f5fc3c40464617461c418000000000000803f0000004000004040000080400000a040c405"
    "6474797065a33c6634c4057368617065920203a5696d61676584c40b5f5f6e6461727261795f5fc3c40464617461c403010203c4056474797065"
    "a37c7531c405736861706593010103a16ecb3fe0000000000000a670726f6d7074a47069636ba46465657081a17184c40b5f5f6e646172726179"
    "5f5fc3c40464617461c4100100000000000000feffffffffffffffc4056474797065a33c6938c40573686170659102"
)


def array(**changed: Any) -> bytes:
    fields = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    fields.update({k.encode(): v for k, v in changed.items()})
    packed: bytes = msgpack.packb({"a": fields})
    return packed


def test_the_bytes_are_those_of_openpi_client() -> None:
    assert pack(MESSAGE) == THEIRS
    back = unpack(THEIRS)
    assert back["prompt"] == "pick" and back["n"] == 0.5
    for key, value in (("actions", MESSAGE["actions"]), ("image", MESSAGE["image"])):
        assert back[key].dtype == value.dtype and np.array_equal(back[key], value)
    assert np.array_equal(back["deep"]["q"], [1, -2])


def test_scalars_foreign_byte_order_and_empty_arrays_come_through() -> None:
    sent = {"x": np.float32(0.25), "b": np.bool_(True), "e": np.zeros((0, 8)), "d": np.array(3)}
    back = unpack(pack(sent))
    assert back["x"] == np.float32(0.25) and back["x"].dtype == np.float32
    assert back["b"] and back["e"].shape == (0, 8) and back["d"].shape == ()
    big = unpack(array(data=np.array([1.0, 2.0], dtype=">f4").tobytes(), dtype=">f4"))["a"]
    assert big.dtype == np.dtype("=f4") and big.tolist() == [1.0, 2.0]
    big += 1.0  # a copy that may be written to


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (array(dtype="|O"), "dtype '|O'"),
        (array(dtype="O8"), "dtype 'O8'"),
        (array(dtype="<c8"), "dtype '<c8'"),
        (array(dtype="<M8"), "dtype '<M8'"),
        (array(dtype="<f4,<f4"), "dtype"),
        (array(dtype="<f3"), "which there is not"),
        (array(dtype="<U0"), "holds nothing"),
        (array(dtype=3), "dtype"),
        (array(shape=[3]), "comes with 8 bytes"),
        (array(shape=[-1]), "has the shape"),
        (array(shape=[2**62, 2**62]), "comes with 8 bytes"),
        (array(shape=[1] * 9), "has the shape"),
        (array(shape="2"), "has the shape"),
        (array(data="text"), "without its bytes"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}}), "scalar"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"data": 1, b"dtype": "|O"}}), "dtype"),
        (pickle.dumps({"a": 1}), "no msgpack|where a map is expected"),
        (b"", "no msgpack"),
        (b"\x81\xa1a", "no msgpack"),
        (b"\x81" * 5000, "no msgpack"),
        (msgpack.packb([1]), "holds a list"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem.replace("|O", r"\|O") if problem.startswith("dtype") else problem):
        unpack(data)


def test_what_the_format_has_no_place_for_is_not_sent() -> None:
    for value in (np.array([object()]), np.array([1j]), object(), {1, 2}):
        with pytest.raises(WireError, match="cannot be packed"):
            pack({"a": value})
