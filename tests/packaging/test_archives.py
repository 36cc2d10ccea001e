"""The wheel and the sdist hold what git tracks: nothing lost through the links, nothing extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from hiervla.skills import SkillLibrary

ROOT = Path(__file__).parents[2]
FOLDERS = ("representations", "controllers", "skills", "planner", "executor", "worlds", "training")

in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


def git_files(root: Path, *args: str) -> set[str]:
    """Paths that git lists, without files that are listed but deleted."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    return {name for name in listing.split("\0") if name and os.path.lexists(root / name)}


def versioned(root: Path) -> set[str]:
    """What is in the repository, or would be after `git add .`."""
    return git_files(root, "--cached", "--others", "--exclude-standard")


def expected_wheel(names: set[str]) -> set[str]:
    """Where each file of the repository ends up in the wheel."""
    links = {f"src/hiervla/{folder}" for folder in FOLDERS}
    inside = {f"hiervla/{name}" for name in names if name.split("/")[0] in FOLDERS}
    return inside | {name[4:] for name in names if name.startswith("src/hiervla/") and name not in links}


def build(target: str, root: Path, out: Path) -> Path:
    """One archive, made by the build backend itself (no isolation, no network)."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return archive


def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@in_git
def test_the_wheel_holds_what_git_tracks(wheel: Path) -> None:
    assert wheel_files(wheel) == expected_wheel(versioned(ROOT))


@in_git
def test_no_ignored_file_lies_in_a_shipped_folder() -> None:
    """hatchling drops ignored files silently, so weights that .gitignore matches would never ship."""
    ignored = git_files(ROOT, "--others", "--ignored", "--exclude-standard", "--", *FOLDERS, "src")
    caches = ("/__pycache__/", "/.ruff_cache/", "/.mypy_cache/")
    assert {name for name in ignored if not any(cache in name for cache in caches)} == set()


def test_a_file_that_git_ignores_but_tracks_is_missed(tmp_path: Path) -> None:
    """The comparison fails where it should: tracked weights under an ignore pattern do not ship."""
    root = tmp_path / "repo"
    copy_project(root)
    (root / "planner" / "weights.safetensors").write_bytes(b"w")
    (root / ".gitignore").write_text("*.safetensors\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "-f", "."], cwd=root, check=True)
    built = wheel_files(build("wheel", root, tmp_path / "dist"))
    assert expected_wheel(versioned(root)) - built == {"hiervla/planner/weights.safetensors"}


def test_the_unpacked_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    names = ", ".join(f"hiervla.{folder}" for folder in FOLDERS)
    code = f"import {names}; print(hiervla.representations.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


def wheel_by_way_of_sdist(root: Path, work: Path) -> Path:
    """A wheel built from the unpacked sdist, as `python -m build` does it."""
    sdist = build("sdist", root, work / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    return build("wheel", unpacked, work / "dist")


def test_a_wheel_made_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    """hatchling follows links by inode and could leave a folder out of the sdist, then out of its wheel."""
    assert wheel_files(wheel_by_way_of_sdist(ROOT, tmp_path)) == wheel_files(wheel)


def test_a_folder_that_the_sdist_does_not_name_is_missed(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    copy_project(root)
    direct = wheel_files(build("wheel", root, tmp_path / "direct"))
    config = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(config.replace('    "worlds",\n', "", 1))
    assert direct - wheel_files(wheel_by_way_of_sdist(root, tmp_path)) == {"hiervla/worlds/__init__.py"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_linked_into_the_package(folder: str) -> None:
    link = ROOT / "src" / "hiervla" / folder
    assert link.is_symlink()
    assert os.readlink(link) == f"../../{folder}"


def test_skills_enter_by_the_public_door() -> None:
    (builtin,) = (e for e in entry_points(group="hiervla.skills") if e.dist and e.dist.name == "hiervla")
    library = SkillLibrary.load([builtin])
    assert library.broken == ()
    assert {"pick", "place", "open_drawer", "close_drawer", "wipe", "throw_away"} <= {s.name for s in library}


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    needed = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    names = {dependency.split(">")[0].split("[")[0].split("=")[0].lower() for dependency in needed}
    assert names - pinned == set()


def copy_project(root: Path) -> None:
    """The build configuration over minimal folders, with the links."""
    (root / "src" / "hiervla").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    for name in ("__init__.py", "_version.py", "py.typed"):
        shutil.copy(ROOT / "src" / "hiervla" / name, root / "src" / "hiervla" / name)
    for folder in FOLDERS:
        (root / folder).mkdir()
        (root / folder / "__init__.py").write_text(f'"""{folder}."""\n')
        (root / "src" / "hiervla" / folder).symlink_to(Path("../..") / folder)
