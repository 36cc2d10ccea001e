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
    lerobot: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Instead: a LeRobot policy's folder or name at the hub.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="FILE", help="Interpreter of an environment with lerobot.")
    ] = None,
    spec: Annotated[
        str, typer.Option(help="What a LeRobot policy's numbers mean: a preset, or a JSON file.")
    ] = "lerobot",
    image: Annotated[
        list[str] | None, typer.Option(metavar="KEY=CAMERA", help="Our camera for a LeRobot policy's image; again.")
    ] = None,
    rate_hz: Annotated[
        float | None, typer.Option(min=0.1, max=1000.0, help="Rows a second of a LeRobot policy: its dataset's fps.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where a LeRobot policy runs, such as cuda.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine itself needs HIERVLA_POLICY_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 1,
) -> int:
    """Serve a policy over openpi's websocket protocol, until Ctrl-C."""
    if lerobot is not None:
        return _serve_lerobot(lerobot, python, spec, image or [], rate_hz, device, host, port)
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


def _serve_lerobot(
    source: str,
    python: str | None,
    spec: str,
    images: list[str],
    rate_hz: float | None,
    device: str | None,
    host: str,
    port: int,
) -> int:
    from hiervla.executor.policies.remote.lerobot import SETUP, LeRobotProcess, spec_for
    from hiervla.representations import ConventionError

    if python is None:
        raise ConventionError("python", "no interpreter with lerobot is named", f"Give --python; to make one: {SETUP}")
    cameras: dict[str, str] = {}
    for pair in images:
        key, equals, camera = pair.partition("=")
        if not (key and equals and camera):
            raise ConventionError("image", f"'{pair}' is no pair", "Write observation.images.top=front")
        cameras[key] = camera
    meaning = spec_for(spec, cameras, rate_hz)
    with LeRobotProcess(source, python, meaning, host=host, port=port, device=device) as served:
        told = served.ready
        print(f"{told['policy']} of lerobot {told['lerobot']} at {served.url} (stop with Ctrl-C)", flush=True)
        seen = ", ".join(f"{key} {size[1]}x{size[0]}" for key, size in told["images"].items()) or "no images"
        print(f"sees {seen}; {told['chunk_rows']} rows at {told['rate_hz']:g} Hz", flush=True)
        modes = ", ".join(f"{key} {mode}" for key, mode in told["normalisation"].items())
        print(f"normalises {modes or 'nothing'}", flush=True)
        if not told["checked"]:
            print(f"note: policies of the kind '{told['policy']}' have not been tried here", flush=True)
        print(f'next: hiervla run "..." --policy openpi:{served.url}', flush=True)
        served.wait()
    return 0
