"""Images, depth and snapshots come back bit for bit, and damaged ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiervla.executor.record import codecs
from hiervla.executor.record.blobs import BlobStore, decode_snapshot, encode_snapshot
from hiervla.executor.record.codecs import (
    content_hash,
    decode_depth,
    decode_rgb,
    encode_changed_depth,
    encode_changed_rgb,
    encode_depth,
    encode_rgb,
)
from hiervla.executor.record.errors import BlobError, RecordWriteError

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
NAME = "ab" * 32


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def kind_of(data: bytes) -> int:
    """What the values of a depth file are: 0, bits; 1 and 2, units of 0.1 mm."""
    return data[5]


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
    assert kind_of(data) in {1, 2}
    assert same_bits(decode_depth(data), metres.astype(np.float32))


def test_depth_out_of_the_integers_range_is_stored_as_it_is() -> None:
    for value in (-1.0, 6.6, 0.00005, np.inf):
        depth_m = np.full((2, 2), value, np.float32)
        data = encode_depth(depth_m)
        assert kind_of(data) == 0
        assert same_bits(decode_depth(data), depth_m)


def test_a_smooth_depth_image_gets_much_smaller() -> None:
    rows = np.linspace(9000, 12000, 192)[:, None] + np.linspace(0, 400, 256)
    depth_m = (np.rint(rows) * np.float32(1e-4)).astype(np.float32)
    assert len(encode_depth(depth_m)) < depth_m.nbytes / 20


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda s: (*s, 3))))
def test_any_image_comes_back_bit_for_bit(rgb: np.ndarray[Any, Any]) -> None:
    assert same_bits(decode_rgb(encode_rgb(rgb)), rgb)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_changed_of_a_depth_image_gives_it_back_bit_for_bit(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    base, now = (data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32))) for _ in range(2))
    kept = data.draw(hnp.arrays(np.bool_, shape))
    now = np.where(kept, base, now)
    packed = encode_changed_depth(now, base, NAME)
    assert codecs.base_of(packed) == NAME
    assert same_bits(decode_depth(packed, base), now)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_changed_of_an_image_gives_it_back_bit_for_bit(data: st.DataObject) -> None:
    height, width = data.draw(SHAPES)
    base, now = (data.draw(hnp.arrays(np.uint8, (height, width, 3))) for _ in range(2))
    kept = data.draw(hnp.arrays(np.bool_, (height, width, 1)))
    now = np.where(kept, base, now)
    packed = encode_changed_rgb(now, base, NAME)
    assert codecs.base_of(packed) == NAME
    assert same_bits(decode_rgb(packed, base), now)


def test_what_changed_does_not_fit_a_base_of_another_size() -> None:
    rgb, depth_m = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32)
    cases: list[tuple[bytes, Any, Any]] = [
        (encode_changed_rgb(rgb, rgb, NAME), decode_rgb, np.zeros((4, 5, 3), np.uint8)),
        (encode_changed_depth(depth_m, depth_m, NAME), decode_depth, np.zeros((4, 5), np.float32)),
        (encode_changed_rgb(rgb, rgb, NAME), decode_rgb, None),
        (encode_changed_depth(depth_m, depth_m, NAME), decode_depth, None),
    ]
    for packed, decode, base in cases:
        with pytest.raises(ValueError, match="does not fit"):
            decode(packed, base)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_raw_files_hold_the_very_bits(depth_m: np.ndarray[Any, Any]) -> None:
    assert same_bits(decode_depth(codecs.raw_head(depth_m) + depth_m.tobytes()), depth_m)
    rgb = np.repeat(depth_m.view(np.uint8).reshape(*depth_m.shape, 4)[..., :1], 3, axis=2)
    assert same_bits(decode_rgb(codecs.raw_head(rgb) + rgb.tobytes()), rgb)


def test_the_shadow_of_a_plane_costs_next_to_nothing() -> None:
    v, u = np.mgrid[:192, :256]
    depth_m = (1.0 / (0.7 + 0.001 * u + 0.002 * v)).astype(np.float32)
    assert len(encode_depth(depth_m)) < depth_m.nbytes / 6


def test_snapshots_come_back() -> None:
    assert decode_snapshot(encode_snapshot(b"state" * 1000)) == b"state" * 1000


def test_files_of_format_1_are_read() -> None:
    depth_m = np.array([[0.5, 0.75], [np.nan, 1.25]], np.float32)
    # Written by version 1 of the format: magic, mode 0, height, width, zstandard of the differences' byte planes.
    import struct

    import zstandard

    delta = np.diff(depth_m.view("<u4"), axis=1, prepend=np.uint32(0))
    planes = np.ascontiguousarray(delta).view(np.uint8).reshape(-1, 4).T
    old = struct.pack("<4sBII", b"HVD1", 0, 2, 2) + zstandard.compress(np.ascontiguousarray(planes).tobytes(), 3)
    assert same_bits(codecs.decode_old_depth(old), depth_m)
    assert codecs.is_old_depth(old)


@pytest.mark.parametrize(
    "decode", [decode_rgb, decode_depth, decode_snapshot, codecs.decode_old_rgb, codecs.decode_old_depth]
)
@pytest.mark.parametrize(
    "data",
    [b"", b"HVD1", b"HVB2", b"nonsense" * 9, b"HVD1\x01" + bytes(8) + b"zz", b"HVB2" + bytes(60), b"\x89PNG\r\n\x1a\n"],
)
def test_nonsense_is_refused(decode: Any, data: bytes) -> None:
    try:
        decoded = decode(data)
    except ValueError:
        return
    assert decode is decode_snapshot, "nonsense was read"
    assert decoded == b""


def test_a_depth_blob_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(encode_depth(np.ones((4, 4), np.float32)))
    data[7:11] = (200).to_bytes(4, "little")
    with pytest.raises(ValueError, match="needs"):
        decode_depth(bytes(data))
    data[7:11] = (2**31).to_bytes(4, "little")
    with pytest.raises(ValueError, match="known form"):
        decode_depth(bytes(data))


def test_a_png_of_another_mode_is_refused() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="mode L"):
        codecs.decode_old_rgb(buffer.getvalue())


def test_a_blob_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    (tmp_path / "blobs").mkdir()
    store = BlobStore(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    image = np.zeros((2, 2, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(RecordWriteError, match="No space left"):
            store.put_snapshot(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", refuse)
        with pytest.raises(RecordWriteError, match="No space left"):
            store.put_raw(content_hash(image), "rgb", image)
    store.close()
    assert list((tmp_path / "blobs").iterdir()) == []
    name = store.put_snapshot(b"x")
    assert store.put_raw(content_hash(image), "rgb", image)
    store.sync()
    assert store.snapshot(name) == b"x"
    assert same_bits(store.image(content_hash(image)), image)


def test_a_base_that_is_based_itself_or_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    store = BlobStore(tmp_path)
    images = [np.full((3, 3, 3), n, np.uint8) for n in range(3)]
    names = [content_hash(i) for i in images]
    for number in (1, 2):
        body = encode_changed_rgb(images[number], images[number - 1], names[number - 1])
        assert store.put_raw(names[number], "rgb", images[number])
        store.put_compressed(names[number], "rgb", body)
    with pytest.raises(BlobError, match=f"{names[1]}.rgb is a base and is based on another"):
        store.image(names[2])
    with pytest.raises(BlobError, match=f"{names[0]}.webp is missing"):
        store.image(names[1])


def test_images_wait_in_one_file_which_is_written_anew_and_survives_the_process(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    store = BlobStore(tmp_path)
    large, small, depth = np.full((8, 8, 3), 1, np.uint8), np.full((2, 2, 3), 2, np.uint8), np.ones((5, 4), np.float32)
    for image in (large, small):
        assert store.put_raw(content_hash(image), "rgb", image)
        assert not store.put_raw(content_hash(image), "rgb", image)
    size = (tmp_path / "blobs" / "waiting").stat().st_size
    for image in (large, small):
        store.put_compressed(content_hash(image), "rgb", encode_rgb(image))
    assert store.put_raw(content_hash(depth), "depth", depth)
    assert (tmp_path / "blobs" / "waiting").stat().st_size == size  # the old pages are used again
    left = BlobStore(tmp_path)  # as a reader finds it when the process is gone
    assert same_bits(left.depth(content_hash(depth)), depth)
    for image in (large, small):
        assert same_bits(left.image(content_hash(image)), image)
    other = BlobStore(tmp_path / "other")
    other.folder.mkdir(parents=True)
    other.copy(left, content_hash(depth), "depth")
    assert same_bits(BlobStore(tmp_path / "other").depth(content_hash(depth)), depth)
    store.close()
    assert (tmp_path / "blobs" / "waiting").exists()
    store.put_compressed(content_hash(depth), "depth", codecs.encode_depth(depth))
    store.close()
    assert sorted(p.suffix for p in (tmp_path / "blobs").iterdir()) == [".depth", ".webp", ".webp"]


def test_a_waiting_image_that_was_cut_off_or_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    store = BlobStore(tmp_path)
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    name = content_hash(image)
    store.put_raw(name, "rgb", image)
    path = tmp_path / "blobs" / "waiting"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(BlobError, match="is missing"):
        BlobStore(tmp_path).image(name)
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(BlobError, match="does not match its hash"):
        BlobStore(tmp_path).image(name)
    path.write_bytes(b"nothing that a spool holds" * 10)
    with pytest.raises(BlobError, match="is missing"):
        BlobStore(tmp_path).image(name)
