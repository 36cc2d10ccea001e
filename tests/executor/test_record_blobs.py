"""Images, depth and snapshots come back bit for bit, and damaged ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiervla.executor.record.blobs import (
    BlobStore,
    decode_depth,
    decode_rgb,
    decode_snapshot,
    encode_depth,
    encode_rgb,
    encode_snapshot,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_any_depth_image_comes_back_bit_for_bit(depth_m: np.ndarray[Any, Any]) -> None:
    assert same_bits(decode_depth(encode_depth(depth_m)), depth_m)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.uint16, SHAPES), st.booleans())
def test_depth_of_a_real_camera_is_stored_as_integers(units: np.ndarray[Any, Any], single: bool) -> None:
    metres = units * np.float32(1e-4) if single else (units * 1e-4).astype(np.float32)
    metres[units == 65535] = np.nan
    data = encode_depth(metres.astype(np.float32))
    assert data[4] in {1, 2}
    assert same_bits(decode_depth(data), metres.astype(np.float32))


def test_depth_out_of_the_integers_range_is_stored_as_it_is() -> None:
    for value in (-1.0, 6.6, 0.00005, np.inf):
        depth_m = np.full((2, 2), value, np.float32)
        data = encode_depth(depth_m)
        assert data[4] == 0
        assert same_bits(decode_depth(data), depth_m)


def test_a_smooth_depth_image_gets_much_smaller() -> None:
    rows = np.linspace(9000, 12000, 192)[:, None] + np.linspace(0, 400, 256)
    depth_m = (np.rint(rows) * np.float32(1e-4)).astype(np.float32)
    assert len(encode_depth(depth_m)) < depth_m.nbytes / 20


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda s: (*s, 3))))
def test_any_image_comes_back_bit_for_bit(rgb: np.ndarray[Any, Any]) -> None:
    assert same_bits(decode_rgb(encode_rgb(rgb)), rgb)


def test_snapshots_come_back() -> None:
    assert decode_snapshot(encode_snapshot(b"state" * 1000)) == b"state" * 1000


@pytest.mark.parametrize("decode", [decode_rgb, decode_depth, decode_snapshot])
@pytest.mark.parametrize("data", [b"", b"HVD1", b"nonsense" * 9, b"HVD1\x01" + bytes(8) + b"zz", b"\x89PNG\r\n\x1a\n"])
def test_nonsense_is_refused(decode: Any, data: bytes) -> None:
    try:
        decoded = decode(data)
    except ValueError:
        return
    assert decode is decode_snapshot, "nonsense was read"
    assert decoded == b""


def test_a_depth_blob_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(encode_depth(np.ones((4, 4), np.float32)))
    data[5:9] = (200).to_bytes(4, "little")
    with pytest.raises(ValueError, match="needs"):
        decode_depth(bytes(data))
    data[5:9] = (2**31).to_bytes(4, "little")
    with pytest.raises(ValueError, match="known form"):
        decode_depth(bytes(data))


def test_a_png_of_another_mode_is_refused() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="mode L"):
        decode_rgb(buffer.getvalue())


def test_a_blob_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    (tmp_path / "blobs").mkdir()
    store = BlobStore(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(Exception, match="No space left"):
            store.put(b"x", "snapshot")
    assert list((tmp_path / "blobs").iterdir()) == []
    name = store.put(b"x", "snapshot")
    store.sync()
    assert store.get(name, "snapshot") == b"x"
