"""What the robot senses: camera frames and proprioception. Nothing here is privileged."""

# Without `from __future__ import annotations`: pydantic would compile and evaluate every annotation once more.
import hashlib
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, FiniteFloat, model_validator

from hiervla.representations._arrays import Array, NDArray
from hiervla.representations._base import Typed
from hiervla.representations.errors import CameraError


class CameraFrame(Typed):
    """One image of one calibrated camera.

    Pixels are ``(u, v)`` = (column, row); (0, 0) is the top-left corner of the top-left pixel, so the centre of
    pixel ``[i, j]`` is ``(j + 0.5, i + 0.5)``. Camera axes are OpenCV's: x right, y down, z forward.
    """

    name: str = Field(min_length=1, description="camera name, such as 'front' or 'wrist'")
    rgb: Annotated[NDArray, Array("uint8", "H", "W", 3)] = Field(description="(H, W, 3) sRGB")
    depth_m: Annotated[NDArray, Array("float32", "H", "W", allow_nan=True)] | None = Field(
        default=None,
        description="(H, W) distance along the optical axis [m]; 0 or NaN where there is no return",
    )
    K: Annotated[NDArray, Array("float64", 3, 3)] = Field(description="(3, 3) pinhole intrinsics [px]")
    T_world_camera: Annotated[NDArray, Array("float64", 4, 4)] = Field(
        description="(4, 4) maps points in the camera frame to the world frame"
    )
    time_s: FiniteFloat = Field(description="time of exposure on the world's clock [s]")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        import numpy as np

        if self.depth_m is not None and self.depth_m.shape != self.rgb.shape[:2]:
            raise ValueError(f"depth_m is {self.depth_m.shape}, but rgb is {self.rgb.shape[:2]}")
        if self.K[0, 0] <= 0 or self.K[1, 1] <= 0:
            raise ValueError("K has a focal length that is not positive")
        rotation = self.T_world_camera[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) or np.linalg.det(rotation) < 0:
            raise ValueError("T_world_camera is not a rigid transform")
        return self

    @property
    def height(self) -> int:
        """Image height [px]."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Image width [px]."""
        return int(self.rgb.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Content address of the colour image: hash of its shape and pixels."""
        import numpy as np

        digest = hashlib.sha256(repr(self.rgb.shape).encode())
        digest.update(np.ascontiguousarray(self.rgb).data)
        return digest.hexdigest()

    def require_depth(self) -> NDArray:
        """Depth image (H, W) float32 [m].

        Raises:
            CameraError: this camera gives no depth.
        """
        if self.depth_m is None:
            raise CameraError(
                self.name,
                "gives no depth, so pixels cannot be lifted to metres",
                "Use an RGB-D camera, or give artifacts that already carry 3D positions",
            )
        return self.depth_m


class Proprioception(Typed):
    """What the arm senses of itself."""

    q: Annotated[NDArray, Array("float64", "J")] = Field(description="(J,) joint positions [rad]")
    dq: Annotated[NDArray, Array("float64", "J")] = Field(description="(J,) joint velocities [rad/s]")
    T_world_ee: Annotated[NDArray, Array("float64", 4, 4)] = Field(
        description="(4, 4) pose of the tool centre point, from forward kinematics of q"
    )
    gripper_width_m: FiniteFloat = Field(description="distance between the finger pads [m]")
    gripper_effort_n: FiniteFloat = Field(default=0.0, description="measured closing force [N]")
    time_s: FiniteFloat = Field(description="time of the measurement on the world's clock [s]")

    @property
    def ee_position(self) -> NDArray:
        """(3,) tool centre point in the world frame [m]."""
        import numpy as np

        return np.asarray(self.T_world_ee[:3, 3])

    @property
    def ee_yaw(self) -> float:
        """Direction of the finger-closing axis about world z, in (-pi/2, pi/2] [rad]; 0 is along world y."""
        import numpy as np

        axis = self.T_world_ee[:3, 1]
        yaw = float(np.arctan2(-axis[0], axis[1]))
        return float((yaw + np.pi / 2) % np.pi - np.pi / 2)


class Observation(Typed):
    """All that planner and policy may look at: camera frames and proprioception at one time."""

    frames: tuple[CameraFrame, ...] = Field(description="one frame a camera, names unique")
    proprio: Proprioception
    time_s: FiniteFloat = Field(description="time on the world's clock [s]")

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [f.name for f in self.frames]
        if len(set(names)) != len(names):
            raise ValueError(f"two frames have the same camera name: {names}")
        return self

    def frame(self, name: str) -> CameraFrame:
        """The frame of one camera.

        Raises:
            CameraError: there is no such camera in this observation.
        """
        for frame in self.frames:
            if frame.name == name:
                return frame
        raise CameraError(
            name,
            f"is not in this observation, which has {[f.name for f in self.frames]}",
            "Ask the world for it: observe(cameras=[...])",
        )
