"""What a person puts in the place of a decision at a step: an artifact, the step, the whole plan, or words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hiervla.executor.control import Say
from hiervla.representations import ARTIFACT_ADAPTER, HiervlaError, Keypoints, Plan, Step
from hiervla.representations.artifacts import Artifact

Correction = Step | Plan | Say


class CorrectionFileError(HiervlaError, ValueError):
    """An edited intermediate that is not one any more, or that does not belong to its step.

    Attributes:
        source: the file, or what else it came from.
        problem: what is wrong with it.
    """

    exit_code = 2

    def __init__(self, source: str, problem: str, remedy: str) -> None:
        super().__init__(f"correction '{source}': {problem}. {remedy}.")
        self.source = source
        self.problem = problem


def read_correction(path: Path, step: Step) -> Correction:
    """The correction in a JSON file, fitted to the step that it corrects.

    Raises:
        CorrectionFileError: the file cannot be read, or holds no intermediate that fits.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise CorrectionFileError(str(path), problem, "Name a JSON file") from error
    return parse_correction(text, step, str(path))


def parse_correction(text: str, step: Step, source: str = "text") -> Correction:
    """The correction in a JSON text: an artifact (by its ``kind``), a list of artifacts, a step, or a plan.

    An artifact takes the place of the step's artifact of the same kind, or is added where there is none.

    Raises:
        CorrectionFileError: the text holds no intermediate that fits the step.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CorrectionFileError(source, f"is not JSON ({error})", "Write one artifact, step or plan") from error
    if isinstance(values, dict) and values.get("kind") == "plan":
        plan: Plan = _parsed(Plan.model_validate_json, text, source, "plan")
        if not plan.remaining:
            raise CorrectionFileError(source, "is a plan with nothing remaining", "Leave at least one step to do")
        return plan
    if isinstance(values, dict) and "skill" in values:
        given: Step = _parsed(Step.model_validate_json, text, source, "step")
        return with_artifacts(given.replace(id=step.id, artifacts=()), given.artifacts, source, like=step)
    parts = values if isinstance(values, list) else [values]
    artifacts = []
    for value in parts:
        if not isinstance(value, dict) or "kind" not in value:
            problem = "holds no 'kind', so that it is neither artifact nor plan, and no 'skill', so that it is no step"
            raise CorrectionFileError(source, problem, "Print a valid one with `hiervla inspect RUN --step N --json`")
        artifacts.append(_parsed(ARTIFACT_ADAPTER.validate_json, json.dumps(value), source, str(value["kind"])))
    if not artifacts:
        raise CorrectionFileError(source, "is an empty list", "Give at least one artifact")
    return with_artifacts(step, tuple(artifacts), source, like=step)


def with_artifacts(step: Step, artifacts: tuple[Artifact, ...], source: str, *, like: Step) -> Step:
    """The step with artifacts in the place of those of the same kind.

    Raises:
        CorrectionFileError: an artifact speaks of another image than the step's own.
    """
    images = {a.image.sha256 for a in like.artifacts if hasattr(a, "image")}
    for artifact in artifacts:
        image = getattr(artifact, "image", None)
        if image is not None and images and image.sha256 not in images:
            problem = f"its {artifact.kind} are points in another image ({image.sha256[:12]}…) than the step's"
            raise CorrectionFileError(source, problem, "Take the image from the step's own artifact")
    fresh = tuple(_unlifted(a) for a in artifacts)
    kept = [next((f for f in fresh if f.kind == a.kind), a) for a in (step.artifacts or like.artifacts)]
    added = [f for f in fresh if all(f.kind != a.kind for a in kept)]
    return step.replace(artifacts=(*kept, *added))


def _unlifted(artifact: Artifact) -> Artifact:
    """Without the positions of before: they belong to the pixels that were there before."""
    if not isinstance(artifact, Keypoints):
        return artifact
    return artifact.replace(points=tuple(p.replace(position_w=None, normal_w=None) for p in artifact.points))


def _parsed(parse: Any, text: str, source: str, what: str) -> Any:
    try:
        return parse(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorrectionFileError(source, f"is no valid {what} ({where}: {first['msg']})", "Mend that field") from error
