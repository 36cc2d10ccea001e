"""What planners are told of a skill: arguments, limits, conditions; and what older versions wrote is still read."""

from __future__ import annotations

import re

import pytest

from hiervla.representations import Condition, ConventionError, Parameter, Resources, SkillSignature
from hiervla.representations.signatures import NUMBER

POUR = SkillSignature(
    name="pour",
    doc="pour from a thing into another",
    params=(
        Parameter(name="source", type="object", categories=("can", "mug"), doc="what is held"),
        Parameter(name="into", type="location"),
        Parameter(name="amount_l", type="number", minimum=0.1, maximum=1.0, unit="l", default="0.2"),
        Parameter(name="speed", type="choice", choices=("slow", "fast")),
    ),
    preconditions=(Condition(predicate="holding", args=("{source}",)),),
    postconditions=(Condition(predicate="in", args=("{source}'s content", "{into}")),),
    resources=Resources(arms=("left",)),
)


def test_a_signature_of_an_older_version_is_read() -> None:
    old = (
        '{"name":"pick","params":[{"name":"object","type":"object","categories":["mug"],"choices":[],"doc":"what"}],'
        '"doc":"grasp","accepts":["keypoints"]}'
    )
    signature = SkillSignature.from_json(old)
    assert signature.params[0].default is None
    assert signature.resources == Resources()
    assert SkillSignature.from_json(signature.to_json()) == signature
    assert SkillSignature.from_json(POUR.to_json()) == POUR


def test_the_schema_of_a_call_is_what_tool_calling_models_take() -> None:
    schema = POUR.call_schema()
    assert (schema["title"], schema["additionalProperties"]) == ("pour", False)
    assert schema["required"] == ["source", "into", "speed"]
    assert schema["properties"] == {
        "source": {"type": "string", "description": "what is held; a thing in view of kind can, mug"},
        "into": {"type": "string", "description": "a thing or place in view"},
        "amount_l": {"type": "string", "pattern": NUMBER, "description": "from 0.1 to 1 l", "default": "0.2"},
        "speed": {"type": "string", "enum": ["slow", "fast"]},
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("amount_l", "much", "amount_l: 'much' is no number. Give a number from 0.1 to 1 l."),
        ("amount_l", "0.05", "amount_l: 0.05 is not allowed. Give a number from 0.1 to 1 l."),
        ("amount_l", "inf", "amount_l: inf is not allowed. Give a number from 0.1 to 1 l."),
        ("speed", "medium", "speed: 'medium' is not on offer. Choose one of slow, fast."),
    ],
)
def test_an_argument_that_does_not_fit_is_named(name: str, value: str, message: str) -> None:
    parameter = POUR.param(name)
    assert parameter is not None
    with pytest.raises(ConventionError) as caught:
        parameter.check(value)
    assert str(caught.value) == message


def test_arguments_that_fit_pass() -> None:
    for name, value in (("amount_l", "0.1"), ("speed", "slow"), ("source", "red mug")):
        parameter = POUR.param(name)
        assert parameter is not None
        parameter.check(value)
    assert POUR.param("nothing") is None
    assert POUR.params[2].number("1e-1") == 0.1


def test_conditions_speak_of_the_arguments() -> None:
    before, after = POUR.conditions({"source": "red mug", "into": "bowl"})
    assert [str(c) for c in (*before, *after)] == ["holding(red mug)", "in(red mug's content, bowl)"]


def test_numbers_are_written_plainly() -> None:
    for good in ("0", "12", "-3.5", "0.0625"):
        assert re.match(NUMBER, good)
    for bad in ("", "nan", "1e5", "+1", "12345678", "1."):
        assert not re.match(NUMBER, bad)
