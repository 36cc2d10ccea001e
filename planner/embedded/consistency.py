"""Which calls make sense next, given what was seen and the steps written so far.

The language model writes a plan step by step; this follows it in symbols, on the slots that were found in the
image, and rules out what the built-in skills could not do: place with an empty hand, pick up what is covered,
use the closed drawer. It knows nothing but the slots, and leaves skills that it does not know alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hiervla.planner.embedded.slots import LOOSE, SceneSlots, slot_index, support_links

_SURE: Final = 0.6
_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "bowl": ("block",),
    "block": ("block",),
    "drawer": ("block", "sponge"),
}
"""What may lie in or on something that does not take everything."""
_PAIR = re.compile(r'"(\w+)":"([^"]*)"')
_OPEN_PAIR = re.compile(r'"(\w+)":"([^"]*)$')


class PlanState:
    """What lies where after some steps of a plan.

    Args:
        slots: what was seen.
    """

    def __init__(self, slots: SceneSlots) -> None:
        self.held = slots.held()
        self.kinds = [slots.category_of(i) for i in range(len(slots))]
        self.below: dict[int, int] = {}
        self.drawer_open = any(slots.state_of(i) == "open" for i, k in enumerate(self.kinds) if k == "drawer")
        links = support_links(slots)
        for i in range(len(slots)):
            # A doubtful relation rules nothing out.
            if slots.state_of(i) == "on_object" and slots.state[i].max() > _SURE and links[i].any():
                self.below[i] = int(links[i].argmax())

    def covered(self, slot: int) -> bool:
        """Whether something lies on or in the slot's thing."""
        return slot in self.below.values()

    def skill_fits(self, skill: str) -> bool:
        """Whether a built-in skill can be used at all now."""
        if skill in {"pick", "open_drawer", "close_drawer"}:
            able = self.held is None
            if skill == "open_drawer":
                return able and not self.drawer_open
            return able and (skill == "pick" or self.drawer_open)
        if skill in {"place", "throw_away"}:
            return self.held is not None
        if skill == "wipe":
            return self.held is not None and self.kinds[self.held] == "sponge"
        return True

    def argument_fits(self, skill: str, name: str, slot: int, relation: str = "") -> bool:
        """Whether a slot can be an argument of a built-in skill now."""
        if slot >= len(self.kinds):
            return False
        if skill == "pick" and name == "object":
            return not self.covered(slot)
        if skill in {"place", "throw_away"} and name == "object":
            return slot == self.held
        if skill == "place" and name == "target":
            if slot == self.held or (self.held is not None and not self.goes(self.held, slot, relation)):
                return False
            if relation in {"on", "in"} and self.kinds[slot] in LOOSE:
                return not self.covered(slot)
            return self.kinds[slot] != "drawer" or self.drawer_open
        return True

    def goes(self, slot: int, target: int, relation: str) -> bool:
        """Whether a thing of the slot's kind can lie on or in the target's kind."""
        if relation not in {"on", "in"} or self.kinds[target] not in _ONLY:
            return True
        return self.kinds[slot] in _ONLY[self.kinds[target]]

    def take(self, call: Mapping[str, str]) -> None:
        """Follow one finished call."""
        skill = call.get("skill", "")
        slot = slot_index(call.get("object", ""))
        if skill == "pick" and slot is not None:
            self.held = slot
            self.below.pop(slot, None)
        elif skill == "place":
            target = slot_index(call.get("target", ""))
            on_thing = call.get("relation") in {"on", "in"} and target is not None and target < len(self.kinds)
            if slot is not None and target is not None and on_thing and self.kinds[target] in LOOSE:
                self.below[slot] = target
            self.held = None
        elif skill == "throw_away":
            self.held = None
        elif skill in {"open_drawer", "close_drawer"}:
            self.drawer_open = skill == "open_drawer"


class Ban(NamedTuple):
    """A call that was objected to.

    Attributes:
        step: index among the remaining steps.
        call: the whole call, with slots for things.
    """

    step: int
    call: Mapping[str, str]


class PlanFollower:
    """Follows the text of an answer and judges how it may go on.

    Args:
        slots: what was seen.
        banned: calls that must not come again, each with the index of the step at which it was objected to.
    """

    def __init__(self, slots: SceneSlots, banned: Sequence[Ban] = ()) -> None:
        self.state = PlanState(slots)
        self.banned = banned
        self.text = ""
        self._calls = 0

    def read(self, piece: str) -> None:
        """Take further text as written."""
        self.text += piece
        start = self.text.find('"remaining":[')
        if start < 0:
            return
        calls = self.text[start:].split("{")[1:]
        finished = [c for c in calls if "}" in c]
        for call in finished[self._calls :]:
            self.state.take(dict(_PAIR.findall(call)))
        self._calls = len(finished)

    def fits(self, piece: str) -> bool:
        """Whether the answer may go on with `piece`; True for what this does not understand."""
        start = self.text.find('"remaining":[')
        if start < 0 and '"remaining":[' not in piece:
            return True
        whole = self.text[max(start, 0) :] + piece
        before, _, call = whole.rpartition("{")
        if not before:
            return True
        state, index = self.state, self._calls
        if "{" in piece and "}" in piece and self.text.rpartition("{")[2].count("}") == 0:
            # The piece closes one call and begins the next: look at the world after the first.
            done = self.text.rpartition("{")[2] + piece.partition("}")[0]
            state, index = self._after(dict(_PAIR.findall(done))), index + 1
        pairs = dict(_PAIR.findall(call))
        skill = pairs.get("skill", "")
        if not skill:
            return True
        last = _OPEN_PAIR.search(call)
        name, value = (last[1], last[2]) if last else ("", "")
        slot = slot_index(value)
        if any(b.step == index and b.call == {**pairs, name: value} for b in self.banned):
            return False
        if slot is not None and not state.argument_fits(skill, name, slot, pairs.get("relation", "")):
            return False
        return state.skill_fits(skill)

    def _after(self, call: Mapping[str, str]) -> PlanState:
        state = PlanState.__new__(PlanState)
        state.held, state.kinds, state.drawer_open = self.state.held, self.state.kinds, self.state.drawer_open
        state.below = dict(self.state.below)
        state.take(call)
        return state
