"""The linters and type checkers look at our code, and each of them can fail."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("representations", "controllers", "skills", "planner", "executor", "worlds", "training")
PRIVILEGED = "worlds/tabletop/privileged.py"
PRIVILEGED_DUO = "worlds/tabletop_duo/privileged.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Our configuration over a skeleton of our layout, links included."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "src" / "hiervla"
    for folder in [*FOLDERS, "worlds/tabletop", "worlds/tabletop_duo", "tests", "benchmarks", "examples"]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").write_text(f'"""{folder}."""\n')
    (package / "cli").mkdir(parents=True)
    (package / "__init__.py").write_text('"""hiervla."""\n')
    (package / "cli" / "__init__.py").write_text('"""cli."""\n')
    (package / "py.typed").touch()
    for truth in (PRIVILEGED, PRIVILEGED_DUO):
        (tmp_path / truth).write_text('"""Ground truth."""\n\nposes = 1\n')
    for folder in FOLDERS:
        (package / folder).symlink_to(Path("../..") / folder)
    return tmp_path


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a tool of our environment on a project; the project's own src comes before the installed one."""
    tool = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [str(tool), *command[1:]],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root / "src"), "HOME": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


# mypy ---------------------------------------------------------------------------------------------------------


def test_mypy_sees_an_error_in_every_folder(project: Path) -> None:
    places = [*FOLDERS, "src/hiervla/cli", "tests", "benchmarks", "examples"]
    for place in places:
        (project / place / "seeded.py").write_text('"""Seeded."""\n\ncount: int = "one"\n')
    done = run(project, "mypy", "--no-incremental")
    assert done.returncode == 1, done.stdout + done.stderr
    reported = {Path(line.split(":")[0]) for line in done.stdout.splitlines() if "[assignment]" in line}
    inside = {Path("src/hiervla") / place if place in FOLDERS else Path(place) for place in places}
    assert reported == {place / "seeded.py" for place in inside}


def test_mypy_is_strict(project: Path) -> None:
    (project / "skills" / "seeded.py").write_text('"""Seeded."""\n\n\ndef f(x):\n    return x\n')
    assert "[no-untyped-def]" in run(project, "mypy", "--no-incremental").stdout


# ruff ---------------------------------------------------------------------------------------------------------


def ruff_codes(path: str, source: str) -> list[str]:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ruff"), "check", "--output-format=json", "--stdin-filename", path, "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    return [problem["code"] for problem in json.loads(done.stdout)]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("form", ["import {0}", "import {0}.x", "from {0} import x", "from {0}.x import y"])
def test_a_bare_import_of_a_folder_is_banned(folder: str, form: str) -> None:
    assert "TID251" in ruff_codes("executor/seeded.py", form.format(folder) + "\n")
    assert "TID251" not in ruff_codes("executor/seeded.py", form.format(f"hiervla.{folder}") + "\n")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_bare_import_fails_at_run_time_too(folder: str) -> None:
    with pytest.raises(ImportError, match=f"import it as hiervla.{folder}"):
        importlib.import_module(folder)


@pytest.mark.parametrize(
    ("code", "source"),
    [
        ("F401", '"""M."""\nimport os\n'),
        ("B006", '"""M."""\n\n\ndef f(x: list[int] = []) -> None:\n    """F."""\n'),
        ("D103", '"""M."""\n\n\ndef f() -> None:\n    pass\n'),
        ("DTZ005", '"""M."""\n\nfrom datetime import datetime\n\nNOW = datetime.now()\n'),
        ("E501", '"""M."""\n\nX = "' + "x" * 120 + '"\n'),
        ("PLW0127", '"""M."""\n\nX = 1\nX = X\n'),
        ("UP006", '"""M."""\n\nfrom typing import List\n\nX: List[int] = []\n'),
    ],
)
def test_the_rules_are_on_in_the_root_folders(code: str, source: str) -> None:
    assert code in ruff_codes("planner/seeded.py", source)


# import-linter --------------------------------------------------------------------------------------------------


def test_the_skeleton_keeps_the_contracts(project: Path) -> None:
    done = run(project, "lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("representations", "controllers"),
        ("controllers", "skills"),
        ("controllers", "worlds"),
        ("skills", "worlds"),
        ("planner", "worlds"),
        ("skills", "planner"),
        ("skills", "executor"),
        ("planner", "executor"),
        ("planner", "training"),
        ("executor", "training"),
        ("training", "cli"),
        ("worlds", "skills"),
        ("worlds", "planner"),
        ("worlds", "executor"),
        ("worlds", "training"),
        ("skills", "worlds.tabletop.privileged"),
        ("planner", "worlds.tabletop.privileged"),
        ("executor", "worlds.tabletop.privileged"),
    ],
)
def test_an_import_against_the_direction_breaks_a_contract(project: Path, importer: str, imported: str) -> None:
    (project / importer / "seeded.py").write_text(f'"""Seeded."""\n\nimport hiervla.{imported}\n')
    done = run(project, "lint-imports", "--no-cache")
    assert done.returncode != 0
    assert f"hiervla.{importer}.seeded -> hiervla.{imported}" in done.stdout


def test_peeking_through_a_third_module_breaks_the_contract(project: Path) -> None:
    (project / "worlds" / "helper.py").write_text("from hiervla.worlds.tabletop.privileged import poses\n")
    (project / "executor" / "seeded.py").write_text("def f() -> None:\n    import hiervla.worlds.helper\n")
    done = run(project, "lint-imports", "--no-cache")
    assert "hiervla.executor is not allowed to import hiervla.worlds.tabletop.privileged" in done.stdout


def test_the_guarded_module_exists_under_the_name_that_the_contract_uses() -> None:
    """A contract about a module that was renamed would pass on nothing."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (c for c in config["tool"]["importlinter"]["contracts"] if c["id"] == "no-peeking")
    for module in contract["forbidden_modules"]:
        assert (ROOT / (module.removeprefix("hiervla.").replace(".", "/") + ".py")).exists()
