"""`train planner --lora`: options that do not go together, and data that holds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hiervla.cli import main
from tests import records


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lora"], "Name its folder or hub id with --base"),
        (["--base", "x"], "Give --lora, too"),
        (["--scenes", "5"], "go with --base and --lora"),
        (["--base", "x", "--lora"], "Give --from RUNS, --scenes N, or both"),
        (["--base", "x", "--lora", "--from", "none"], "does not exist"),
    ],
)
def test_options(words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = main(["train", "planner", "--out", str(tmp_path), *words])
    printed = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert status != 0 and said in printed and "Traceback" not in printed


def test_runs_that_hold_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = records.make_refused(tmp_path / "run")
    assert main(["train", "planner", "--base", "x", "--lora", "--from", str(run)]) == 1
    assert "holds no plan to learn from: no planner was asked in them" in " ".join(capsys.readouterr().err.split())
