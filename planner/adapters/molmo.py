"""Molmo and Molmo2 point with tags, MolmoAct with a trace of the end effector."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from hiervla.planner.adapters.answer import OTHER_FAMILY, Answer, Found, Mark, clean
from hiervla.planner.adapters.base import Convention, Kind
from hiervla.planner.adapters.family import Drawing, Family
from hiervla.planner.adapters.literals import Reader
from hiervla.planner.adapters.search import rows
from hiervla.planner.adapters.tags import escaped, says_none, tagged_points

MOLMO: Final = Convention(
    axis_order="xy",
    unit="percent",
    low=0.0,
    high=100.0,
    step=0.1,
    source="Molmo and PixMo, arXiv 2409.17146",
)
"""``<point x="52.3" y="61.0" alt="dog">dog</point>``: percent of width and height, one decimal."""

MOLMO_2: Final = Convention(
    axis_order="xy",
    unit="per mille",
    low=0.0,
    high=1000.0,
    step=1.0,
    source="model card of allenai/Molmo2-8B",
)
"""``<points coords="1 1 308 305 2 752 377">curb ramp</points>``: image, then number, x, y of each point."""

MOLMO_ACT: Final = Convention(
    axis_order="xy",
    unit="1/255",
    low=0.0,
    high=255.0,
    step=1.0,
    ends="pixel_centres",
    source="README of github.com/allenai/molmoact and scale_pt in allenai/SimplerEnv, arXiv 2508.07917",
)
"""``[[242, 115], [140, 77]]``: 0 is the first pixel, 255 the last."""

_TRACE: Final = re.compile(r"trajectory of the [A-Za-z ]{0,60}? is\s*(?=\[)")


@dataclass(frozen=True)
class MolmoAdapter(Family):
    """Points as tags; "There are none." is an empty answer.

    Attributes:
        triplets: does the family write ``coords="..."``, as Molmo2 does?
    """

    family: str
    convention: Convention
    triplets: bool = False
    kinds: tuple[Kind, ...] = ("keypoints",)

    def _read(self, answer: Answer) -> Found:
        marks = tagged_points(answer, triplets=self.triplets)
        if not marks and not says_none(answer):
            raise answer.error("there is no <point> or <points> tag", "Ask the model to point")
        return Found(marks=marks)

    def _write(self, drawing: Drawing) -> str:
        tags = []
        for label, group in groupby(drawing.marks, key=lambda mark: escaped(clean(mark.label))):
            pairs = [[drawing.written(n) for n in drawing.pair(mark)] for mark in group]
            if self.triplets:
                triplets = " ".join(f"{i} {x.zfill(3)} {y.zfill(3)}" for i, (x, y) in enumerate(pairs, 1))
                tags.append(f'<points coords="1 {triplets}">{label}</points>')
            elif len(pairs) == 1:
                tags.append(f'<point x="{pairs[0][0]}" y="{pairs[0][1]}" alt="{label}">{label}</point>')
            else:
                numbered = " ".join(f'x{i}="{x}" y{i}="{y}"' for i, (x, y) in enumerate(pairs, 1))
                tags.append(f'<points {numbered} alt="{label}">{label}</points>')
        return "\n".join(tags)

    def _wording(self, kind: Kind) -> str:
        return 'Point to it. If there is no such thing, answer "There are none."'


@dataclass(frozen=True)
class MolmoActAdapter(Family):
    """The trace of the end effector in the first image, inside of the sentence that the model was trained to write.

    Depth tokens before it and action tokens after it are not read: they belong to the model's own decoders. Several
    traces (left and right end effector) become several paths.
    """

    family: str = "molmoact"
    convention: Convention = MOLMO_ACT
    kinds: tuple[Kind, ...] = ("waypoints_2d",)

    def _read(self, answer: Answer) -> Found:
        start, stop = answer.body()
        reader = Reader(answer.text, stop)
        first = reader.skip(start)
        starts = [found.end() for found in _TRACE.finditer(answer.text, start, stop)]
        if not starts and answer.text.startswith("[", first, stop):
            starts = [first]
        if not starts:
            raise answer.error(
                "there is no trajectory of the end effector", "Ask the question that the model was trained on"
            )
        return Found(paths=[self._trace(answer, reader, at) for at in starts])

    def _trace(self, answer: Answer, reader: Reader, at: int) -> list[Mark]:
        node = reader.value(at)
        found = rows(node)
        if found is None or any(len(numbers) != 2 for numbers, _ in found) or (found and found[0][1] == node.at):
            raise answer.error("the trajectory is no list of [x, y]", OTHER_FAMILY, node.at)
        marks = []
        for i, (numbers, place) in enumerate(found):
            u, v = answer.pixel(numbers[0], numbers[1], place, f"point {i + 1}")
            marks.append(Mark(u, v, at=place))
        return marks

    def _write(self, drawing: Drawing) -> str:
        points = [f"[{', '.join(map(drawing.written, drawing.pair(mark)))}]" for mark in drawing.marks]
        return f"The trajectory of the end effector in the first image is [{', '.join(points)}]."

    def _wording(self, kind: Kind) -> str:
        return (
            "Think step by step: what is the depth map of the first image, what is the trajectory of the end effector"
            " in the first image, and what action should the robot take?"
        )


def molmo_adapters() -> tuple[Family, ...]:
    """The adapters of this module."""
    return (
        MolmoAdapter("molmo", MOLMO),
        MolmoAdapter("molmo2", MOLMO_2, triplets=True),
        MolmoActAdapter(),
    )
