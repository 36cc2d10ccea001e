"""A policy that asks a server: ``openpi:ws://host:port``."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from hiervla.executor.policies.remote.convert import Converter
from hiervla.executor.policies.remote.encode import full_request, request
from hiervla.executor.policies.remote.presets import parse_spec, preset, presets, read_spec
from hiervla.executor.policies.remote.spec import RemoteSpec
from hiervla.executor.policies.remote.transport import Connection
from hiervla.representations import ActionChunk, ConventionError, Observation, Step, UnknownNameError

SCHEME = "openpi"
_OPTIONS = ("preset", "spec", "timeout_s")


class RemotePolicy:
    """Sends what it sees to a server, and takes the answer for a chunk."""

    def __init__(self, connection: Connection, spec: RemoteSpec) -> None:
        """Use a connection; `spec` says what the server is sent and what its answers mean."""
        self.spec = spec
        self._connection = connection
        self._converter = Converter(spec, connection.url)
        named = connection.metadata.get("policy")
        inner = f"/{named}" if isinstance(named, str) and named else ""
        self._id = f"{SCHEME}:{spec.name}{inner}@{connection.url}"
        # openpi's own servers pass on every key that they are sent, so only those are sent one that ask for it.
        self._takes_seed = connection.metadata.get("takes_seed") is True
        self._seed = self._call = 0

    @property
    def id(self) -> str:
        """``openpi:``, the spec, the policy's own name where the server says it, and the address."""
        return self._id

    def reset(self, step: Step, seed: int) -> None:
        """Start a new attempt. openpi's protocol has no word for it; a server of hiervla's reads it in the call."""
        self._seed, self._call = seed, 0

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next chunk.

        Raises:
            CameraError: the spec names a camera that is missing.
            RemotePolicyError: no usable answer came; the message names the server and what happened.
        """
        if self.spec.full:
            message = full_request(observation, step, self._seed, self._call)
        else:
            message = request(observation, step, self.spec)
            if self._takes_seed:
                message |= {"seed": self._seed, "call": self._call}
        answer = self._connection.ask(message)
        chunk = self._converter.chunk(answer, observation, self._id)
        self._call += 1
        return chunk

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._connection.close()


def load(address: str, **options: Any) -> RemotePolicy:
    """Connect to a server and find out how to talk with it.

    Args:
        address: ``ws://host:port``, with ``?preset=NAME``, ``?spec=FILE.json`` or ``?timeout_s=NUMBER`` where wanted.
            Without preset and spec, the server's metadata have to hold a spec, as those of ``hiervla serve policy`` do.
        options: as :class:`Connection` takes them.

    Raises:
        ConventionError: the address or its options are malformed, or nothing says what the server's numbers mean.
        UnknownNameError: there is no such preset.
        RemotePolicyError: the server cannot be reached or speaks another protocol.
    """
    url, asked = split_address(address)
    spec = preset(asked["preset"]) if "preset" in asked else None
    if "spec" in asked:
        spec = read_spec(asked["spec"])
    if "timeout_s" in asked:
        options["timeout_s"] = float(asked["timeout_s"])
    connection = Connection(url, **options)
    metadata = connection.open()
    if spec is None:
        text = metadata.get("spec")
        if not isinstance(text, str):
            connection.close()
            raise ConventionError(
                "policy server",
                f"'{connection.url}' does not say what its numbers mean",
                f"Add ?preset= ({', '.join(sorted(presets()))}) or ?spec=FILE.json to its address",
            )
        spec = parse_spec(text, f"the metadata of '{connection.url}'")
    return RemotePolicy(connection, spec)


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """URL and options of an address.

    Raises:
        ConventionError: an option has no meaning.
        UnknownNameError: there is no such option.
    """
    parts = urlsplit(address)
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in asked:
        if name not in _OPTIONS:
            raise UnknownNameError("option", name, _OPTIONS, "the address of a policy server")
    if "preset" in asked and "spec" in asked:
        raise ConventionError("policy server", "both preset and spec are given", "Give one of them")
    if "timeout_s" in asked:
        try:
            good = 0.0 < float(asked["timeout_s"]) < 3600.0
        except ValueError:
            good = False
        if not good:
            raise ConventionError("timeout_s", f"'{asked['timeout_s']}' is no number of seconds", "Write timeout_s=30")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), asked
