"""The pictures of a step: every frame that its artifacts were computed from, with those artifacts drawn on it."""

from __future__ import annotations

from dataclasses import dataclass

from hiervla.executor.record.draw import draw, draws, is_words
from hiervla.executor.record.draw_space import Pixels
from hiervla.executor.record.errors import BlobError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt
from hiervla.representations import Artifact, CameraFrame, ImageRef
from hiervla.representations.events import StepStarted


@dataclass(frozen=True)
class Picture:
    """One frame and what was meant in it.

    Attributes:
        frame: the exact recorded frame.
        artifacts: those that :meth:`drawn` shows.
    """

    frame: CameraFrame
    artifacts: tuple[Artifact, ...]

    def drawn(self, scale: int = 3) -> Pixels:
        """The frame, enlarged, with its artifacts over it: (H * scale, W * scale, 3) uint8."""
        return draw(self.frame, self.artifacts, scale)


def artifacts_of(record: RunRecord, attempt: Attempt) -> tuple[Artifact, ...]:
    """What an attempt acted on: its grounded artifacts, or the plan's where it did not get to ground them.

    Raises:
        CorruptRecordError: the line of one of these events holds no event.
    """
    grounded = tuple(artifact for event in attempt.grounded for artifact in event.artifacts)
    if grounded:
        return grounded
    started = record.event(attempt.started.id)
    return started.step.artifacts if isinstance(started, StepStarted) else ()


def step_pictures(record: RunRecord, attempt: Attempt) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The pictures of an attempt, and what is missing for more, in sentences.

    3D artifacts without an image of their own are drawn into the first frame that shows them.
    """
    seen = attempt.observations[0].frames if len(attempt.observations) else ()
    return pictures_of(record, artifacts_of(record, attempt), tuple(f.image for f in seen))


def pictures_of(
    record: RunRecord, artifacts: tuple[Artifact, ...], instead: tuple[ImageRef, ...] = ()
) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The frames that artifacts speak of with those artifacts drawn on them, and what is missing for more.

    Args:
        record: where the frames are.
        artifacts: what to draw.
        instead: images to draw on when no artifact names one.
    """
    images: dict[str, ImageRef] = {a.image.sha256: a.image for a in artifacts if hasattr(a, "image")}
    if not images:
        images = {image.sha256: image for image in instead}
    frames: list[CameraFrame] = []
    missing: list[str] = []
    for image in images.values():
        try:
            frames.append(record.frame(record.frame_of(image), depth=False))
        except BlobError as error:
            missing.append(f"{error.blob} {error.problem}")
    pictures = []
    for frame in frames:
        mine = tuple(a for a in artifacts if draws(a, frame))
        if mine:
            pictures.append(Picture(frame, mine))
    # Words go with any picture; alone they are shown on one.
    places = [p for p in pictures if not all(is_words(a) for a in p.artifacts)]
    return tuple(places or pictures[:1]), tuple(missing)
