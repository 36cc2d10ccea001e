"""The command line. Importing it is light: numpy, torch and the rest are loaded by the command that needs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: the words after ``hiervla``; by default those of the process.

    Returns:
        The exit status: 0 good; 1 the run, the check or the record is not; 2 a mistake in the command; 3 a record
        that is whole but was not closed; 130 interrupted.
    """
    words = list(sys.argv[1:] if args is None else args)
    debug = bool(os.environ.get("HIERVLA_DEBUG"))
    if "--debug" in words:
        # Taken wherever it stands, since that is where people add it.
        words.remove("--debug")
        debug = True
    from hiervla.cli.app import run_app

    return run_app(words, debug=debug)
