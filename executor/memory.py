"""What the executor remembers of things that no camera shows now: where they were put, where they were last seen.

It is told the plans, which say what was seen, and the steps that succeeded, which say what became of things. Nothing
here is privileged, and all of it follows from what is on record, so that a replay remembers the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from hiervla.planner.base import Remembered
from hiervla.representations import Boxes, Plan, Refusal, Step

_PLACES: Final = frozenset({"on", "in", "at", "left_of", "right_of"})


@dataclass
class Memory:
    """Where things are, as far as it was seen and done; by the planner's names.

    Things of one name are one thing to it, so that it knows less, and not more, where there are look-alikes.
    """

    _place: dict[str, str] = field(default_factory=dict)
    _seen_s: dict[str, float] = field(default_factory=dict)
    _in_view: frozenset[str] = frozenset()

    def saw(self, answer: Plan | Refusal, time_s: float) -> None:
        """Take note of what a planner's answer says that it saw."""
        names = _names(answer)
        if not names:
            return
        self._in_view = frozenset(names)
        for name, place in names.items():
            self._seen_s[name] = time_s
            # What is back in view is where it is seen and no longer where it was put.
            self._place[name] = place or self._place.get(name, "")

    def did(self, step: Step) -> None:
        """Take note of a step that succeeded."""
        for condition in step.postconditions:
            if condition.predicate in _PLACES and condition.holds and len(condition.args) == 2:
                thing, place = condition.args
                self._place[thing] = place
        held = [c.args[0] for c in step.postconditions if c.predicate == "holding" and c.holds and c.args]
        for thing in held:
            self._place[thing] = "gripper"

    def unseen(self) -> tuple[Remembered, ...]:
        """Things that were seen before and are not in view now, the one seen last first."""
        hidden = [n for n in self._seen_s if n not in self._in_view]
        hidden.sort(key=lambda n: (-self._seen_s[n], n))
        return tuple(Remembered(n, self._place.get(n, ""), self._seen_s[n]) for n in hidden)


def _names(answer: Plan | Refusal) -> dict[str, str]:
    """What was seen, and where, in words; the place is empty where the planner did not say."""
    if isinstance(answer, Refusal):
        return dict.fromkeys(answer.seen, "")
    found: dict[str, str] = {}
    for artifact in answer.scene:
        if isinstance(artifact, Boxes):
            found |= {b.label: found.get(b.label, "") for b in artifact.boxes}
        elif artifact.kind == "keypoints":
            for point in artifact.points:
                name, _, state = point.label.partition(" (")
                found[name] = re.sub(r"\)$", "", state)
    return found
