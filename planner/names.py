"""Which planner a name stands for."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hiervla.planner.base import Planner
from hiervla.representations import HiervlaError, UnknownNameError

if TYPE_CHECKING:
    from hiervla.planner.vlm.backend import Backend
    from hiervla.planner.vlm.verdict import ModelVerdict

URL_VARIABLE: Final = "HIERVLA_BASE_URL"
POINTS: Final = "?points="
"""Between a name and the pointing family of its model."""
IN_ANSWER: Final = "answer"
"""In place of a family: the points are part of the plan's own answer, from 0 to 1000, x and y by name."""
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
    if POINTS in name:
        whole, (name, _, points) = name, name.rpartition(POINTS)
        options["points"] = _points_name(whole, points)
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
        from hiervla.planner.vlm.adapter import is_adapter
        from hiervla.planner.vlm.checkpoint import EMBEDDED_TYPE, model_type

        folder = Path(name)
        if is_adapter(folder):
            return _transformers(name, options)
        # Without a config.json it is ours to complain about, as it says how to make one.
        if not (folder / "config.json").exists() or model_type(folder) == EMBEDDED_TYPE:
            return _embedded(path=folder, **options)
        return _transformers(name, options)
    place = "--planner (embedded, transformers:FOLDER_OR_HUB_ID, openai:MODEL@URL, or the folder of a checkpoint)"
    raise UnknownNameError("planner", f"{kind}:" if colon else name, ("embedded", "transformers:", "openai:"), place)


def _embedded(**options: Any) -> Planner:
    if "points" in options:
        problem = "it points by itself, so that no family can be named for it"
        raise PlannerNameError("embedded", problem, f"Leave {POINTS}... out")
    from hiervla.planner.embedded.planner import EmbeddedPlanner

    return EmbeddedPlanner(**options)


def _transformers(checkpoint: str, options: dict[str, Any]) -> Planner:
    from hiervla.planner.vlm.local import TransformersBackend
    from hiervla.planner.vlm.planner import VLMPlanner

    ours, theirs = _split(TransformersBackend, options)
    backend = TransformersBackend(checkpoint, **theirs)
    return VLMPlanner(backend, **_with_points(ours, backend, Path(checkpoint).name, backend.model_type))


def judge_of_name(name: str) -> ModelVerdict:
    """A model that judges whether a step worked, by the name of its backend.

    Args:
        name: ``"transformers:FOLDER_OR_HUB_ID"`` or ``"openai:MODEL@http://host:port/v1"``.

    Raises:
        PlannerNameError: it names no model or no server.
        UnknownNameError: it is no such name.
        MissingDependencyError: an extra is not installed.
        CheckpointError: the checkpoint cannot be read.
    """
    from hiervla.planner.vlm.verdict import ModelVerdict

    kind, colon, rest = name.partition(":")
    if colon and kind == "openai":
        from hiervla.planner.vlm.server import ServerBackend

        return ModelVerdict(ServerBackend(*_server(name, rest)))
    if colon and kind == "transformers" and rest:
        from hiervla.planner.vlm.local import TransformersBackend

        return ModelVerdict(TransformersBackend(rest))
    raise UnknownNameError("judge", name, ("transformers:", "openai:"), f"--judge (transformers:FOLDER, {_SERVER})")


def _openai(name: str, rest: str, options: dict[str, Any]) -> Planner:
    from hiervla.planner.vlm.planner import VLMPlanner
    from hiervla.planner.vlm.server import ServerBackend

    model, url = _server(name, rest)
    ours, theirs = _split(ServerBackend, options)
    backend = ServerBackend(model, url, **theirs)
    return VLMPlanner(backend, **_with_points(ours, backend, model))


def _server(name: str, rest: str) -> tuple[str, str]:
    """Model and address in what follows ``openai:``.

    Raises:
        PlannerNameError: one of them is missing.
    """
    # From the right and with the scheme: names of models may contain an @.
    cut = max(rest.rfind("@http://"), rest.rfind("@https://"))
    model, url = (rest[:cut], rest[cut + 1 :]) if cut >= 0 else (rest, os.environ.get(URL_VARIABLE, ""))
    if not model:
        raise PlannerNameError(name, "it names no model", f"Write {_SERVER}")
    if not url:
        remedy = f"Write {_SERVER}, or set {URL_VARIABLE}"
        raise PlannerNameError(name, "it names no server", remedy)
    return model, url


def _points_name(name: str, points: str) -> str:
    """The pointing family that a name asks for.

    Raises:
        PlannerNameError: there is no such family.
    """
    from hiervla.planner.adapters import adapter_names

    if points != IN_ANSWER and points.lower() not in adapter_names():
        known = ", ".join((IN_ANSWER, *adapter_names()))
        raise PlannerNameError(name, f"'{points}' is no pointing family", f"Write {POINTS}FAMILY with one of {known}")
    return points


def _with_points(ours: dict[str, Any], backend: Backend, model: str, model_type: str = "") -> dict[str, Any]:
    """The planner's options with the strategy for its points: as asked for, or as the model's name says for certain."""
    from hiervla.planner.adapters import get_adapter
    from hiervla.planner.vlm.families import family_of
    from hiervla.planner.vlm.pointing import FamilyPoints

    points = ours.get("points")
    if points is None:
        points = family_of(model, model_type) or IN_ANSWER
    if not isinstance(points, str):
        return ours
    if points == IN_ANSWER:
        return {**ours, "points": None}
    sampling = {"sampling": ours["sampling"]} if "sampling" in ours else {}
    return {**ours, "points": FamilyPoints(backend, get_adapter(points), repairs=ours.get("repairs", 2), **sampling)}


def _split(backend: type, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the planner, and those of the backend."""
    known = set(inspect.signature(backend).parameters)
    ours = {k: v for k, v in options.items() if k not in known}
    return ours, {k: v for k, v in options.items() if k in known}
