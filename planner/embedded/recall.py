"""Things out of sight: a thing that lies in the closed drawer can be planned for, after the drawer is opened.

The language model only speaks of slots. A remembered thing becomes one more slot, in the drawer as it will look once it
is open, and the answer to that begins with opening it. Where the thing really is gets pointed at when it is in view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from hiervla.planner.base import Remembered
from hiervla.planner.embedded.foresight import after_steps
from hiervla.planner.embedded.grammar import plan_json
from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, MAX_SLOTS, STATES, SceneSlots, with_slots
from hiervla.representations import SkillSignature

if TYPE_CHECKING:
    from hiervla.planner.embedded.generation import Generated, LanguageDecoder

OPEN: Final = "open_drawer"
_SURE: Final = 0.97


def hidden_thing(missing: str, unseen: Sequence[Remembered]) -> Remembered | None:
    """What is remembered of a thing that was not found in the image, by its name or by its kind alone."""
    exact = [r for r in unseen if r.name == missing]
    of_kind = [r for r in unseen if r.name.split()[-1:] == [missing]]
    return next(iter(exact or of_kind), None)


def plan_for_hidden(
    decoder: LanguageDecoder,
    slots: SceneSlots,
    hidden: Remembered,
    instruction: str,
    history: Sequence[str],
    signatures: Sequence[SkillSignature],
) -> tuple[Generated, SceneSlots] | None:
    """The answer that opens the drawer first, and the slots that it speaks of; None where that does not help.

    The slots are those that are seen, in the same order, and after them the remembered thing.

    Raises:
        PlanError: no complete answer.
    """
    colour, _, category = hidden.name.rpartition(" ")
    kinds = [slots.category_of(i) for i in range(len(slots))]
    able = any(s.name == OPEN for s in signatures) and slots.held() is None
    closed = "drawer" in kinds and slots.state_of(kinds.index("drawer")) == "closed"
    if hidden.place != "drawer" or not able or not closed or category not in CATEGORIES or colour not in COLOURS:
        return None
    if len(slots) >= MAX_SLOTS:
        return None
    drawer = kinds.index("drawer")
    known = _with(slots, category, colour, slots.uv[drawer])
    first = {"skill": OPEN, "drawer": f"o{drawer}"}
    opened, origin = after_steps(known, [first])
    answer = decoder.answer(opened, instruction, history, signatures)
    if answer.draft.refuse is not None or not answer.draft.remaining:
        return None
    later = [with_slots(s, dict(enumerate(origin))) for s in answer.draft.remaining]
    steps = (first, *later)
    draft = replace(answer.draft, remaining=steps)
    # The drawer was not the model's choice: there is no state of it to point with, so that its slot alone is asked.
    where = [{}, *answer.argument_tokens]
    return replace(answer, draft=draft, text=plan_json(draft.done, steps), argument_tokens=where), known


def _with(slots: SceneSlots, category: str, colour: str, at: np.ndarray) -> SceneSlots:
    """The slots and one more, in the drawer."""

    def soft(index: int, size: int) -> np.ndarray:
        row = np.full((1, size), (1.0 - _SURE) / (size - 1), np.float32)
        row[0, index] = _SURE
        return row

    return SceneSlots(
        np.concatenate([slots.category, soft(CATEGORIES.index(category), len(CATEGORIES))]),
        np.concatenate([slots.colour, soft(COLOURS.index(colour), len(COLOURS))]),
        np.concatenate([slots.state, soft(STATES.index("drawer"), len(STATES))]),
        np.concatenate([slots.uv, at[None].astype(np.float32)]),
    )
