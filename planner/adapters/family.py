"""What all adapters share: the guard around parsing, and the way from artifacts back to a family's numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import ClassVar, Final

from hiervla.planner.adapters.answer import OTHER_FAMILY, Answer, Found, Gripper, Mark
from hiervla.planner.adapters.base import MAX_CHARS, AdapterError, Convention, ImageSize, Kind
from hiervla.planner.adapters.literals import LiteralError
from hiervla.planner.adapters.resizing import FACTOR, fits, smart_resize
from hiervla.planner.adapters.search import Row
from hiervla.representations import (
    Artifact,
    Box,
    Boxes,
    CameraFrame,
    ConventionError,
    ImageRef,
    Keypoints,
    UnknownNameError,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.geometry import project

_NOISE: Final = 1e-6
"""Rounding errors of the way to pixels and back must not push a box to the next step."""


@dataclass(frozen=True)
class Drawing:
    """An artifact in pixels, and the conversion of its pixels to a family's numbers.

    Attributes:
        size: of the original image.
        limits: of the image that the family's pixels are counted in.
    """

    family: str
    convention: Convention
    kind: Kind
    size: ImageSize
    limits: ImageSize
    marks: tuple[Mark, ...]
    boxes: tuple[Box, ...]

    def number(self, axis: int, pixel: float, outwards: int = 0) -> float:
        """A coordinate of the family, on its grid of steps.

        Args:
            axis: 0 across, 1 down.
            pixel: u or v of the original image.
            outwards: -1 rounds down, 1 rounds up, 0 to the nearest step.
        """
        c = self.convention
        pixels = (self.size.width, self.size.height)[axis]
        high = c.high
        if high is None:
            high = (self.limits.width, self.limits.height)[axis]
        if c.ends == "pixel_centres":
            share = (pixel - 0.5) / max(1, pixels - 1)
        else:
            share = pixel / pixels
        steps = (c.low + share * (high - c.low)) / c.step
        whole = round(steps)
        if outwards < 0:
            whole = floor(steps + _NOISE)
        elif outwards > 0:
            whole = ceil(steps - _NOISE)
        return min(max(whole * c.step, c.low), high)

    def pair(self, mark: Mark) -> tuple[float, float]:
        """(x, y) of a point in the family's numbers, x across and y down whatever the family writes first."""
        return self.number(0, mark.u), self.number(1, mark.v)

    def corners(self, box: Box) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) of the smallest box on the family's grid that holds the box."""
        low = (self.number(0, box.u_min, -1), self.number(1, box.v_min, -1))
        high = (self.number(0, box.u_max, 1), self.number(1, box.v_max, 1))
        return *low, *high

    def written(self, value: float) -> str:
        """A coordinate with as many decimals as the family writes."""
        decimals = 0
        while decimals < 6 and self.convention.step * 10**decimals < 1.0 - _NOISE:
            decimals += 1
        return f"{value:.{decimals}f}"


class Family(ABC):
    """Base of the built-in adapters; see :class:`OutputAdapter` for the contract.

    Attributes:
        says_gripper: has the format a way to say what the gripper does?
    """

    family: str
    convention: Convention
    kinds: tuple[Kind, ...]
    says_gripper: ClassVar[bool] = False

    @abstractmethod
    def _read(self, answer: Answer) -> Found:
        """What the text speaks of.

        Raises:
            AdapterError: the text is not the family's.
            LiteralError: it is broken or beyond the limits.
        """

    @abstractmethod
    def _write(self, drawing: Drawing) -> str:
        """The family's text for an artifact of a kind that it writes."""

    @abstractmethod
    def _wording(self, kind: Kind) -> str:
        """What to tell the model of the form of its answer."""

    def _mark(self, answer: Answer, row: Row, what: str, label: str = "", gripper: Gripper = "keep") -> Mark:
        """A point from its numbers in the family's order; a third one is a depth where the family writes depths.

        Raises:
            AdapterError: they are no point, or outside of the image.
        """
        numbers, at = row
        lengths = (2,) if self.convention.depth == "none" else (2, 3)
        if len(numbers) not in lengths:
            raise answer.error(f"{len(numbers)} numbers are no point", OTHER_FAMILY, at, what)
        x, y = numbers[:2] if self.convention.axis_order == "xy" else numbers[1::-1]
        u, v = answer.pixel(x, y, at, what)
        depth = answer.depth(numbers[2], at, what) if len(numbers) == 3 else None
        return Mark(u, v, label, gripper, depth_m=depth, at=at)

    def _box(self, answer: Answer, row: Row, what: str, label: str = "") -> Box:
        """A box from its four numbers in the family's order.

        Raises:
            AdapterError: they are no box, or outside of the image.
        """
        numbers, at = row
        if len(numbers) != 4:
            raise answer.error(f"{len(numbers)} numbers are no box", OTHER_FAMILY, at, what)
        a, b, c, d = numbers
        return answer.box((a, b, c, d) if self.convention.axis_order == "xy" else (b, a, d, c), label, at, what)

    def instructions(self, kind: Kind) -> str:
        """See :class:`OutputAdapter`."""
        if kind not in self.kinds:
            raise UnknownNameError("kind of answer", kind, self.kinds, place=f"adapter '{self.family}'")
        return self._wording(kind)

    def parse(
        self,
        text: str,
        image: ImageRef,
        *,
        sent: ImageSize | None = None,
        frame: CameraFrame | None = None,
        kind: Kind | None = None,
    ) -> tuple[Artifact, ...]:
        """See :class:`OutputAdapter`."""
        answer = Answer(self.family, self.convention, text, image, sent, frame, kind)
        self._check(answer)
        try:
            return answer.artifacts(self._read(answer))
        except LiteralError as error:
            raise answer.error(error.problem, error.remedy, error.at) from None

    def render(self, artifact: Artifact, *, sent: ImageSize | None = None, frame: CameraFrame | None = None) -> str:
        """See :class:`OutputAdapter`."""
        if artifact.kind not in self.kinds:
            raise refusal(
                self.family,
                f"it has no way to say {artifact.kind}",
                f"Give one of {', '.join(self.kinds)}",
            )
        drawing = _drawing(self.family, self.convention, artifact, sent, frame)
        if not self.says_gripper and any(mark.gripper != "keep" for mark in drawing.marks):
            raise refusal(
                self.family, "it has no way to say what the gripper does", "Give a path whose gripper is 'keep'"
            )
        if self.convention.relative_to == "sent":
            trouble = _sent_trouble(drawing.size, sent)
            if trouble is not None:
                raise refusal(self.family, *trouble)
        return self._write(drawing)

    def _check(self, answer: Answer) -> None:
        """Refuse before reading what cannot be understood."""
        if not isinstance(answer.text, str):
            raise AdapterError(
                self.family, "", f"the answer is no text but {type(answer.text).__name__}", "Ask the model again"
            )
        if len(answer.text) > MAX_CHARS:
            raise answer.error(
                f"it has {len(answer.text)} characters, more than {MAX_CHARS}", "Limit the tokens, or ask again"
            )
        if answer.kind is not None and answer.kind not in self.kinds:
            raise answer.error(f"the family does not write {answer.kind}", f"Ask it for one of {', '.join(self.kinds)}")
        if self.convention.relative_to == "sent":
            trouble = _sent_trouble(ImageSize(answer.image.width, answer.image.height), answer.sent)
            if trouble is not None:
                raise answer.error(*trouble)


def _sent_trouble(original: ImageSize, sent: ImageSize | None) -> tuple[str, str] | None:
    """Problem and remedy of a size that is missing, or that the image cannot have had; None where it is sound."""
    if sent is None:
        return (
            "the family counts in pixels of the image that it was sent, and that size is missing",
            "Give sent=ImageSize(width, height) as the model's image processor made it",
        )
    if fits(original.width, original.height, sent):
        return None
    try:
        remedy = f"Give the size that it really made, such as {smart_resize(original.width, original.height)}"
    except ConventionError as error:
        remedy = str(error).removesuffix(".")
    return (
        f"{sent} is no size that the processor makes of an image of {original} (both sides are multiples of {FACTOR}"
        " and keep the aspect ratio)",
        remedy,
    )


def _drawing(
    family: str, convention: Convention, artifact: Artifact, sent: ImageSize | None, frame: CameraFrame | None
) -> Drawing:
    marks: Sequence[Mark] = ()
    boxes: Sequence[Box] = ()
    if isinstance(artifact, Keypoints):
        marks = [Mark(p.u, p.v, p.label) for p in artifact.points]
    elif isinstance(artifact, Boxes):
        boxes = artifact.boxes
    elif isinstance(artifact, Waypoints2D):
        marks = [Mark(p.u, p.v, gripper=p.gripper) for p in artifact.points]
    elif isinstance(artifact, Waypoints3D):
        marks = _projected(family, artifact, frame)
    image = artifact.image if isinstance(artifact, Keypoints | Boxes | Waypoints2D) else frame
    if image is None or artifact.kind not in ("keypoints", "boxes", "waypoints_2d", "waypoints_3d"):
        raise refusal(family, f"{artifact.kind} speak of no image", "Give frame=..., the calibrated camera frame")
    size = ImageSize(image.width, image.height)
    return Drawing(family, convention, artifact.kind, size, sent or size, tuple(marks), tuple(boxes))


def _projected(family: str, artifact: Waypoints3D, frame: CameraFrame | None) -> list[Mark]:
    if frame is None:
        raise refusal(family, "places in the world need a camera", "Give frame=..., the calibrated camera frame")
    pixels, depths = project(frame, [p.position_w for p in artifact.points])
    marks = []
    for point, (u, v), depth in zip(artifact.points, pixels.tolist(), depths.tolist(), strict=True):
        if not (depth > 0.0 and 0.0 <= u <= frame.width and 0.0 <= v <= frame.height):
            raise refusal(family, f"{point.position_w} is not in view of '{frame.name}'", "Give a frame that shows it")
        marks.append(Mark(u, v, gripper=point.gripper, depth_m=depth))
    return marks


def refusal(family: str, problem: str, remedy: str = OTHER_FAMILY) -> AdapterError:
    """The error of an artifact that a family cannot write."""
    return AdapterError(family, "", problem, remedy, what="rendering")
