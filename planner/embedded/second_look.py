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
from hiervla.planner.embedded.vision import STRIDE, Slot, VisionOutput, VisionTower, read_cells, same_place

SHIFT_PX: Final = STRIDE // 2
"""How far down the image is moved for the second look [px]."""
_OTHER_PX: Final = 4.0
"""A thing of the same category this far from all that were found is another one [px]."""
_TWIN_PX: Final = 3.0
"""A thing of the same colour nearer than this to one of another category is the same one, misread [px]."""
_ALIKE: Final = 0.3
"""Two readings of one place whose colours have less in common than this are of two things, one on the other."""
_SURE: Final = 0.45
"""Least score of what only the second look found."""


_SOUGHT: Final = 0.25
"""Least score of a thing of a category that is looked for."""
_ITS_COLOUR: Final = 0.7
"""Least probability of the colour that is looked for."""
_BEYOND_DOUBT: Final = 0.8
"""A colour less likely than this may be that of a neighbour."""


def moved_down(pixels: Tensor, by: int = SHIFT_PX) -> Tensor:
    """Images (B, 3, H, W) moved down by some pixels; the first row fills the gap."""
    if by == 0:
        return pixels
    edge = pixels[:, :, :1].expand(-1, -1, by, -1)
    return torch.cat([edge, pixels[:, :, :-by]], dim=2)


@torch.no_grad()
def close_looks(tower: VisionTower, pixels: Tensor) -> list[VisionOutput]:
    """What the tower makes of an image (1, 3, H, W) moved down by 0, 1, ... pixels, to the next cell."""
    return [tower(moved_down(pixels, by)) for by in range(STRIDE)]


@torch.no_grad()
def sought(tower: VisionTower, looks: Sequence[VisionOutput], kind: str, colour: str) -> Slot | None:
    """The likeliest place of a thing that is looked for by its category and colour, or None.

    Args:
        tower: the model, for the attribute heads.
        looks: of :func:`close_looks`.
        kind: one of `CATEGORIES`.
        colour: one of `COLOURS`; "" for any.
    """
    k = CATEGORIES.index(kind)
    found: list[Slot] = []
    for by, output in enumerate(looks):
        heat = output.centres[0, k].sigmoid().flatten()
        (cells,) = torch.nonzero(heat > _SOUGHT, as_tuple=True)
        zero = torch.zeros_like(cells)
        found += [up(s, by) for s in read_cells(tower, output, zero, zero + k, cells, heat[cells])]
    if colour:
        found = [s for s in found if s.colour[COLOURS.index(colour)] > _ITS_COLOUR]
    return max(found, key=lambda s: s.score, default=None)


def is_surely(slot: Slot, kind: str, colour: str) -> bool:
    """Whether a slot is of a category and, unless that is "", of a colour beyond doubt."""
    return slot.category_name == kind and (not colour or bool(slot.colour[COLOURS.index(colour)] > _BEYOND_DOUBT))


def with_found(slots: Sequence[Slot], found: Slot, most: int) -> list[Slot]:
    """The slots and what a search found, in place of a doubtful reading of the same thing where there is one.

    Args:
        slots: what is seen.
        found: see :func:`sought`.
        most: most slots; what does not fit is left out.
    """
    near = [
        k
        for k, s in enumerate(slots)
        if s.category_name == found.category_name and np.hypot(s.u - found.u, s.v - found.v) < _OTHER_PX
    ]
    doubtful = [k for k in near if slots[k].colour.max() < _BEYOND_DOUBT]
    if doubtful:
        return [found if k == doubtful[0] else s for k, s in enumerate(slots)]
    if len(slots) >= most or any(same_place(found, slots[k]) for k in near):
        return list(slots)
    return [*slots, found]


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
    found, agreed = list(first), set[int]()
    for seen in sorted(second, key=lambda s: -s.score):
        slot = up(seen, SHIFT_PX)
        near = [(float(np.hypot(s.u - slot.u, s.v - slot.v)), k) for k, s in enumerate(found)]
        same = [(far, k) for far, k in near if far < _OTHER_PX and found[k].category_name == slot.category_name]
        alike = [(far, k) for far, k in same if float(found[k].colour @ slot.colour) > _ALIKE]
        if alike:
            _, k = min(alike)
            if k not in agreed and k < len(first):
                agreed.add(k)
                found[k] = _agreed(found[k], slot)
        elif slot.score >= _SURE and len(found) < most and (not same or slot.colour.max() > _BEYOND_DOUBT):
            if not any(far < _TWIN_PX and found[k].colour_name == slot.colour_name for far, k in near):
                found.append(slot)
    return sorted(found, key=lambda s: (s.u, s.v))


def _agreed(first: Slot, second: Slot) -> Slot:
    """A thing that both looks found: where the first saw it, with the colour and state on which they agree best."""
    a, b = first.score / (first.score + second.score), second.score / (first.score + second.score)
    return replace(first, colour=a * first.colour + b * second.colour, state=a * first.state + b * second.state)
