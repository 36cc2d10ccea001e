"""Adapters by name: all of one protocol, with conventions that can be inspected and not chosen."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from hiervla.planner.adapters import (
    Convention,
    DuplicateAdapterError,
    ImageSize,
    OutputAdapter,
    adapter_names,
    get_adapter,
    register,
)
from hiervla.planner.adapters.table import conventions_table
from hiervla.representations import ConventionError, UnknownNameError

PAGE = Path(__file__).parents[3] / "docs" / "adapters.md"


def test_near_misses_are_suggested() -> None:
    assert get_adapter("Qwen2.5-VL") is get_adapter("qwen2.5-vl")
    with pytest.raises(UnknownNameError, match=r"unknown output adapter 'robobrain2.5'. Did you mean 'robobrain-2.5'"):
        get_adapter("robobrain2.5")


def test_names_are_taken_once() -> None:
    with pytest.raises(DuplicateAdapterError, match="'hamster' is registered already"):
        register(get_adapter("hamster"))


@pytest.mark.parametrize("name", adapter_names())
def test_an_adapter_keeps_the_protocol(name: str) -> None:
    adapter = get_adapter(name)
    assert isinstance(adapter, OutputAdapter)
    assert adapter.family == name
    for kind in adapter.kinds:
        words = adapter.instructions(kind)
        assert words.endswith((".", "?", '."')) and "  " not in words
    (missing,) = {"subtasks"} - set(adapter.kinds)
    with pytest.raises(UnknownNameError, match=f"adapter '{name}'"):
        adapter.instructions(missing)  # type: ignore[arg-type]  # a caller without a type checker


@pytest.mark.parametrize("name", adapter_names())
def test_the_caller_cannot_choose_a_convention(name: str) -> None:
    adapter = get_adapter(name)
    taken = set(inspect.signature(adapter.parse).parameters)
    assert taken == {"text", "image", "sent", "frame", "kind"}
    with pytest.raises(FrozenInstanceError):
        adapter.convention.axis_order = "yx"  # type: ignore[misc]  # that is the point
    with pytest.raises(FrozenInstanceError):
        adapter.convention = dataclasses.replace(adapter.convention)  # type: ignore[misc]  # that is the point


def test_conventions_and_sizes_must_make_sense() -> None:
    with pytest.raises(ConventionError, match="no size of an image"):
        ImageSize(0, 10)
    base = Convention("xy", "fraction", 0.0, 1.0, 0.01, "nowhere")
    for changes in ({"high": None}, {"high": -1.0}, {"step": 0.0}, {"relative_to": "sent"}):
        with pytest.raises(ConventionError):
            dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # one field at a time


def test_the_code_of_the_page_runs() -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    assert code.count("assert ") == 3
    exec(compile(code, "docs/adapters.md", "exec"), {})
    with pytest.raises(AssertionError):
        exec(compile(code.replace("[376, 508]", "[508, 376]"), "docs/adapters.md", "exec"), {})


def test_the_table_of_the_page_is_the_one_of_the_code() -> None:
    _, rest = PAGE.read_text(encoding="utf-8").split("<!-- conventions -->\n")
    table, _ = rest.split("\n<!-- end of conventions -->")
    assert table == conventions_table(), "replace it by what hiervla.planner.adapters.table.conventions_table() gives"
    for name in adapter_names():
        assert f"| `{name}` |" in table
