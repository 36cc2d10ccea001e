"""A second look at the same image, moved by half a cell: what two neighbouring cells hid from each other is found.

The tower marks centres in cells of 4 pixels, and of two that touch only the surer one counts as a maximum. Two stacked
blocks have their centres one or two cells apart, depending on where the grid happens to lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hiervla.planner.embedded.vision import STRIDE, Slot

SHIFT_PX: Final = STRIDE // 2
"""How far down the image is moved for the second look [px]."""
_OTHER_PX: Final = 4.0
"""A thing of the same category this far from all that were found is another one [px]."""
_TWIN_PX: Final = 3.0
"""A thing of the same colour nearer than this to one of another category is the same one, misread [px]."""
_SURE: Final = 0.45
"""Least score of what only the second look found."""


def moved_down(pixels: Tensor) -> Tensor:
    """Images (B, 3, H, W) moved down; the first row fills the gap."""
    edge = pixels[:, :, :1].expand(-1, -1, SHIFT_PX, -1)
    return torch.cat([edge, pixels[:, :, :-SHIFT_PX]], dim=2)


def both_looks(first: Sequence[Slot], second: Sequence[Slot], most: int) -> list[Slot]:
    """The slots of the first look, and those that only the second one found, left to right.

    Args:
        first: of the image as it is.
        second: of the image moved down, in its pixels.
        most: most slots; the first look's stay.
    """
    found = list(first)
    for seen in sorted(second, key=lambda s: -s.score):
        a, b, c, d = seen.box
        box = (a, max(b - SHIFT_PX, 0.0), c, max(d - SHIFT_PX, 1.0))
        slot = replace(seen, v=seen.v - SHIFT_PX, box=box)
        if slot.score < _SURE or len(found) >= most:
            continue
        near = [(float(np.hypot(s.u - slot.u, s.v - slot.v)), s) for s in found]
        known = any(far < _OTHER_PX and s.category_name == slot.category_name for far, s in near)
        twin = any(far < _TWIN_PX and s.colour_name == slot.colour_name for far, s in near)
        if not known and not twin:
            found.append(slot)
    return sorted(found, key=lambda s: (s.u, s.v))
