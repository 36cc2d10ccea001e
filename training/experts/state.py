"""What an expert knows: a plain copy of the ground truth at one moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Thing:
    """A loose object.

    Attributes:
        id: such as ``"mug_0"``.
        category: such as ``"mug"``.
        size: (3,) full extents [m].
        position: (3,) centre of its bottom in the world frame [m].
        yaw: about world z [rad].
        upright: cosine of its tilt.
        grasp_z: height of a good grasp above its bottom [m].
    """

    id: str
    category: str
    size: tuple[float, float, float]
    position: Vector
    yaw: float
    upright: float
    grasp_z: float

    @property
    def top(self) -> float:
        """Height of its top in the world [m]."""
        return float(self.position[2]) + self.size[2]


@dataclass(frozen=True)
class State:
    """The whole scene, as far as experts care.

    Attributes:
        ee: (3,) tool centre point [m].
        velocity: (3,) of it [m/s].
        yaw: of the tool [rad].
        width: between the finger pads [m].
        things: loose objects by id.
        held: id of the object in the gripper.
        drawer_open: [m].
        handle: (3,) middle of the drawer's handle [m].
        spill_left: share of the spill that is still there, 0..1.
        spill_points: (K, 2) centres of what is left of the spill [m].
    """

    ee: Vector
    velocity: Vector
    yaw: float
    width: float
    things: dict[str, Thing]
    held: str | None
    drawer_open: float
    handle: Vector
    spill_left: float
    spill_points: Vector


@dataclass(frozen=True)
class Task:
    """What an expert should do.

    Attributes:
        skill: its name.
        target_w: (3,) the keypoint as the planner would ground it [m].
        object: id of the object in question, if any.
        onto: id of the object that receives it, if any.
        place: fixed place in question, if any: "top_shelf", "drawer", ...
        words: the step as a planner would put it, if that is known; see :mod:`hiervla.training.step_wordings`.
    """

    skill: str
    target_w: Vector
    object: str | None = None
    onto: str | None = None
    place: str | None = None
    words: str = ""
