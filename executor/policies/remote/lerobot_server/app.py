"""The process: reads what to serve from a line of JSON, loads it, says so in another, and answers until its end.

Standard input gives ``{"source", "device", "host", "port", "spec", "state_width", "action_width"}`` and is held open by
whoever started us: when it closes, that process is gone, and so are we. Standard output gives one line, ``{"ready":
{...}}`` or ``{"failed": text}``; whatever LeRobot prints goes to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

# Relative: where this runs there is no hiervla, and the folder is a package by another name.
from .clients import Clients, say_goodbye  # noqa: TID251  # see above
from .packing import MAX_MESSAGE_BYTES, PackingError, pack, unpack  # noqa: TID251  # see above
from .policy import CHECKED, ServedError, ServedPolicy  # noqa: TID251  # see above

if TYPE_CHECKING:
    from websockets.sync.server import ServerConnection

_log = logging.getLogger("hiervla.lerobot")


def main() -> int:
    """Serve until standard input closes or Ctrl-C."""
    told = os.fdopen(os.dup(1), "w")
    # LeRobot and what it loads print as they like.
    os.dup2(2, 1)
    try:
        settings = json.loads(sys.stdin.readline())
        try:
            policy = ServedPolicy(settings["source"], settings["device"])
            metadata = describe(policy, settings)
            return _serve(policy, metadata, settings, told)
        except ServedError as error:
            return _fail(told, str(error))
        except ImportError as error:
            return _fail(told, f"this Python cannot import what it needs ({error})")
        # Anything may go wrong in a stranger's package; the whole of it is in the log, its end in the answer.
        except Exception as error:
            _log.exception("the policy cannot be served")
            first = " ".join(str(error).split())[:400]
            return _fail(told, f"{type(error).__name__}: {first}")
    except KeyboardInterrupt:
        return 130


def describe(policy: ServedPolicy, settings: dict[str, Any]) -> dict[str, Any]:
    """What a client is told first; the spec's images and rows are those of the policy.

    Raises:
        ServedError: the policy's images, state or actions are not those of the spec.
    """
    spec = json.loads(settings["spec"])
    given = {entry["key"]: entry for entry in spec["images"]}
    lacking = sorted(set(policy.images) - set(given))
    if lacking:
        raise ServedError(
            f"it wants the images {', '.join(sorted(policy.images))}, where spec '{spec['name']}' has "
            f"{', '.join(sorted(given)) or 'none'}; say with --image KEY=CAMERA which camera each of them is"
        )
    images = []
    for key, (height, width) in policy.images.items():
        images.append({**given[key], "height": height, "width": width})
    states = settings["state_width"]
    if states != {policy.state_key: policy.state_width}:
        ours = ", ".join(f"{key} of {width}" for key, width in states.items()) or "none"
        raise ServedError(
            f"its state is {policy.state_key} of {policy.state_width}, where spec '{spec['name']}' has {ours}; "
            "name the spec that fits (--spec)"
        )
    if settings["action_width"] != policy.action_width:
        raise ServedError(
            f"its actions have {policy.action_width} columns, where spec '{spec['name']}' has "
            f"{settings['action_width']}; name the spec that fits (--spec)"
        )
    spec["images"] = images
    spec["actions"]["rows"] = policy.rows
    return {
        "server": "lerobot",
        "lerobot": policy.lerobot,
        "policy": policy.kind,
        "checked": policy.kind in CHECKED,
        "spec": json.dumps(spec),
        "images": {key: list(size) for key, size in policy.images.items()},
        "state_dim": policy.state_width,
        "action_dim": policy.action_width,
        "chunk_rows": policy.rows,
        "rate_hz": spec["actions"]["rate_hz"],
        "normalisation": policy.normalisation,
        "takes_seed": True,
    }


def _fail(told: Any, text: str) -> int:
    print(json.dumps({"failed": text}), file=told, flush=True)
    return 1


def _serve(policy: ServedPolicy, metadata: dict[str, Any], settings: dict[str, Any], told: Any) -> int:
    from websockets.sync.server import serve

    talk = _Talk(policy, metadata)
    with serve(
        talk.talk,
        settings["host"],
        settings["port"],
        compression=None,
        max_size=MAX_MESSAGE_BYTES,
        process_request=talk.clients.admit,
        # A client may let seconds pass between two requests while its robot moves.
        ping_interval=None,
    ) as server:
        port = int(server.socket.getsockname()[1])
        ready = {**metadata, "url": f"ws://{settings['host']}:{port}"}
        print(json.dumps({"ready": ready}), file=told, flush=True)
        threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
        server.serve_forever()
    return 0


def _end_with_parent(server: Any) -> None:
    sys.stdin.read()
    server.shutdown()


class _Talk:
    """All clients' conversations; the policy thinks for one at a time."""

    def __init__(self, policy: ServedPolicy, metadata: dict[str, Any]) -> None:
        self._policy, self._metadata = policy, metadata
        self.clients = Clients()
        self._thinking = threading.Lock()

    def talk(self, connection: ServerConnection) -> None:
        """Answer one client until it goes or asks for something that cannot be answered."""
        from websockets.exceptions import ConnectionClosed

        with self.clients.connected():
            try:
                connection.send(pack(self._metadata))
                while True:
                    connection.send(pack(self._answer(connection.recv())))
            except ConnectionClosed:
                return
            except (ServedError, PackingError) as error:
                say_goodbye(connection, str(error))
            except Exception as error:
                say_goodbye(connection, f"the policy failed with {type(error).__name__}: {error}")
                raise

    def _answer(self, data: str | bytes) -> dict[str, Any]:
        if isinstance(data, str):
            raise PackingError("it is text, where a packed request is expected")
        request = unpack(data)
        with self._thinking:
            began = time.perf_counter()
            actions = self._policy.chunk(request)
            infer_ms = 1000.0 * (time.perf_counter() - began)
        return {"actions": actions, "policy": self._policy.kind, "server_timing": {"infer_ms": infer_ms}}
