"""Golden runs, as somebody who writes tests meets them: a pytest of its own over a folder of records."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.testing.touching import record_run

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLUGIN = "hiervla.testing.pytest_plugin"
GUARD = """
from tests.testing.touching import library

def test_golden(hiervla_replay):
    found = hiervla_replay("runs/golden/*", skills=library())
    assert [r.identical for r in found] == [True]
    assert found[0].decisions > 20
"""
TAKES_FAILURE_FOR_SUCCESS = """
import pytest
from hiervla.executor.loop import Orchestrator

@pytest.fixture(autouse=True)
def changed(monkeypatch):
    right = Orchestrator._next
    def wrong(self, instruction, plan, step, outcome, reason, *, same_hand):
        return right(self, instruction, plan, step, "succeeded", reason, same_hand=same_hand)
    monkeypatch.setattr(Orchestrator, "_next", wrong)
"""


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_run(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def project(pytester: pytest.Pytester, golden: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with one golden run, of which only what a replay reads was committed."""
    folder = pytester.path / "runs" / "golden" / "touch"
    folder.mkdir(parents=True)
    for name in ("manifest.json", "events.jsonl"):
        shutil.copy(golden / name, folder)
    (folder.parent / "README.md").write_text("not a run\n")
    # Whether or not this checkout is what is installed, the plugin comes from it, and comes once.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    return pytester


def run(project: pytest.Pytester, *args: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-p", PLUGIN, "-W", "error", *args)


def test_golden_runs_that_come_out_as_recorded_pass(project: pytest.Pytester) -> None:
    project.makepyfile(GUARD)
    done = run(project, "--hiervla-golden-report", "golden.json")
    done.assert_outcomes(passed=1)
    (row,) = json.loads((project.path / "golden.json").read_text())
    assert (row["identical"], row["divergence"]) == (True, None)
    assert row["run"].endswith("runs/golden/touch")


def test_a_loop_that_decides_differently_fails_and_says_where(project: pytest.Pytester) -> None:
    project.makepyfile(GUARD)
    project.makeconftest(TAKES_FAILURE_FOR_SUCCESS)
    done = run(project, "--hiervla-golden-report", "golden.json")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "1 golden run does not replay as recorded, of 1 that match 'runs/golden/*'",
            "runs/golden/touch",
            "  line * of events.jsonl, event e* (plan_proposed, * s)",
            "    field     *plan.done*",
            "    expected  *",
            "    got       *",
            "  * decisions before it came out as recorded, the last: *",
            "  recorded was: plan (followed after a: failed): *",
            "  If that is meant, record the run again and remove this record: hiervla run 'touch them' *",
            "  If it is not, fix what changed. *hiervla inspect runs/golden/touch",
        ]
    )
    # The plugin's own frames are nobody's business.
    assert "pytest_plugin.py" not in done.stdout.str()
    (row,) = json.loads((project.path / "golden.json").read_text())
    assert not row["identical"]
    assert "plan.done" in row["divergence"]


def test_what_guards_nothing_fails(project: pytest.Pytester) -> None:
    golden = project.path / "runs" / "golden"
    events = (golden / "touch" / "events.jsonl").read_bytes().splitlines(keepends=True)
    for name, lines in {"open": events[:20], "cut": [*events[:8], *events[9:]]}.items():
        shutil.copytree(golden / "touch", project.path / name / "run")
        (project.path / name / "run" / "events.jsonl").write_bytes(b"".join(lines))
    (project.path / "empty" / "run").mkdir(parents=True)
    project.makepyfile(
        """
        import pytest
        from tests.testing.touching import library

        @pytest.mark.parametrize("pattern", ["runs/silver/*", "runs/golden/*.md", "", "open/*", "cut/*", "empty/*"])
        def test_golden(hiervla_replay, pattern):
            hiervla_replay(pattern, skills=library())
        """
    )
    done = run(project)
    done.assert_outcomes(failed=6)
    done.stdout.fnmatch_lines(
        [
            "no folder matches 'runs/silver/[*]' in '*', so no golden run was replayed. Record one with *",
            "no folder matches 'runs/golden/[*].md' in *",
            "no folder matches '' in *",
            "*its record was not closed, so that it guards only a part of a run.",
            "*is damaged: events.jsonl, line 9: *lines were removed, added or reordered*",
            "*empty/run*",
        ]
    )


def test_the_plugin_is_the_entry_point_and_light() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert config["project"]["entry-points"]["pytest11"] == {"hiervla": PLUGIN}
    assert hasattr(importlib.import_module(PLUGIN), "hiervla_replay")
    code = f"""
import sys, pytest
known = set(sys.modules)
import {PLUGIN}
heavy = {{"numpy", "torch", "pydantic", "scipy", "mujoco", "networkx", "rich", "transformers"}}
print(sorted(heavy & (set(sys.modules) - known)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
