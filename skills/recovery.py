"""What to do after an attempt that went wrong, before the arm goes home: data on the skill, run by the executor."""

from __future__ import annotations

from dataclasses import dataclass

from hiervla.representations import ConventionError, Observation
from hiervla.representations.plans import StepOutcome
from hiervla.skills.motion import Waypoint

_FAILED: tuple[StepOutcome, ...] = ("failed", "timed_out", "lost_object", "gave_up")


@dataclass(frozen=True)
class Recovery:
    """A short motion, and how often to try again; the default is nothing at all.

    Attributes:
        retreat_m: how far to draw back straight up from where the attempt ended [m].
        open_gripper: let go first; for skills whose failure leaves the fingers clamped on something fixed.
        retries: further attempts at the same step before a new plan is asked for; None for the loop's own setting.
        after: the outcomes that it answers.

    Raises:
        ConventionError: a retreat that is negative or longer than 0.3 m, or a negative number of retries.
    """

    retreat_m: float = 0.0
    open_gripper: bool = False
    retries: int | None = None
    after: tuple[StepOutcome, ...] = _FAILED

    def __post_init__(self) -> None:
        """Refuse motions that are no short ones."""
        if not 0.0 <= self.retreat_m <= 0.3:
            raise ConventionError("Recovery.retreat_m", f"{self.retreat_m:g} m is not a short way", "Give 0 to 0.3 m")
        if self.retries is not None and self.retries < 0:
            raise ConventionError("Recovery.retries", f"{self.retries} is negative", "Give 0 or more")

    @property
    def moves(self) -> bool:
        """Is there any motion in it?"""
        return self.open_gripper or self.retreat_m > 0.0

    def waypoints(self, observation: Observation) -> tuple[Waypoint, ...]:
        """The motion from where the tool is now; empty when there is none to make."""
        x, y, z = (float(c) for c in observation.proprio.ee_position)
        way: list[Waypoint] = []
        if self.open_gripper:
            way.append(Waypoint((x, y, z), opening=1.0, dwell_s=0.8))
        if self.retreat_m > 0.0:
            way.append(Waypoint((x, y, z + self.retreat_m)))
        return tuple(way)
