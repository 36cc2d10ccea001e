"""``hiervla skills``: the package that `new` makes works at once, and mistakes are told before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hiervla.cli import main
from hiervla.representations import Verdict
from hiervla.skills import Skill, SkillLibrary
from tests.skills import packages


def test_a_new_package_installs_and_its_own_tests_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", "new", "ring_bell", "--dir", str(tmp_path)]) == 0
    made = tmp_path / "hiervla-ring-bell"
    said = capsys.readouterr().out.splitlines()
    assert said == [str(made), f"next: pip install -e {made} && hiervla skills list"]
    site = packages.install(made, tmp_path / "site")
    (listed, checked) = packages.hiervla("skills list", "skills check ring_bell", sites=(site,))
    assert any(
        line.startswith("ring_bell(object)") and "hiervla-ring-bell 0.1.0" in line for line in listed[1].splitlines()
    )
    assert checked[:2] == (0, "1 of 1 skills without findings\n")
    tested = packages.python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(made / "tests"), sites=(site,))
    assert tested.returncode == 0, tested.stdout
    assert "4 passed" in tested.stdout
    for path in made.rglob("*"):
        assert path.is_dir() or "@" not in path.read_text().replace("@skill", ""), "a placeholder was left"
    rules = "E,F,I,B,UP"
    ruff = [str(Path(sys.executable).parent / "ruff"), "check", "--isolated", "--line-length=120", f"--select={rules}"]
    checked_style = subprocess.run([*ruff, "."], cwd=made, capture_output=True, text=True, check=False)
    assert checked_style.returncode == 0, checked_style.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Ring-Bell"], "no package was made for skill 'Ring-Bell': that is no name for a skill. Use lower case"),
        (["import"], "that is no name for a skill"),
        (["pick"], "has a skill of that name. Choose another name."),
        (["knock"], "'hiervla-knock' exists already. Name another folder with --dir."),
        (["dab", "--dir", "file"], "cannot be written (Not a directory). Name another folder with --dir."),
    ],
)
def test_nothing_is_written_where_it_cannot_be_right(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hiervla-knock").mkdir()
    (tmp_path / "file").touch()
    assert main(["skills", "new", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "hiervla-knock"]


def test_findings_are_printed_and_end_with_status_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def done(self: Skill, context: object) -> Verdict:
        raise KeyError("front")

    monkeypatch.setattr(type(SkillLibrary.load().get("wipe")), "done", done)
    assert main(["skills", "check"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("wipe, done: raises KeyError ('front') with keypoint at 0.5, 0, 0.02 m, empty hand")
    assert said[-1] == "5 of 6 skills without findings"
    assert main(["skills", "check", "wipe", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["skill"], finding["place"]) == ("wipe", "done")
    assert main(["skills", "check", "pick"]) == 0
    assert capsys.readouterr().out == "1 of 1 skills without findings\n"
    assert main(["skills", "check", "pik"]) == 2
