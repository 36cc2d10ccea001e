"""``collect`` and ``train``: demonstrations, and weights from them."""

from __future__ import annotations

import typer

train_app = typer.Typer(help="Train the learned parts.", rich_markup_mode=None, no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(train_app, name="train")
