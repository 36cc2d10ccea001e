"""Made-up situations in which a skill's contract must have an answer: for its checks, before any robot is near.

The observations are those of an arm over an empty table, seen by a camera that looks straight down. They say nothing
about whether a skill is any good; they find contracts that raise, answer with the wrong type, or never end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hiervla.controllers import panda
from hiervla.representations import (
    CameraFrame,
    ImageRef,
    Keypoint,
    Keypoints,
    Observation,
    Parameter,
    Proprioception,
    Step,
    Waypoint3D,
    Waypoints3D,
)
from hiervla.representations.artifacts import Artifact
from hiervla.skills.base import Skill
from hiervla.skills.context import Belief, SkillContext

SIZE = 64
TARGETS = ((0.5, 0.0, 0.02), (0.4, -0.25, 0.05), (0.45, 0.2, 0.25))
"""Keypoints [m]: on the table, to the right, on a shelf."""
CAMERAS = ("front", "wrist")
HOME = (0.35, 0.0, 0.42)


def observation(
    *, width_m: float = panda.GRIPPER_MAX_WIDTH_M, effort_n: float = 0.0, time_s: float = 0.0,
    tool_w: tuple[float, float, float] = HOME, cameras: Sequence[str] = CAMERAS,
) -> Observation:  # fmt: skip
    """An arm over an empty table, each camera 1.2 m above it.

    Args:
        width_m: between the finger pads [m].
        effort_n: closing force [N].
        time_s: on the world's clock [s].
        tool_w: tool centre point, pointing down [m].
        cameras: their names.
    """
    down = np.eye(4)
    down[:3, :3] = np.diag([1.0, -1.0, -1.0])
    T_world_camera, T_world_ee = down.copy(), down.copy()
    T_world_camera[:3, 3] = (0.45, 0.0, 1.2)
    T_world_ee[:3, 3] = tool_w
    frames = tuple(
        CameraFrame(
            name=name,
            rgb=np.full((SIZE, SIZE, 3), 120, np.uint8),
            depth_m=np.full((SIZE, SIZE), 1.2, np.float32),
            K=np.array([[60.0, 0.0, SIZE / 2], [0.0, 60.0, SIZE / 2], [0.0, 0.0, 1.0]]),
            T_world_camera=T_world_camera,
            time_s=time_s,
        )
        for name in cameras
    )
    proprio = Proprioception(
        q=np.array(panda.HOME_Q), dq=np.zeros(panda.N_JOINTS), T_world_ee=T_world_ee, gripper_width_m=width_m,
        gripper_effort_n=effort_n, time_s=time_s,
    )  # fmt: skip
    return Observation(frames=frames, proprio=proprio, time_s=time_s)


def sample_step(skill: Skill, target_w: tuple[float, float, float] = TARGETS[0]) -> Step:
    """A step of the skill with an argument for each parameter and grounded artifacts of the kinds that it accepts."""
    signature = skill.signature
    args = {p.name: sample_argument(p) for p in signature.params}
    label = next(iter(args.values()), signature.name)
    image = ImageRef(camera="front", sha256="0" * 64, width=SIZE, height=SIZE, time_s=0.0)
    points = (Keypoint(label=label, u=SIZE / 2, v=SIZE / 2, position_w=target_w),)
    artifacts: list[Artifact] = [Keypoints(image=image, points=points)]
    if "waypoints_3d" in signature.accepts:
        above = (target_w[0], target_w[1], target_w[2] + 0.1)
        artifacts.append(Waypoints3D(points=(Waypoint3D(position_w=above), Waypoint3D(position_w=target_w))))
    return Step(id="s1", skill=signature.name, args=args, artifacts=tuple(artifacts))


def contexts(skill: Skill) -> Iterator[tuple[str, SkillContext]]:
    """Situations, each with a name: where the keypoint is, what the hand holds, before, while and after it runs."""
    cameras = cameras_of(skill)
    empty, holds = observation(cameras=cameras), observation(width_m=0.04, effort_n=20.0, cameras=cameras)
    for target in TARGETS:
        step = sample_step(skill, target)
        held = next(iter(step.args.values()), "red block")
        where = f"keypoint at {', '.join(f'{c:g}' for c in target)} m"
        for hand, seen, belief in (
            ("empty hand", empty, Belief()),
            ("something held", holds, Belief(held=held, source="table")),
        ):
            context = SkillContext(step=step, before=seen, proprio=seen.proprio, belief=belief)
            what = f"{where}, {hand}"
            yield f"{what}, before it starts", context
            yield f"{what}, while it runs", replace(context, elapsed_s=0.8, done_prob=0.3, progress=0.5)
            yield f"{what}, with a policy that has no heads", replace(context, elapsed_s=0.8)
            yield f"{what}, afterwards", replace(context, after=empty, proprio=empty.proprio, elapsed_s=5.0)


def cameras_of(skill: Skill) -> tuple[str, ...]:
    """The cameras that a skill asks for, and the usual ones."""
    return tuple(dict.fromkeys((*CAMERAS, *skill.signature.resources.cameras)))


def sample_argument(parameter: Parameter) -> str:
    """A value that a parameter can take; its default where it has one."""
    if parameter.default is not None:
        return parameter.default
    if parameter.type == "choice":
        return parameter.choices[0] if parameter.choices else ""
    if parameter.type == "number":
        bounds = [b for b in (parameter.minimum, parameter.maximum) if b is not None]
        return f"{sum(bounds) / len(bounds):g}" if bounds else "1"
    if parameter.type == "text":
        return "gently"
    return f"red {parameter.categories[0] if parameter.categories else 'block'}"
