"""Starts a LeRobot policy in LeRobot's own environment, and keeps it: ``hiervla serve policy --lerobot``.

LeRobot pins other versions of torch and transformers than ours, so its policies run in another process, by another
Python, and are asked over openpi's protocol like any other server.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, Final

from hiervla.executor.policies.remote.errors import PolicyProcessError
from hiervla.executor.policies.remote.lerobot_server.clients import KEY_VARIABLE
from hiervla.executor.policies.remote.presets import preset, presets, read_spec
from hiervla.executor.policies.remote.spec import ImageInput, RemoteSpec
from hiervla.executor.policies.remote.transport import LOOPBACK
from hiervla.representations import ConventionError

FOLDER: Final = Path(__file__).parent / "lerobot_server"
SETUP: Final = (
    "python3.12 -m venv lerobot && lerobot/bin/pip install 'lerobot[smolvla,pi,diffusion]==0.6.1' msgpack websockets"
)
"""How LeRobot's environment is made."""


def spec_for(name: str, images: dict[str, str] | None = None, rate_hz: float | None = None) -> RemoteSpec:
    """What a LeRobot policy's numbers mean.

    Args:
        name: of a preset, or of a JSON file.
        images: the policy's image keys to our cameras; by default those of the spec.
        rate_hz: rows a second, the frames a second of the dataset that it was trained on; by default the spec's.

    Raises:
        ConventionError: the file is no spec, or the spec is of servers that take other requests.
        UnknownNameError: there is no such preset.
    """
    spec = read_spec(name) if name not in presets() and name.endswith(".json") else preset(name)
    if spec.full or spec.prompt_key != "prompt" or spec.actions.key != "actions":
        raise ConventionError(
            "spec", f"'{spec.name}' is not for LeRobot's policies", "Take one with observation.state, such as lerobot"
        )
    if images:
        chosen = tuple(ImageInput(key=k, camera=c, height=None, width=None) for k, c in images.items())
        spec = spec.replace(images=chosen)
    if rate_hz is not None:
        spec = spec.replace(actions=spec.actions.replace(rate_hz=rate_hz))
    return spec


class LeRobotProcess:
    """A LeRobot policy that serves in a process of its own, for as long as this one lives.

    Attributes:
        ready: what the process said of itself: ``policy``, ``lerobot``, ``chunk_rows``, ``normalisation`` and more.
        url: what a client on this machine connects to.
    """

    def __init__(
        self,
        source: str,
        python: str | Path,
        spec: RemoteSpec,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        device: str | None = None,
        patience_s: float = 600.0,
    ) -> None:
        """Start it and wait until it listens.

        Args:
            source: folder of a policy, or its name at the Hugging Face hub.
            python: interpreter of an environment with lerobot.
            spec: what the policy's numbers mean.
            host: address to listen at. Other machines are let in with a key only.
            port: 0 takes a free one.
            device: torch's name of where it runs; by default what its configuration says.
            patience_s: how long loading may take [s].

        Raises:
            ConventionError: the interpreter is none, or it would listen to other machines without a key.
            PolicyProcessError: the policy cannot be loaded or does not fit the spec; the process's own words.
        """
        if host not in LOOPBACK and not os.environ.get(KEY_VARIABLE):
            raise ConventionError(
                "host",
                f"at '{host}' any machine of the network could use the policy",
                f"Set {KEY_VARIABLE} here and for the client, or listen at 127.0.0.1",
            )
        found = shutil.which(str(python))
        if found is None:
            raise ConventionError("python", f"'{python}' is no interpreter", f"Make an environment: {SETUP}")
        self._source, self._python = source, str(python)
        # Our own packages have no place in its environment.
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        self._process = subprocess.Popen(
            [found, str(FOLDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        settings = {
            "source": source,
            "device": device,
            "host": host,
            "port": port,
            "spec": spec.to_json(),
            "state_width": {s.key: s.width for s in spec.states},
            "action_width": spec.actions.width,
        }
        try:
            self.ready = self._begin(settings, patience_s)
        except BaseException:
            self.close()
            raise
        self.url = str(self.ready["url"])

    def _begin(self, settings: dict[str, Any], patience_s: float) -> dict[str, Any]:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        with contextlib.suppress(BrokenPipeError):
            requests.write(json.dumps(settings) + "\n")
            requests.flush()
        line = _line(answers, patience_s)
        if line is None:
            raise self._failed(f"it was not loaded within {patience_s:g} s", "Give it a faster machine, or look above")
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("ready"), dict):
            if isinstance(said, dict) and "failed" in said:
                raise self._failed(str(said["failed"]).rstrip("."), "See docs/policies-remote.md, LeRobot")
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Its last word may come a moment before its end, which is not to be taken for ours.
                self._process.wait(2.0)
            self.close()
            problem = f"the process ended with code {self._process.returncode} before it listened"
            if line:
                problem = f"the process said '{line.strip()[:80]}', where it was to say that it listens"
            raise self._failed(problem, f"Look at what it printed above, or make its environment anew: {SETUP}")
        ready: dict[str, Any] = said["ready"]
        return ready

    def wait(self) -> None:
        """Return when the process ends, which it does not by itself.

        Raises:
            PolicyProcessError: it did.
        """
        code = self._process.wait()
        raise self._failed(f"its process ended with code {code}", "Look at what it printed above")

    def close(self) -> None:
        """End the process; may be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> LeRobotProcess:
        """Itself; it serves already."""
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _failed(self, problem: str, remedy: str) -> PolicyProcessError:
        return PolicyProcessError(self._source, self._python, problem, remedy)


def _line(stream: IO[str], patience_s: float) -> str | None:
    """A line, or None if none came in that time; empty when the other side is gone."""
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append(stream.readline()), daemon=True)
    thread.start()
    thread.join(patience_s)
    return read[0] if read else None
