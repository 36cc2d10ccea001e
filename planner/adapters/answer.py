"""One answer of a model while it is being read: numbers become pixels here, and what was found becomes artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import ValidationError

from hiervla.planner.adapters.base import MAX_ITEMS, AdapterError, Convention, ImageSize, Kind
from hiervla.representations import (
    Artifact,
    Box,
    Boxes,
    CameraFrame,
    ImageRef,
    Keypoint,
    Keypoints,
    Waypoint2D,
    Waypoint3D,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations._base import Vec3
from hiervla.representations.geometry import lift

Gripper = Literal["open", "close", "keep"]

MAX_LABEL: Final = 200
"""Characters of a label; the rest is cut off."""
MAX_DEPTH_M: Final = 100.0
"""A point further away than this is not on any table."""
OTHER_FAMILY: Final = "Check that the adapter is the one of this model, or ask again"


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in pixels of the original image, with what its family says of it; `at` is its offset in the text."""

    u: float
    v: float
    label: str = ""
    gripper: Gripper = "keep"
    depth_m: float | None = None
    at: int = 0


@dataclass(frozen=True)
class Found:
    """All that an answer speaks of.

    Attributes:
        marks: points of which the text does not say that they are a path.
        boxes: in pixels of the original image.
        paths: points that the text itself declares to be paths.
    """

    marks: Sequence[Mark] = ()
    boxes: Sequence[Box] = ()
    paths: Sequence[Sequence[Mark]] = ()


@dataclass
class Answer:
    """An answer and all that is needed to understand it; see :meth:`OutputAdapter.parse`."""

    family: str
    convention: Convention
    text: str
    image: ImageRef
    sent: ImageSize | None = None
    frame: CameraFrame | None = None
    kind: Kind | None = None
    _numbers: list[int | float] = field(default_factory=list)

    def error(self, problem: str, remedy: str, offset: int | None = None, what: str = "") -> AdapterError:
        """An error of this answer, to be raised by the caller."""
        return AdapterError(self.family, self.text, problem, remedy, offset=offset, what=what)

    def second_list(self, first_at: int, second_at: int) -> AdapterError:
        """The error of an answer with two different lists, to be raised by the caller."""
        return self.error(
            f"a second list follows the one at character {first_at}, and only one can be the answer",
            "Ask for one list and nothing else",
            second_at,
        )

    def body(self) -> tuple[int, int]:
        """Start and end of the answer proper: behind the thoughts, inside of the answer tags where there are any.

        Raises:
            AdapterError: the thoughts do not end.
        """
        start, stop = 0, len(self.text)
        thought = self.text.rfind("</think>")
        if thought >= 0:
            start = thought + len("</think>")
        elif (opened := self.text.find("<think>")) >= 0:
            raise self.error("the text ends in its thoughts", "Let the model write more tokens", opened)
        opened = self.text.find("<answer>", start)
        if opened >= 0:
            start = opened + len("<answer>")
        closed = self.text.find("</answer>", start)
        return start, closed if closed >= 0 else stop

    def pixel(self, x: float, y: float, at: int, what: str) -> tuple[float, float]:
        """Pixel (u, v) of the original image for a coordinate pair of the family; x is across, y is down.

        Raises:
            AdapterError: outside of the image.
        """
        size = (self.image.width, self.image.height)
        u, v = (self._along(i, value, size[i], at, what) for i, value in enumerate((x, y)))
        self._numbers += (x, y)
        return u, v

    def box(self, corners: tuple[float, float, float, float], label: str, at: int, what: str) -> Box:
        """A box in pixels of the original image from ``(x_min, y_min, x_max, y_max)`` of the family.

        Raises:
            AdapterError: outside of the image, empty, or with its corners swapped.
        """
        x_min, y_min, x_max, y_max = corners
        for axis, low, high in (("x", x_min, x_max), ("y", y_min, y_max)):
            if not low < high:
                raise self.error(
                    f"along {axis} the box starts at {low:g} and ends at {high:g}, so it is empty or its numbers are in"
                    " another family's order",
                    OTHER_FAMILY,
                    at,
                    what,
                )
        u_min, v_min = self.pixel(x_min, y_min, at, what)
        u_max, v_max = self.pixel(x_max, y_max, at, what)
        return Box(label=clean(label) or what, u_min=u_min, v_min=v_min, u_max=u_max, v_max=v_max)

    def depth(self, depth_m: float, at: int, what: str) -> float:
        """A depth in metres.

        Raises:
            AdapterError: not in front of the camera, or too far away to be in metres.
        """
        if not 0.0 < depth_m <= MAX_DEPTH_M:
            raise self.error(f"the depth {depth_m:g} m is outside of 0 to {MAX_DEPTH_M:g} m", OTHER_FAMILY, at, what)
        return float(depth_m)

    def _along(self, axis: int, value: float, pixels: int, at: int, what: str) -> float:
        """Pixel along one axis: 0 across, 1 down."""
        low, high, name = self.convention.low, self.convention.high, "xy"[axis]
        if high is None:
            limits = self.sent or ImageSize(self.image.width, self.image.height)
            high = (limits.width, limits.height)[axis]
            if value > high:
                guess = "The numbers may be pixels of another size" if value <= pixels else "It is none of the family's"
                raise self.error(
                    f"{name} = {value:g} is outside of the sent image of {limits}",
                    f"{guess}: give the size that the model's image processor made, or ask again",
                    at,
                    what,
                )
        if not low <= value <= high:
            raise self.error(f"{name} = {value:g} is outside of {low:g} to {high:g}", OTHER_FAMILY, at, what)
        share = (value - low) / (high - low)
        if self.convention.ends == "pixel_centres":
            return 0.5 + share * (pixels - 1)
        return share * pixels

    def artifacts(self, found: Found) -> tuple[Artifact, ...]:
        """What was found, as what was asked for; nothing where nothing was found.

        Raises:
            AdapterError: something else than what was asked for, in another unit than the family's, or too much.
        """
        self._check_unit()
        count = len(found.marks) + len(found.boxes) + sum(map(len, found.paths))
        if count > MAX_ITEMS:
            raise self.error(f"there are more than {MAX_ITEMS} items", "Ask for fewer things at once")
        if count == 0:
            return ()
        try:
            return tuple(self._as_asked(found))
        except ValidationError as error:
            raise self.error(f"what it says makes no artifact ({error.errors()[0]['msg']})", OTHER_FAMILY) from error

    def _as_asked(self, found: Found) -> list[Artifact]:
        marks, paths = list(found.marks), [list(path) for path in found.paths if path]
        if self.kind == "boxes" and (marks or paths):
            raise self.error("boxes were asked for, but it has points", "Ask again for boxes")
        if self.kind not in (None, "boxes") and found.boxes:
            raise self.error(f"{self.kind} were asked for, but it has boxes", "Ask again for points")
        if self.kind == "keypoints":
            marks, paths = [*marks, *(mark for path in paths for mark in path)], []
        if self.kind in ("waypoints_2d", "waypoints_3d") and marks:
            marks, paths = [], [marks, *paths]
        made: list[Artifact] = []
        if marks:
            made.append(Keypoints(image=self.image, points=tuple(self._keypoint(i, m) for i, m in enumerate(marks))))
        if found.boxes:
            made.append(Boxes(image=self.image, boxes=tuple(found.boxes)))
        for path in paths:
            deep = self.kind == "waypoints_3d" or (self.kind is None and any(m.depth_m is not None for m in path))
            made.append(self._path_3d(path) if deep else self._path_2d(path))
        return made

    def _keypoint(self, index: int, mark: Mark) -> Keypoint:
        position = None
        if mark.depth_m is not None and (self.frame is not None or self.kind is None):
            position = self._lift(mark, f"point {index + 1}")
        return Keypoint(label=clean(mark.label) or f"point {index + 1}", u=mark.u, v=mark.v, position_w=position)

    def _path_2d(self, path: Sequence[Mark]) -> Waypoints2D:
        points = tuple(Waypoint2D(u=m.u, v=m.v, gripper=m.gripper) for m in path)
        return Waypoints2D(image=self.image, points=points)

    def _path_3d(self, path: Sequence[Mark]) -> Waypoints3D:
        places = [self._lift(mark, f"point {i + 1}") for i, mark in enumerate(path)]
        points = tuple(Waypoint3D(position_w=p, gripper=m.gripper) for p, m in zip(places, path, strict=True))
        return Waypoints3D(points=points)

    def _lift(self, mark: Mark, what: str) -> Vec3:
        if mark.depth_m is None:
            raise self.error("there is no depth, which waypoints_3d need", "Ask again for depths", mark.at, what)
        if self.frame is None:
            raise self.error(
                "it has a depth, which only a calibrated camera can turn into a place",
                "Give frame=..., or ask for kind='keypoints' or 'waypoints_2d' to do without depths",
                mark.at,
                what,
            )
        if self.frame.sha256 != self.image.sha256:
            raise self.error(
                f"the frame of camera '{self.frame.name}' is not the image that the answer speaks of",
                "Give the frame that the image was made from",
                mark.at,
                what,
            )
        x, y, z = (float(c) for c in lift(self.frame, mark.u, mark.v, mark.depth_m))
        return x, y, z

    def _check_unit(self) -> None:
        """Fractions in a family that counts in whole numbers are another family's answer."""
        fractions = any(not float(n).is_integer() for n in self._numbers)
        whole = self.convention.step >= 1.0 and self.convention.axis_order != "tile"
        if whole and fractions and all(n <= 1 for n in self._numbers):
            raise self.error(
                f"all coordinates are fractions between 0 and 1, but the family counts in {self.convention.unit}",
                OTHER_FAMILY,
            )


def clean(label: str) -> str:
    """A label that any record can hold: no lone surrogates, single blanks, at most 200 characters."""
    sound = label.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(sound.split())[:MAX_LABEL].strip()
