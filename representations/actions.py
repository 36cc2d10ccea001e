"""What moves the robot: action chunks from policies, joint commands from controllers."""

# Without `from __future__ import annotations`: pydantic would compile and evaluate every annotation once more.
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from hiervla.representations._arrays import Array, NDArray
from hiervla.representations._base import Fraction, Typed


class JointCommand(Typed):
    """Joint targets for one control tick.

    Values are not required to be finite here: the safety envelope has to be able to receive, and refuse, a NaN.
    """

    q: Annotated[NDArray, Array("float64", "J", allow_nan=True)] = Field(
        description="(J,) target joint positions at the end of the tick [rad]"
    )
    dq: Annotated[NDArray, Array("float64", "J", allow_nan=True)] = Field(
        description="(J,) target joint velocities at the end of the tick [rad/s]"
    )
    gripper_width_m: float = Field(description="target distance between the finger pads [m]")
    time_s: float = Field(description="time at which the tick starts on the world's clock [s]")

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if self.q.shape != self.dq.shape:
            raise ValueError(f"q is {self.q.shape}, but dq is {self.dq.shape}")
        return self


class ActionChunk(Typed):
    """A short sequence of end-effector targets that a policy emits at once.

    Row ``k`` is due ``(k + 1) / rate_hz`` seconds after ``observed_at_s``.
    """

    space: Literal["ee_pose"] = "ee_pose"
    frame: Literal["world"] = "world"
    positions: Annotated[NDArray, Array("float64", "H", 3)] = Field(description="(H, 3) tool centre point [m]")
    yaws: Annotated[NDArray, Array("float64", "H")] = Field(
        description="(H,) finger-closing axis about world z, top-down [rad]"
    )
    gripper: Annotated[NDArray, Array("float64", "H")] = Field(description="(H,) opening, 0 closed to 1 open")
    rate_hz: PositiveFloat
    observed_at_s: FiniteFloat = Field(description="time of the observation that the chunk answers [s]")
    done_prob: Fraction | None = Field(default=None, description="the policy's belief that the step is done")
    progress: Fraction | None = Field(default=None, description="estimated share of the step that is done")
    policy: str = Field(default="", description="id of the policy that made it")
    gave_up: str | None = Field(
        default=None, description="why the policy gives the step up; no row of such a chunk is tracked"
    )

    @model_validator(mode="after")
    def _same_horizon(self) -> Self:
        if not len(self.positions) == len(self.yaws) == len(self.gripper) or len(self.positions) == 0:
            raise ValueError("positions, yaws and gripper need the same, non-zero horizon")
        return self

    @property
    def horizon(self) -> int:
        """Number of rows."""
        return len(self.positions)
