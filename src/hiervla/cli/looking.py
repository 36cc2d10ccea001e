"""``schema``, ``version``: what is installed and what it speaks."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("schema")(schema)
    app.command("version")(version)


def schema(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Types; all by default.", show_default=False)
    ] = None,
) -> int:
    """Print the JSON Schemas of the types that records and plans are made of."""
    from hiervla.representations import json_schemas

    print(json.dumps(json_schemas(*(names or ())), indent=2))
    return 0


def version() -> int:
    """Print the version."""
    from hiervla._version import __version__

    print(f"hiervla {__version__}")
    return 0
