"""Start: ``PYTHON FOLDER``, by an interpreter that knows this folder as a path and not as a package of hiervla's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "hiervla_lerobot_server"


def start() -> int:
    """Make this folder a package of its own and run it."""
    folder = Path(__file__).resolve().parent
    # Python puts the folder itself in front, where our modules would hide others of the same name.
    sys.path[:] = [place for place in sys.path if not place or Path(place).resolve() != folder]
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    code: int = importlib.import_module(f"{NAME}.app").main()
    return code


if __name__ == "__main__":
    sys.exit(start())
