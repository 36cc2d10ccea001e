"""How a plan changed where the planner was asked again: steps added, removed, reordered, and points that moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from math import hypot

from hiervla.executor.record.view import Chapter, what
from hiervla.representations import Keypoints, Step

STILL_PX = 0.5
"""A point that moved by less is where it was: that is within one pixel."""


@dataclass(frozen=True)
class PointMove:
    """One named point of a step that both plans have, in the image of one camera.

    Attributes:
        step: the step in words.
        before: (u, v) in the plan before [px].
        after: (u, v) in the new plan [px].
    """

    step: str
    label: str
    camera: str
    before: tuple[float, float]
    after: tuple[float, float]

    @property
    def distance_px(self) -> float:
        """How far it moved [px]."""
        return hypot(self.after[0] - self.before[0], self.after[1] - self.before[1])


@dataclass(frozen=True)
class PlanChange:
    """What the new plan does otherwise than what the one before still had to do.

    Attributes:
        kept: how many steps both have, in whatever order.
        added: steps that only the new plan has.
        removed: steps that only the plan before had.
        reordered: steps that both have, and that others have overtaken.
        moved: points that moved by :data:`STILL_PX` or more, the farthest first.
    """

    kept: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reordered: tuple[str, ...]
    moved: tuple[PointMove, ...]

    def lines(self) -> list[str]:
        """The change as a small diff, one line a difference; ``= `` says how much stayed."""
        lines = [f"- {text}" for text in self.removed] + [f"+ {text}" for text in self.added]
        lines += [f"~ {text}: in another place of the order" for text in self.reordered]
        for move in self.moved:
            lines.append(
                f"~ {move.step}: '{move.label}' moved by {move.distance_px:.1f} px in camera '{move.camera}', from "
                f"({move.before[0]:.0f}, {move.before[1]:.0f}) to ({move.after[0]:.0f}, {move.after[1]:.0f})"
            )
        if self.kept:
            lines.append(f"= {self.kept} step{'' if self.kept == 1 else 's'} kept")
        return lines


def plan_change(before: Chapter, after: Chapter) -> PlanChange:
    """What became of the steps that ``before`` still had to do, in the plan that replaced it."""
    plan = after.answers[0].plan
    new = [plan.step(step_id) for step_id in plan.remaining]
    # The latest answer knows best where the planner saw things; a begun step still has the points that it began with.
    latest = {what(step): step for step in before.plan.steps}
    old = [latest.get(what(step), step) for step in after.before]
    return compare_steps(old, new)


def compare_steps(old: Sequence[Step], new: Sequence[Step]) -> PlanChange:
    """The change from one list of steps to another; steps are the same when skill and arguments are."""
    old_keys, new_keys = _numbered(old), _numbered(new)
    kept_old = [key for key in old_keys if key in set(new_keys)]
    kept_new = [key for key in new_keys if key in set(old_keys)]
    in_order = {
        key
        for block in SequenceMatcher(a=kept_old, b=kept_new, autojunk=False).get_matching_blocks()
        for key in kept_new[block.b : block.b + block.size]
    }
    by_old, by_new = dict(zip(old_keys, old, strict=True)), dict(zip(new_keys, new, strict=True))
    moves = [move for key in kept_new for move in _moves(by_old[key], by_new[key])]
    return PlanChange(
        kept=len(kept_new),
        added=tuple(str(by_new[key]) for key in new_keys if key not in by_old),
        removed=tuple(str(by_old[key]) for key in old_keys if key not in by_new),
        reordered=tuple(str(by_new[key]) for key in kept_new if key not in in_order),
        moved=tuple(sorted(moves, key=lambda move: -move.distance_px)),
    )


def _numbered(steps: Iterable[Step]) -> list[tuple[str, int]]:
    """What each step does, and how often the same was there before: a plan may do a thing twice."""
    seen: Counter[str] = Counter()
    keys = []
    for step in steps:
        keys.append((what(step), seen[what(step)]))
        seen[what(step)] += 1
    return keys


def _moves(old: Step, new: Step) -> list[PointMove]:
    before, after = _points(old), _points(new)
    moves = [
        PointMove(str(new), label, camera, before[label, camera], point)
        for (label, camera), point in after.items()
        if (label, camera) in before
    ]
    return [move for move in moves if move.distance_px >= STILL_PX]


def _points(step: Step) -> dict[tuple[str, str], tuple[float, float]]:
    return {
        (point.label, artifact.image.camera): (point.u, point.v)
        for artifact in step.artifacts
        if isinstance(artifact, Keypoints)
        for point in artifact.points
    }
