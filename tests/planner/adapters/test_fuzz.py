"""Whatever a model writes, nothing but an AdapterError leaves an adapter, and it takes no longer than it should."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks import adapters as benchmark
from hiervla.planner.adapters import AdapterError, ImageSize, adapter_names, get_adapter
from hiervla.planner.adapters.base import MAX_CHARS
from tests.planner.adapters.common import image

PATTERNS = (
    "[", "[1", "[1,", "[1 //", '["', '["a",', "[(1,2)] ", "(1,2)", "(1,2", "[{", "[{'a':", '{"point":[1,2]} ',
    '<point x="', '<points x1="1" y1="1">', '<point x="1" y="1">a', "<ans>[", "[<action>", "trajectory of the a is [",
    "trajectory of the ", "[1," + " " * 100, "</think>", "\\", '"',
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_answers(seed: int) -> None:
    tally = benchmark.fuzz(1500, seed)
    assert tally.foreign == []
    assert tally.fuzzed == tally.accepted + tally.refused == 1500
    assert tally.accepted > 150, "mutations so wild that nothing is understood test little"


def test_the_fuzzing_sees_an_exception_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hiervla.planner.adapters.answer.Answer.artifacts", broken)
    tally = benchmark.fuzz(200, 3)
    assert tally.foreign
    assert all("ZeroDivisionError" in line for line in tally.foreign)


@pytest.mark.parametrize("family", ["hamster", "gpt", "qwen3-vl", "molmo", "molmo2", "molmoact", "moka"])
def test_the_longest_answers_take_no_time_to_speak_of(family: str) -> None:
    adapter, ref = get_adapter(family), image()
    for pattern in PATTERNS:
        text = (pattern * (MAX_CHARS // len(pattern) + 1))[:MAX_CHARS]
        began = time.thread_time()
        try:
            adapter.parse(text, ref, sent=ImageSize(644, 476))
        except AdapterError:
            pass
        assert time.thread_time() - began < 3.0, f"{pattern!r} repeated"


def test_the_benchmark_ends_with_its_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "QUICK", 300)
    monkeypatch.setattr(benchmark, "REPEATS", 3)
    benchmark.main(["--quick"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["fuzzed"] == 300
    assert figures["foreign_exceptions"] == 0
    assert set(figures["parse_median_us"]) == set(adapter_names())
