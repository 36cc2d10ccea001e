"""Columns of images that are decoded when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hiervla.training.data.errors import EpisodeError

Image = NDArray[np.uint8]


class ImageColumn(Protocol):
    """The images of one camera in one episode."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Image]:
        """(H, W, 3) uint8, in order."""
        ...


class ArrayImages:
    """Images that lie in memory, (N, H, W, 3) uint8."""

    def __init__(self, array: Image, place: str = "images") -> None:
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
            raise EpisodeError(place, f"images are {array.dtype} {array.shape}, not uint8 (N, H, W, 3)")
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        return self.array.shape[1:]

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Image]:
        yield from self.array


class EncodedImages:
    """PNG or JPEG images; each is decoded anew when it is asked for, and once for checking when the column is made."""

    def __init__(self, data: Sequence[bytes], place: str, *, shape: tuple[int, ...] | None = None) -> None:
        """Check every image.

        Args:
            data: the files' bytes.
            place: of the episode, for errors.
            shape: that they must have; that of the first by default.

        Raises:
            EpisodeError: an image cannot be decoded, or has another shape.
        """
        self.data = tuple(data)
        self.place = place
        self._shape = shape or (decode(self.data[0], place).shape if self.data else (0, 0, 3))
        for i, one in enumerate(self.data):
            found = decode(one, f"{place}, frame {i}").shape
            if found != self._shape:
                raise EpisodeError(place, f"image {i} is {found}, not {self._shape}")

    @classmethod
    def trusted(cls, data: Sequence[bytes], place: str, shape: tuple[int, ...]) -> EncodedImages:
        """A column of images that this process has just encoded itself."""
        made = cls((), place, shape=shape)
        made.data = tuple(data)
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        return self._shape

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Image]:
        for i, one in enumerate(self.data):
            yield decode(one, f"{self.place}, frame {i}")


def decode(data: bytes, place: str) -> Image:
    """An image file's pixels, (H, W, 3) uint8 sRGB.

    Raises:
        EpisodeError: it cannot be decoded.
    """
    from PIL import Image as Pictures

    try:
        with Pictures.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Pictures.DecompressionBombError) as error:
        raise EpisodeError(place, f"an image cannot be decoded ({error})") from error


def encode_png(image: Image) -> bytes:
    """A PNG file of an image, (H, W, 3) uint8; decodes to the same pixels."""
    from PIL import Image as Pictures

    out = io.BytesIO()
    Pictures.fromarray(image).save(out, format="PNG", compress_level=1)
    return out.getvalue()
