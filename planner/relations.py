"""Keypoint constraints for a step: where to be in each stage, and what to keep away from on the way (after ReKep)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from hiervla.representations import Constraint, Constraints, Keypoint

ABOVE_M: Final = 0.12
"""A thing is come down to, and left, this far above it [m]."""
AWAY_M: Final = 0.10
"""Kept between the tool, or the lowest point of what it holds, and the keypoints of other things [m]."""


def constraints(target: Keypoint, others: Sequence[Keypoint], gripper: Literal["open", "close"]) -> Constraints:
    """Three stages: over the target, at it, where the gripper acts, and over it again.

    Args:
        target: what the step is about, in the world.
        others: what to keep away from on the way, in the world.
        gripper: what it does at the target: "close" takes hold, "open" puts down what is held.
    """
    subject: Literal["end_effector", "held"] = "end_effector" if gripper == "close" else "held"
    away = tuple(
        Constraint(stage=0, during="path", relation="apart", subject=subject, keypoint=k + 1, distance_m=AWAY_M)
        for k in range(len(others))
    )
    # With an empty hand there is nothing held any more that could be over something.
    after: Literal["end_effector", "held"] = "end_effector"
    return Constraints(
        keypoints=(target, *others),
        constraints=(
            Constraint(stage=0, during="subgoal", relation="above", subject=subject, keypoint=0, distance_m=ABOVE_M),
            *away,
            Constraint(stage=1, during="subgoal", relation="at", subject=subject, keypoint=0),
            Constraint(stage=2, during="subgoal", relation="higher", subject=after, keypoint=0, distance_m=ABOVE_M),
        ),
        grippers=("keep", gripper, "keep"),
    )
