"""Packages of strangers for tests: a real one, installed by pip, and small ones made on the spot."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PUSH = ROOT / "tests" / "packages" / "hiervla_push"


def install(package: Path, target: Path) -> Path:
    """Have pip build a package and install it into a folder."""
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--disable-pip-version-check", "--no-warn-script-location", "--target", str(target), str(package)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def write(site: Path, name: str, module: str, points: dict[str, dict[str, str]], version: str = "1.0") -> Path:
    """What pip leaves behind: a module and its metadata with entry points."""
    module_name = name.replace("-", "_")
    info = site / f"{module_name}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / f"{module_name}.py").write_text(module)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in named.items()) for group, named in points.items()]
    (info / "entry_points.txt").write_text("\n\n".join(lines) + "\n")
    return site


def python(*words: str, sites: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that has this repository and some folders of packages on its path."""
    path = os.pathsep.join([str(ROOT / "src"), *map(str, sites)])
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=env)


COMMANDS = """
import contextlib, io, json, sys
from hiervla.cli import main
done = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    done.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(done))
"""


def hiervla(*commands: str, sites: tuple[Path, ...] = ()) -> list[tuple[int, str, str]]:
    """Status, stdout and stderr of commands, in one fresh interpreter with some folders of packages on its path."""
    words = json.dumps([shlex.split(command) for command in commands])
    done = python("-c", COMMANDS, words, sites=sites)
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]
