"""What the slots would look like after some steps: how a planner looks ahead without an image of the future.

An instruction of several requests is planned request by request. The second is planned for the scene that the first
will leave behind, of which there is no picture yet, so that the slots are carried forward in symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from hiervla.planner.embedded.slots import CATEGORIES, LOOSE, STATES, SceneSlots, slot_index

_SURE: Final = 0.97
_ABOVE: Final = 0.03
"""How much higher in the image a thing is than what it stands on, as a fraction of the height."""
_BESIDE: Final = 0.10
"""How far a thing that is put beside another one is from it, as a fraction of the width."""
_TABLE: Final = (0.5, 0.62)
"""Where in the image the table's free middle is."""


def after_steps(slots: SceneSlots, steps: Sequence[Mapping[str, str]]) -> tuple[SceneSlots, list[int]]:
    """The slots after steps that went well.

    What is thrown away or wiped off, and what lies in a drawer that is closed, is seen no more.

    Args:
        slots: what is seen now.
        steps: calls of built-in skills, with slots for things; other skills change nothing that is known of.

    Returns:
        The slots to come, from left to right, and for each its index in the present slots.
    """
    state, uv = slots.state.copy(), slots.uv.copy()
    gone: set[int] = set()
    kinds = [slots.category_of(i) for i in range(len(slots))]

    def put(slot: int, name: str, at: tuple[float, float]) -> None:
        state[slot] = (1.0 - _SURE) / (len(STATES) - 1)
        state[slot, STATES.index(name)] = _SURE
        uv[slot] = at

    for call in steps:
        skill = call.get("skill", "")
        things = [_seen(v, len(slots)) for n, v in call.items() if n in {"object", "drawer", "surface"}]
        thing = things[0] if things else None
        if thing is None:
            continue
        if skill == "place":
            target = _seen(call.get("target", ""), len(slots))
            put(thing, *_landed(call.get("relation", ""), target, kinds, uv))
        elif skill == "pick":
            put(thing, "gripper", (float(uv[thing, 0]), float(uv[thing, 1])))
        elif skill in {"throw_away", "wipe"}:
            gone |= {thing} if skill == "throw_away" or kinds[thing] == "spill" else set()
        elif skill in {"open_drawer", "close_drawer"}:
            put(thing, "open" if skill == "open_drawer" else "closed", (float(uv[thing, 0]), float(uv[thing, 1])))
            if skill == "close_drawer":
                gone |= {i for i in range(len(slots)) if int(state[i].argmax()) == STATES.index("drawer")}
    kept = [int(i) for i in np.argsort(uv[:, 0], kind="stable") if int(i) not in gone]
    return SceneSlots(slots.category[kept], slots.colour[kept], state[kept], uv[kept]), kept


def _landed(relation: str, target: int | None, kinds: Sequence[str], uv: np.ndarray) -> tuple[str, tuple[float, float]]:
    """State and place in the image of what was put down."""
    if target is None:
        return "table", _TABLE
    u, v = float(uv[target, 0]), float(uv[target, 1])
    if relation in {"left_of", "right_of"}:
        return "table", (u + (_BESIDE if relation == "right_of" else -_BESIDE), v)
    if kinds[target] in LOOSE:
        return "on_object", (u, v - _ABOVE)
    assert kinds[target] in CATEGORIES
    return (kinds[target] if kinds[target] in STATES else "table"), (u, v)


def _seen(name: str, n: int) -> int | None:
    """The slot that an argument names, if it is one of those that are seen."""
    slot = slot_index(name)
    return slot if slot is not None and slot < n else None
