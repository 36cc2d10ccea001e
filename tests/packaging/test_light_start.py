"""`import hiervla` and `hiervla --help` load nothing heavy; the public names come when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hiervla

HEAVY = ("numpy", "scipy", "torch", "mujoco", "transformers", "pydantic", "rich", "PIL", "networkx")


def loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after some code."""
    report = f"\nimport sys; print('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def help_of(*command: str) -> str:
    """Code that prints the help of a command as the console script would."""
    return f"""
import sys
sys.argv = ["hiervla", *{command!r}, "--help"]
from hiervla.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""


def test_import_hiervla_is_light() -> None:
    assert loaded("import hiervla; hiervla.__version__; dir(hiervla)") == set()


def test_help_is_light() -> None:
    assert loaded(help_of()) == set()


@pytest.mark.parametrize("command", ["run", "demo", "inspect", "collect", "train", "skills", "calibrate"])
def test_help_of_a_command_is_light(command: str) -> None:
    """typer itself describes the parameters of a command with pydantic; nothing else may come."""
    assert loaded(help_of(command)) <= {"pydantic"}


def test_types_come_without_numpy_and_are_built_when_a_run_is_recorded() -> None:
    code = """
from hiervla.representations import JointCommand, Keypoints, Plan, Typed
assert not any(kind.__pydantic_complete__ for kind in (JointCommand, Keypoints, Plan))
"""
    assert loaded(code) == {"pydantic"}
    code += """
from hiervla.controllers.envelope_types import EnvelopeEvent
from hiervla.executor.record.recorder import NullRecorder
NullRecorder()
kinds = Typed.__subclasses__()
for kind in kinds:
    kinds += kind.__subclasses__()
assert len(kinds) > 60
assert {EnvelopeEvent, JointCommand, Keypoints, Plan} <= set(kinds)
assert all(kind.__pydantic_complete__ for kind in kinds)
"""
    loaded(code)


def test_the_check_sees_what_is_loaded() -> None:
    assert loaded("import numpy") == {"numpy"}
    with pytest.raises(AssertionError, match="dance"):
        loaded(help_of("dance"))


@pytest.mark.parametrize("name", [name for name in hiervla.__all__ if name != "__version__"])
def test_every_public_name_can_be_had(name: str) -> None:
    value = getattr(hiervla, name)
    assert value is not None
    assert getattr(hiervla, name) is value


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Agnet'.*Agent"):
        hiervla.Agnet  # type: ignore[attr-defined]  # noqa: B018
