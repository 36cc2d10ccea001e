"""What corrections in words make of an instruction."""

from __future__ import annotations

import pytest

from hiervla.planner.embedded.interjections import amended


@pytest.mark.parametrize(
    ("instruction", "said", "wanted"),
    [
        ("put the red mug on the top shelf", ["no, the blue one"], "put the blue mug on the top shelf"),
        ("put the mug on the top shelf", ["The green one, please."], "put the green mug on the top shelf"),
        ("put the red block on the blue plate", ["i meant the green plate"], "put the red block on the green plate"),
        ("put the red cup on the shelf", ["no, the blue mug"], "put the blue cup on the shelf"),
        ("put the red mug on the top shelf", ["no, on the bottom shelf"], "put the red mug on the bottom shelf"),
        ("put the can in the bowl and wipe", ["into the drawer"], "put the can into the drawer and wipe"),
        ("put the red mug on the top shelf", ["no, the blue one", "on the table"], "put the blue mug on the table"),
        ("clear the table", ["wait, put the sponge in the drawer"], "put the sponge in the drawer"),
        ("clear the table", ["no, the blue one"], "the blue one"),
        ("clear the table", ["stop!"], "clear the table"),
        ("clear the table", [], "clear the table"),
    ],
)  # fmt: skip
def test_amended(instruction: str, said: list[str], wanted: str) -> None:
    assert amended(instruction, said) == wanted
