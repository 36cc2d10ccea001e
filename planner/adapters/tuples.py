"""Families that answer with a bare list of tuples: RoboPoint, GPT-style models, RoboBrain 2.0 and 2.5."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hiervla.planner.adapters.answer import OTHER_FAMILY, Answer, Found
from hiervla.planner.adapters.base import Convention, Kind
from hiervla.planner.adapters.family import Drawing, Family
from hiervla.planner.adapters.literals import Node, Reader
from hiervla.planner.adapters.search import Row, lists, rows
from hiervla.planner.adapters.tags import says_none

ROBOPOINT: Final = Convention(
    axis_order="xy",
    unit="fraction",
    low=0.0,
    high=1.0,
    step=0.001,
    source="README of github.com/wentaoyuan/RoboPoint, arXiv 2406.10721",
)
"""``[(0.461, 0.527), (0.498, 0.521)]``: x, y as shares of width and height, three decimals."""

GPT: Final = Convention(
    axis_order="xy",
    unit="fraction",
    low=0.0,
    high=1.0,
    step=0.001,
    source="prompt for general models in tasks/where2place of github.com/flageval-baai/FlagEvalMM",
)
"""General models have no convention of their own; this is the one that pointing benchmarks ask them for."""

ROBOBRAIN_20: Final = Convention(
    axis_order="xy",
    unit="pixel",
    low=0.0,
    high=None,
    step=1.0,
    relative_to="sent",
    source="README and inference.py of github.com/FlagOpen/RoboBrain2.0, arXiv 2507.02029",
)
"""``[(376, 309), (332, 357)]``. The prompt says "normalized pixel locations", but inference.py draws the numbers as
pixels; the model is a Qwen2.5-VL, so they are pixels of the resized image."""

ROBOBRAIN_25: Final = Convention(
    axis_order="xy",
    unit="per mille",
    low=0.0,
    high=1000.0,
    step=1.0,
    depth="metre",
    source="inference.py of github.com/FlagOpen/RoboBrain2.5, arXiv 2601.14352",
)
"""``[(x, y, d), ...]``: x, y whole numbers in 0 to 1000, depth in metres with decimals."""

_LOOSE: Final = re.compile(r"\((?=\s{0,9}[-+.0-9]{1,32}\s{0,9},\s{0,9}[-+.0-9])")
"""A tuple of numbers outside of any list; one alone is as good as a list of one."""
DEPTH_STEP_M: Final = 0.001
"""Resolution of rendered depths."""


@dataclass(frozen=True)
class TupleAdapter(Family):
    """A list of tuples: two numbers are a point, three a point with depth, four the corners of a box.

    Labels are not part of these formats; points are called "point 1", "point 2" and so on.

    Attributes:
        lengths: how many numbers a tuple of this family may have.
        path_brackets: are paths written with brackets instead of parentheses?
    """

    family: str
    convention: Convention
    kinds: tuple[Kind, ...]
    lengths: frozenset[int] = frozenset({2})
    path_brackets: bool = False

    def _read(self, answer: Answer) -> Found:
        found = self._rows(answer)
        lengths = {len(numbers) for numbers, _ in found}
        if len(lengths) > 1:
            raise answer.error("its tuples have different lengths", "Ask for points or boxes, not for both")
        if lengths == {4}:
            return Found(boxes=[self._box(answer, row, f"box {i + 1}") for i, row in enumerate(found)])
        marks = [self._mark(answer, row, f"point {i + 1}") for i, row in enumerate(found)]
        if lengths == {3} and answer.kind is None:
            return Found(paths=[marks])
        return Found(marks=marks)

    def _rows(self, answer: Answer) -> list[Row]:
        start, stop = answer.body()
        reader = Reader(answer.text, stop)
        start = reader.skip(start)
        if answer.text.startswith("(", start, stop):
            nodes, end = reader.sequence(start, "")
            candidates = [Node(nodes, start, end)]
        else:
            candidates = lists(answer, lambda node: self._wanted(answer, node))
        if not candidates and says_none(answer):
            return []
        if not candidates:
            loose = [found.start() for found in _LOOSE.finditer(answer.text, start, stop)]
            if len(loose) != 1:
                problem = "there are points, but no list of them" if loose else "there is no list of points"
                raise answer.error(problem, "Ask for the points as a list of tuples")
            candidates = [reader.value(loose[0])]
        found = [self._sound(answer, node) for node in candidates]
        for node, other in zip(candidates[1:], found[1:], strict=True):
            if [numbers for numbers, _ in other] != [numbers for numbers, _ in found[0]]:
                raise answer.second_list(candidates[0].at, node.at)
        return found[0]

    def _wanted(self, answer: Answer, node: Node) -> bool:
        """A list of numbers in groups; objects with keys are another family's answer."""
        parts = node.value if isinstance(node.value, tuple) else (node,)
        if any(isinstance(part.value, dict) for part in parts):
            raise answer.error("it has objects with keys, which this family never writes", OTHER_FAMILY, node.at)
        if rows(node) is not None:
            return True
        return any(isinstance(part.value, tuple) for part in parts if part is not node)

    def _sound(self, answer: Answer, node: Node) -> list[Row]:
        found = rows(node)
        if found is None:
            raise answer.error("the list holds something else than tuples of numbers", OTHER_FAMILY, node.at)
        for i, (numbers, at) in enumerate(found):
            if len(numbers) not in self.lengths:
                allowed = " or ".join(str(n) for n in sorted(self.lengths))
                raise answer.error(
                    f"the tuple has {len(numbers)} numbers, and this family writes {allowed}",
                    OTHER_FAMILY,
                    at,
                    f"point {i + 1}",
                )
        return found

    def _write(self, drawing: Drawing) -> str:
        if drawing.boxes or drawing.kind == "boxes":
            inner = [f"[{', '.join(map(drawing.written, drawing.corners(box)))}]" for box in drawing.boxes]
            return inner[0] if len(inner) == 1 else f"[{', '.join(inner)}]"
        brackets = self.path_brackets and drawing.kind == "waypoints_2d"
        parts = []
        for mark in drawing.marks:
            numbers = [drawing.written(n) for n in drawing.pair(mark)]
            if drawing.kind == "waypoints_3d" and mark.depth_m is not None:
                numbers.append(f"{max(DEPTH_STEP_M, mark.depth_m):.3f}")
            parts.append(f"[{', '.join(numbers)}]" if brackets else f"({', '.join(numbers)})")
        return f"[{', '.join(parts)}]"

    def _wording(self, kind: Kind) -> str:
        units = {
            "fraction": "as decimal fractions between 0 and 1 of the image's width and height, with three decimals",
            "per mille": "as whole numbers from 0 to 1000, relative to the image's width and height",
            "pixel": "as whole pixels of the image",
        }[self.convention.unit]
        forms = {
            "keypoints": "[(x1, y1), (x2, y2), ...], one tuple for each point",
            "waypoints_2d": ("[[x1, y1], [x2, y2], ...]" if self.path_brackets else "[(x1, y1), (x2, y2), ...]")
            + ", the points of the gripper's path in order",
            "waypoints_3d": (
                "[(x1, y1, d1), (x2, y2, d2), ...], the points of the gripper's path in order, where d is the distance"
                " from the camera in metres"
            ),
            "boxes": "[x_min, y_min, x_max, y_max]; for several things, a list of such lists",
        }
        return (
            f"Answer with one list and nothing else: {forms[kind]}. Give x (across) first and y (down) second, {units},"
            " counted from the top left corner. If there is no such thing, answer []."
        )


def tuple_adapters() -> tuple[TupleAdapter, ...]:
    """The adapters of this module."""
    return (
        TupleAdapter("robopoint", ROBOPOINT, ("keypoints", "waypoints_2d")),
        TupleAdapter("gpt", GPT, ("keypoints", "waypoints_2d")),
        TupleAdapter(
            "robobrain-2.0",
            ROBOBRAIN_20,
            ("keypoints", "boxes", "waypoints_2d"),
            lengths=frozenset({2, 4}),
            path_brackets=True,
        ),
        TupleAdapter(
            "robobrain-2.5",
            ROBOBRAIN_25,
            ("keypoints", "boxes", "waypoints_2d", "waypoints_3d"),
            lengths=frozenset({2, 3, 4}),
        ),
    )
