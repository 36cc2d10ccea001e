"""Families that answer with JSON objects: Gemini Robotics-ER, Qwen2.5-VL, Qwen3-VL.

The keys differ between families, and with them the order of the axes: ``point`` and ``box_2d`` are Gemini's and put y
first, ``point_2d`` and ``bbox_2d`` are Qwen's and put x first. A key of the other family is therefore refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import ClassVar, Final

from hiervla.planner.adapters.answer import OTHER_FAMILY, Answer, Found, Gripper, Mark, clean
from hiervla.planner.adapters.base import Convention, Kind
from hiervla.planner.adapters.family import Drawing, Family
from hiervla.planner.adapters.literals import Node, quoted_number
from hiervla.planner.adapters.search import Row, lists, rows
from hiervla.planner.adapters.tags import says_none, tagged_points
from hiervla.representations import Box

GEMINI: Final = Convention(
    axis_order="yx",
    unit="per mille",
    low=0.0,
    high=1000.0,
    step=1.0,
    source="ai.google.dev/gemini-api/docs/robotics-overview, sections on pointing, boxes and trajectories",
)
"""``[{"point": [376, 508], "label": "small banana"}]``: y first, whole numbers from 0 to 1000."""

QWEN_25: Final = Convention(
    axis_order="xy",
    unit="pixel",
    low=0.0,
    high=None,
    step=1.0,
    relative_to="sent",
    source="Qwen2.5-VL blog and cookbook spatial_understanding, arXiv 2502.13923",
)
"""``[{"bbox_2d": [341, 258, 397, 360], "label": "motorcyclist"}]``: pixels of the image after smart_resize."""

QWEN_3: Final = Convention(
    axis_order="xy",
    unit="per mille",
    low=0.0,
    high=1000.0,
    step=1.0,
    source="cookbook 2d_grounding of github.com/QwenLM/Qwen3-VL",
)
"""The keys of Qwen2.5-VL with relative coordinates from 0 to 1000."""

_FOREIGN: Final = {"point": "Gemini", "box_2d": "Gemini", "point_2d": "Qwen", "bbox_2d": "Qwen"}
_PATH_KEYS: Final = ("trajectory", "points", "waypoints")
_ACTION: Final = re.compile(r"(open|close)(?: the)?(?: gripper)?")


@dataclass
class _Haul:
    """What was read so far."""

    marks: list[Mark]
    boxes: list[Box]
    paths: list[list[Mark]]
    steps: list[int]
    declared: bool = False


@dataclass(frozen=True)
class ObjectAdapter(Family):
    """Objects with a label and a point or box each; several lists in one answer belong together.

    A path is what the text says is one: points with a ``step`` or a ``gripper``, points labelled "0", "1", "2" and so
    on, a list of points under ``trajectory``, or a list of bare points.

    Attributes:
        point_key: key of a point.
        box_key: key of a box.
        named_axes: may it also write ``{"x": ..., "y": ..., "x2": ..., "y2": ...}``?
        tags: may it also write ``<points x1="..." y1="...">``, with the same numbers?
    """

    family: str
    convention: Convention
    point_key: str
    box_key: str
    named_axes: bool = False
    tags: bool = False
    kinds: tuple[Kind, ...] = ("keypoints", "boxes", "waypoints_2d")
    says_gripper: ClassVar[bool] = True

    def _read(self, answer: Answer) -> Found:
        nodes = lists(answer, _is_answer)
        if not nodes:
            if self.tags and (marks := tagged_points(answer)):
                return Found(marks=marks)
            if says_none(answer):
                return Found()
            raise answer.error("there is no JSON list", f'Ask for JSON with the key "{self.point_key}"')
        haul = _Haul([], [], [], [])
        for node in self._chosen(answer, nodes):
            self._value(answer, node, haul)
        marks = haul.marks
        numbered = [mark.label for mark in marks] == [str(i) for i in range(len(marks))]
        if haul.declared or (numbered and len(marks) > 1):
            if len(haul.steps) == len(marks):
                marks = [mark for _, mark in sorted(zip(haul.steps, marks, strict=True), key=lambda pair: pair[0])]
            return Found(boxes=haul.boxes, paths=[marks, *haul.paths])
        return Found(marks=marks, boxes=haul.boxes, paths=haul.paths)

    def _chosen(self, answer: Answer, nodes: list[Node]) -> list[Node]:
        """All objects; a bare list of numbers only where there are none, since prose may hold some."""
        objects = [node for node in nodes if rows(node) is None]
        if not objects and len(nodes) > 1:
            raise answer.second_list(nodes[0].at, nodes[1].at)
        return objects or nodes

    def _value(self, answer: Answer, node: Node, haul: _Haul) -> None:
        if isinstance(node.value, dict):
            self._object(answer, node, node.value, haul)
        elif (found := rows(node)) is not None:
            self._bare(answer, found, haul)
        elif isinstance(node.value, tuple) and all(isinstance(child.value, dict) for child in node.value):
            for child in node.value:
                self._value(answer, child, haul)
        else:
            raise answer.error("the list holds neither objects nor points", OTHER_FAMILY, node.at)

    def _object(self, answer: Answer, node: Node, entries: dict[str, Node], haul: _Haul) -> None:
        for key, whose in _FOREIGN.items():
            if key in entries and key not in (self.point_key, self.box_key):
                raise answer.error(
                    f"the key '{key}' is {whose}'s, whose axes are in another order", OTHER_FAMILY, entries[key].at
                )
        label = _label(entries)
        if self.box_key in entries or self.point_key in entries:
            self._placed(answer, entries, label, haul)
        elif self.named_axes and {"x", "y"} <= entries.keys():
            self._named(answer, node, entries, label, haul)
        elif path := [key for key in _PATH_KEYS if key in entries]:
            points = self._rows(answer, entries[path[0]])
            marks = [self._mark(answer, row, f"point {i + 1}") for i, row in enumerate(points)]
            haul.paths.append(marks)
        else:
            inner = [child for child in entries.values() if _holds_objects(child)]
            if len(inner) != 1:
                raise answer.error(
                    f"the object has neither '{self.point_key}' nor '{self.box_key}'", OTHER_FAMILY, node.at
                )
            self._value(answer, inner[0], haul)

    def _placed(self, answer: Answer, entries: dict[str, Node], label: str, haul: _Haul) -> None:
        """An object with a box or a point, or with both."""
        if self.box_key in entries:
            for row in self._rows(answer, entries[self.box_key]):
                haul.boxes.append(self._box(answer, row, f"box {len(haul.boxes) + 1}", label))
        if self.point_key in entries:
            gripper = _gripper(entries)
            haul.declared |= "step" in entries or gripper != "keep"
            step = entries["step"].value if "step" in entries else None
            if isinstance(step, int) and not isinstance(step, bool):
                haul.steps.append(step)
            for row in self._rows(answer, entries[self.point_key]):
                haul.marks.append(self._mark(answer, row, f"point {len(haul.marks) + 1}", label, gripper))

    def _bare(self, answer: Answer, found: list[Row], haul: _Haul) -> None:
        if found and all(len(numbers) == 4 for numbers, _ in found):
            haul.boxes += [self._box(answer, row, f"box {i + 1}") for i, row in enumerate(found)]
            return
        marks = [self._mark(answer, row, f"point {i + 1}") for i, row in enumerate(found)]
        if len(marks) > 1:
            haul.paths.append(marks)
        else:
            haul.marks += marks

    def _rows(self, answer: Answer, node: Node) -> list[Row]:
        """Coordinates under a key; null or an empty list says that the thing has no place."""
        if node.value is None:
            return []
        found = rows(node)
        if found is None:
            raise answer.error("there are no coordinates where some should be", OTHER_FAMILY, node.at)
        return found

    def _named(self, answer: Answer, node: Node, entries: dict[str, Node], label: str, haul: _Haul) -> None:
        names = ("x", "y", "x2", "y2") if {"x2", "y2"} <= entries.keys() else ("x", "y")
        numbers = [quoted_number(entries[name]) for name in names]
        known = [float(n) for n in numbers if n is not None]
        if len(known) != len(names):
            raise answer.error("there are no numbers where some should be", OTHER_FAMILY, node.at)
        if len(known) == 4:
            x_min, y_min, x_max, y_max = known
            haul.boxes.append(answer.box((x_min, y_min, x_max, y_max), label, node.at, f"box {len(haul.boxes) + 1}"))
        else:
            u, v = answer.pixel(known[0], known[1], node.at, f"point {len(haul.marks) + 1}")
            haul.marks.append(Mark(u, v, label, at=node.at))

    def _write(self, drawing: Drawing) -> str:
        items: list[dict[str, object]] = []
        for box in drawing.boxes:
            x_min, y_min, x_max, y_max = (round(n) for n in drawing.corners(box))
            yx = self.convention.axis_order == "yx"
            corners = [y_min, x_min, y_max, x_max] if yx else [x_min, y_min, x_max, y_max]
            items.append({self.box_key: corners, "label": clean(box.label)})
        path = drawing.kind == "waypoints_2d"
        for i, mark in enumerate(drawing.marks):
            pair = [round(n) for n in drawing.pair(mark)]
            point = pair if self.convention.axis_order == "xy" else pair[::-1]
            if path:
                items.append({"step": i, self.point_key: point, "gripper": mark.gripper})
            else:
                items.append({self.point_key: point, "label": clean(mark.label)})
        return json.dumps(items, ensure_ascii=False)

    def _wording(self, kind: Kind) -> str:
        pair, corners = ("x, y", "x_min, y_min, x_max, y_max")
        if self.convention.axis_order == "yx":
            pair, corners = ("y, x", "y_min, x_min, y_max, x_max")
        form = {
            "keypoints": f'[{{"{self.point_key}": [{pair}], "label": "name"}}, ...], one object for each point',
            "boxes": f'[{{"{self.box_key}": [{corners}], "label": "name"}}, ...], one object for each thing',
            "waypoints_2d": f'[{{"step": 0, "{self.point_key}": [{pair}], "gripper": "keep"}}, ...], the points of the'
            ' gripper\'s path in order, where "gripper" is what it does there: "open", "close" or "keep"',
        }[kind]
        unit = (
            "whole pixels of the image"
            if self.convention.unit == "pixel"
            else "whole numbers from 0 to 1000, relative to the image's height and width"
        )
        return (
            f"Answer with JSON and nothing else: {form}. Coordinates are {unit}, counted from the top left corner; x"
            " goes across, y goes down. If there is no such thing, answer []."
        )


def _is_answer(node: Node) -> bool:
    return isinstance(node.value, dict) or rows(node) is not None or _has_parts(node)


def _has_parts(node: Node) -> bool:
    return isinstance(node.value, tuple) and any(isinstance(child.value, dict | tuple) for child in node.value)


def _holds_objects(node: Node) -> bool:
    return isinstance(node.value, tuple) and all(isinstance(child.value, dict) for child in node.value)


def _label(entries: dict[str, Node]) -> str:
    value = entries["label"].value if "label" in entries else ""
    return str(value) if isinstance(value, str | int | float) else ""


def _gripper(entries: dict[str, Node]) -> Gripper:
    for key in ("gripper", "action"):
        value = entries[key].value if key in entries else None
        if isinstance(value, str) and (found := _ACTION.fullmatch(" ".join(value.lower().split()))):
            return "open" if found.group(1) == "open" else "close"
    return "keep"


def object_adapters() -> tuple[ObjectAdapter, ...]:
    """The adapters of this module."""
    return (
        ObjectAdapter("gemini-robotics-er", GEMINI, "point", "box_2d", named_axes=True),
        ObjectAdapter("qwen2.5-vl", QWEN_25, "point_2d", "bbox_2d", tags=True),
        ObjectAdapter("qwen3-vl", QWEN_3, "point_2d", "bbox_2d", tags=True),
    )
