"""Object slots: what the vision tower tells the language model about the things that it found in the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

CATEGORIES: Final = (
    "block", "mug", "can", "sponge", "bowl", "plate", "spill", "bin", "top_shelf", "bottom_shelf", "drawer",
)  # fmt: skip
COLOURS: Final = ("none", "red", "green", "blue", "yellow", "orange", "purple", "white", "black")
STATES: Final = (
    "none", "table", "on_object", "top_shelf", "bottom_shelf", "drawer", "gripper", "open", "closed",
)  # fmt: skip
MAX_SLOTS: Final = 20
LOOSE: Final = ("block", "mug", "can", "sponge", "bowl", "plate")
RECEPTACLES: Final = ("block", "bowl", "plate")

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SceneSlots:
    """Things found in one image, from left to right.

    Attributes:
        category: (n, 11) float32, probabilities over `CATEGORIES`.
        colour: (n, 9) float32, probabilities over `COLOURS`.
        state: (n, 9) float32, probabilities over `STATES`: where a loose thing is, whether the drawer is open.
        uv: (n, 2) float32, centre of the thing as fractions 0..1 of the image's width and height.
    """

    category: Array
    colour: Array
    state: Array
    uv: Array

    def __len__(self) -> int:
        return len(self.uv)

    def names(self) -> list[str]:
        """What each slot holds in words: "red mug", "top shelf"."""
        return [self.name(i) for i in range(len(self))]

    def category_of(self, index: int) -> str:
        """The likeliest category of a slot."""
        return CATEGORIES[int(self.category[index].argmax())]

    def state_of(self, index: int) -> str:
        """The likeliest state of a slot."""
        return STATES[int(self.state[index].argmax())]

    def name(self, index: int) -> str:
        """What a slot holds in words."""
        kind = self.category_of(index)
        if kind not in LOOSE:
            return kind.replace("_", " ")
        colour = COLOURS[1 + int(self.colour[index, 1:].argmax())]
        return f"{colour} {kind}"

    def source(self, index: int) -> str:
        """Where a slot's thing is, in words: "table", "top shelf", or the name of the thing underneath."""
        state = self.state_of(index)
        if state == "on_object":
            below = support_links(self)[index]
            return self.name(int(below.argmax())) if below.any() else "table"
        return state.replace("_", " ")

    def held(self) -> int | None:
        """The slot of the thing in the gripper."""
        states = [self.state_of(i) for i in range(len(self))]
        return states.index("gripper") if "gripper" in states else None


def support_links(slots: SceneSlots) -> Array:
    """For each slot, how likely each other one is underneath it: (n, n) float32, rows sum to 0 or 1.

    Something that stands on another thing appears in nearly the same column and no lower in the image.
    """
    du = slots.uv[:, None, 0] - slots.uv[None, :, 0]
    dv = slots.uv[None, :, 1] - slots.uv[:, None, 1]
    able = slots.category[:, [CATEGORIES.index(c) for c in RECEPTACLES]].sum(axis=1)
    cost = (du / 0.02) ** 2 + ((dv - 0.025) / 0.03) ** 2
    weight = np.exp(-0.5 * np.minimum(cost, 60.0)) * able[None, :]
    np.fill_diagonal(weight, 0.0)
    weight *= slots.state[:, STATES.index("on_object"), None] > 0.3
    total = weight.sum(axis=1, keepdims=True)
    links: Array = (weight / np.maximum(total, 1e-12) * (total > 1e-9)).astype(np.float32)
    return links


def slot_index(name: str) -> int | None:
    """The number of the slot that an argument names, 3 for "o3"; None for anything else."""
    return int(name[1:]) if name[:1] == "o" and name[1:].isdigit() else None


def with_slots(call: Mapping[str, str], numbers: Mapping[int, int]) -> dict[str, str]:
    """A call with its slots counted otherwise.

    Args:
        call: skill and arguments.
        numbers: for slots, their other number; the rest stays as it is.
    """

    def counted(value: str) -> str:
        slot = slot_index(value)
        return f"o{numbers[slot]}" if slot is not None and slot in numbers else value

    return {name: value if name == "skill" else counted(value) for name, value in call.items()}


def sort_slots(slots: SceneSlots) -> tuple[SceneSlots, npt.NDArray[np.int64]]:
    """The slots from left to right, at most `MAX_SLOTS`, and for each its index in the input."""
    order = np.argsort(slots.uv[:, 0], kind="stable")[:MAX_SLOTS]
    return SceneSlots(slots.category[order], slots.colour[order], slots.state[order], slots.uv[order]), order


def one_hot_slots(items: Sequence[tuple[str, str, str, float, float]]) -> SceneSlots:
    """Certain slots from (category, colour, state, u, v), in the given order; for tests and examples."""
    n = len(items)
    slots = SceneSlots(
        np.zeros((n, len(CATEGORIES)), np.float32),
        np.zeros((n, len(COLOURS)), np.float32),
        np.zeros((n, len(STATES)), np.float32),
        np.array([(u, v) for *_, u, v in items], np.float32).reshape(n, 2),
    )
    for i, (category, colour, state, _, _) in enumerate(items):
        slots.category[i, CATEGORIES.index(category)] = 1.0
        slots.colour[i, COLOURS.index(colour)] = 1.0
        slots.state[i, STATES.index(state)] = 1.0
    return slots
