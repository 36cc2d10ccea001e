"""The one interface of all learned low-level policies, and what they read from a step."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from hiervla.representations import ActionChunk, Observation, Step
from hiervla.skills.context import MissingTargetError, target_point

__all__ = ["SKILLS", "MissingTargetError", "Policy", "make_policy", "target_point"]

SKILLS: tuple[str, ...] = ("pick", "place", "open_drawer", "close_drawer", "wipe", "throw_away")
"""Skills that the built-in policy knows, in the order of its skill embedding."""


@runtime_checkable
class Policy(Protocol):
    """Turns an observation and the step at hand into a chunk of end-effector targets.

    A policy sees observations and the step's artifacts only; it has no access to a world.
    """

    @property
    def id(self) -> str:
        """Name and version, such as ``"flow-1"``; every chunk carries it."""
        ...

    def reset(self, step: Step, seed: int) -> None:
        """Start a new attempt at `step`; all randomness until the next reset follows from `seed`."""
        ...

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next chunk.

        Raises:
            MissingTargetError: the step carries no grounded keypoint.
            CameraError: a camera that the policy needs is missing or gives no depth.
        """
        ...


def make_policy(name: str, **options: Any) -> Policy:
    """A policy by its registered name; see :mod:`hiervla.executor.policies.registry`."""
    from hiervla.executor.policies.registry import create

    return create(name, **options)
