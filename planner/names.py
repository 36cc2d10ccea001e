"""Which planner a name stands for."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, Final

from hiervla.planner.base import Planner
from hiervla.representations import HiervlaError, UnknownNameError

URL_VARIABLE: Final = "HIERVLA_BASE_URL"
_SERVER: Final = "openai:MODEL@http://host:port/v1"


class PlannerNameError(HiervlaError, ValueError):
    """A name that says which kind of planner, but not which one."""

    exit_code = 2

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        super().__init__(f"planner '{name}': {problem}. {remedy}.")
        self.name = name
        self.problem = problem


def planner_of_name(name: str, **options: Any) -> Planner:
    """What :func:`hiervla.planner.base.make_planner` does."""
    kind, colon, rest = name.partition(":")
    if name == "embedded":
        return _embedded(**options)
    if colon and kind == "transformers":
        if not rest:
            remedy = "Write transformers:FOLDER or transformers:OWNER/NAME"
            raise PlannerNameError(name, "it names no checkpoint", remedy)
        return _transformers(rest, options)
    if colon and kind == "openai":
        return _openai(name, rest, options)
    if Path(name).is_dir():
        from hiervla.planner.vlm.checkpoint import EMBEDDED_TYPE, model_type

        folder = Path(name)
        # Without a config.json it is ours to complain about, as it says how to make one.
        if not (folder / "config.json").exists() or model_type(folder) == EMBEDDED_TYPE:
            return _embedded(path=folder, **options)
        return _transformers(name, options)
    place = "--planner (embedded, transformers:FOLDER_OR_HUB_ID, openai:MODEL@URL, or the folder of a checkpoint)"
    raise UnknownNameError("planner", f"{kind}:" if colon else name, ("embedded", "transformers:", "openai:"), place)


def _embedded(**options: Any) -> Planner:
    from hiervla.planner.embedded.planner import EmbeddedPlanner

    return EmbeddedPlanner(**options)


def _transformers(checkpoint: str, options: dict[str, Any]) -> Planner:
    from hiervla.planner.vlm.local import TransformersBackend
    from hiervla.planner.vlm.planner import VLMPlanner

    ours, theirs = _split(TransformersBackend, options)
    return VLMPlanner(TransformersBackend(checkpoint, **theirs), **ours)


def _openai(name: str, rest: str, options: dict[str, Any]) -> Planner:
    from hiervla.planner.vlm.planner import VLMPlanner
    from hiervla.planner.vlm.server import ServerBackend

    # From the right and with the scheme: names of models may contain an @.
    cut = max(rest.rfind("@http://"), rest.rfind("@https://"))
    model, url = (rest[:cut], rest[cut + 1 :]) if cut >= 0 else (rest, os.environ.get(URL_VARIABLE, ""))
    if not model:
        raise PlannerNameError(name, "it names no model", f"Write {_SERVER}")
    if not url:
        remedy = f"Write {_SERVER}, or set {URL_VARIABLE}"
        raise PlannerNameError(name, "it names no server", remedy)
    ours, theirs = _split(ServerBackend, options)
    return VLMPlanner(ServerBackend(model, url, **theirs), **ours)


def _split(backend: type, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the planner, and those of the backend."""
    known = set(inspect.signature(backend).parameters)
    ours = {k: v for k, v in options.items() if k not in known}
    return ours, {k: v for k, v in options.items() if k in known}
