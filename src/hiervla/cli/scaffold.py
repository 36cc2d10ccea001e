"""``hiervla skills new``: an installable package with one skill that works, to change into one's own."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from hiervla._version import __version__
from hiervla.representations import HiervlaError


class ScaffoldError(HiervlaError, ValueError):
    """A package that cannot be made under that name or in that place."""

    exit_code = 2

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        super().__init__(f"no package was made for skill '{name}': {problem}. {remedy}.")
        self.name = name
        self.problem = problem


def scaffold(name: str, parent: Path) -> Path:
    """Write the package.

    Args:
        name: of the skill.
        parent: the folder in which the package's folder is made.

    Returns:
        The package's folder.

    Raises:
        ScaffoldError: the name is none for a skill or is taken, or the folder exists or cannot be written.
    """
    from hiervla.skills import SkillLibrary

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        remedy = "Use lower case letters, digits and underscores, such as 'press_button'"
        raise ScaffoldError(name, "that is no name for a skill", remedy)
    library = SkillLibrary.load()
    if name in library:
        raise ScaffoldError(name, f"{library.origin(name)} has a skill of that name", "Choose another name")
    folder = parent / f"hiervla-{name.replace('_', '-')}"
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"hiervla_{name}/__init__.py": _MODULE,
        f"hiervla_{name}/py.typed": "",
        f"tests/test_{name}.py": _TEST,
    }
    words = {"NAME": name, "PACKAGE": folder.name, "MODULE": f"hiervla_{name}", "VERSION": _series()}
    try:
        folder.mkdir(parents=True)
        for path, text in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], text))
    except FileExistsError:
        raise ScaffoldError(name, f"'{folder}' exists already", "Name another folder with --dir") from None
    except OSError as error:
        problem = f"'{folder}' cannot be written ({error.strerror or error})"
        raise ScaffoldError(name, problem, "Name another folder with --dir") from None
    return folder


def _series() -> str:
    return ".".join(__version__.split(".")[:2])


_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "@PACKAGE@"
version = "0.1.0"
description = "The skill @NAME@ for hiervla."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["hiervla>=@VERSION@"]

[project.optional-dependencies]
dev = ["pytest>=8"]

# What makes the skill known to every planner and executor in this environment.
[project.entry-points."hiervla.skills"]
@NAME@ = "@MODULE@:@NAME@"

[tool.hatch.build.targets.wheel]
packages = ["@MODULE@"]
"""

_MODULE = '''\
"""The skill `@NAME@` for hiervla."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from hiervla.skills import Approach, SkillContext, Thing, Waypoint, skill
from hiervla.skills.checks import hand_empty


@skill(
    approach=Approach(height_m=0.12, gripper_width_m=0.0),  # fingers closed
    ready=lambda context: hand_empty(context.proprio),
    # A touch leaves no trace to check, so there is no `done`: the end of the motion decides.
)
def @NAME@(
    context: SkillContext,
    object: Annotated[str, Thing("block", "can", "mug", doc="what to touch")],
) -> Iterator[Waypoint]:
    """Touch an object from above with the closed fingertips."""
    x, y, z = context.target_w  # the keypoint that the planner pointed at [m]
    yield Waypoint((x, y, z + 0.04))
    yield Waypoint((x, y, z + 0.012), speed_m_s=0.05, dwell_s=0.4)  # the tool point is 1 cm above the fingertips
    yield Waypoint((x, y, z + 0.12))
'''

_TEST = '''\
"""The contract of `@NAME@`, without a robot: what it promises, and one run of it in the real loop on fakes."""

from __future__ import annotations

import numpy as np
from hiervla.executor.policies import unfit
from hiervla.executor.testing import run_skill
from hiervla.skills import SkillContext, SkillLibrary
from hiervla.skills.lint import check_skill
from hiervla.skills.samples import observation, sample_step

from @MODULE@ import @NAME@


def test_its_contract_has_no_findings() -> None:
    assert check_skill(@NAME@, unfit) == ()


def test_it_is_installed() -> None:
    assert SkillLibrary.load().origin("@NAME@").package == "@PACKAGE@"


def test_it_goes_down_to_the_object_and_comes_back_up() -> None:
    result, events, _ = run_skill(@NAME@, (0.5, 0.05, 0.04), object="red block")
    assert result.outcome == "succeeded", result.message
    heights = np.concatenate([e.chunk.positions[:, 2] for e in events if e.type == "chunk"])
    assert heights.min() < 0.053
    assert heights[-1] > 0.15


def test_it_does_not_start_with_something_in_the_hand() -> None:
    seen = observation(width_m=0.04, effort_n=20.0)
    context = SkillContext(step=sample_step(@NAME@), before=seen, proprio=seen.proprio)
    assert @NAME@.ready(context).value == "no"
'''

_README = """\
# @PACKAGE@

The skill `@NAME@` for [hiervla](https://pypi.org/project/hiervla/).

```sh
pip install -e ".[dev]"
hiervla skills list             # it is there
hiervla skills check @NAME@     # its contract, without motion
hiervla skills test @NAME@      # in simulation, from clean resets
pytest
```

The skill is one function in `@MODULE@/__init__.py`. Its annotations and docstring are what planners read; the waypoints
that it yields are the motion. A learned policy takes their place with `@skill(policy=...)`.
"""
