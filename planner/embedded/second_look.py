"""A second look at the same image, moved by half a cell: what two neighbouring cells hid from each other is found.

The tower marks centres in cells of 4 pixels, and of two that touch only the surer one counts as a maximum. Two stacked
blocks have their centres one or two cells apart, depending on where the grid happens to lie. A thing that is asked for
by its name and was not found either way is looked for once more, in cells that are no maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS
from hiervla.planner.embedded.vision import STRIDE, Slot, VisionTower, read_cells

SHIFT_PX: Final = STRIDE // 2
"""How far down the image is moved for the second look [px]."""
_OTHER_PX: Final = 4.0
"""A thing of the same category this far from all that were found is another one [px]."""
_TWIN_PX: Final = 3.0
"""A thing of the same colour nearer than this to one of another category is the same one, misread [px]."""
_SURE: Final = 0.45
"""Least score of what only the second look found."""


_SOUGHT: Final = 0.25
"""Least score of a thing of a category that is looked for."""
_ITS_COLOUR: Final = 0.7
"""Least probability of the colour that is looked for."""


def moved_down(pixels: Tensor, by: int = SHIFT_PX) -> Tensor:
    """Images (B, 3, H, W) moved down by some pixels; the first row fills the gap."""
    if by == 0:
        return pixels
    edge = pixels[:, :, :1].expand(-1, -1, by, -1)
    return torch.cat([edge, pixels[:, :, :-by]], dim=2)


@torch.no_grad()
def sought(tower: VisionTower, pixels: Tensor, kind: str, colour: str) -> Slot | None:
    """The likeliest place of a thing that is looked for by its category and colour, or None.

    Args:
        tower: the model.
        pixels: (1, 3, H, W) the image.
        kind: one of `CATEGORIES`.
        colour: one of `COLOURS`; "" for any.
    """
    k = CATEGORIES.index(kind)
    found: list[Slot] = []
    for by in range(STRIDE):
        output = tower(moved_down(pixels, by))
        heat = output.centres[0, k].sigmoid().flatten()
        (cells,) = torch.nonzero(heat > _SOUGHT, as_tuple=True)
        zero = torch.zeros_like(cells)
        found += [up(s, by) for s in read_cells(tower, output, zero, zero + k, cells, heat[cells])]
    if colour:
        found = [s for s in found if s.colour[COLOURS.index(colour)] > _ITS_COLOUR]
    return max(found, key=lambda s: s.score, default=None)


def up(slot: Slot, by: int) -> Slot:
    """A slot of an image that was moved down, in the pixels of the image as it is."""
    a, b, c, d = slot.box
    return replace(slot, v=slot.v - by, box=(a, max(b - by, 0.0), c, max(d - by, 1.0)))


def both_looks(first: Sequence[Slot], second: Sequence[Slot], most: int) -> list[Slot]:
    """The slots of the first look, and those that only the second one found, left to right.

    Args:
        first: of the image as it is.
        second: of the image moved down, in its pixels.
        most: most slots; the first look's stay.
    """
    found = list(first)
    for seen in sorted(second, key=lambda s: -s.score):
        slot = up(seen, SHIFT_PX)
        near = [(float(np.hypot(s.u - slot.u, s.v - slot.v)), k) for k, s in enumerate(found)]
        same = [(far, k) for far, k in near if far < _OTHER_PX and found[k].category_name == slot.category_name]
        if same:
            _, k = min(same)
            found[k] = _agreed(found[k], slot)
        elif slot.score >= _SURE and len(found) < most:
            if not any(far < _TWIN_PX and found[k].colour_name == slot.colour_name for far, k in near):
                found.append(slot)
    return sorted(found, key=lambda s: (s.u, s.v))


def _agreed(first: Slot, second: Slot) -> Slot:
    """A thing that both looks found: where the first saw it, with the colour and state on which they agree best."""
    a, b = first.score / (first.score + second.score), second.score / (first.score + second.score)
    return replace(first, colour=a * first.colour + b * second.colour, state=a * first.state + b * second.state)
