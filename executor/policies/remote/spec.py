"""What a policy server wants to see and what its numbers mean, declared as data.

A :class:`RemoteSpec` is complete: no key, unit, sign or rate is guessed. It comes from a preset, from a JSON file, or
from the server itself, which may send one in its metadata under ``"spec"``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveFloat, PositiveInt, model_validator

from hiervla.representations import Typed

Floats = NDArray[np.float64]

StatePart = Literal[
    "joint_position",
    "joint_velocity",
    "ee_position",
    "ee_x",
    "ee_y",
    "ee_z",
    "ee_rotvec",
    "ee_rotvec_x",
    "ee_rotvec_y",
    "ee_rotvec_z",
    "ee_quat_xyzw",
    "gripper_width_m",
    "gripper_fingers_m",
    "gripper_opening",
    "gripper_closure",
]
"""Pieces of a state vector: (7,) [rad]; (7,) [rad/s]; (3,) [m]; (3,) rotation vector [rad]; (4,); (1,) [m]; (2,) each
finger's way from the middle, the second negative, as robosuite has it [m]; (1,) 0 closed to 1 open; (1,) 0 open to 1
closed, as DROID has it. ``_x``, ``_y`` and ``_z`` are single numbers of the position and the rotation vector."""

Space = Literal["joint_velocity", "joint_position", "joint_delta", "ee_delta", "ee_pose"]
Rotation = Literal["rotvec", "euler_xyz", "quat_xyzw", "quat_wxyz", "yaw"]
GripperSign = Literal["open_0_to_1", "closed_0_to_1", "open_-1_to_1", "closed_-1_to_1", "width_m"]

N_JOINTS = 7
PART_WIDTH: dict[StatePart, int] = {
    "joint_position": N_JOINTS, "joint_velocity": N_JOINTS, "ee_position": 3, "ee_rotvec": 3, "ee_quat_xyzw": 4,
    "gripper_fingers_m": 2,
}  # fmt: skip
"""Columns of a part that has more than one."""
ROTATION_WIDTH: dict[Rotation, int] = {"rotvec": 3, "euler_xyz": 3, "quat_xyzw": 4, "quat_wxyz": 4, "yaw": 1}


class Statistics(Typed):
    """Statistics of a data set, for servers that speak in normalised numbers.

    ``mean_std``: x = n * (std + 1e-6) + mean. ``quantiles``: x = (n + 1) / 2 * (q99 - q01 + 1e-6) + q01. Both as
    openpi's ``norm_stats.json`` has them. ``min_max``: x = (n + 1) / 2 * (max - min) + min, as LeRobot has it.
    """

    kind: Literal["mean_std", "quantiles", "min_max"]
    first: tuple[FiniteFloat, ...] = Field(min_length=1, description="mean, q01 or min, one a column")
    second: tuple[FiniteFloat, ...] = Field(min_length=1, description="std, q99 or max, one a column")

    @model_validator(mode="after")
    def _fit(self) -> Statistics:
        if len(self.first) != len(self.second):
            raise ValueError(f"{len(self.first)} and {len(self.second)} columns")
        low = (0.0,) * len(self.first) if self.kind == "mean_std" else self.first
        if any(b < a for a, b in zip(low, self.second, strict=True)):
            raise ValueError("a spread is negative")
        return self

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.first)

    def restore(self, values: Floats) -> Floats:
        """From normalised to physical values, (..., D)."""
        first, second = np.array(self.first), np.array(self.second)
        if self.kind == "mean_std":
            return np.asarray(values * (second + 1e-6) + first)
        return np.asarray((values + 1.0) / 2.0 * (second - first + self._margin) + first)

    def normalise(self, values: Floats) -> Floats:
        """The inverse of :meth:`restore`; a column without spread becomes 0."""
        first, second = np.array(self.first), np.array(self.second)
        if self.kind == "mean_std":
            return np.asarray((values - first) / (second + 1e-6))
        spread = second - first + self._margin
        flat = spread == 0.0
        return np.where(flat, 0.0, (values - first) / np.where(flat, 1.0, spread) * 2.0 - 1.0)

    @property
    def _margin(self) -> float:
        return 1e-6 if self.kind == "quantiles" else 0.0


class ImageInput(Typed):
    """One image of a request, (H, W, 3) uint8."""

    key: str = Field(min_length=1)
    camera: str = Field(min_length=1, description="our camera that it comes from")
    height: PositiveInt | None = Field(default=224, description="resized to this in its own proportions, black around")
    width: PositiveInt | None = 224
    turned: bool = Field(default=False, description="turned by 180 degrees")

    @model_validator(mode="after")
    def _both(self) -> ImageInput:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width are given together, or neither")
        return self


class StateInput(Typed):
    """One state vector of a request: parts, one after another."""

    key: str = Field(min_length=1)
    parts: tuple[StatePart, ...] = Field(min_length=1)
    statistics: Statistics | None = Field(default=None, description="of a server that wants normalised states")

    @property
    def width(self) -> int:
        """Columns."""
        return sum(PART_WIDTH.get(part, 1) for part in self.parts)


class ActionFormat(Typed):
    """What a row of the answer means: the motion's columns, then one of the gripper.

    Attributes of a delta: it is added to the row before (``previous``, as robosuite and DROID do it), or each to where
    the arm was at the observation (``observation``, as openpi's delta actions are before the server restores them).
    """

    key: str = "actions"
    space: Space
    rotation: Rotation = Field(default="rotvec", description="of end-effector actions")
    relative_to: Literal["previous", "observation"] = "previous"
    scale_m: PositiveFloat = Field(default=1.0, description="metres that a translation of 1 stands for")
    scale_rad: PositiveFloat = Field(default=1.0, description="radians that a rotation or joint value of 1 stands for")
    limit: PositiveFloat | None = Field(
        default=None,
        description="largest size of a motion's column; joint velocities above are scaled as a whole, others clipped",
    )
    gripper: GripperSign
    binary: bool = Field(default=False, description="the gripper's column is rounded to fully open or fully closed")
    rate_hz: PositiveFloat = Field(description="rows a second")
    rows: PositiveInt | None = Field(default=None, description="rows that a chunk must have; None: any number")
    statistics: Statistics | None = Field(default=None, description="of a server that answers in normalised numbers")
    max_tilt_rad: Annotated[float, Field(gt=0.0, le=1.6)] = Field(
        default=0.6,
        description="our chunks point the tool straight down; a row that tilts it further than this is refused, "
        "a smaller tilt is dropped",
    )

    @property
    def width(self) -> int:
        """Columns of a row."""
        motion = 3 + ROTATION_WIDTH[self.rotation] if self.space.startswith("ee") else N_JOINTS
        return motion + 1

    @model_validator(mode="after")
    def _fit(self) -> ActionFormat:
        if self.space == "ee_delta" and self.rotation.startswith("quat"):
            raise ValueError("a delta has no quaternion; declare rotvec, euler_xyz or yaw")
        if self.statistics is not None and self.statistics.width != self.width:
            raise ValueError(f"statistics have {self.statistics.width} columns, but a row has {self.width}")
        return self


class RemoteSpec(Typed):
    """All that a client has to know about a policy server.

    Their world frame has our axes and its origin at `origin_w`; their tool frame is ours turned by `tool_turn_rad`
    about the tool's z axis, which points out of the hand.
    """

    name: str = Field(min_length=1)
    full: bool = Field(
        default=False, description="send the whole observation and step, as another hiervla's server takes them"
    )
    images: tuple[ImageInput, ...] = ()
    states: tuple[StateInput, ...] = ()
    prompt_key: str = "prompt"
    actions: ActionFormat
    origin_w: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = Field(
        default=(0.0, 0.0, 0.0), description="where their origin is in our world [m]"
    )
    tool_turn_rad: FiniteFloat = 0.0

    @model_validator(mode="after")
    def _something_to_see(self) -> RemoteSpec:
        if not self.full and not self.images and not self.states:
            raise ValueError("a server that is sent neither images nor states cannot act")
        keys = [i.key for i in self.images] + [s.key for s in self.states] + [self.prompt_key]
        if len(set(keys)) != len(keys):
            raise ValueError(f"two inputs have the same key: {keys}")
        return self
