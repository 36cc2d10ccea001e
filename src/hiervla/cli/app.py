"""All commands together, and what becomes of their mistakes: one paragraph and an exit status, never a traceback."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import typer
from typer import exceptions
from typer.main import get_group

MODULES: Final[dict[str, tuple[str, ...]]] = {
    "running": ("run", "demo"),
    "records": ("inspect", "verify", "report", "runs"),
    "comparing": ("diff",),
    "travel": ("replay", "fork", "resume"),
    "exporting": ("view", "export"),
    "skills": ("skills",),
    "calibrating": ("calibrate",),
    "blaming": ("blame",),
    "looking": ("schema", "version"),
    "learning": ("collect", "train"),
    "improving": ("improve",),
    "data": ("data",),
    "serving": ("serve",),
}
"""The modules of this package that have an ``add_to``, in the order of the help, and the commands that each adds."""


def make_app(word: str = "") -> typer.Typer:
    """The command line; only the part of it that ``word`` asks for, where it is a command.

    typer takes as long to describe the parameters of all commands as most of them take to run.
    """
    app = typer.Typer(
        name="hiervla",
        help="From a sentence and camera images to robot motion, with a record of every decision.",
        epilog="--debug, anywhere, shows the traceback of an error. Exit status: 0 good, 1 not, 2 a mistake in the "
        "command, 3 a record that was not closed, 4 a live part that disagrees, 130 interrupted.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=True,
    )
    for module in [name for name, commands in MODULES.items() if word in commands] or MODULES:
        import_module(f"hiervla.cli.{module}").add_to(app)
    return app


def run_app(words: Sequence[str], *, debug: bool = False) -> int:
    """Run one command and turn whatever it raises into a message on stderr and an exit status."""
    try:
        # A group even where it has one command, whose name typer would otherwise leave out.
        command = get_group(make_app(*words[:1]))
        result = command(list(words), standalone_mode=False, prog_name="hiervla")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except exceptions.TyperException as error:
        return _usage(error)
    except KeyboardInterrupt:
        _say("interrupted.")
        return 130
    except BrokenPipeError:
        # The reader of our output, `head` perhaps, has enough; nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _failed(error)


def _usage(error: exceptions.TyperException) -> int:
    # Asking for nothing is answered with the help, which is the message.
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(text, file=sys.stderr)
    else:
        path = context.command_path if context is not None else "hiervla"
        end = "" if text.endswith(("?", ".")) else "."
        _say(f"{text}{end} See `{path} --help`.")
    return int(getattr(error, "exit_code", 2))


def _failed(error: Exception) -> int:
    from hiervla.representations.errors import HiervlaError

    if isinstance(error, HiervlaError):
        _say(str(error))
        return error.exit_code
    _say(
        f"this should not have happened: {type(error).__name__}: {error}. "
        "It is a defect of hiervla or of what it stands on; --debug shows where."
    )
    return 1


def _say(text: str) -> None:
    width = 100
    try:
        width = max(40, min(120, os.get_terminal_size(sys.stderr.fileno()).columns))
    except (OSError, ValueError):
        pass
    one = " ".join(text.split())
    print(textwrap.fill(f"hiervla: {one}", width, break_long_words=False, break_on_hyphens=False), file=sys.stderr)
