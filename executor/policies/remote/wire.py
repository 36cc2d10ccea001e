"""openpi's messages, see :mod:`hiervla.executor.policies.remote.lerobot_server.packing`, with errors of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiervla.executor.policies.remote.errors import WireError
from hiervla.executor.policies.remote.lerobot_server import packing
from hiervla.executor.policies.remote.lerobot_server.packing import (
    MAX_MESSAGE_BYTES,
    PLAIN_KINDS,
    PackingError,
    plain_dtype,
)
from hiervla.representations import MissingDependencyError

if TYPE_CHECKING:
    import types

__all__ = ["MAX_MESSAGE_BYTES", "PLAIN_KINDS", "PackingError", "load_msgpack", "pack", "plain_dtype", "unpack"]


def load_msgpack() -> types.ModuleType:
    """The msgpack package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import msgpack
    except ImportError as error:
        raise MissingDependencyError("msgpack", "a policy server", "pip install 'hiervla[remote]'") from error
    module: types.ModuleType = msgpack
    return module


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        WireError: it holds something that the format has no place for, such as an array of objects.
    """
    load_msgpack()
    try:
        return packing.pack(message)
    except PackingError as error:
        raise WireError(str(error)) from error


def unpack(data: bytes) -> dict[str, Any]:
    """A message from bytes; arrays are copies, in the byte order of this machine.

    Raises:
        WireError: the bytes are no msgpack, hold an array of another kind than numbers and strings, or are no map.
    """
    load_msgpack()
    try:
        return packing.unpack(data)
    except PackingError as error:
        raise WireError(str(error)) from error
