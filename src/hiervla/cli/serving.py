"""``serve``: parts of hiervla for other processes and machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

serve_app = typer.Typer(help="Serve learned parts to other processes.", rich_markup_mode=None, no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(serve_app, name="serve")


@serve_app.callback()
def serve() -> None:
    """Serve learned parts to other processes."""


@serve_app.command("policy")
def serve_policy(
    policy: Annotated[str, typer.Option(help="Policy by name, or the folder of a checkpoint.")] = "flow",
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine itself needs HIERVLA_POLICY_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
) -> int:
    """Serve a policy over openpi's websocket protocol, until Ctrl-C."""
    import torch

    from hiervla.executor.policies.base import Policy, make_policy
    from hiervla.executor.policies.remote.server import PolicyServer

    torch.set_num_threads(threads)
    folder = Path(policy)

    def make() -> Policy:
        return make_policy("flow", path=folder) if folder.is_dir() else make_policy(policy)

    server = PolicyServer(make, host=host, port=port)
    print(f"{server.policy_id} at {server.url} (stop with Ctrl-C)", flush=True)
    print(f'next: hiervla run "..." --policy openpi:{server.url}', flush=True)
    try:
        server.serve_forever()
    finally:
        server.close()
    return 0
