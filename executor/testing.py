"""Fakes for tests of agents, planners and skills: quick, without physics, weights or a renderer.

They are what their names say and nothing more: the world only moves joints, the planner gives the answers that it was
handed, the policy moves along a line. Nothing that ships uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics
from hiervla.planner.base import PlannerContext, RejectedAttempt
from hiervla.representations import (
    ActionChunk,
    CameraError,
    CameraFrame,
    ImageRef,
    JointCommand,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Proprioception,
    Refusal,
    SeenThing,
    SkillSignature,
    SnapshotError,
    Step,
    UnknownNameError,
    Verdict,
)
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary, Termination, target_point
from hiervla.worlds.base import CONTROL_PERIOD_S, SharedSpace

if TYPE_CHECKING:
    from hiervla.executor.result import RunResult

SIZE = 64


class KinematicWorld:
    """An arm that goes exactly where it is told over an empty table; the gripper holds ``grip_m`` once closed.

    Attributes:
        commands: every command that arrived, in order.
        grip_m: width at which closing fingers are stopped by an object, or None for empty hands [m].
    """

    def __init__(self, grip_m: float | None = None, cameras: Sequence[str] = ("front", "wrist")) -> None:
        self.commands: list[JointCommand] = []
        self.grip_m = grip_m
        self._cameras = tuple(cameras)
        self._kinematics = Kinematics()
        self._state = np.concatenate([panda.HOME_Q, np.zeros(7), [panda.GRIPPER_MAX_WIDTH_M, 0.0]])
        self._ticks = 0

    @property
    def name(self) -> str:
        """``"kinematic"``."""
        return "kinematic"

    @property
    def time_s(self) -> float:
        """Clock [s]."""
        return self._ticks * CONTROL_PERIOD_S

    def proprio(self) -> Proprioception:
        """State of the arm."""
        q, dq, (width, effort) = self._state[:7], self._state[7:14], self._state[14:]
        return Proprioception(
            q=q,
            dq=dq,
            T_world_ee=self._kinematics.forward(q),
            gripper_width_m=float(width),
            gripper_effort_n=float(effort),
            time_s=self.time_s,
        )

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """Frames of an empty table, 1.2 m below each camera."""
        names = self._cameras if cameras is None else tuple(cameras)
        for name in names:
            if name not in self._cameras:
                raise CameraError(name, f"does not exist; there are {list(self._cameras)}", "Name one of them")
        T = np.eye(4)
        T[:3, :3] = np.diag([1.0, -1.0, -1.0])
        T[:3, 3] = (0.45, 0.0, 1.2)
        frames = tuple(
            CameraFrame(
                name=name,
                rgb=np.full((SIZE, SIZE, 3), 120, np.uint8),
                depth_m=np.full((SIZE, SIZE), 1.2, np.float32),
                K=np.array([[60.0, 0, SIZE / 2], [0, 60, SIZE / 2], [0, 0, 1]]),
                T_world_camera=T,
                time_s=self.time_s,
            )
            for name in names
        )
        return Observation(frames=frames, proprio=self.proprio(), time_s=self.time_s)

    def step(self, command: JointCommand) -> None:
        """Go there at once."""
        self.commands.append(command)
        stop = self.grip_m if self.grip_m is not None else 0.0
        width = max(command.gripper_width_m, stop)
        effort = 20.0 if self.grip_m is not None and command.gripper_width_m < stop else 0.0
        self._state = np.concatenate([command.q, command.dq, [width, effort]])
        self._ticks += 1

    def snapshot(self) -> bytes:
        """Clock and state."""
        return np.concatenate([[float(self._ticks)], self._state]).tobytes()

    def restore(self, snapshot: bytes) -> None:
        """Back to a snapshot."""
        values = np.frombuffer(snapshot) if len(snapshot) == 8 * 17 else None
        if values is None:
            raise SnapshotError(self.name, f"{len(snapshot)} bytes where {8 * 17} are expected")
        self._ticks, self._state = int(values[0]), np.array(values[1:])

    def close(self) -> None:
        """Nothing to release."""


class KinematicArms:
    """Two arms of :class:`KinematicWorld` with one clock, half a turn apart, and a space between them that both reach.

    Attributes:
        arms: "left" and "right".
        views: each arm's own world; its ``commands`` are what the arm was told.
    """

    name = "kinematic-arms"
    arms: tuple[str, ...] = ("left", "right")

    def __init__(self) -> None:
        self.views = {arm: KinematicWorld() for arm in self.arms}

    @property
    def time_s(self) -> float:
        """The one clock [s]."""
        return self.views["left"].time_s

    def arm(self, name: str) -> KinematicWorld:
        """One arm's world.

        Raises:
            UnknownNameError: there is no such arm.
        """
        if name not in self.views:
            raise UnknownNameError("arm", name, self.arms, place=f"world {self.name}")
        return self.views[name]

    def shared_space(self, arm: str) -> SharedSpace:
        """Beyond 0.27 m to the left of either arm; whoever has it may reach to 0.61 m."""
        return SharedSpace(name="middle", normal=(0.0, 1.0, 0.0), free_m=0.27, entered_m=0.61)

    def T_root_base(self, arm: str) -> NDArray[np.float64]:
        """(4, 4) pose of an arm's base: the right one stands 0.94 m to the left of the left one, and faces it."""
        pose = np.eye(4)
        if arm == "right":
            pose[:3, :3] = np.diag([-1.0, -1.0, 1.0])
            pose[:3, 3] = (0.4, 0.94, 0.0)
        return pose

    def step(self, commands: Mapping[str, JointCommand]) -> None:
        """Every arm goes where it is told at once; one that is told nothing stays."""
        for arm, view in self.views.items():
            state = view.proprio()
            stay = JointCommand(q=state.q, dq=np.zeros(7), gripper_width_m=state.gripper_width_m, time_s=state.time_s)
            view.step(commands.get(arm, stay))

    def close(self) -> None:
        """Nothing to release."""


class ScriptedPlanner:
    """Gives the answers that it was handed, in order; the last one is repeated.

    Attributes:
        asked: the contexts of all questions.
    """

    id = "scripted"

    def __init__(
        self,
        answers: Iterable[Plan | Refusal],
        *,
        scenes: Iterable[Sequence[SeenThing]] = (),
        points: Mapping[str, tuple[float, float, float]] | None = None,
    ) -> None:
        """Set up.

        Args:
            answers: plans and refusals.
            scenes: what it sees when a program asks, in order; the last one is repeated.
            points: for programs: where the things are that their calls speak of [m]; what is missing is not in view.
        """
        self._answers = list(answers)
        self._scenes = [tuple(scene) for scene in scenes] or [()]
        self._points = points
        self.rejected: tuple[RejectedAttempt, ...] = ()
        self.asked: list[PlannerContext] = []

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """The next answer."""
        self.asked.append(context)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """The plan as it is; a call of a program gets the point that was given for what it speaks of."""
        step = plan.step(plan.remaining[0])
        if plan.program is None or step.artifacts or self._points is None:
            return plan
        at = next((self._points[w] for w in reversed(step.args.values()) if w in self._points), None)
        if at is None:
            return None
        frame = observation.frames[0]
        image = ImageRef(
            camera=frame.name, sha256=frame.sha256, width=frame.width, height=frame.height, time_s=frame.time_s
        )
        (points,) = step_at(step.id, step.skill, at, **step.args).artifacts
        pointed = step.replace(artifacts=(points.replace(image=image),))
        return plan.replace(steps=tuple(pointed if s.id == step.id else s for s in plan.steps))

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """The next scene."""
        return self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step as it is: scripted keypoints are in metres already."""
        return step


class LinePolicy:
    """Moves the tool in a straight line to the keypoint, sets the gripper, and says that it is done.

    Attributes:
        opening: gripper opening at the end, 0 to 1.
    """

    id = "line"

    def __init__(
        self, opening: float = 0.0, chunks: int = 3, target_shift_m: NDArray[np.float64] | None = None
    ) -> None:
        self.opening = opening
        self._chunks = chunks
        self._made = 0
        self._shift = np.zeros(3) if target_shift_m is None else target_shift_m

    def reset(self, step: Step, seed: int) -> None:
        """Begin anew."""
        self._made = 0

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """Sixteen rows from where the tool is to the keypoint."""
        self._made += 1
        start = observation.proprio.ee_position
        goal = target_point(step) + (0.0, 0.0, 0.05) + self._shift
        share = np.linspace(1 / 16, 1.0, 16)[:, None]
        return ActionChunk(
            positions=start + share * (goal - start),
            yaws=np.full(16, observation.proprio.ee_yaw),
            gripper=np.full(16, self.opening),
            rate_hz=10.0,
            observed_at_s=observation.time_s,
            done_prob=1.0 if self._made > self._chunks else 0.0,
            policy=self.id,
        )


class Touch(Skill):
    """A skill that succeeds at once."""

    signature = SkillSignature(name="touch", doc="touch a spot")
    timeout_s = 3.0

    def approach(self, context: SkillContext) -> Approach:
        """Hover in the usual way."""
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        """Always."""
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        """Always."""
        return Verdict(name="touched", value="yes")

    def effect(self, context: SkillContext) -> Belief:
        """Changes nothing."""
        return context.belief


def step_at(step_id: str, skill: str, position_w: tuple[float, float, float], **args: str) -> Step:
    """A step whose keypoint is already in metres, for :class:`ScriptedPlanner`."""
    image = ImageRef(camera="front", sha256="0" * 64, width=SIZE, height=SIZE, time_s=0.0)
    point = Keypoint(label=args.get("object", skill), u=SIZE / 2, v=SIZE / 2, position_w=position_w)
    return Step(id=step_id, skill=skill, args=args, artifacts=(Keypoints(image=image, points=(point,)),))


def run_skill(
    skill: Skill,
    position_w: tuple[float, float, float] = (0.5, 0.05, 0.02),
    grip_m: float | None = None,
    judge: Termination | None = None,
    /,
    **args: str,
) -> tuple[RunResult, list[Any], KinematicWorld]:
    """Run one step of a skill in the real loop, over an empty table: its first integration test.

    Args:
        skill: what to run, with the policy that it names or brings.
        position_w: the keypoint [m].
        grip_m: what closing fingers hold, see :class:`KinematicWorld` [m].
        judge: asked whether the step worked where the skill's own check is in doubt.
        args: the step's arguments.

    Returns:
        The result, all events, and the world with all commands that it was given.
    """
    from hiervla.executor.agent import Agent
    from hiervla.executor.config import LoopConfig
    from hiervla.executor.policies.base import make_policy
    from hiervla.executor.presets import world_preset

    plan = Plan(goal=skill.name, steps=(step_at("s1", skill.name, position_w, **args),), remaining=("s1",))
    config = LoopConfig(max_retries=0, replan="never")
    library = SkillLibrary([skill])
    planner = ScriptedPlanner([plan])
    agent = Agent(world_preset("tabletop"), planner, make_policy, skills=library, config=config, judge=judge)
    events: list[Any] = []
    world = KinematicWorld(grip_m)
    return agent.run(skill.signature.doc, world=world, on_event=events.append), events, world


def run_program(
    source: str,
    skills: Iterable[Skill],
    things: Sequence[SeenThing] = (),
    points: Mapping[str, tuple[float, float, float]] | None = None,
    grip_m: float | None = None,
) -> tuple[RunResult, list[Any], KinematicWorld]:
    """Run a program in the real loop, over an empty table: what it does when it sees this, and nothing moves.

    Args:
        source: the program.
        skills: what it may call, with the policies that they name or bring.
        things: what is in view, whatever it does.
        points: where the things are that its calls speak of [m]; what is missing is not found.
        grip_m: what closing fingers hold, see :class:`KinematicWorld` [m].

    Returns:
        The result, all events, and the world with all commands that it was given.

    Raises:
        ProgramError: the program may not run.
    """
    from hiervla.executor.agent import Agent
    from hiervla.executor.policies.base import make_policy
    from hiervla.executor.presets import world_preset

    nothing = Refusal(reason="cannot_do", message="This planner only points.")
    planner = ScriptedPlanner([nothing], scenes=[things], points=points or {})
    agent = Agent(world_preset("tabletop"), planner, make_policy, skills=SkillLibrary(skills))
    events: list[Any] = []
    world = KinematicWorld(grip_m)
    return agent.run(program=source, world=world, on_event=events.append), events, world
