"""How Qwen's image processors resize, and which sizes an image can have afterwards.

Rule and numbers: Qwen2-VL (arXiv 2409.12191, section 2.1) and Qwen2.5-VL (arXiv 2502.13923, section 2.1), as in their
public image processors: both sides become multiples of 28, the area stays within a minimum and a maximum number of
pixels, and the aspect ratio is kept as well as that allows.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Final

from hiervla.planner.adapters.base import ImageSize
from hiervla.representations import ConventionError

FACTOR: Final = 28
"""Patch of 14 px, merged two by two."""
MIN_PIXELS: Final = 56 * 56
MAX_PIXELS: Final = 14 * 14 * 4 * 1280
"""The limits of the published Qwen2-VL processors; deployments often set their own."""


def smart_resize(
    width: int, height: int, *, factor: int = FACTOR, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS
) -> ImageSize:
    """Size that Qwen's image processor gives an image.

    Args:
        width: of the original [px].
        height: of the original [px].
        factor: both sides become multiples of it [px].
        min_pixels: smaller images are enlarged to this area [px^2].
        max_pixels: larger ones are reduced to it [px^2].

    Raises:
        ConventionError: no size of an image, or more than 200 times longer than wide.
    """
    original = ImageSize(width, height)
    if _too_long(width, height):
        raise ConventionError(
            "smart_resize", f"{original} is more than 200 times as long as wide", "Crop the image before it is sent"
        )
    resized = [round(side / factor) * factor for side in (width, height)]
    area = resized[0] * resized[1]
    if area > max_pixels:
        shrink = sqrt(width * height / max_pixels)
        resized = [max(factor, floor(side / shrink / factor) * factor) for side in (width, height)]
    elif area < min_pixels:
        grow = sqrt(min_pixels / (width * height))
        resized = [ceil(side * grow / factor) * factor for side in (width, height)]
    return ImageSize(*resized)


def fits(width: int, height: int, sent: ImageSize, factor: int = FACTOR) -> bool:
    """Can resizing by the rule, with whatever limits of area, make `sent` from an image of that size?

    Each side of the result lies less than one `factor` from the side of a proportionally scaled original.
    """
    if sent.width % factor or sent.height % factor or _too_long(width, height):
        return False
    low = max((sent.width - factor) / width, (sent.height - factor) / height)
    high = min((sent.width + factor) / width, (sent.height + factor) / height)
    return low < high


def _too_long(width: int, height: int) -> bool:
    """The public processors refuse such images."""
    return max(width, height) > 200 * min(width, height)
