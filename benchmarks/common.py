"""What all benchmarks share: how they are called, confidence intervals, and the line of JSON at the end."""

from __future__ import annotations

import argparse
import json
from typing import Any

from hiervla.training.rates import rate, wilson

__all__ = ["arguments", "finish", "positive", "rate", "wilson"]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Parser with ``--quick`` (under 10 minutes on 2 cores) and ``--full``; ``args.full`` says which."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="under 10 minutes on 2 cores")
    size.add_argument("--full", action="store_true", help="the numbers that the documentation states")
    return parser


def positive(text: str) -> int:
    """An argument that counts something: one or more.

    Raises:
        argparse.ArgumentTypeError: it does not.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def finish(figures: dict[str, Any]) -> None:
    """Print the figures as one line of JSON; the last thing that a benchmark prints."""
    print(json.dumps(figures, allow_nan=False), flush=True)
