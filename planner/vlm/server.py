"""Asks any server that speaks the OpenAI chat-completions protocol: vLLM, llama.cpp, SGLang, Ollama, a hosted one.

The request goes out with httpx2, which huggingface_hub brings, and not with its `InferenceClient`: that one turns
`response_format` into another dialect, which most servers silently ignore, sends the Hugging Face token of the
person who is logged in to whatever URL it is given, and sends nothing at all while `HF_HUB_OFFLINE` is set.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from hiervla.planner.vlm.backend import Constrained, Generation, Image, Message, Sampling
from hiervla.planner.vlm.errors import (
    BackendError,
    ServerStatusError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from hiervla.planner.vlm.stream import Reply, read_stream, read_whole
from hiervla.representations import ConventionError

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLES: Final = ("HIERVLA_API_KEY", "OPENAI_API_KEY")
"""Environment variables that a key is taken from, in this order; there is no other way in."""
MAX_WAIT_S: Final = 30.0
"""A server that asks to wait longer than this is not waited for [s]."""
_OPTIONAL: Final = ("response_format", "stream_options", "seed", "top_p", "temperature", "max_tokens")
_CONNECT_S: Final = 10.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class ServerBackend:
    """A model behind an OpenAI-compatible server.

    Images go out as PNG data URLs, without loss, so that the model sees the very pixels that are on record; answers
    come as a stream. The schema goes out as `response_format`. What a server refuses by name, that or one of the
    settings of the sampling, is left out from then on, and the answer says so.

    Args:
        model: the model's name, as the server knows it.
        base_url: up to and with `/v1`.
        timeout_s: how long an answer may take, from the request to its last token [s].
        retries: how often a request is repeated that failed for a reason that passes.
        backoff_s: wait before the first repeat; it doubles each time [s].
        sleep: waits that long; tests put in their own.

    Raises:
        ConventionError: the URL is none, or carries a password.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        timeout_s: float = 120.0,
        retries: int = 3,
        backoff_s: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = base_url if "@" not in base_url else "what was given"
            raise ConventionError("base_url", f"'{shown}' is no URL of a server", "Write http://host:port/v1")
        if parts.username or parts.password:
            raise ConventionError(
                "base_url",
                "it carries a user name or password, which would go on record",
                "Put a key into HIERVLA_API_KEY",
            )
        self.model = model
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.retries = retries
        self.backoff_s = backoff_s
        self.id = f"openai:{model}@{self.base_url}"
        self._sleep = sleep
        self._loopback = parts.hostname in _LOOPBACK
        self._private = parts.scheme == "https" or self._loopback
        self._refused_fields: set[str] = set()

    def generate(
        self,
        messages: Sequence[Message],
        images: Sequence[Image],
        schema: Mapping[str, Any] | None,
        sampling: Sampling,
    ) -> Generation:
        """The model's answer.

        Raises:
            ServerUnreachableError: nobody listens there, or the connection broke, again and again.
            ServerTimeoutError: it took longer than `timeout_s`.
            ServerStatusError: the server refused.
            MalformedReplyError: what came is no chat completion.
        """
        began = time.perf_counter()
        body = self._body(messages, images, schema, sampling)
        attempts = 0
        while True:
            attempts += 1
            sent = {k: v for k, v in body.items() if k not in self._refused_fields}
            try:
                reply = self._request(sent)
                break
            except ServerStatusError as error:
                if self._leave_out(error):
                    continue
                self._wait(error, attempts, error.retry_after_s)
            except BackendError as error:
                self._wait(error, attempts, None)
        constrained: Constrained = "none" if "response_format" not in sent else "json_schema"
        return Generation(
            text=reply.text,
            model=self.id,
            latency_s=time.perf_counter() - began,
            constrained=constrained,
            complete=reply.finish != "length",
            prompt_tokens=reply.prompt_tokens,
            tokens=reply.tokens,
            attempts=attempts,
            left_out=tuple(sorted(self._refused_fields)),
        )

    def _leave_out(self, error: ServerStatusError) -> bool:
        """Whether the server refuses a field by name that can be done without; it is left out from then on."""
        if error.status not in (400, 422):
            return False
        named = {f for f in _OPTIONAL if f in error.problem} - self._refused_fields
        self._refused_fields |= named
        return bool(named)

    def _wait(self, error: BackendError, attempts: int, asked_s: float | None) -> None:
        """Back off, or give up with the error where waiting is of no use."""
        wait = self.backoff_s * 2.0 ** (attempts - 1) if asked_s is None else asked_s
        if not error.retryable or attempts > self.retries or wait > MAX_WAIT_S:
            raise error
        self._sleep(wait)

    def _body(
        self,
        messages: Sequence[Message],
        images: Sequence[Image],
        schema: Mapping[str, Any] | None,
        sampling: Sampling,
    ) -> dict[str, Any]:
        turns: list[dict[str, Any]] = []
        for k, m in enumerate(messages):
            shown = [{"type": "image_url", "image_url": {"url": _data_url(i)}} for i in images] if k == 0 else []
            content: Any = [*shown, {"type": "text", "text": m.text}] if shown else m.text
            turns.append({"role": m.role, "content": content})
        form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema or {})}}
        return {
            "model": self.model,
            "messages": turns,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            **({} if schema is None else {"response_format": form}),
        }

    def _key(self) -> str | None:
        """The key for this server. One that is for another service by its name does not go out unencrypted."""
        for name in KEY_VARIABLES:
            key = os.environ.get(name, "").strip()
            if key and (name == KEY_VARIABLES[0] or self._private):
                return key
        return None

    def _request(self, body: Mapping[str, Any]) -> Reply:
        import httpx2

        key = self._key()
        headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {key}"} if key else {})
        deadline = time.perf_counter() + self.timeout_s
        limits = httpx2.Timeout(self.timeout_s, connect=min(_CONNECT_S, self.timeout_s))
        url = f"{self.base_url}/chat/completions"
        try:
            # A proxy cannot reach our own loopback; redirects would take the key elsewhere.
            with (
                httpx2.Client(timeout=limits, follow_redirects=False, trust_env=not self._loopback) as client,
                client.stream("POST", url, json=body, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise self._refused(response, key)
                lines = (_hide(line, key) for line in self._until(response, deadline))
                if "text/event-stream" in response.headers.get("content-type", ""):
                    return read_stream(lines, self.id)
                return read_whole("\n".join(lines), self.id)
        except httpx2.TimeoutException as error:
            raise self._late() from error
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as error:
            raise ServerUnreachableError(
                self.id,
                f"no connection to {self.base_url} ({_clean(str(error) or type(error).__name__, key)})",
                "Start the server, or name another one with HIERVLA_BASE_URL or in --planner",
            ) from error
        except (httpx2.InvalidURL, ValueError) as error:
            raise BackendError(
                self.id, f"the request cannot be sent ({_clean(str(error), key)})", "Check the URL"
            ) from error

    def _until(self, response: httpx2.Response, deadline: float) -> Iterator[str]:
        for line in response.iter_lines():
            if time.perf_counter() > deadline:
                raise self._late()
            yield line

    def _late(self) -> ServerTimeoutError:
        return ServerTimeoutError(
            self.id,
            f"no answer within {self.timeout_s:g} s",
            "Give it more time (timeout_s), or use a smaller or faster model",
        )

    def _refused(self, response: httpx2.Response, key: str | None) -> BackendError:
        status = response.status_code
        said = _clean(_message(response.read()), key)
        remedies = {
            401: "Put the right key into HIERVLA_API_KEY",
            403: "Put the right key into HIERVLA_API_KEY",
            404: f"Check the model's name ('{self.model}') and that the URL ends as it should, mostly with /v1",
            413: "Use a camera with a smaller image",
            429: "Wait, or raise the limit at the provider",
        }
        fallback = "Look at the server's log" if status >= 500 else "Check what the server and its model can take"
        problem = f"the server answers {status}" + (f": {said}" if said else "")
        return ServerStatusError(
            self.id, status, problem, remedies.get(status, fallback), _seconds(response.headers.get("retry-after"))
        )


def _data_url(image: Image) -> str:
    from PIL import Image as Pictures

    buffer = io.BytesIO()
    Pictures.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _message(body: bytes) -> str:
    """What a server says about an error, in whichever form."""
    text = body[:4000].decode(errors="replace")
    try:
        value = json.loads(text)
    except ValueError:
        return "" if text.lstrip().startswith("<") else text
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and name in value:
            value = value[name]
    return value if isinstance(value, str) else json.dumps(value)


def _hide(text: str, key: str | None) -> str:
    """The text without the key, which some servers repeat; texts of theirs go on record."""
    return text.replace(key, "***") if key else text


def _clean(text: str, key: str | None) -> str:
    """One short line without the key."""
    return " ".join(_hide(text, key).split())[:300].rstrip(". ")


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
