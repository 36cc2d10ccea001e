"""What our own server reads from a request: an observation and a step.

Keys, those in brackets may be left out: ``observation/joint_position`` (7,) [rad]; ``observation/gripper_width_m`` [m];
for each camera NAME ``observation/NAME/rgb`` (H, W, 3) uint8, ``observation/NAME/K`` (3, 3),
``observation/NAME/T_world_camera`` (4, 4), [``observation/NAME/depth_m`` (H, W) float32];
[``observation/joint_velocity`` (7,)], [``observation/ee_pose`` (4, 4), else from forward kinematics],
[``observation/gripper_effort_n``], [``observation/time_s``], [``prompt`` str].

What to do is either ``step``, a step as JSON with its artifacts, or ``skill`` str with ``target_w`` (3,), the point to
act on in the world [m]. [``seed`` int], [``call`` int: 0 begins a new attempt].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from hiervla.controllers.kinematics import Kinematics
from hiervla.executor.policies.remote.errors import RequestError
from hiervla.representations import CameraFrame, ImageRef, Keypoint, Keypoints, Observation, Proprioception, Step

T = TypeVar("T")
PREFIX = "observation/"


class RequestReader:
    """Reads requests; not for several threads: it has a kinematic work space."""

    def __init__(self) -> None:
        self._kinematics = Kinematics()

    def observation(self, message: dict[str, Any]) -> Observation:
        """The observation of a request.

        Raises:
            RequestError: something is missing or has another shape; the key is named.
        """
        time_s = self._number(message, PREFIX + "time_s", 0.0)
        q = _array(message, PREFIX + "joint_position", np.float64)
        if q.shape != (7,) or not np.isfinite(q).all():
            raise RequestError(PREFIX + "joint_position", f"has the shape {q.shape} or no numbers", "Send (7,) [rad]")
        values: dict[str, Any] = {
            "q": q,
            "dq": self._optional(message, "joint_velocity", np.zeros(7)),
            "T_world_ee": self._optional(message, "ee_pose", self._kinematics.forward(q)),
            "gripper_width_m": self._number(message, PREFIX + "gripper_width_m"),
            "gripper_effort_n": self._number(message, PREFIX + "gripper_effort_n", 0.0),
            "time_s": self._number(message, PREFIX + "proprio_time_s", time_s),
        }
        proprio = _valid(PREFIX + "joint_position", lambda: Proprioception(**values))
        names = [k[len(PREFIX) : -len("/rgb")] for k in message if k.startswith(PREFIX) and k.endswith("/rgb")]
        frames = tuple(self._frame(message, name, time_s) for name in names)
        return _valid(PREFIX, lambda: Observation(frames=frames, proprio=proprio, time_s=time_s))

    def step(self, message: dict[str, Any], observation: Observation) -> Step:
        """The step of a request.

        Raises:
            RequestError: there is none, or it is malformed.
        """
        text = message.get("step")
        if text is not None:
            if not isinstance(text, str):
                raise RequestError("step", f"is a {type(text).__name__}", "Send a step as JSON text")
            return _valid("step", lambda: Step.from_json(text))
        skill = message.get("skill")
        if not isinstance(skill, str) or not skill:
            raise RequestError("step", "neither a step nor a skill is given", "Send step, or skill and target_w")
        target = _array(message, "target_w", np.float64)
        if target.shape != (3,) or not np.isfinite(target).all():
            raise RequestError("target_w", f"has the shape {target.shape} or no numbers", "Send (3,) [m]")
        if not observation.frames:
            raise RequestError(PREFIX, "no camera is given", f"Send {PREFIX}NAME/rgb, K and T_world_camera")
        frame = observation.frames[0]
        image = ImageRef(
            camera=frame.name, sha256=frame.sha256, width=frame.width, height=frame.height, time_s=frame.time_s
        )
        x, y, z = (float(v) for v in target)
        # The pixel is not known here, and no policy reads it: what acts is the point in the world.
        point = Keypoint(label=skill, u=frame.width / 2, v=frame.height / 2, position_w=(x, y, z))
        words = str(message.get("prompt", ""))
        return Step(id="remote", skill=skill, text=words, artifacts=(Keypoints(image=image, points=(point,)),))

    def _frame(self, message: dict[str, Any], name: str, time_s: float) -> CameraFrame:
        at = f"{PREFIX}{name}/"
        depth = message.get(at + "depth_m")
        values: dict[str, Any] = {
            "name": name,
            "rgb": _array(message, at + "rgb", np.uint8),
            "depth_m": None if depth is None else _array(message, at + "depth_m", np.float32),
            "K": _array(message, at + "K", np.float64),
            "T_world_camera": _array(message, at + "T_world_camera", np.float64),
            "time_s": self._number(message, at + "time_s", time_s),
        }
        return _valid(at + "rgb", lambda: CameraFrame(**values))

    def _optional(self, message: dict[str, Any], name: str, default: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if PREFIX + name not in message:
            return default
        values = _array(message, PREFIX + name, np.float64)
        if values.shape != default.shape or not np.isfinite(values).all():
            problem = f"has the shape {values.shape} or no numbers"
            raise RequestError(PREFIX + name, problem, f"Send {default.shape}, or leave it out")
        return values

    def _number(self, message: dict[str, Any], key: str, default: float | None = None) -> float:
        value = message.get(key, default)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(()).item()
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise RequestError(key, f"is {str(value)[:40]}", "Send a number")
        return float(value)


def _array(message: dict[str, Any], key: str, dtype: type[Any]) -> np.ndarray[Any, Any]:
    value = message.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        problem = "is missing" if value is None else f"is no array of numbers, but a {type(value).__name__}"
        raise RequestError(key, problem, "Send it as a numpy array")
    if dtype is np.uint8 and value.dtype != np.uint8:
        raise RequestError(key, f"has dtype {value.dtype}", "Send images as uint8, 0 to 255")
    return value.astype(dtype)


def _valid(key: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(k) for k in first["loc"])
        raise RequestError(key, f"{where}: {first['msg']}".lstrip(": "), "See the keys in the documentation") from error
