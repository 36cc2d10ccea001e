"""What the pages promise exists: links, commands, make targets, and code that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hiervla.executor.policies import unfit
from hiervla.executor.testing import run_skill
from hiervla.skills import SkillLibrary
from hiervla.skills.lint import check_skill

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def dead_links(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [t for t in targets if "://" not in t and not (page.parent / t).exists()]


def promised_commands(text: str) -> set[tuple[str, ...]]:
    """Command names in the shell blocks of a page: ("run",), ("train", "policy"), ..."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    calls = [match for line in lines if (match := re.match(r"hiervla ([a-z]+)((?: [a-z]+)?)", line))]
    return {tuple(f"{call[1]}{call[2]}".split()) for call in calls}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page, page.read_text()) == []


def test_a_dead_link_is_found() -> None:
    assert dead_links(ROOT / "README.md", "[a](docs/none.md#x) [b](README.md) [c](https://example.org)") == [
        "docs/none.md"
    ]


def test_commands_are_found() -> None:
    assert promised_commands('```sh\nhiervla run "x" --seed 3\nhiervla train policy  # y\n```\n') == {
        ("run",),
        ("train", "policy"),
    }


@pytest.mark.parametrize("command", sorted(promised_commands(README)), ids=" ".join)
def test_promised_commands_exist(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hiervla"), *command, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_has_no_help() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hiervla"), "dance", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "dance" in done.stderr


def test_promised_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(block for page in PAGES for block in blocks(page.read_text(), "sh"))
    promised = set(re.findall(r"\bmake ([a-z-]+)", shell))
    assert {"demo", "test"} <= promised <= targets


def test_the_python_of_the_readme_is_python() -> None:
    for block in blocks(README, "python"):
        compile(block, "README.md", "exec")


def test_the_skill_of_the_readme_can_be_registered() -> None:
    (block,) = (b for b in blocks(README, "python") if "@skill" in b)
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), namespace)
    library = SkillLibrary([namespace["push"]])
    assert [check_skill(skill, unfit) for skill in library] == [()]
    assert run_skill(library.get("push"), object="red block")[0].outcome == "succeeded"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(example: Path) -> None:
    assert re.match(r"\d\d_", example.name)
    assert len(example.read_text().splitlines()) < 100
