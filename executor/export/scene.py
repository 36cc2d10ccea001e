"""A record as a sequence of things to show, whatever shows them: which entity, at which time, with which content.

This is the seam between a record and its viewers. Nothing here knows a viewer; an exporter turns each item into
what its program takes. Times are the world's clock [s]. Pixels are (u, v) of the item's own camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hiervla.executor.record.draw import COLOURS, Colour
from hiervla.executor.record.draw_space import projected
from hiervla.executor.record.errors import BlobError
from hiervla.executor.record.light import AnyEvent
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import RunView, milliseconds, sentence, words
from hiervla.representations import (
    AffordanceMap,
    Artifact,
    Boxes,
    CameraFrame,
    Constraints,
    Keypoints,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations import events as ev
from hiervla.representations.events import FrameRecord

Points: TypeAlias = "tuple[tuple[float, float], ...]"


@dataclass(frozen=True)
class Mark:
    """Something drawn over an image.

    Attributes:
        kind: ``"point"``, ``"box"`` (two corners) or ``"path"``.
        points: (u, v) [px].
        label: text beside it; may be empty.
    """

    kind: str
    points: Points
    label: str
    colour: Colour


@dataclass(frozen=True)
class CameraSeen:
    """One frame of one camera, and how it was calibrated and placed."""

    time_s: float
    frame: CameraFrame


@dataclass(frozen=True)
class Overlay:
    """All marks over the image of one camera from now on; none clears what was there."""

    time_s: float
    camera: str
    size: tuple[int, int]
    marks: tuple[Mark, ...]
    heat: AffordanceMap | None


@dataclass(frozen=True)
class Said:
    """One line of the log.

    Attributes:
        level: ``"info"``, ``"warning"`` or ``"error"``.
        line: of ``events.jsonl``.
    """

    time_s: float
    level: str
    text: str
    event: AnyEvent
    line: int


@dataclass(frozen=True)
class PlanState:
    """The plan as it stands from now on, as Markdown."""

    time_s: float
    text: str


@dataclass(frozen=True)
class Doing:
    """Which step is being done from now on; an empty text for none."""

    time_s: float
    text: str


@dataclass(frozen=True)
class Measured:
    """One number at one time, such as the time that a chunk took."""

    time_s: float
    name: str
    value: float


Item = CameraSeen | Overlay | Said | PlanState | Doing | Measured


def scene(record: RunRecord, missing: list[str] | None = None) -> Iterator[Item]:
    """All that a viewer can show of a record beside its control ticks, in the order in which it happened.

    Args:
        record: what to show.
        missing: gets a sentence for every image that cannot be had.

    Raises:
        CorruptRecordError: a line holds no event.
    """
    view = RunView()
    shown: dict[str, FrameRecord] = {}
    for number, event in enumerate(record.any_events(), 1):
        view.add(event)
        text = sentence(event)
        if text:
            yield Said(event.time_s, _level(event), text, event, number)
        match event:
            case ev.ObservationTaken():
                for seen in event.frames:
                    shown[seen.image.sha256] = seen
                    try:
                        yield CameraSeen(seen.image.time_s, record.frame(seen))
                    except BlobError as error:
                        if missing is not None:
                            missing.append(f"{event.id}, camera '{seen.image.camera}': {error.blob} {error.problem}")
            case ev.PlanProposed():
                yield from _overlays(event.time_s, event.plan.scene, shown)
                yield Measured(event.time_s, "planner_s", event.wall_latency_s)
            case ev.Grounded():
                yield from _overlays(event.time_s, event.artifacts, shown)
            case ev.ChunkProposed():
                yield Measured(event.time_s, "chunk_s", event.wall_latency_s)
                yield Measured(event.time_s, "staleness_s", event.staleness_s)
            case ev.StepStarted():
                again = f" (attempt {event.attempt + 1})" if event.attempt else ""
                yield Doing(event.time_s, f"{event.step}{again}")
            case ev.StepFinished():
                yield Doing(event.time_s, "")
                yield from _cleared(event.time_s, shown)
            case _:
                pass
        if isinstance(event, ev.PlanProposed | ev.StepStarted | ev.StepFinished | ev.RunFinished):
            yield PlanState(event.time_s, plan_text(view))


def plan_text(view: RunView) -> str:
    """The latest plan and how its steps stand, as Markdown."""
    chapter = view.chapter
    if chapter is None:
        return "no plan yet"
    marks = {"succeeded": "✓", "failed": "✗", "running": "▶", "waiting": "○", "not_begun": "–", "unfinished": "?"}
    name = chapter.plan.goal if chapter.index == 0 else f"Plan {chapter.index + 1}: {chapter.reason}"
    lines = [f"**{name}**", ""]
    for run in chapter.entries():
        state = view.state(chapter, run)
        retries = f" ({len(run.attempts)} attempts)" if run.retries else ""
        why = f": {words(str(run.outcome))}" if state == "failed" else ""
        lines.append(f"- {marks[state]} {run.step}{retries}{why}")
    if view.finished is not None:
        lines += ["", f"**{words(view.finished.outcome)}**: {view.finished.message}"]
    lines += ["", f"planned in {milliseconds(chapter.answers[-1].wall_latency_s)}"]
    return "\n".join(lines)


def image_marks(artifacts: tuple[Artifact, ...], sha256: str) -> tuple[Mark, ...]:
    """What artifacts say of one image, as marks to draw over it; maps are drawn otherwise."""
    marks: list[Mark] = []
    for number, artifact in enumerate(a for a in artifacts if getattr(a, "image", None) and not _is_map(a)):
        if getattr(artifact, "image").sha256 == sha256:  # noqa: B009  # only some artifacts have an image
            marks += _marks(artifact, COLOURS[number % len(COLOURS)])
    return tuple(marks)


def world_marks(artifacts: tuple[Artifact, ...], frame: CameraFrame) -> tuple[Mark, ...]:
    """What artifacts say in the world frame, projected into one camera."""
    marks = []
    for number, artifact in enumerate(a for a in artifacts if isinstance(a, Waypoints3D | Constraints)):
        points = tuple(projected(frame, artifact))
        colour = COLOURS[(number + 2) % len(COLOURS)]
        if points:
            kind = "path" if isinstance(artifact, Waypoints3D) else "point"
            marks.append(Mark(kind, points, "", colour))
    return tuple(marks)


def _marks(artifact: Artifact, colour: Colour) -> list[Mark]:
    match artifact:
        case Keypoints():
            return [Mark("point", ((p.u, p.v),), f"{p.label} {p.confidence:.2f}", colour) for p in artifact.points]
        case Boxes():
            return [
                Mark("box", ((b.u_min, b.v_min), (b.u_max, b.v_max)), f"{b.label} {b.confidence:.2f}", colour)
                for b in artifact.boxes
            ]
        case Waypoints2D():
            return [Mark("path", tuple((p.u, p.v) for p in artifact.points), "", colour)]
        case _:
            return []


def _overlays(time_s: float, artifacts: tuple[Artifact, ...], shown: dict[str, FrameRecord]) -> Iterator[Overlay]:
    images = {a.image.sha256: a.image for a in artifacts if hasattr(a, "image")}
    for sha256, image in images.items():
        if sha256 in shown:
            heat = next((a for a in artifacts if isinstance(a, AffordanceMap) and a.image.sha256 == sha256), None)
            size = (image.width, image.height)
            yield Overlay(time_s, image.camera, size, image_marks(artifacts, sha256), heat)


def _cleared(time_s: float, shown: dict[str, FrameRecord]) -> Iterator[Overlay]:
    cameras = {seen.image.camera: (seen.image.width, seen.image.height) for seen in shown.values()}
    for camera, size in cameras.items():
        yield Overlay(time_s, camera, size, (), None)


def _is_map(artifact: Artifact) -> bool:
    return isinstance(artifact, AffordanceMap)


def _level(event: AnyEvent) -> str:
    match event:
        case ev.Note():
            return event.level
        case ev.PlanRejected() | ev.EnvelopeFired():
            return "warning"
        case ev.StepFinished() if event.outcome != "succeeded":
            return "warning"
        case _:
            return "info"


def joints(values: Any) -> dict[str, float]:
    """Joint values by name, ``joint_1`` first."""
    return {f"joint_{number}": float(value) for number, value in enumerate(np.asarray(values).tolist(), 1)}
