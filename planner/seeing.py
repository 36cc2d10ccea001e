"""What a planner sees, in words: the eyes of programs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from hiervla.planner.base import PlannerContext
from hiervla.representations import HiervlaError, Observation, SeenThing


class NoVisionError(HiervlaError):
    """A program asks what is in view, and the planner cannot say."""

    def __init__(self, planner: str) -> None:
        super().__init__(
            f"planner '{planner}': it does not say what it sees, but the program asks. Use another planner, or a "
            "program without such questions."
        )
        self.planner = planner


@runtime_checkable
class Seeing(Protocol):
    """A planner that can also say what is in view. It looks at images only."""

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """Everything in view, from left to right.

        Raises:
            CameraError: the camera that the planner needs is not in the observation.
            BackendError: the planner's model gives no answer.
        """
        ...
