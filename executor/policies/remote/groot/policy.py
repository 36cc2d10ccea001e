"""A policy that asks a GR00T server: ``groot:HOST:PORT``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiervla.executor.policies.remote.convert import Converter
from hiervla.executor.policies.remote.encode import image, state
from hiervla.executor.policies.remote.errors import PolicyAnswerError
from hiervla.executor.policies.remote.groot.connection import GrootConnection
from hiervla.executor.policies.remote.groot.spec import GrootSpec, Layout, layout, preset, presets, read_spec
from hiervla.executor.policies.remote.policy import split_address
from hiervla.representations import ActionChunk, ConventionError, Observation, Step

SCHEME = "groot"
Array = np.ndarray[Any, Any]


class GrootPolicy:
    """Sends what it sees to a GR00T server, and takes the answer for a chunk."""

    def __init__(self, connection: GrootConnection, spec: GrootSpec) -> None:
        """Ask the server for its modality config; `spec` says what its keys mean.

        Raises:
            RemotePolicyError: the server cannot be reached, or its keys are not those of the spec.
        """
        self._connection = connection
        self.layout: Layout = layout(connection.call("get_modality_config"), spec, connection.url)
        self.spec = spec.replace(actions=spec.actions.replace(rows=self.layout.rows))
        self._converter = Converter(self.spec, connection.url)
        self._begin = True

    @property
    def id(self) -> str:
        """``groot:``, the spec, GR00T's generation and the address."""
        return f"{SCHEME}:{self.spec.name}/{self.layout.version}@{self._connection.url}"

    def reset(self, step: Step, seed: int) -> None:
        """Start a new attempt; the protocol has no seed. The server is told with the next chunk, if it takes it."""
        self._begin = True

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next chunk.

        Raises:
            CameraError: the spec names a camera that is missing.
            RemotePolicyError: no usable answer came; the message names the server and what happened.
        """
        if self._begin and self.layout.version == "n1.6":
            self._connection.call("reset", {"options": None})
        self._begin = False
        answer = self._connection.call("get_action", self.request(observation, step))
        rows = self._rows(answer)
        return self._converter.chunk({self.spec.actions.key: rows}, observation, self.id)

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._connection.close()

    def request(self, observation: Observation, step: Step) -> dict[str, Any]:
        """What ``get_action`` is asked with.

        Images (T, H, W, 3) uint8 and states (T, D) float32, with a batch of one in front from N1.6 on. One observation
        is all there is: a server that wants a history sees it T times, as its own clients begin an episode.

        Raises:
            CameraError: a camera is missing.
        """
        shape = self.layout
        videos = {i.key: _repeated(image(observation, i), shape.video_frames) for i in self.spec.images}
        states = {s.key: _repeated(state(observation, s, self.spec), shape.state_frames) for s in self.spec.states}
        if shape.version == "n1.5":
            flat: dict[str, Any] = {f"video.{key}": value for key, value in videos.items()}
            flat |= {f"state.{key}": value for key, value in states.items()}
            return flat | {shape.language_key: [str(step)]}
        seen = {
            "video": {key: value[None] for key, value in videos.items()},
            "state": {key: value[None] for key, value in states.items()},
            "language": {shape.language_key: [[str(step)]]},
        }
        return {"observation": seen, "options": None}

    def _rows(self, answer: Any) -> Array:
        """The groups of an answer side by side, (T, columns)."""
        batched, prefix = self.layout.version == "n1.6", "" if self.layout.version == "n1.6" else "action."
        if batched:
            # N1.6 answers with actions and a map of remarks.
            answer = answer[0] if isinstance(answer, list) and len(answer) == 2 else None
        if not isinstance(answer, dict):
            raise self._wrong("its answer holds no actions")
        columns = []
        for group in self.spec.groups:
            value, wanted = answer.get(prefix + group.key), (self.layout.rows, group.width)
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
                keys = ", ".join(sorted(str(k) for k in answer)[:20]) or "nothing"
                raise self._wrong(f"its answer has no numbers under '{prefix + group.key}', but {keys}")
            shape = ((1, *wanted),) if batched else (wanted, wanted[:1] if group.width == 1 else wanted)
            if value.shape not in shape:
                raise self._wrong(
                    f"its '{prefix + group.key}' has the shape {value.shape}, where {shape[0]} is expected"
                )
            columns.append(value.reshape(wanted).astype(np.float64))
        return np.concatenate(columns, axis=1)

    def _wrong(self, problem: str) -> PolicyAnswerError:
        remedy = "Name the spec that fits this server (?preset= or ?spec= in its address)"
        return PolicyAnswerError(self._connection.url, problem, remedy)


def _repeated(value: Array, frames: int) -> Array:
    return np.repeat(value[None], frames, axis=0)


def load(address: str, **options: Any) -> GrootPolicy:
    """Connect to a GR00T server and find out how to talk with it.

    Args:
        address: ``host:port`` with ``?preset=NAME`` or ``?spec=FILE.json``, and ``?timeout_s=NUMBER`` where wanted.
        options: as :class:`GrootConnection` takes them.

    Raises:
        ConventionError: the address or its options are malformed, or nothing says what the server's keys mean.
        UnknownNameError: there is no such preset.
        RemotePolicyError: the server cannot be reached, speaks another protocol, or has other keys.
    """
    plain = address if "://" in address else f"tcp://{address}"
    url, asked = split_address(plain)
    if "preset" in asked:
        spec = preset(asked["preset"])
    elif "spec" in asked:
        spec = read_spec(asked["spec"])
    else:
        remedy = f"Add ?preset= ({', '.join(sorted(presets()))}) or ?spec=FILE.json to its address"
        raise ConventionError("GR00T server", f"'{url}' does not say what its numbers mean", remedy)
    if "timeout_s" in asked:
        options["timeout_s"] = float(asked["timeout_s"])
    connection = GrootConnection(url, **options)
    try:
        return GrootPolicy(connection, spec)
    except BaseException:
        connection.close()
        raise
