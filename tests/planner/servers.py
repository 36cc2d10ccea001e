"""Servers for tests, on loopback: one that misbehaves to order, and llama.cpp's own with a model of random weights."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    """One event of a stream."""
    delta = {} if text is None else {"content": text}
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}) + "\n\n"


def streamed(text: str, finish: str = "stop") -> list[str]:
    """A well-behaved stream, three characters at a time."""
    pieces = [chunk(text[i : i + 3]) for i in range(0, len(text), 3)]
    usage = {"prompt_tokens": 11, "completion_tokens": len(pieces)}
    last = "data: " + json.dumps({"choices": [], "usage": usage}) + "\n\n"
    return [": keep-alive\n\n", *pieces, chunk(finish=finish), last, "data: [DONE]\n\n"]


class Reply:
    """What the misbehaving server does with one request.

    Args:
        body: text, or pieces of it that are flushed one by one; a number among them is a pause [s].
        status: HTTP status.
        kind: content type.
        headers: further headers.
        cut: close the connection without the end that chunked encoding has.
    """

    def __init__(
        self,
        body: str | Sequence[str | float],
        status: int = 200,
        kind: str = "text/event-stream",
        cut: bool = False,
        **headers: str,
    ) -> None:
        self.pieces = [body] if isinstance(body, str) else body
        self.status, self.kind, self.cut, self.headers = status, kind, cut, headers


class Scripted:
    """A server that gives these replies in order, the last one again and again, and remembers what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                self.send_response(reply.status)
                for name, value in {"Content-Type": reply.kind, **reply.headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for piece in reply.pieces:
                        if isinstance(piece, str):
                            data = piece.encode()
                            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                            self.wfile.flush()
                        else:
                            outer.hurry.wait(piece)
                    if not reply.cut:
                        self.wfile.write(b"0\r\n\r\n")
                except (BrokenPipeError, ConnectionResetError):
                    pass  # who asked has hung up
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.hurry = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hurry.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


# llama.cpp ----------------------------------------------------------------------------------------------------

_SERVE = """
import sys
import xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.mmproj.path, p.mmproj_use_gpu = sys.argv[1], sys.argv[2], False
p.n_ctx, p.n_parallel, p.port, p.warmup, p.verbosity = 16384, 1, 0, False, 0
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama(folder: Path) -> Iterator[str]:
    """The base URL of llama.cpp's server with a tiny model of random weights, in a process of its own."""
    model, eyes = write_model(folder)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(model), str(eyes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http"), "llama.cpp's server did not start"
        yield f"{address}/v1"
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def write_model(folder: Path) -> tuple[Path, Path]:
    """A language model of one block, and eyes for it in the form of Idefics3; files of both."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Floats:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    d, hidden, patch, size = 64, 64, 8, 32
    words = [
        "<pad>",
        "<eos>",
        "<|user|>",
        "<|assistant|>",
        "<fake_token_around_image>",
        "<global-img>",
        "<row_1_col_1>",
    ]
    special = len(words)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    words += [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)] + ["ĠĠ", "ĊĊ"]
    meta: dict[str, Any] = {
        "general.architecture": "llama", "general.name": "tiny", "llama.context_length": 16384,
        "llama.embedding_length": d, "llama.block_count": 1, "llama.feed_forward_length": hidden,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.dimension_count": d // 2,
        "llama.vocab_size": len(words), "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": [3] * special + [1] * (len(words) - special),
        "tokenizer.ggml.merges": ["Ġ Ġ", "Ċ Ċ"], "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    }  # fmt: skip
    ones = np.ones(d, np.float32)
    language: dict[str, Floats] = {
        "token_embd.weight": random(len(words), d), "output_norm.weight": ones, "output.weight": random(len(words), d),
        "blk.0.attn_norm.weight": ones, "blk.0.attn_q.weight": random(d, d), "blk.0.attn_k.weight": random(d // 2, d),
        "blk.0.attn_v.weight": random(d // 2, d), "blk.0.attn_output.weight": random(d, d),
        "blk.0.ffn_norm.weight": ones, "blk.0.ffn_gate.weight": random(hidden, d),
        "blk.0.ffn_up.weight": random(hidden, d), "blk.0.ffn_down.weight": random(d, hidden),
    }  # fmt: skip
    w = 32
    clip: dict[str, Any] = {
        "general.architecture": "clip", "clip.has_vision_encoder": True, "clip.projector_type": "idefics3",
        "clip.use_gelu": True, "clip.vision.image_size": size, "clip.vision.patch_size": patch,
        "clip.vision.embedding_length": w, "clip.vision.feed_forward_length": w, "clip.vision.projection_dim": d,
        "clip.vision.block_count": 1, "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-6, "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5], "clip.vision.projector.scale_factor": 2,
        "clip.vision.preproc_image_size": size,
    }  # fmt: skip
    eyes: dict[str, Floats] = {
        "v.patch_embd.weight": random(w, 3, patch, patch), "v.patch_embd.bias": random(w),
        "v.position_embd.weight": random((size // patch) ** 2, w), "v.post_ln.weight": np.ones(w, np.float32),
        "v.post_ln.bias": random(w), "mm.model.fc.weight": random(d, 4 * w),
    }  # fmt: skip
    for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
        eyes |= {f"v.blk.0.{part}.weight": random(w, w), f"v.blk.0.{part}.bias": random(w)}
    for part in ("ln1", "ln2"):
        eyes |= {f"v.blk.0.{part}.weight": np.ones(w, np.float32), f"v.blk.0.{part}.bias": random(w)}
    paths = folder / "tiny.gguf", folder / "eyes.gguf"
    write_gguf(paths[0], meta, language)
    write_gguf(paths[1], clip, eyes)
    return paths


def write_gguf(path: Path, meta: Mapping[str, Any], tensors: Mapping[str, Floats]) -> None:
    """GGUF version 3 (ggml's docs/gguf.md): header, typed values, tensor index, tensors aligned to 32 bytes."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    def typed(value: Any) -> tuple[int, bytes]:
        match value:
            case bool():
                return 7, struct.pack("<?", value)
            case int():
                return 5, struct.pack("<i", value)
            case float():
                return 6, struct.pack("<f", value)
            case str():
                return 8, text(value)
        items = [typed(v) for v in value]
        return 9, struct.pack("<IQ", items[0][0], len(items)) + b"".join(data for _, data in items)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    for name, value in meta.items():
        number, data = typed(value)
        # Single numbers are wanted as unsigned ones, numbers in lists as signed ones.
        number = 4 if number == 5 else number
        head += text(name) + struct.pack("<I", number) + data
    at, body = 0, b""
    for name, array in tensors.items():
        shape = array.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, at)
        data = np.ascontiguousarray(array, np.float32).tobytes()
        data += b"\0" * (-len(data) % 32)
        body += data
        at += len(data)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
