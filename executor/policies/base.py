"""The one interface of all learned low-level policies, and what they read from a step."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hiervla.representations import ActionChunk, Observation, Step
from hiervla.representations.errors import HiervlaError

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


class MissingTargetError(HiervlaError, ValueError):
    """A step that should be acted upon carries no keypoint with a position in the world.

    Attributes:
        step: id of the step.
        skill: its skill.
        found: kinds of the artifacts that it does carry.
    """

    def __init__(self, step: str, skill: str, found: tuple[str, ...]) -> None:
        self.step = step
        self.skill = skill
        self.found = found
        has = ", ".join(found) or "nothing"
        super().__init__(
            f"step {step} ({skill}): the policy needs a keypoints artifact whose first point has position_w, "
            f"but the step carries {has}. Ground the step's artifacts before acting."
        )


def target_point(step: Step) -> NDArray[np.float64]:
    """The point that the step is about, (3,) in the world frame [m]: its first grounded keypoint.

    Raises:
        MissingTargetError: the step carries no such point.
    """
    for artifact in step.artifacts:
        if artifact.kind == "keypoints" and artifact.points[0].position_w is not None:
            return np.array(artifact.points[0].position_w, dtype=np.float64)
    raise MissingTargetError(step.id, step.skill, tuple(a.kind for a in step.artifacts))


def make_policy(name: str, **options: Any) -> Policy:
    """A policy by its registered name; see :mod:`hiervla.executor.policies.registry`."""
    from hiervla.executor.policies.registry import create

    return create(name, **options)
