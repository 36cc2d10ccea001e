"""A pytest plugin: golden runs, records whose decisions have to come out as they were recorded.

It is loaded by every pytest that finds hiervla installed, and imports nothing but pytest until a test asks for the
fixture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hiervla.executor.config import LoopConfig
    from hiervla.executor.replay.decisions import DecisionReplay
    from hiervla.skills import SkillLibrary

_OPTION = "--hiervla-golden-report"


class GoldenRuns:
    """What the fixture ``hiervla_replay`` gives: call it with a pattern of record folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.replays: dict[Path, DecisionReplay] = {}

    def __call__(
        self, pattern: str, *, skills: SkillLibrary | None = None, config: LoopConfig | None = None
    ) -> tuple[DecisionReplay, ...]:
        """Replay the decisions of every matching record; the test fails where one comes out differently.

        Nothing moves and no weights are loaded: the orchestrator runs on what was recorded. Of a record only
        ``manifest.json`` and ``events.jsonl`` are read.

        Args:
            pattern: glob of record folders such as ``"runs/golden/*"``, relative to pytest's root folder; files that
                it matches are passed over.
            skills: the library; by default everything installed.
            config: settings of the loop; by default the recorded ones.

        Returns:
            What each replay found, in the order of the records' names.
        """
        __tracebackhide__ = True
        from hiervla.testing.golden import Broken, replay_golden

        folders = self._folders(pattern)
        broken: list[Broken] = []
        found = []
        for folder in folders:
            result = replay_golden(folder, self._name(folder), skills=skills, config=config)
            if isinstance(result, Broken):
                broken.append(result)
                replay = result.replay
            else:
                found.append(result)
                replay = result
            if replay is not None:
                self.replays[folder] = replay
        if broken:
            few = "1 golden run does" if len(broken) == 1 else f"{len(broken)} golden runs do"
            head = f"{few} not replay as recorded, of {len(folders)} that match '{pattern}'"
            pytest.fail("\n\n".join([head, *(b.message for b in broken)]), pytrace=False)
        return tuple(found)

    def _folders(self, pattern: str) -> list[Path]:
        __tracebackhide__ = True
        at = Path(pattern)
        if at.is_absolute():
            base, relative = Path(at.anchor), str(at.relative_to(at.anchor))
        else:
            base, relative = self.root, pattern
        folders = sorted(p for p in base.glob(relative) if p.is_dir()) if relative.strip() else []
        if not folders:
            pytest.fail(
                f"no folder matches '{pattern}' in '{base}', so no golden run was replayed. Record one with "
                "`hiervla run ... --record DIR`, or correct the pattern.",
                pytrace=False,
            )
        return folders

    def _name(self, folder: Path) -> str:
        return str(folder.relative_to(self.root)) if folder.is_relative_to(self.root) else str(folder)


_GOLDEN = pytest.StashKey[GoldenRuns]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the report."""
    parser.getgroup("hiervla").addoption(
        _OPTION,
        metavar="FILE",
        default=None,
        help="write what the replays of golden runs found as JSON (with pytest-xdist, each worker its own file)",
    )


@pytest.fixture(scope="session")
def hiervla_replay(request: pytest.FixtureRequest) -> GoldenRuns:
    """Replays golden runs: ``hiervla_replay("runs/golden/*")``; fails where one comes out differently."""
    golden = GoldenRuns(request.config.rootpath)
    request.config.stash[_GOLDEN] = golden
    return golden


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, if one was asked for and anything was replayed."""
    target = session.config.getoption(_OPTION)
    golden = session.config.stash.get(_GOLDEN, None)
    if target is None or golden is None:
        return
    rows = [
        {
            "run": str(folder),
            "identical": r.identical,
            "decisions": r.decisions,
            "divergence": None if r.divergence is None else str(r.divergence),
            "robot_s": r.robot_s,
            "replay_s": r.wall_s,
        }
        for folder, r in sorted(golden.replays.items())
    ]
    path = Path(target)
    worker = getattr(session.config, "workerinput", {}).get("workerid")
    if worker is not None:
        path = path.with_stem(f"{path.stem}-{worker}")
    path.write_text(json.dumps(rows, indent=2) + "\n")
