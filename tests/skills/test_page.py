"""The page about skills is true: its code runs in order, its commands exist, its entry points can be read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hiervla.cli import main
from hiervla.executor.policies import unfit
from hiervla.skills import SkillLibrary
from hiervla.skills.lint import check_skill

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "skills.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_code_runs_in_order() -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    found = blocks("python")
    assert len(found) >= 6
    for number, block in enumerate(found):
        exec(compile(block, f"docs/skills.md, block {number + 1}", "exec"), namespace)
    library = SkillLibrary([namespace[name] for name in ("push", "reach", "dip")])
    library.register(namespace["Point"]())
    assert [s.name for s in library] == ["push", "reach", "dip", "point_at"]
    assert [check_skill(s, unfit) for s in library] == [()] * 4


def test_the_first_skill_is_as_short_as_promised() -> None:
    first = blocks("python")[0]
    code = [line for line in first.splitlines() if line.strip() and not line.startswith(("from", "import"))]
    assert len(code) <= 20


def test_a_block_that_is_wrong_would_be_found() -> None:
    with pytest.raises(AssertionError):
        exec(compile("assert 1 == 2", "docs/skills.md", "exec"), {})


def test_the_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    shell = "\n".join(blocks("sh"))
    commands = {
        *re.findall(r"^hiervla ([a-z]+ [a-z]+)", shell, re.MULTILINE),
        *re.findall(r"`hiervla (\w+) RUNS", PAGE),
    }
    assert {"skills new", "skills list", "skills check", "skills test", "calibrate"} <= commands
    for command in commands:
        assert main([*command.split(), "--help"]) == 0
    capsys.readouterr()


def test_the_entry_points_can_be_read_and_name_the_groups_that_are_looked_at() -> None:
    from hiervla.executor.policies.registry import ENTRY_POINT_GROUP as POLICIES
    from hiervla.skills.registry import ENTRY_POINT_GROUP as SKILLS
    from hiervla.training.skill_trials import ENTRY_POINT_GROUP as TRIALS

    groups = [group for block in blocks("toml") for group in tomllib.loads(block)["project"]["entry-points"]]
    assert groups == [SKILLS, POLICIES]
    assert f"`{TRIALS}`" in PAGE


def test_every_table_row_of_parameters_is_what_the_decorator_makes() -> None:
    from typing import Annotated, Literal

    from hiervla.skills import Number, Place, SkillContext, Thing, skill

    types = ["object", "location", "choice", "number", "text"]
    rows = re.findall(
        r"^\| `(.+?)` \|", PAGE[PAGE.index("## Parameters") : PAGE.index("A default makes")], re.MULTILINE
    )
    names = {"Annotated": Annotated, "Literal": Literal, "Number": Number, "Place": Place, "Thing": Thing}
    for row, wanted in zip(rows, types, strict=True):
        namespace: dict[str, Any] = {**names, "SkillContext": SkillContext}
        exec(f"def f(context: SkillContext, p: {row}) -> None:\n    'Do it.'\n", namespace)
        assert skill(namespace["f"]).signature.params[0].type == wanted
