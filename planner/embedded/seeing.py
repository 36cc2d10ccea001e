"""What the embedded planner sees, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hiervla.planner.embedded.slots import SceneSlots
from hiervla.representations import SeenThing

if TYPE_CHECKING:
    from hiervla.planner.embedded.vision import Slot


def things_of(names: SceneSlots, slots: Sequence[Slot]) -> tuple[SeenThing, ...]:
    """Slots as things with names, and where each is.

    Args:
        names: what each slot holds, as the language model is told.
        slots: the same slots, with the detector's scores.
    """
    found = []
    for i in range(len(names)):
        state = names.state_of(i)
        where = names.source(i) if state not in ("none", "open", "closed") else state.removeprefix("none")
        score = min(max(float(slots[i].score), 0.0), 1.0)
        kind = names.category_of(i).replace("_", " ")
        found.append(SeenThing(name=names.name(i), kind=kind, where=where, confidence=score))
    return tuple(found)
