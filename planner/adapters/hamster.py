"""HAMSTER: a path of the gripper drawn in the image, with what the gripper does on the way (arXiv 2502.05485)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from hiervla.planner.adapters.answer import OTHER_FAMILY, Answer, Found, Gripper, Mark
from hiervla.planner.adapters.base import Convention, Kind
from hiervla.planner.adapters.family import Drawing, Family
from hiervla.planner.adapters.literals import Action, Node, Reader
from hiervla.planner.adapters.search import rows

HAMSTER: Final = Convention(
    axis_order="xy",
    unit="fraction",
    low=0.0,
    high=1.0,
    step=0.01,
    source="prompt in arXiv 2502.05485 and in the authors' demo server",
)
"""``<ans>[(0.25, 0.32), (0.32, 0.17), <action>Open Gripper</action>, (0.74, 0.21)]</ans>``, two decimals."""

_OPENING, _CLOSING = "<ans>", "</ans>"
_GRIPPER: Final[dict[str, Gripper]] = {"open gripper": "open", "close gripper": "close"}
_WORDS: Final[dict[Gripper, str]] = {"open": "Open Gripper", "close": "Close Gripper"}


@dataclass(frozen=True)
class HamsterAdapter(Family):
    """An action belongs to the point before it: the gripper acts there, and keeps its state from there on.

    Two actions at one point become two waypoints at one place. So does an action before the first point: the
    gripper acts where the path starts.
    """

    family: str = "hamster"
    convention: Convention = HAMSTER
    kinds: tuple[Kind, ...] = ("waypoints_2d",)
    says_gripper: ClassVar[bool] = True

    def _read(self, answer: Answer) -> Found:
        node = self._list(answer)
        marks: list[Mark] = []
        pending: Gripper = "keep"
        children = node.value if isinstance(node.value, tuple) else ()
        for child in children:
            if isinstance(child, Action):
                gripper = self._gripper(answer, child)
                if not marks:
                    if pending != "keep":
                        raise answer.error("two actions come before the first point", OTHER_FAMILY, child.at)
                    pending = gripper
                elif marks[-1].gripper == "keep":
                    marks[-1] = _acting(marks[-1], gripper)
                else:
                    marks.append(_acting(marks[-1], gripper))
                continue
            point = rows(child)
            if not point or len(point) != 1 or len(point[0][0]) != 2 or point[0][1] != child.at:
                raise answer.error("the list holds something else than (x, y) and actions", OTHER_FAMILY, child.at)
            marks.append(self._mark(answer, point[0], f"point {len(marks) + 1}", gripper=pending))
            pending = "keep"
        if pending != "keep":
            raise answer.error("there are actions, but no point", "Ask again for the points of the path", node.at)
        return Found(paths=[marks])

    def _list(self, answer: Answer) -> Node:
        start, stop = answer.body()
        opened = answer.text.find(_OPENING, start, stop)
        if opened < 0:
            raise answer.error(f"there is no {_OPENING}", "Ask for the path between <ans> and </ans>")
        closed = answer.text.find(_CLOSING, opened, stop)
        second = answer.text.find(_OPENING, opened + 1, stop)
        if second >= 0:
            raise answer.error(f"there is a second {_OPENING}", "Ask for one path", second)
        reader = Reader(answer.text, closed if closed >= 0 else stop)
        node = reader.value(opened + len(_OPENING))
        if closed < 0:
            raise answer.error(f"there is no {_CLOSING}", "Let the model write more tokens", opened)
        after = reader.skip(node.end)
        if not isinstance(node.value, tuple) or answer.text[node.at] != "[" or after != closed:
            at = node.at if after == closed else after
            raise answer.error("there is something else than one list between <ans> and </ans>", OTHER_FAMILY, at)
        return node

    def _gripper(self, answer: Answer, action: Action) -> Gripper:
        words = " ".join(str(action.value).lower().split())
        if words not in _GRIPPER:
            raise answer.error(
                f"the action '{words}' is neither 'Open Gripper' nor 'Close Gripper'", OTHER_FAMILY, action.at
            )
        return _GRIPPER[words]

    def _write(self, drawing: Drawing) -> str:
        parts: list[str] = []
        last: tuple[float, float] | None = None
        acted = False
        for mark in drawing.marks:
            pair = drawing.pair(mark)
            same = pair == last and acted and mark.gripper != "keep"
            if not same:
                parts.append(f"({', '.join(map(drawing.written, pair))})")
            if mark.gripper != "keep":
                parts.append(f"<action>{_WORDS[mark.gripper]}</action>")
            last, acted = pair, mark.gripper != "keep"
        return f"{_OPENING}[{', '.join(parts)}]{_CLOSING}"

    def _wording(self, kind: Kind) -> str:
        return (
            "Answer with the path of the gripper as one list between <ans> and </ans>, such as"
            " <ans>[(0.25, 0.32), <action>Close Gripper</action>, (0.74, 0.21), <action>Open Gripper</action>]</ans>."
            " A tuple is a point, x (across) first and y (down) second, as decimal fractions between 0 and 1 of the"
            " image's width and height. An action comes after the point where the gripper opens or closes."
        )


def _acting(mark: Mark, gripper: Gripper) -> Mark:
    return Mark(mark.u, mark.v, gripper=gripper, at=mark.at)
