"""Chat completions as servers send them: whole, or as server-sent events (OpenAI API reference, "Chat")."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hiervla.planner.vlm.errors import MalformedReplyError, ServerUnreachableError

MAX_CHARACTERS: Final = 1_000_000
"""A server that sends more than this is not answering our question."""
_REMEDY: Final = "Check that the URL is one of an OpenAI-compatible server, mostly ending with /v1"


@dataclass(frozen=True)
class Reply:
    """A completion.

    Attributes:
        text: what the model wrote.
        finish: why it ended: "stop", "length"...
        prompt_tokens: as the server counts, None where it does not.
        tokens: the same for the answer.
    """

    text: str
    finish: str
    prompt_tokens: int | None = None
    tokens: int | None = None


def read_whole(text: str, backend: str) -> Reply:
    """A completion that came in one piece.

    Raises:
        MalformedReplyError: it is none.
    """
    value = _json(text, backend)
    choice = _choice(value, backend)
    message = choice.get("message") if choice else None
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str) or choice is None:
        raise MalformedReplyError(backend, "the reply has no message with content", _REMEDY)
    return Reply(content, str(choice.get("finish_reason") or "stop"), *_usage(value))


def read_stream(lines: Iterable[str], backend: str) -> Reply:
    """A completion from the lines of an event stream.

    Raises:
        MalformedReplyError: an event is no JSON, reports an error, or belongs to something else.
        ServerUnreachableError: the stream ended in the middle.
    """
    pieces: list[str] = []
    length = 0
    finish = ""
    counts: tuple[int | None, int | None] = (None, None)
    ended = False
    for line in lines:
        if not line.startswith("data:"):
            continue  # comments that keep the connection alive, event names, empty lines between events
        data = line[5:].strip()
        if data == "[DONE]":
            ended = True
            break
        value = _json(data, backend)
        if "error" in value:
            raise MalformedReplyError(backend, f"the server breaks off: {_short(value['error'])}", "Look at its log")
        choice = _choice(value, backend)
        if choice is not None:
            delta = choice.get("delta")
            piece = delta.get("content") if isinstance(delta, dict) else None
            if isinstance(piece, str):
                pieces.append(piece)
                length += len(piece)
            finish = str(choice.get("finish_reason") or finish)
        if length > MAX_CHARACTERS:
            raise MalformedReplyError(backend, f"the reply has more than {MAX_CHARACTERS} characters", _REMEDY)
        if value.get("usage"):
            counts = _usage(value)
    if not ended and not finish:
        problem = f"the connection ended in the middle of the answer, after {length} characters"
        raise ServerUnreachableError(backend, problem, "Try again, or look at the server's log")
    return Reply("".join(pieces), finish or "stop", *counts)


def _json(text: str, backend: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(backend, f"the reply is no JSON: {_short(text)}", _REMEDY) from error
    if not isinstance(value, dict):
        raise MalformedReplyError(backend, f"the reply is no JSON object: {_short(text)}", _REMEDY)
    return value


def _choice(value: dict[str, Any], backend: str) -> dict[str, Any] | None:
    """The first choice; None where a chunk has none, such as the last one with the counts."""
    choices = value.get("choices")
    if not isinstance(choices, list) or (choices and not isinstance(choices[0], dict)):
        raise MalformedReplyError(backend, f"the reply has no choices: {_short(json.dumps(value))}", _REMEDY)
    return choices[0] if choices else None


def _usage(value: dict[str, Any]) -> tuple[int | None, int | None]:
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None, None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, answer = (c if isinstance(c, int) else None for c in counts)
    return prompt, answer


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "'" + " ".join(text.split())[:120] + "'"
