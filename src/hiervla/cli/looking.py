"""``skills``, ``schema``, ``version``: what is installed and what it speaks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

skills_app = typer.Typer(help="The skills that plans are made of.", rich_markup_mode=None, no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(skills_app, name="skills")
    app.command("schema")(schema)
    app.command("version")(version)


@skills_app.command("list")
def skills_list(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """List the installed skills, one a line."""
    from hiervla.skills import SkillLibrary

    library = SkillLibrary.load()
    if as_json:
        print(json.dumps([s.model_dump(mode="json") for s in library.signatures()]))
        return 0
    calls = {s.name: f"{s.name}({', '.join(p.name for p in s.params)})" for s in library.signatures()}
    width = max((len(c) for c in calls.values()), default=0)
    for signature in library.signatures():
        print(f"{calls[signature.name]:<{width}}  {signature.doc}")
    for name, why in library.broken.items():
        print(f"left out: {name}: {why}")
    return 0


@skills_app.command("show")
def skills_show(
    name: Annotated[str, typer.Argument(help="Name of a skill.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show a skill's parameters, what it accepts and where it comes from."""
    from hiervla.skills import SkillLibrary

    library = SkillLibrary.load()
    signature = library.get(name).signature
    if as_json:
        print(signature.to_json())
        return 0
    print(f"{signature.name}({', '.join(p.name for p in signature.params)})")
    print(f"  {signature.doc}")
    for param in signature.params:
        values = f": one of {', '.join(param.choices)}" if param.choices else ""
        kinds = f" ({', '.join(param.categories)})" if param.categories else ""
        print(f"  {param.name}: {param.type}{kinds}{values}{'. ' + param.doc if param.doc else ''}")
    print(f"  accepts {', '.join(signature.accepts)}; from {library.origin(name)}")
    return 0


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
