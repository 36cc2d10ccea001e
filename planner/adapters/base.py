"""The one interface of all output adapters, the convention that each declares, and the one error that leaves them.

A vision-language model answers with text. An adapter belongs to a family of models, knows what its text means, and
turns it into typed artifacts, which speak of pixels ``(u, v)`` of the original image and of nothing else. The caller
cannot choose a convention, only a family: an axis order that the text does not tell is thereby not his to mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal, Protocol, runtime_checkable

from hiervla.representations import Artifact, CameraFrame, ConventionError, HiervlaError, ImageRef

MAX_CHARS: Final = 65_536
"""Longer answers are refused unread: a model that rambles is broken, and parsing stays in the milliseconds."""
MAX_ITEMS: Final = 1_000
"""More points or boxes than this in one answer are refused."""
MAX_NESTING: Final = 8
"""Lists within lists: no published format has more than four."""

Kind = Literal["keypoints", "boxes", "waypoints_2d", "waypoints_3d"]
"""What a family can be asked for: the ``kind`` of the artifact."""


@dataclass(frozen=True)
class ImageSize:
    """Size of the image that the model was really given, after all resizing [px].

    Not interchangeable with :class:`ImageRef`, which names the original. The whole image must have been sent: resized
    or stretched, never cropped or padded.

    Raises:
        ConventionError: not positive.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ConventionError(
                "ImageSize", f"{self} is no size of an image", "Give width and height of the sent image in pixels"
            )

    def __str__(self) -> str:
        return f"{self.width} x {self.height} px"


@dataclass(frozen=True)
class Convention:
    """What the numbers in a family's text mean.

    Attributes:
        axis_order: which coordinate is written first; ``"tile"`` for names of tiles.
        unit: what one counts in.
        low: smallest coordinate that makes sense.
        high: largest one; None where it is the size of the sent image.
        origin: the corner of the image that both coordinates are counted from.
        relative_to: ``"image"`` for a share of the whole image, which resizing does not change; ``"sent"`` for pixels
            of the resized image, for which an adapter demands that image's size.
        step: smallest difference that is written, in `unit`.
        ends: what `low` and `high` stand for: the edges of the image, or the centres of its first and last pixel.
        depth: what the third number of a point is, where there may be one.
        source: page or paper that says so.
    """

    axis_order: Literal["xy", "yx", "tile"]
    unit: Literal["fraction", "percent", "per mille", "1/255", "pixel", "tile"]
    low: float
    high: float | None
    step: float
    source: str
    origin: Literal["top_left", "bottom_left"] = "top_left"
    relative_to: Literal["image", "sent"] = "image"
    ends: Literal["edges", "pixel_centres"] = "edges"
    depth: Literal["none", "metre"] = "none"

    def __post_init__(self) -> None:
        if (self.high is None) != (self.relative_to == "sent"):
            raise ConventionError(
                "Convention.high", "a range without an end is for pixels of the sent image only", "Give the range"
            )
        if self.high is not None and not (isfinite(self.high) and self.low < self.high):
            raise ConventionError("Convention.high", f"{self.low:g} to {self.high:g} is no range", "Give the range")
        if self.step <= 0.0:
            raise ConventionError("Convention.step", f"{self.step:g} is no step", "Give the smallest difference")


class AdapterError(HiervlaError, ValueError):
    """A model's answer that is not what its family writes, or that speaks of places outside of the image.

    Attributes:
        family: the adapter that refused it.
        text: the whole answer as it came; the message does not repeat it.
        offset: where in `text` the trouble starts, in characters; None when the whole of it is meant.
        place: the same in words, such as ``"character 12"`` or ``"point 3 at character 40"``.
        problem: what is wrong, in words; what it quotes of the text is printable.
        remedy: what to do.
    """

    def __init__(
        self, family: str, text: str, problem: str, remedy: str, *, offset: int | None = None, what: str = ""
    ) -> None:
        where = "" if offset is None else f"character {offset}"
        problem = "".join(char if char.isprintable() else "\ufffd" for char in problem)
        self.family = family
        self.text = text
        self.offset = offset
        self.place = f"{what} at {where}" if what and where else what or where or "the whole answer"
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"adapter '{family}', {self.place}: {problem}. {remedy}.")


@runtime_checkable
class OutputAdapter(Protocol):
    """Text of one model family to typed artifacts, and back.

    Attributes:
        family: the name that the registry knows it by.
        convention: what its numbers mean; for reading, not for choosing.
        kinds: what the family can be asked for, the first by default.
    """

    @property
    def family(self) -> str:
        """See the class."""
        ...

    @property
    def convention(self) -> Convention:
        """See the class."""
        ...

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """See the class."""
        ...

    def instructions(self, kind: Kind) -> str:
        """What to tell the model of the form of its answer; to be put after the question itself.

        Raises:
            UnknownNameError: the family does not write this kind.
        """
        ...

    def parse(
        self,
        text: str,
        image: ImageRef,
        *,
        sent: ImageSize | None = None,
        frame: CameraFrame | None = None,
        kind: Kind | None = None,
    ) -> tuple[Artifact, ...]:
        """The artifacts that the text speaks of, in pixels of `image`, without provenance.

        An empty tuple is an answer: the model says that there is no such thing (``[]``, or the family's words for it).
        A text without an answer is an error.

        Args:
            text: the model's answer, with whatever thoughts, fences or words surround it.
            image: the original image, the one that the artifacts shall speak of.
            sent: size of the image that the model was given; families that count in pixels refuse without it.
            frame: the calibrated frame of `image`; needed for ``waypoints_3d`` only.
            kind: what was asked for, where it was; an answer of another kind is then an error, and a list of points
                is read as a path where a path was asked for. None takes the text at its word.

        Raises:
            AdapterError: anything else; no other exception leaves this method.
        """
        ...

    def render(self, artifact: Artifact, *, sent: ImageSize | None = None, frame: CameraFrame | None = None) -> str:
        """The text that the family would write for an artifact: for tests, examples in prompts, and training data.

        Raises:
            AdapterError: the family has no way to say this.
        """
        ...
