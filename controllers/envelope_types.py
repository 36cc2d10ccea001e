"""The safety envelope's vocabulary: what it checks, what it reports, what it allows, what it guards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

import numpy as np
from pydantic import Field, FiniteFloat

from hiervla.controllers.fence import Fence
from hiervla.controllers.kinematics import panda_limits
from hiervla.controllers.limits import JointLimits, Workspace
from hiervla.representations._base import Typed
from hiervla.representations.actions import JointCommand
from hiervla.representations.observations import Observation, Proprioception


class Check(StrEnum):
    """What the envelope looks at."""

    NOT_FINITE = "not_finite"
    SHAPE = "shape"
    CLOCK = "clock"
    POSITION = "position"
    VELOCITY = "velocity"
    ACCELERATION = "acceleration"
    LAG = "lag"
    WORKSPACE = "workspace"
    TABLE = "table"
    SPACE = "space"
    TRACKING = "tracking"
    GRIPPER = "gripper"
    STOP = "stop"


class EnvelopeEvent(Typed):
    """The envelope did something; a limited command is reported once for as long as it goes on."""

    check: Check
    action: Literal["limited", "refused", "stopped", "reset"]
    message: str
    time_s: FiniteFloat = Field(description="the world's clock [s]")
    joint: int | None = Field(default=None, description="joint concerned, counted from 1")


class Refused(Exception):  # noqa: N818  # never leaves the envelope
    """A command that must not pass."""

    def __init__(self, check: Check, message: str, joint: int | None = None) -> None:
        super().__init__(message)
        self.check = check
        self.message = message
        self.joint = joint


@dataclass(frozen=True)
class EnvelopeLimits:
    """What the envelope allows. Joint limits can be tighter than the robot's, never wider.

    Attributes:
        joints: hard limits of the joints.
        workspace: box for the tool centre point.
        table_z: height of the table [m].
        table_tolerance_m: how far below the table a commanded link may be (servos give way, models err) [m].
        stale_s: how far a command's time may be from the world's clock [s].
        gross_position_rad: beyond the limit by more than this is refused, less is limited [rad].
        gross_velocity: commands faster than this many times the limit are refused.
        gross_acceleration: likewise.
        gross_lag_rad: commands that run this far ahead of what was let through are refused [rad].
        gross_depth_m: commands this far below the table or outside the workspace are refused [m].
        tracking_rad: a joint this far from its command is blocked, which is refused [rad].
        tracking_every: ticks between looks at the measured joints.
        fence: where another arm's space begins; None for an arm that is alone.
    """

    joints: JointLimits = field(default_factory=panda_limits)
    workspace: Workspace = field(
        default_factory=lambda: Workspace(np.array([0.05, -0.88, -0.02]), np.array([0.88, 0.85, 0.95]))
    )
    table_z: float = 0.0
    table_tolerance_m: float = 0.005
    stale_s: float = 0.1
    gross_position_rad: float = 0.05
    gross_velocity: float = 1.5
    gross_acceleration: float = 6.0
    gross_lag_rad: float = 0.25
    gross_depth_m: float = 0.05
    tracking_rad: float = 0.25
    tracking_every: int = 5
    fence: Fence | None = None

    def __post_init__(self) -> None:
        robot, mine = panda_limits(), self.joints
        wider = (
            (mine.lower < robot.lower - 1e-9).any()
            or (mine.upper > robot.upper + 1e-9).any()
            or (mine.velocity > robot.velocity + 1e-9).any()
            or (mine.acceleration > robot.acceleration + 1e-9).any()
        )
        if wider:
            raise ValueError("the envelope's joint limits are wider than the robot's own. Tighten them only")


class GuardedWorld(Protocol):
    """What the envelope needs of a world; the World protocol satisfies it."""

    @property
    def name(self) -> str:
        """Name of the world."""
        ...

    @property
    def time_s(self) -> float:
        """The world's clock [s]."""
        ...

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """Take an observation."""
        ...

    def proprio(self) -> Proprioception:
        """Proprioception alone."""
        ...

    def step(self, command: JointCommand) -> None:
        """Track a command for one tick."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...
