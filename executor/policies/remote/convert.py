"""From the rows that a policy server answers to an action chunk of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics, nearest_yaw, tool_yaw
from hiervla.executor.policies.remote.errors import PolicyAnswerError
from hiervla.executor.policies.remote.spec import N_JOINTS, ActionFormat, RemoteSpec
from hiervla.representations import ActionChunk, Observation

Floats = NDArray[np.float64]
MAX_ROWS = 1000
_REMEDY = "Name the spec that fits this server (?preset= or ?spec= in its address)"


class Converter:
    """Turns answers into chunks for one server. Not for several threads: it has a kinematic work space."""

    def __init__(self, spec: RemoteSpec, server: str) -> None:
        """Set up; `server` is what errors name."""
        self.spec = spec
        self._server = server
        self._kinematics = Kinematics()

    def chunk(self, answer: dict[str, Any], observation: Observation, policy: str) -> ActionChunk:
        """The chunk that an answer means, seen from the observation that was sent.

        Raises:
            PolicyAnswerError: rows are missing, of another shape, not finite, out of range, or turn the tool sideways.
        """
        form = self.spec.actions
        rows = self._rows(answer)
        if form.statistics is not None:
            rows = form.statistics.restore(rows)
        motion = rows[:, :-1]
        if form.limit is not None:
            motion = _limited(motion, form)
        if form.space == "ee_pose" and form.rotation == "yaw":
            positions, yaws = motion[:, :3] * form.scale_m + self.spec.origin_w, self._own_yaws(motion[:, 3])
        else:
            ends = form.space in ("ee_pose", "ee_delta")
            poses = self._tools(motion, observation) if ends else self._joints(motion, observation)
            positions, yaws = self._topdown(poses, observation)
        return ActionChunk(
            positions=positions,
            yaws=yaws,
            gripper=self._opening(rows[:, -1]),
            rate_hz=self._number(answer, "rate_hz", low=0.1, high=1000.0) or form.rate_hz,
            observed_at_s=observation.time_s,
            done_prob=self._number(answer, "done_prob", low=0.0, high=1.0),
            progress=self._number(answer, "progress", low=0.0, high=1.0),
            policy=policy,
        )

    def _rows(self, answer: dict[str, Any]) -> Floats:
        form = self.spec.actions
        rows = answer.get(form.key)
        if rows is None:
            keys = ", ".join(sorted(str(k) for k in answer)) or "nothing"
            raise self._wrong(f"its answer has no '{form.key}', but {keys}")
        if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iuf":
            raise self._wrong(f"its '{form.key}' are no array of numbers")
        wanted = f"({form.rows or 'H'}, {form.width})"
        if rows.ndim != 2 or rows.shape[1] != form.width or not 0 < len(rows) <= MAX_ROWS:
            raise self._wrong(
                f"its '{form.key}' have the shape {rows.shape}, where spec '{self.spec.name}' has {wanted}"
            )
        if form.rows is not None and len(rows) != form.rows:
            raise self._wrong(f"its '{form.key}' have {len(rows)} rows, where spec '{self.spec.name}' has {form.rows}")
        values = rows.astype(np.float64)
        bad = ~np.isfinite(values)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise PolicyAnswerError(
                self._server,
                f"row {row} of its '{form.key}' has {values[row, column]} in column {column}",
                "Look into the server's log; the arm was not moved by this answer",
            )
        return values

    def _joints(self, motion: Floats, observation: Observation) -> list[Floats]:
        """Tool poses (4, 4) of joint actions (H, 7)."""
        form, start = self.spec.actions, observation.proprio.q
        if start.shape != (N_JOINTS,):
            raise self._wrong(f"it moves {N_JOINTS} joints, but this arm has {len(start)}")
        if form.space == "joint_position":
            targets = motion * form.scale_rad
        elif form.relative_to == "observation":
            targets = start + motion * form.scale_rad
        else:
            targets = start + np.cumsum(motion, axis=0) * form.scale_rad
        return [self._kinematics.forward(q) for q in np.clip(targets, panda.Q_MIN, panda.Q_MAX)]

    def _tools(self, motion: Floats, observation: Observation) -> list[Floats]:
        """Tool poses (4, 4) of end-effector actions (H, 3 + rotation)."""
        form = self.spec.actions
        shifts, turns = motion[:, :3] * form.scale_m, self._rotations(motion[:, 3:])
        theirs = Rotation.from_rotvec([0.0, 0.0, self.spec.tool_turn_rad])
        start = observation.proprio.T_world_ee
        position, turn = start[:3, 3], Rotation.from_matrix(start[:3, :3])
        poses = []
        for shift, rotation in zip(shifts, turns, strict=True):
            if form.space == "ee_pose":
                at, facing = shift + np.array(self.spec.origin_w), rotation * theirs.inv()
            else:
                # A delta turns about the world's axes, which do not depend on how the tool frame is drawn.
                at, facing = position + shift, rotation * turn
                if form.relative_to == "previous":
                    position, turn = at, facing
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = facing.as_matrix(), at
            poses.append(pose)
        return poses

    def _rotations(self, values: Floats) -> list[Rotation]:
        form = self.spec.actions
        if form.rotation.startswith("quat"):
            if (np.linalg.norm(values, axis=1) < 1e-6).any():
                raise self._wrong("a quaternion of its chunk is zero")
            order = [1, 2, 3, 0] if form.rotation == "quat_wxyz" else [0, 1, 2, 3]
            return [Rotation.from_quat(q) for q in values[:, order]]
        scaled = values * form.scale_rad
        if form.rotation == "rotvec":
            return [Rotation.from_rotvec(v) for v in scaled]
        if form.rotation == "yaw":
            return [Rotation.from_rotvec([0.0, 0.0, float(v[0])]) for v in scaled]
        return [Rotation.from_euler("xyz", v) for v in scaled]

    def _topdown(self, poses: list[Floats], observation: Observation) -> tuple[Floats, Floats]:
        tilts = np.arccos(np.clip([-pose[2, 2] for pose in poses], -1.0, 1.0))
        limit = self.spec.actions.max_tilt_rad
        if tilts.max() > limit:
            row = int(np.argmax(tilts > limit))
            raise PolicyAnswerError(
                self._server,
                f"row {row} of its chunk tilts the tool by {np.degrees(tilts[row]):.0f} degrees, and chunks of hiervla "
                f"point it straight down (the spec drops up to {np.degrees(limit):.0f})",
                "Use a policy that works top-down, or raise actions.max_tilt_rad where the tilt may be lost",
            )
        yaws, near = [], tool_yaw(observation.proprio.T_world_ee)
        for pose in poses:
            near = nearest_yaw(tool_yaw(pose), near)
            yaws.append(near)
        return np.array([pose[:3, 3] for pose in poses]), np.array(yaws)

    def _own_yaws(self, values: Floats) -> Floats:
        return np.asarray(values * self.spec.actions.scale_rad - self.spec.tool_turn_rad)

    def _opening(self, values: Floats) -> Floats:
        form = self.spec.actions
        opening = {
            "open_0_to_1": values,
            "closed_0_to_1": 1.0 - values,
            "open_-1_to_1": (1.0 + values) / 2.0,
            "closed_-1_to_1": (1.0 - values) / 2.0,
            "width_m": values / panda.GRIPPER_MAX_WIDTH_M,
        }[form.gripper]
        if form.binary:
            # A closing command has to be above the middle; openpi's DROID client closes from "more than a half" too.
            return np.where(opening < 0.5, 0.0, 1.0)
        return np.clip(opening, 0.0, 1.0)

    def _number(self, answer: dict[str, Any], key: str, *, low: float, high: float) -> float | None:
        value = answer.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= float(value) <= high:
            raise self._wrong(f"its '{key}' is {str(value)[:40]}, where a number from {low:g} to {high:g} is expected")
        return float(value)

    def _wrong(self, problem: str) -> PolicyAnswerError:
        return PolicyAnswerError(self._server, problem, _REMEDY)


def _limited(motion: Floats, form: ActionFormat) -> Floats:
    assert form.limit is not None
    if form.space != "joint_velocity":
        return np.clip(motion, -form.limit, form.limit)
    # All joints are slowed alike, so that the direction stays.
    largest = np.abs(motion).max(axis=1, keepdims=True)
    return np.asarray(motion / np.maximum(largest / form.limit, 1.0))
