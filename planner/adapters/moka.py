"""MOKA: a motion chosen from marks and tiles that were drawn into the image (arXiv 2403.03174)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import floor
from typing import Final

from hiervla.planner.adapters.answer import Answer, Found, Mark
from hiervla.planner.adapters.base import Convention, Kind
from hiervla.planner.adapters.family import Drawing, Family, refusal
from hiervla.planner.adapters.literals import Node
from hiervla.planner.adapters.search import lists

MOKA: Final = Convention(
    axis_order="tile",
    unit="tile",
    low=0.0,
    high=5.0,
    step=1.0,
    origin="bottom_left",
    source="prompts/visual_prompt_planner/select_motion.txt of github.com/moka-manipulation/moka, arXiv 2403.03174",
)
"""``"pre_contact_tile": "b4"``: columns a to e from the left, rows 1 to 5 from the bottom."""

TILES: Final = ("pre_contact_tile", "target_tile", "post_contact_tile")
"""In the order in which the gripper passes them."""
MARKS: Final = ("grasp_keypoint", "function_keypoint", "target_keypoint")
_COLUMNS: Final = "abcde"
_TILE: Final = re.compile(r"([a-e])([1-5])")


@dataclass(frozen=True)
class MokaAdapter(Family):
    """One object with named tiles and marks; a tile stands for its middle.

    The marks ``P1``, ``Q2`` and so on are points that the caller has drawn into the image. Only the caller knows where,
    so that they are read as keypoints once :meth:`with_marks` has said so; without, only the tiles are read.

    Attributes:
        marks: pixel (u, v) of each drawn mark, by its name.
    """

    family: str = "moka"
    convention: Convention = MOKA
    kinds: tuple[Kind, ...] = ("waypoints_2d", "keypoints")
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def with_marks(self, marks: Mapping[str, tuple[float, float]]) -> MokaAdapter:
        """This adapter for an image with these marks drawn into it.

        Args:
            marks: name, such as ``"P1"``, to pixel (u, v) of the original image.
        """
        return replace(self, marks=dict(marks))

    def _read(self, answer: Answer) -> Found:
        nodes = lists(answer, lambda node: isinstance(node.value, dict) and bool({*TILES, *MARKS} & node.value.keys()))
        if len(nodes) != 1 or not isinstance(nodes[0].value, dict):
            found = "no object" if not nodes else "more than one object"
            raise answer.error(f"there is {found} with tiles", f'Ask for one JSON object with "{TILES[0]}" and so on')
        entries = nodes[0].value
        tiles = [self._tile(answer, entries[key]) for key in TILES if key in entries and _said(entries[key])]
        points: list[Mark] = []
        if self.marks or answer.kind == "keypoints":
            points = [self._drawn(answer, key, entries[key]) for key in MARKS if key in entries and _said(entries[key])]
        if answer.kind == "keypoints":
            return Found(marks=points)
        return Found(marks=[] if answer.kind else points, paths=[tiles])

    def _tile(self, answer: Answer, node: Node) -> Mark:
        tile = _TILE.fullmatch(str(node.value).strip().lower())
        if tile is None:
            raise answer.error(
                f"'{str(node.value)[:20]}' is no tile from a1 to e5", "Check the grid, or ask again", node.at
            )
        across = _COLUMNS.index(tile.group(1)) + 0.5
        up = int(tile.group(2)) - 0.5
        u, v = answer.pixel(across, 5.0 - up, node.at, f"tile {tile.group()}")
        return Mark(u, v, at=node.at)

    def _drawn(self, answer: Answer, key: str, node: Node) -> Mark:
        name = str(node.value).strip()
        if name not in self.marks:
            known = ", ".join(self.marks) or "none"
            raise answer.error(
                f"the mark '{name[:20]}' is not one of those that were drawn ({known})",
                "Give all of them with MokaAdapter.with_marks, or ask again",
                node.at,
            )
        u, v = self.marks[name]
        return Mark(float(u), float(v), key.removesuffix("_keypoint"), at=node.at)

    def _write(self, drawing: Drawing) -> str:
        if drawing.kind == "keypoints":
            return json.dumps({f"{mark.label}_keypoint": self._name(mark) for mark in drawing.marks})
        names = {1: TILES[1:2], 2: TILES[:2], 3: TILES}.get(len(drawing.marks))
        if names is None:
            raise refusal(self.family, "it says one to three tiles", "Give a path of so many points")
        pairs = [(mark.u / drawing.size.width, mark.v / drawing.size.height) for mark in drawing.marks]
        tiles = [f"{_COLUMNS[min(4, floor(5 * u))]}{5 - min(4, floor(5 * v))}" for u, v in pairs]
        return json.dumps(dict(zip(names, tiles, strict=True)))

    def _name(self, mark: Mark) -> str:
        if f"{mark.label}_keypoint" not in MARKS:
            raise refusal(self.family, f"it has no keypoint '{mark.label}'", "Call them grasp, function or target")
        for name, (u, v) in self.marks.items():
            if abs(u - mark.u) < 0.5 and abs(v - mark.v) < 0.5:
                return name
        raise refusal(self.family, f"no mark was drawn at ({mark.u:.1f}, {mark.v:.1f})", "Choose one of the marks")

    def _wording(self, kind: Kind) -> str:
        if kind == "keypoints":
            return (
                'Answer with one JSON object with the keys "grasp_keypoint", "function_keypoint" and "target_keypoint".'
                ' Each value is the name of a mark in the image, such as "P1" or "Q2", or "" where there is none.'
            )
        return (
            "The image is divided into tiles: columns a to e from left to right, rows 1 to 5 from bottom to top. Answer"
            ' with one JSON object with the keys "pre_contact_tile", "target_tile" and "post_contact_tile". Each value'
            ' is the name of a tile, such as "b4", or "" where there is none.'
        )


def _said(node: Node) -> bool:
    return node.value is not None and str(node.value).strip() != ""
