"""The command line: what it prints, its exit statuses, and one paragraph for every mistake."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_group

from hiervla.cli import main
from hiervla.cli.app import MODULES, make_app
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import json_schemas
from tests import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.make_record(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the record at the relative path ``run``, so that messages are the same everywhere."""
    shutil.copytree(whole, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


def err(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, its lines joined."""
    return " ".join(capsys.readouterr().err.split())


# Mistakes.


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["inspct"], 2, "hiervla: No such command 'inspct'. Did you mean 'inspect'? See `hiervla --help`."),
        (["inspect"], 2, "hiervla: Missing argument 'RUN'. See `hiervla inspect --help`."),
        (["verify", "run", "--bogus"], 2, "hiervla: No such option: --bogus. See `hiervla verify --help`."),
        (
            ["run", "x", "--seed", "three"],
            2,
            "hiervla: Invalid value for '--seed': Input should be a valid integer, "
            "unable to parse string as an integer. See `hiervla run --help`.",
        ),
        (
            ["verify", "nowhere"],
            2,
            "hiervla: 'nowhere' is no run record: there is no such folder. "
            "List the records that exist with `hiervla runs`.",
        ),
        (
            ["inspect", "run", "--step", "9"],
            2,
            "hiervla: unknown step '9' in record 'run'. Known: 1, 2, 3.",
        ),
        (
            ["inspect", "run", "--step", "1", "--attempt", "3"],
            2,
            "hiervla: unknown attempt '3' in step 1. Known: 1, 2.",
        ),
        (
            ["inspect", "run", "--step", "1", "--png", "nowhere/a.png"],
            1,
            "hiervla: 'nowhere/a.png' cannot be written: No such file or directory. Choose another place.",
        ),
        (
            ["report", "run", "-o", "nowhere/a.html"],
            1,
            "hiervla: 'nowhere/a.html' cannot be written: No such file or directory. Choose another place.",
        ),
        (["skills", "show", "pck"], 2, "hiervla: unknown skill 'pck'. Did you mean 'pick'? Known: "),
        (["schema", "plann"], 2, "hiervla: unknown schema 'plann'. Did you mean 'plan'? Known: "),
        (
            ["run", "clear the table", "--world", "tabletp"],
            2,
            "hiervla: unknown world 'tabletp'. Did you mean 'tabletop'? Known: tabletop",
        ),
        (
            ["replay", "run", "--physics"],
            1,
            "hiervla: record 'run' cannot be replayed: its world 'fake' cannot be rebuilt here",
        ),
    ],
)
def test_a_mistake_is_one_paragraph_and_a_status(
    copy: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    assert main(words) == status
    said = err(capsys)
    assert said.startswith(message)
    if message.endswith("."):
        assert said == message
    assert "Traceback" not in said


def test_a_damaged_record_is_told_with_its_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(records.lines_of(copy))
    lines[6] = lines[6].replace(b"reachable", b"reachabel")
    (copy / "events.jsonl").write_bytes(b"".join(lines))
    assert main(["inspect", "run"]) == 1
    assert err(capsys) == (
        "hiervla: record 'run' is damaged: events.jsonl, line 7: its bytes do not match its crc. "
        "See `hiervla verify run`."
    )


def test_another_version_is_told_with_both(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format_version": 3, "packages": {"hiervla": "7.0"}}))
    for words in (["inspect", "run"], ["verify", "run"], ["report", "run"], ["replay", "run"]):
        assert main(words) == 1
        assert err(capsys) == (
            "hiervla: record 'run' was written by hiervla 7.0 with record format version 3, but this installation "
            "reads version 2. Open it with hiervla 7.0."
        )


def test_a_defect_is_owned_and_debug_shows_it(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(RunRecord, "open", broken)
    assert main(["inspect", "run"]) == 1
    said = err(capsys)
    assert said.startswith("hiervla: this should not have happened: ZeroDivisionError: division by zero.")
    assert "--debug" in said
    for words in (["--debug", "inspect", "run"], ["inspect", "run", "--debug"]):
        with pytest.raises(ZeroDivisionError):
            main(words)
    monkeypatch.setenv("HIERVLA_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "run"])


def test_ctrl_c_is_130(copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "open", interrupted)
    assert main(["inspect", "run"]) == 130
    assert "Traceback" not in err(capsys)


def test_a_closed_pipe_is_no_mistake(whole: Path) -> None:
    command = f"{sys.executable} -m hiervla.cli schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_nothing_asked_is_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


# Looking at records.


def test_inspect_prints_the_tree(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        '  "put the red mug on the top shelf"',
        "  world fake, seed 3, planner scripted, policy line",
        "  ✓ succeeded  the red mug is on the top shelf",
        "  3 steps, 1 retry, 1 replan, 0.5 s of robot time, 54 events",
        "plan  the red mug is on the top shelf",
        "├── ✓ 1 pick up the red mug  0.2 s, 1 retry",
        "│   ├── attempt 1 failed  0.1 s  the fingers closed on nothing",
        "│   │   ├── ready reachable: yes (0.93)",
        "│   │   ├── done grasped: no (0.93)",
        "│   │   └── 2 chunks, 15 ms each (median)",
        "│   └── attempt 2 succeeded  0.1 s",
        "│       ├── ready reachable: yes (0.93)",
        "│       ├── done grasped: yes (0.93)",
        "│       └── 2 chunks, 15 ms each (median)",
        "└── ✗ 2 put the red mug on the top shelf  0.1 s, unreachable",
        "    └── unreachable  0.1 s  the fingers closed on nothing",
        "        ├── ready reachable: yes (0.93)",
        "        ├── done placed: no (0.93)",
        "        └── 2 chunks, 15 ms each (median)",
        "plan 2  after s2: unreachable",
        "├── - put the red mug on the top shelf",
        "├── + put the red mug on the bottom shelf",
        "└── ✓ 3 put the red mug on the bottom shelf  0.1 s",
        "    └── succeeded  0.1 s",
        "        ├── ready reachable: yes (0.93)",
        "        ├── done placed: yes (0.93)",
        "        └── 2 chunks, 15 ms each (median)",
        "safety envelope limited (velocity) at 0.36 s: joint 4 asked for 2.31 rad/s, its limit is 2.175",
        "what it saw and meant in a step: hiervla inspect run --step 1",
    ]


def test_inspect_of_a_step_draws_on_the_exact_frame(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run", "--step", "1", "--attempt", "1", "--png", "step.png"]) == 0
    said = capsys.readouterr().out
    assert "keypoint 'red mug' at (40.0, 12.0) px = (0.500, 0.100, 0.040) m in the world" in said
    assert "attempt 1 of 2: failed, the fingers closed on nothing" in said
    drawing = [line for line in said.splitlines() if "X" in line]
    assert any(line[40] == "X" for line in drawing if len(line) > 40)
    drawn = np.asarray(Image.open("step.png")).astype(int)
    frame = records.frame(0)
    assert drawn.shape == (frame.height * 3, frame.width * 3, 3)
    plain = np.repeat(np.repeat(frame.rgb, 3, 0), 3, 1)
    assert np.array_equal(drawn[:6, :30], plain[:6, :30]), "away from the artifact it is the recorded frame"
    assert np.abs(drawn - plain)[3 * 12 - 3 : 3 * 12 + 4, 3 * 40 - 3 : 3 * 40 + 4].max() > 100


def test_inspect_of_a_step_names_its_picture_by_itself(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run", "--step", "s3"]) == 0
    picture = Path(capsys.readouterr().out.split("picture: ")[1].strip())
    assert picture.exists()
    assert picture.name.endswith("-step3.png")
    assert {p.name for p in copy.iterdir()} == {"manifest.json", "events.jsonl", "blobs", "streams.mcap"}


def test_inspect_speaks_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["outcome"], values["replans"], values["retries"]) == ("succeeded", 1, 1)
    assert [[s["state"] for s in p["steps"]] for p in values["plans"]] == [["succeeded", "failed"], ["succeeded"]]
    assert main(["inspect", "run", "--step", "2", "--png", "a.png", "--json"]) == 0
    step = json.loads(capsys.readouterr().out)
    assert (step["skill"], step["outcome"], step["pictures"]) == ("place", "unreachable", ["a.png"])
    assert {a["kind"] for a in step["artifacts"]} == {"affordance_map", "keypoints", "boxes", "waypoints_2d"}


def test_inspect_of_a_refused_run_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(records.make_refused(tmp_path / "run"))]) == 0
    said = capsys.readouterr().out
    assert "✗ refused  I see no red mug." in said
    assert "refused (not in scene): I see no red mug." in said


def test_inspect_of_an_unclosed_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = RunRecorder.create(tmp_path / "run", records.manifest(), durable=False)
    records.Script(recorder).plan((records.PICK, records.PLACE))
    assert main(["inspect", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "the run did not get to its end" in said
    assert "note: the record was not closed" in said
    recorder.close()


def test_a_narrow_terminal_gets_colours(copy: Path) -> None:
    """A real terminal is given half blocks in colour, and nothing that is wider than it."""
    import pty
    import termios
    import tty

    ours, theirs = pty.openpty()
    tty.setraw(ours)
    termios.tcsetwinsize(theirs, (40, 60))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60"}
    command = [sys.executable, "-m", "hiervla.cli", "inspect", "run", "--step", "1", "--png", "a.png"]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            said += piece
        assert process.wait() == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    assert "\x1b[" in said.decode()
    blocks = [line.strip("\r") for line in text.split("\n") if "▀" in line]
    assert len(blocks) > 15
    assert all(len(line) <= 60 for line in blocks)


@pytest.mark.parametrize(
    ("damage", "status", "word"), [("none", 0, "whole"), ("cut", 3, "unclosed"), ("flip", 1, "broken")]
)
def test_verify_tells_by_its_status(
    copy: Path, capsys: pytest.CaptureFixture[str], damage: str, status: int, word: str
) -> None:
    events = copy / "events.jsonl"
    data = bytearray(events.read_bytes())
    if damage == "cut":
        data = data[:-40]
    elif damage == "flip":
        data[5000] ^= 1
    events.write_bytes(data)
    assert main(["verify", "run"]) == status
    said = capsys.readouterr().out
    assert said.startswith(f"{word}: ")
    if damage == "flip":
        line = bytes(data[:5000]).count(b"\n") + 1
        assert f"events.jsonl, line {line}: its bytes do not match its crc" in said
    assert main(["verify", "run", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["status"] == word


def test_report_writes_beside_the_record_or_where_it_is_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "run"]) == 0
    assert Path(capsys.readouterr().out.strip()) == Path("run.html").resolve()
    assert main(["report", "run", "-o", "b.html"]) == 0
    assert Path("b.html").read_text() == Path("run.html").read_text()


def test_runs_lists_the_newest_first_and_survives_a_bad_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.make_record(tmp_path / "20260101-000000-a-s0")
    records.make_refused(tmp_path / "20260102-000000-b-s0")
    (records.make_record(tmp_path / "20260103-000000-c-s0") / "events.jsonl").write_bytes(b"x\n")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(Path(r["run"]).name[16:17], r["outcome"]) for r in rows] == [
        ("c", "unreadable"),
        ("b", "refused"),
        ("a", "succeeded"),
    ]
    assert main(["runs", str(tmp_path)]) == 0
    assert "unreadable" in capsys.readouterr().out


def test_runs_of_an_empty_folder_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "hiervla run" in capsys.readouterr().out


# What is installed.


def test_skills_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", "list"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^pick\(object\) +hiervla \S+ +flow +\w", listed, re.MULTILINE)
    assert main(["skills", "show", "place"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("place(object, relation, target)\n")
    assert "one of" in shown
    assert main(["skills", "list", "--json"]) == 0
    assert {s["name"] for s in json.loads(capsys.readouterr().out)} >= {"pick", "place", "wipe"}


def test_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "plan"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schemas("plan")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from hiervla import __version__

    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"hiervla {__version__}\n"


# How much it costs.


HEAVY = ("torch", "transformers", "mujoco", "scipy")


def loaded_by(*words: str, heavy: tuple[str, ...] = HEAVY) -> set[str]:
    """Heavy packages that a command loads."""
    code = (
        f"import sys; from hiervla.cli import main; main({list(words)!r}); "
        f"print('LOADED', *(n for n in {heavy!r} if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "words", [("verify",), ("inspect",), ("inspect", "--step", "1", "--png", "a.png"), ("report",)]
)
def test_looking_at_a_record_loads_no_simulator_and_no_weights(copy: Path, words: Any) -> None:
    assert loaded_by(words[0], "run", *words[1:]) == set()


def test_looking_at_a_whole_run_loads_neither_arrays_nor_what_draws(copy: Path) -> None:
    # Each takes as long to load as most records to read.
    assert loaded_by("inspect", "run", heavy=("numpy", "rich", "json.scanner")) == {"json.scanner"}
    assert loaded_by("inspect", "run", "--json", heavy=("numpy", "rich")) == set()


def test_help_loads_nothing_that_takes_time() -> None:
    # What the command line stands on took 0.1 s of CPU when it was chosen; each of these takes as long or longer.
    slow = (*HEAVY, "numpy", "pydantic", "rich", "networkx", "PIL", "mcap", "pyarrow", "av", "h5py", "safetensors")
    assert loaded_by("--help", heavy=slow) == set()
    assert loaded_by("version", heavy=(*HEAVY, "numpy")) == set()


def test_a_command_loads_itself_and_not_the_others() -> None:
    modules = tuple(f"hiervla.cli.{name}" for name in MODULES)
    assert loaded_by("version", heavy=modules) == {"hiervla.cli.looking"}
    assert loaded_by("--help", heavy=modules) == loaded_by("vershion", heavy=modules) == set(modules)


@pytest.mark.parametrize(("module", "names"), MODULES.items())
def test_each_module_adds_the_commands_that_it_is_asked_for(module: str, names: tuple[str, ...]) -> None:
    for name in names:
        assert tuple(get_group(make_app(name)).commands) == names, module


def test_forks_stand_below_their_parents() -> None:
    from hiervla.cli.inspecting import family

    rows: list[dict[str, Any]] = [
        {"run_id": "d", "parent": "gone", "run": "d"},
        {"run_id": "c", "parent": "b", "run": "c"},
        {"run_id": "b", "parent": "a", "run": "b"},
        {"run": "unreadable"},
        {"run_id": "a", "parent": None, "run": "a"},
    ]
    assert [(depth, row["run"]) for depth, row in family(rows)] == [
        (0, "d"), (0, "unreadable"), (0, "a"), (1, "b"), (2, "c"),
    ]  # fmt: skip


def test_a_look_leaves_the_process_as_it_was(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert gc.isenabled()
    assert main(["inspect", str(copy)]) == 0
    assert "pick up the red mug" in capsys.readouterr().out
    assert gc.isenabled() and dict(os.environ) == before


@pytest.mark.parametrize("words", [("--help",), ("inspect", "run")])
def test_a_process_that_planned_motions_ends_without_a_word(copy: Path, words: tuple[str, ...]) -> None:
    # The library behind them counts what is left when the interpreter ends, and tells the user of it.
    code = (
        "import ruckig, sys; from hiervla.cli import main\n"
        "class Ring: pass\n"
        "ring = Ring(); ring.ring, ring.motion = ring, ruckig.Ruckig(7, 0.02)\n"
        f"sys.exit(main({list(words)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
