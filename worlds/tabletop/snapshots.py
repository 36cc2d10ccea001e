"""The world's whole state as bytes: header, physics, servo references, spill, checksum."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.representations import SnapshotError
from hiervla.representations._base import Typed

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""What MuJoCo needs to continue bit for bit: physics, controls and the solver's warm start."""
_MAGIC = b"HVTS"
_VERSION = 1
# magic, version, MuJoCo version, scene fingerprint, physics size, extra size, ticks, spill mask
_HEADER = struct.Struct("<4sHI16sIIQQ")
_CHECKSUM = struct.Struct("<I")
_WORLD = "tabletop"


@dataclass(frozen=True, eq=False)
class State:
    """What a snapshot holds: `physics` for `mj_setState`, `extra` arrays, tick count and spill bits."""

    physics: NDArray[np.float64]
    extra: tuple[NDArray[np.float64], ...]
    ticks: int
    spill_mask: int


def pack(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    *,
    scene: Typed,
    extra: Sequence[NDArray[np.float64]],
    ticks: int,
    spill_mask: int,
) -> bytes:
    """Serialise the state; little-endian float64 throughout."""
    physics = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, physics, STATE)
    more = np.concatenate([np.asarray(e, dtype=np.float64).ravel() for e in extra])
    header = _HEADER.pack(
        _MAGIC, _VERSION, mujoco.mj_version(), _fingerprint(scene), physics.size, more.size, ticks, spill_mask
    )
    body = header + physics.astype("<f8").tobytes() + more.astype("<f8").tobytes()
    return body + _CHECKSUM.pack(zlib.crc32(body))


def unpack(data: bytes, model: mujoco.MjModel, *, scene: Typed, extra_sizes: Sequence[int]) -> State:
    """Read a snapshot back.

    Raises:
        SnapshotError: the bytes are something else, of another version or scene, cut short, or damaged.
    """
    if data[:4] != _MAGIC:
        raise SnapshotError(_WORLD, "the bytes do not start like a snapshot of this world")
    if len(data) < _HEADER.size + _CHECKSUM.size:
        raise SnapshotError(_WORLD, f"it is cut off after {len(data)} bytes")
    _, version, engine, fingerprint, n_physics, n_extra, ticks, mask = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise SnapshotError(_WORLD, f"its format is version {version}, this program reads {_VERSION}")
    expected = _HEADER.size + 8 * (n_physics + n_extra) + _CHECKSUM.size
    if len(data) != expected:
        raise SnapshotError(_WORLD, f"it is cut off or too long: {len(data)} bytes instead of {expected}")
    if _CHECKSUM.unpack_from(data, len(data) - _CHECKSUM.size)[0] != zlib.crc32(data[: -_CHECKSUM.size]):
        raise SnapshotError(_WORLD, "its checksum does not match, some bytes were changed")
    if engine != mujoco.mj_version():
        raise SnapshotError(_WORLD, f"it was made with MuJoCo {engine}, this is {mujoco.mj_version()}")
    if fingerprint != _fingerprint(scene):
        raise SnapshotError(_WORLD, "it belongs to another scene")
    if n_physics != mujoco.mj_stateSize(model, STATE) or n_extra != sum(extra_sizes):
        raise SnapshotError(_WORLD, "its state has another size than this world's")
    numbers = np.frombuffer(data, dtype="<f8", count=n_physics + n_extra, offset=_HEADER.size).astype(np.float64)
    parts = np.split(numbers[n_physics:], np.cumsum(extra_sizes)[:-1])
    return State(numbers[:n_physics].copy(), tuple(p.copy() for p in parts), int(ticks), int(mask))


def _fingerprint(scene: Typed) -> bytes:
    return hashlib.sha256(scene.to_json().encode()).digest()[:16]
