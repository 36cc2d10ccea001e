"""``hiervla export`` from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hiervla.cli import main
from tests import records


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record at the relative path ``run``."""
    records.make_record(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


def test_mcap_and_spans_are_written_where_told_or_beside_the_record(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "run", "--to", "mcap", "-o", "out.mcap"]) == 0
    assert capsys.readouterr().out.startswith("out.mcap: ")
    assert Path("out.mcap").read_bytes()[:5] == b"\x89MCAP"
    assert main(["export", "run", "--to", "otel"]) == 0
    assert capsys.readouterr().out == f"{Path('run.spans.jsonl').resolve()}: 19 spans\n"
    assert all(json.loads(line)["resourceSpans"] for line in Path("run.spans.jsonl").read_text().splitlines())


def test_what_was_left_out_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "streams.mcap").unlink()
    assert main(["export", "run", "--to", "mcap", "-o", "out.mcap"]) == 0
    assert "note: joint states and commands are left out" in capsys.readouterr().out


def test_another_format_is_a_mistake(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "run", "--to", "avi"]) == 2
    assert "mcap" in capsys.readouterr().err
