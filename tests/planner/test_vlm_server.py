"""The backend for servers: against llama.cpp's own server, and against one that does everything wrong."""

from __future__ import annotations

import base64
import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hiervla.planner.vlm.answers import answer_schema, point_schema, read_answer, read_point
from hiervla.planner.vlm.backend import Backend, Message, Sampling
from hiervla.planner.vlm.errors import (
    BackendError,
    MalformedReplyError,
    ServerStatusError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from hiervla.planner.vlm.server import ServerBackend
from hiervla.representations import ConventionError
from hiervla.skills import SkillLibrary
from tests.planner.servers import Reply, Scripted, chunk, free_port, llama, streamed

SKILLS = SkillLibrary.load().signatures()
SCHEMA = answer_schema(SKILLS)
IMAGE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
ASK = [Message("user", "put the red mug on the top shelf")]
GOOD = streamed('{"point":null}')
KEY = "sk-very-secret-1234567890"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HIERVLA_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def ask(server: Scripted | str, **options: Any) -> tuple[str, list[float], Any]:
    waits: list[float] = []
    url = server if isinstance(server, str) else server.url
    backend = ServerBackend("tiny", url, **{"sleep": waits.append, "timeout_s": 5.0, **options})
    answer = backend.generate(ASK, [IMAGE], point_schema(), Sampling(seed=3))
    return answer.text, waits, answer


# llama.cpp ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama(tmp_path_factory.mktemp("gguf")) as url:
        yield url


def test_a_real_server_holds_random_weights_to_the_schema(llama_url: str) -> None:
    backend = ServerBackend("tiny", llama_url)
    assert isinstance(backend, Backend)
    kinds = set()
    for seed in range(6):
        answer = backend.generate(ASK, [IMAGE], SCHEMA, Sampling(temperature=1.0, seed=seed, max_tokens=6000))
        assert answer.complete and answer.constrained == "json_schema" and answer.attempts == 1
        assert answer.tokens and answer.prompt_tokens
        draft = read_answer(answer.text, SKILLS)
        kinds.add("refusal" if draft.refuse else draft.calls[0].skill)
    assert kinds - {"refusal"}, "some of six draws should be a plan"
    read_point(backend.generate(ASK, [IMAGE], point_schema(), Sampling(max_tokens=300)).text)


def test_a_real_server_sees_the_image(llama_url: str) -> None:
    backend = ServerBackend("tiny", llama_url)
    open_question = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^[a-z]{30}$"}},
        "required": ["a"],
    }

    def said(*images: np.ndarray) -> tuple[str, int]:
        answer = backend.generate(ASK, images, open_question, Sampling())
        assert answer.prompt_tokens is not None
        return answer.text, answer.prompt_tokens

    text, tokens = said(IMAGE)
    assert said(IMAGE) == (text, tokens)
    assert said(255 - IMAGE)[0] != text
    assert said()[1] < tokens


def test_a_real_server_cuts_a_long_answer_and_it_is_noticed(llama_url: str) -> None:
    answer = ServerBackend("tiny", llama_url).generate(ASK, [IMAGE], SCHEMA, Sampling(max_tokens=5))
    assert not answer.complete


# what goes over the wire ----------------------------------------------------------------------------------------


def test_what_goes_over_the_wire() -> None:
    turns = [*ASK, Message("assistant", "{}"), Message("user", "again")]
    with Scripted(Reply(GOOD)) as server:
        backend = ServerBackend("tiny", server.url + "/")
        answer = backend.generate(turns, [IMAGE], SCHEMA, Sampling(temperature=0.5, seed=3, max_tokens=77))
        (body,), (headers,) = server.bodies, server.headers
    assert (answer.text, answer.tokens, answer.prompt_tokens) == ('{"point":null}', 5, 11)
    assert answer.model == backend.id == f"openai:tiny@{server.url}"
    first, *others = body.pop("messages")
    picture, text = first["content"]
    assert text == {"type": "text", "text": ASK[0].text}
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), IMAGE)
    assert others == [{"role": "assistant", "content": "{}"}, {"role": "user", "content": "again"}]
    assert body == {
        "model": "tiny", "stream": True, "stream_options": {"include_usage": True},
        "max_tokens": 77, "temperature": 0.5, "top_p": 1.0, "seed": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
    }  # fmt: skip
    assert "authorization" not in headers


def test_offline_for_the_hub_is_not_offline_for_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_you")
    with Scripted(Reply(GOOD)) as server:
        ask(server)
    assert "hf_not_for_you" not in str(server.headers)


def test_a_server_that_does_not_stream_is_understood() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "{}"}, "finish_reason": "length"}]}
    with Scripted(Reply(json.dumps(whole), kind="application/json")) as server:
        text, _, answer = ask(server)
    assert text == "{}" and not answer.complete and answer.tokens is None


def test_a_server_without_schemas_is_asked_without_and_it_is_said() -> None:
    no = Reply('{"detail": "Unsupported fields in the request: response_format"}', 422, "application/json")
    with Scripted(no, Reply(GOOD)) as server:
        backend = ServerBackend("tiny", server.url)
        for _ in range(2):
            answer = backend.generate(ASK, [IMAGE], SCHEMA, Sampling())
            assert answer.constrained == "none"
    assert ["response_format" in b for b in server.bodies] == [True, False, False]


def test_settings_that_a_server_refuses_by_name_are_left_out() -> None:
    no = Reply('{"error": {"message": "Unsupported parameter: \'temperature\'"}}', 400, "application/json")
    other = Reply('{"error": {"message": "stream_options?"}}', 400, "application/json")
    with Scripted(no, other, Reply(GOOD)) as server:
        _, waits, answer = ask(server)
    assert answer.left_out == ("stream_options", "temperature") and answer.constrained == "json_schema"
    assert not waits and answer.attempts == 3 and "temperature" not in server.bodies[2]
    with Scripted(no) as server:
        with pytest.raises(ServerStatusError):
            ask(server)
    assert len(server.bodies) == 2


# keys -----------------------------------------------------------------------------------------------------------


def test_keys_come_from_the_environment_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(Reply(GOOD)) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "second")
        ask(server)
        monkeypatch.setenv("HIERVLA_API_KEY", KEY)
        ask(server)
    assert [h["authorization"] for h in server.headers] == ["Bearer second", f"Bearer {KEY}"]


def test_a_key_for_another_service_does_not_go_out_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for url, goes in (
        ("http://10.0.0.7:8000/v1", None),
        ("https://example.org/v1", KEY),
        ("http://localhost:1/v1", KEY),
    ):
        assert ServerBackend("m", url)._key() == goes
    monkeypatch.setenv("HIERVLA_API_KEY", "mine")
    assert ServerBackend("m", "http://10.0.0.7:8000/v1")._key() == "mine"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}), 401, "application/json"),
        Reply(f"no such thing, Bearer {KEY}", 404, "text/plain"),
        Reply(f"data: {KEY}\n\n"),
        Reply(f"this is no JSON {KEY}", kind="application/json"),
        Reply(f"data: {json.dumps({'error': {'message': KEY}})}\n\n"),
        Reply(streamed(f"your key is {KEY}"[:12]) + [chunk(KEY)]),
    ],
)
def test_a_key_is_in_no_error_answer_or_log(
    reply: Reply, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HIERVLA_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    said = ""
    with Scripted(reply) as server:
        try:
            said = str(ask(server, retries=0)[2])
        except BackendError as error:
            said = f"{error} {error.args} {vars(error)}"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert said and KEY not in said
    assert KEY not in caplog.text


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    for url in (f"http://me:{KEY}@host/v1", f"ftp://me:{KEY}@host", "localhost:8000"):
        with pytest.raises(ConventionError) as caught:
            ServerBackend("m", url)
        assert KEY not in str(caught.value)


# what goes wrong --------------------------------------------------------------------------------------------------


def test_nobody_is_there() -> None:
    with pytest.raises(ServerUnreachableError, match="no connection to http://127.0.0.1:.*Start the server") as caught:
        ask(f"http://127.0.0.1:{free_port()}/v1", retries=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "HIERVLA_API_KEY"), (404, "model's name"), (400, "what the server")]
)
def test_what_does_not_pass_is_not_tried_again(status: int, remedy: str) -> None:
    with Scripted(Reply('{"error": {"message": "no."}}', status, "application/json")) as server:
        with pytest.raises(ServerStatusError, match=f"answers {status}: no. .*{remedy}") as caught:
            ask(server)
    assert caught.value.status == status and len(server.bodies) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again_after_longer_and_longer_waits(status: int) -> None:
    no = Reply("<html>busy</html>", status, "text/html")
    with Scripted(no, no, Reply(GOOD)) as server:
        _, waits, answer = ask(server)
    assert waits == [0.5, 1.0] and answer.attempts == 3
    with Scripted(no) as server:
        with pytest.raises(ServerStatusError, match=rf"answers {status}\. "):
            ask(server, retries=2)
    assert len(server.bodies) == 3


def test_a_server_may_say_how_long_to_wait() -> None:
    with Scripted(Reply("{}", 429, retry_after="7"), Reply(GOOD)) as server:
        assert ask(server)[1] == [7.0]
    with Scripted(Reply("{}", 429, retry_after="3600"), Reply(GOOD)) as server:
        with pytest.raises(ServerStatusError):
            ask(server)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply("data: {nonsense\n\n"), "no JSON"),
        (Reply("data: [1]\n\n"), "no JSON object"),
        (Reply('data: {"object": "list"}\n\n'), "no choices"),
        (Reply("hello", kind="text/html"), "no JSON: 'hello'"),
        (Reply('{"choices": []}', kind="application/json"), "no message"),
        (Reply('data: {"error": {"message": "out of memory"}}\n\n'), "out of memory"),
        (Reply(["x" * 400_000]), "in the middle"),
        (Reply([chunk("x" * 400_000)] * 3), "more than 1000000"),
    ],
)
def test_what_is_no_completion_is_told_as_such(reply: Reply, problem: str) -> None:
    with Scripted(reply) as server:
        with pytest.raises((MalformedReplyError, ServerUnreachableError), match=problem):
            ask(server, retries=0)


def test_a_connection_that_breaks_is_tried_again() -> None:
    for broken in (Reply([chunk("{")], cut=True), Reply([chunk("{")])):
        with Scripted(broken, Reply(GOOD)) as server:
            text, waits, _ = ask(server)
        assert text == '{"point":null}' and waits == [0.5]


@pytest.mark.parametrize("pieces", [[30.0], [chunk("{"), 30.0], [x for _ in range(100) for x in (chunk(" "), 0.1)]])
def test_a_server_that_hangs_or_dawdles_is_given_up(pieces: list[str | float]) -> None:
    began = time.perf_counter()
    with Scripted(Reply(pieces)) as server:
        with pytest.raises(ServerTimeoutError, match=r"no answer within 0\.4 s"):
            ask(server, timeout_s=0.4)
        assert len(server.bodies) == 1
    assert time.perf_counter() - began < 3.0


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERVLA_API_KEY", KEY)
    with Scripted(Reply(GOOD)) as elsewhere, Scripted(Reply("", 307, Location=elsewhere.url)) as server:
        with pytest.raises(ServerStatusError, match="answers 307"):
            ask(server)
    assert not elsewhere.bodies
