"""The page about a first skill, done as it says, with the time that it takes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from hiervla.cli import main
from tests.skills import packages

PAGE = (Path(__file__).parents[2] / "docs" / "first-skill.md").read_text()
WORDS_A_MINUTE = 150.0
"""Slow reading of technical text (Brysbaert, Journal of Memory and Language 109, 2019, has 238 for plain prose)."""
KEYS_A_MINUTE = 150.0
"""Slow typing (Dhakal et al., CHI 2018, have 260 on average), for all code of the page, none of it copied."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_ten_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, test, program = blocks("python")
    shell = [line for block in blocks("sh") for line in block.splitlines()]
    began = time.monotonic()
    assert shell[0] == "hiervla skills new knock"
    assert main(["skills", "new", "knock", "--dir", str(tmp_path)]) == 0
    package = tmp_path / "hiervla-knock"
    for path, text in (("hiervla_knock/__init__.py", module), ("tests/test_knock.py", test)):
        # The page names files that the scaffold made.
        assert (package / path).exists() and f"`hiervla-knock/{path}`" in PAGE
        (package / path).write_text(text)
    site = packages.install(package, tmp_path / "site")
    wanted = ["skills list", "skills check knock"]
    assert [f"hiervla {w}" for w in wanted] == shell[2:4]
    (listed, checked) = packages.hiervla(*wanted, sites=(site,))
    assert listed[0] == 0 and "knock(object, times)" in listed[1]
    assert checked[:2] == (0, "1 of 1 skills without findings\n")
    tested = packages.python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "tests"), sites=(site,))
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    (tmp_path / "knock_on_mugs.py").write_text(program)
    check = (
        "import sys\nfrom pathlib import Path\nfrom hiervla.cli.programs import checked_program\n"
        "checked_program(Path(sys.argv[1]))\nprint('checked')"
    )
    done = packages.python("-c", check, str(tmp_path / "knock_on_mugs.py"), sites=(site,))
    assert done.stdout == "checked\n", done.stderr
    without = packages.python("-c", check, str(tmp_path / "knock_on_mugs.py"))
    assert "Name `knock` used when not defined" in without.stderr
    machine_s = time.monotonic() - began
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    reading_s = 60.0 * len(prose.split()) / WORDS_A_MINUTE
    keys = len(re.sub(r"\s+", " ", module + test + program + " ".join(shell)))
    typing_s = 60.0 * keys / KEYS_A_MINUTE
    with capsys.disabled():
        print(
            f"\na first skill: the machine's part took {machine_s:.0f} s; reading the page {reading_s:.0f} s at "
            f"{WORDS_A_MINUTE:.0f} words a minute; typing all its code would take {typing_s:.0f} s, "
            "copying it next to none"
        )
    assert machine_s + reading_s < 600.0
