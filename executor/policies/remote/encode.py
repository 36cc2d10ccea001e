"""From an observation and a step to the request that a policy server wants."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from hiervla.controllers import panda
from hiervla.executor.policies.remote.spec import ImageInput, RemoteSpec, StateInput, StatePart
from hiervla.representations import Observation, Step

Array = np.ndarray[Any, Any]


def request(observation: Observation, step: Step, spec: RemoteSpec) -> dict[str, Any]:
    """The request for a chunk: images (H, W, 3) uint8, state vectors float32, the step in words.

    Raises:
        CameraError: a camera that the spec names is missing.
    """
    message: dict[str, Any] = {i.key: image(observation, i) for i in spec.images}
    message |= {s.key: state(observation, s, spec) for s in spec.states}
    message[spec.prompt_key] = str(step)
    return message


def full_request(observation: Observation, step: Step, seed: int, call: int) -> dict[str, Any]:
    """All that our own server may use; see :mod:`hiervla.executor.policies.remote.decode` for the keys.

    Args:
        observation: what was sensed.
        step: with its artifacts.
        seed: of the attempt.
        call: number of the chunk in the attempt; 0 begins a new one.
    """
    proprio = observation.proprio
    message: dict[str, Any] = {
        "prompt": str(step),
        "step": step.to_json(),
        "seed": seed,
        "call": call,
        "observation/time_s": observation.time_s,
        "observation/joint_position": proprio.q,
        "observation/joint_velocity": proprio.dq,
        "observation/ee_pose": proprio.T_world_ee,
        "observation/gripper_width_m": proprio.gripper_width_m,
        "observation/gripper_effort_n": proprio.gripper_effort_n,
        "observation/proprio_time_s": proprio.time_s,
    }
    for frame in observation.frames:
        at = f"observation/{frame.name}/"
        message |= {at + "rgb": frame.rgb, at + "K": frame.K, at + "T_world_camera": frame.T_world_camera}
        message[at + "time_s"] = frame.time_s
        if frame.depth_m is not None:
            message[at + "depth_m"] = frame.depth_m
    return message


def image(observation: Observation, wanted: ImageInput) -> Array:
    """One image of a request, (H, W, 3) uint8.

    Raises:
        CameraError: its camera is missing.
    """
    rgb = observation.frame(wanted.camera).rgb
    if wanted.turned:
        rgb = rgb[::-1, ::-1]
    if wanted.height is None or wanted.width is None:
        return np.ascontiguousarray(rgb)
    return resize_with_pad(rgb, wanted.height, wanted.width)


def resize_with_pad(rgb: Array, height: int, width: int) -> Array:
    """An image (H, W, 3) uint8 in another size with its own proportions, in the middle of black.

    Sizes round down and the filter is bilinear, as in ``openpi_client.image_tools``, with which policies were trained.
    """
    rows, columns = rgb.shape[:2]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(rgb)
    ratio = max(columns / width, rows / height)
    size = (max(1, int(columns / ratio)), max(1, int(rows / ratio)))
    small = np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BILINEAR))
    out = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out


def state(observation: Observation, wanted: StateInput, spec: RemoteSpec) -> Array:
    """One state vector of a request, float32."""
    values = np.concatenate([_part(observation, part, spec) for part in wanted.parts])
    if wanted.statistics is not None:
        values = wanted.statistics.normalise(values)
    return np.asarray(values, dtype=np.float32)


def _part(observation: Observation, part: StatePart, spec: RemoteSpec) -> Array:
    proprio = observation.proprio
    width = proprio.gripper_width_m
    opening = float(np.clip(width / panda.GRIPPER_MAX_WIDTH_M, 0.0, 1.0))
    if part == "joint_position":
        return proprio.q
    if part == "joint_velocity":
        return proprio.dq
    if part in ("ee_position", "ee_x", "ee_y", "ee_z"):
        position = proprio.ee_position - np.array(spec.origin_w)
        return position if part == "ee_position" else position[["xyz".index(part[-1])]]
    if part.startswith("ee_"):
        turn = Rotation.from_matrix(proprio.T_world_ee[:3, :3]) * Rotation.from_rotvec([0.0, 0.0, spec.tool_turn_rad])
        if part == "ee_quat_xyzw":
            return np.asarray(turn.as_quat())
        rotvec = np.asarray(turn.as_rotvec())
        return rotvec if part == "ee_rotvec" else rotvec[["xyz".index(part[-1])]]
    if part == "gripper_fingers_m":
        return np.array([width / 2.0, -width / 2.0])
    return np.array([{"gripper_width_m": width, "gripper_opening": opening, "gripper_closure": 1.0 - opening}[part]])
