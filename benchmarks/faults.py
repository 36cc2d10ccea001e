"""Parts that err on purpose, at one level each, and the rig that runs and blames them; for ``benchmarks.blame``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.controllers import panda
from hiervla.executor.activities import Parts, SkillVerifier
from hiervla.executor.blame.trial import Witnesses, blame
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.policies.base import make_policy, target_point
from hiervla.executor.presets import rebuild_world
from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.planner.base import PlannerContext, RejectedAttempt, make_planner
from hiervla.representations import (
    ActionChunk,
    Boxes,
    CameraFrame,
    JointCommand,
    Observation,
    Plan,
    Refusal,
    Step,
    Verdict,
)
from hiervla.skills import Skill, SkillContext, SkillLibrary
from hiervla.skills.checks import holding
from hiervla.training.judging import TabletopJudge
from hiervla.training.tasks import Task
from hiervla.training.tasks.tabletop import goal_reached, sample_scene_for
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import SceneSpec
from hiervla.worlds.tabletop.world import TabletopWorld

FAULTS = {
    "world": ("teleport", "camera_noise", "frozen_camera"),
    "planner": ("other_object", "other_target", "dropped_step"),
    "grounding": ("shifted_point",),
    "policy": ("bias", "noise", "frozen_chunk", "inverted_gripper"),
    "controller": ("gain", "offset", "tick_order"),
    "verifier": ("flipped_done", "flipped_ready"),
    "hand-off": ("hand_opens", "hand_loosens"),
}


class FaultyPlanner:
    """The embedded planner with a fault in its plan or in its grounding."""

    looks_over = True

    def __init__(self, inner: Any, fault: str, rng: np.random.Generator) -> None:
        self.inner, self.fault, self.rng = inner, fault, rng
        self.rejected: tuple[RejectedAttempt, ...] = ()
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.08)
        self._shift = size * np.array([np.cos(angle), np.sin(angle), 0.0])

    @property
    def id(self) -> str:
        """See `Planner`."""
        return str(self.inner.id)

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """See `Planner`."""
        answer: Plan | Refusal = self.inner.plan(observation, instruction, context)
        self.rejected = self.inner.rejected
        if not isinstance(answer, Plan) or not answer.remaining:
            return answer
        if self.fault == "dropped_step":
            gone = answer.remaining[-1]
            steps = tuple(s for s in answer.steps if s.id != gone)
            return answer.replace(steps=steps, remaining=answer.remaining[:-1])
        if self.fault not in ("other_object", "other_target"):
            return answer
        other = self._renamed(answer)
        pointed = self.inner.refresh(observation, other, context)
        return pointed if isinstance(pointed, Plan) else other

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """See `Planner`."""
        found: Plan | None = self.inner.refresh(observation, plan, context)
        return found

    def ground(self, observation: Observation, step: Step) -> Step:
        """See `Planner`."""
        from hiervla.executor.blame.exchange import moved

        found: Step = self.inner.ground(observation, step)
        if self.fault != "shifted_point":
            return found
        x, y, z = (float(v) for v in target_point(found) + self._shift)
        return moved(found, (x, y, z))

    def _renamed(self, plan: Plan) -> Plan:
        seen = [b.label for a in plan.scene if isinstance(a, Boxes) for b in a.boxes]
        loose = [s for s in seen if s.split()[-1] in ("block", "mug", "can", "sponge")]
        first = next((s.args["object"] for s in plan.steps if "object" in s.args), "")
        old, new = first, next((s for s in loose if s != first), first)
        if self.fault == "other_target":
            old = next((s.args["target"] for s in plan.steps if "target" in s.args), "")
            new = "bottom shelf" if old == "top shelf" else "top shelf"

        def rename(step: Step) -> Step:
            args = {k: new if v == old and k != "source" else v for k, v in step.args.items()}
            changed = {
                field: tuple(c.replace(args=tuple(new if a == old else a for a in c.args)) for c in conditions)
                for field, conditions in (
                    ("preconditions", step.preconditions),
                    ("postconditions", step.postconditions),
                )
            }
            return step.replace(args=args, text=step.text.replace(old, new), **changed)

        return plan.replace(steps=tuple(rename(s) for s in plan.steps))


class FaultyPolicy:
    """The flow policy with a fault in its chunks."""

    def __init__(self, inner: Any, fault: str, rng: np.random.Generator) -> None:
        self.inner, self.fault, self.rng = inner, fault, rng
        angle = rng.uniform(0, 2 * np.pi)
        self._bias = 0.06 * np.array([np.cos(angle), np.sin(angle), 0.0])
        self._first: ActionChunk | None = None

    @property
    def id(self) -> str:
        """See `Policy`."""
        return str(self.inner.id)

    def reset(self, step: Step, seed: int) -> None:
        """See `Policy`."""
        self._first = None
        self.inner.reset(step, seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See `Policy`."""
        chunk: ActionChunk = self.inner.act(observation, step)
        if self.fault == "bias":
            return chunk.replace(positions=chunk.positions + self._bias)
        if self.fault == "noise":
            return chunk.replace(positions=chunk.positions + self.rng.normal(0, 0.04, chunk.positions.shape))
        if self.fault == "inverted_gripper":
            return chunk.replace(gripper=1.0 - chunk.gripper)
        if self.fault == "frozen_chunk":
            self._first = self._first or chunk
            return self._first.replace(observed_at_s=chunk.observed_at_s)
        return chunk


class FaultyVerifier(SkillVerifier):
    """The skills' checks with an answer turned round."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        """See `Verifier`."""
        verdict = super().ready(skill, context)
        return _flipped(verdict) if self.fault == "flipped_ready" else verdict

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """See `Verifier`."""
        verdict = super().done(skill, context)
        return _flipped(verdict) if self.fault == "flipped_done" else verdict


class FaultyBody(Body):
    """A body whose commands, grip between steps, or surroundings go wrong."""

    def __init__(self, *args: Any, fault: str, truth: GroundTruth, rng: np.random.Generator, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fault, self.truth, self.rng = fault, truth, rng
        self._last: JointCommand | None = None
        self._offset = rng.choice([-1.0, 1.0]) * 0.09
        self._sent = 0

    def hold(self, ticks: int) -> None:
        """See `Body`; between steps the hand may open."""
        if self.fault in ("hand_opens", "hand_loosens") and self.parent is None and holding(self.proprio()).yes:
            self._width = panda.GRIPPER_MAX_WIDTH_M
            super().hold(ticks - 5)
            if self.fault == "hand_loosens":
                self._width = 0.0
            super().hold(5)
            return
        super().hold(ticks)

    def start_tracking(self) -> None:
        """See `Body`; the nearest thing may be somewhere else all at once."""
        super().start_tracking()
        if self.fault != "teleport":
            return
        hand = self.proprio().ee_position
        names = [n for n in self.truth.object_ids if n != self.truth.held()]
        if names:
            near = min(names, key=lambda n: float(np.hypot(*(self.truth.position(n) - hand)[:2])))
            address = self.truth._address(near)
            self.truth._world._data.qpos[address : address + 2] += (0.02, 0.09)

    def _send(self, command: JointCommand) -> None:
        q = np.array(command.q)
        if self.fault == "gain":
            q = panda.HOME_Q + 0.88 * (q - panda.HOME_Q)
        elif self.fault == "offset":
            self._sent += 1
            q[0] += self._offset * min(1.0, self._sent / 100)
        elif self.fault == "tick_order" and self._last is not None:
            q, self._last = np.array(self._last.q), command
        self._last = self._last or command
        super()._send(command.replace(q=q) if self.fault in ("gain", "offset", "tick_order") else command)


class FaultyCameras:
    """A world whose cameras are noisy or stand still."""

    def __init__(self, inner: TabletopWorld, fault: str, rng: np.random.Generator) -> None:
        self.inner, self.fault, self.rng = inner, fault, rng
        self._kept: dict[str, CameraFrame] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def snapshot(self) -> bytes:
        """See `SnapshotWorld`."""
        return self.inner.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """See `SnapshotWorld`."""
        self.inner.restore(snapshot)

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """See `World`."""
        seen = self.inner.observe(cameras)
        return Observation(frames=tuple(self._frame(f) for f in seen.frames), proprio=seen.proprio, time_s=seen.time_s)

    def _frame(self, frame: CameraFrame) -> CameraFrame:
        if self.fault == "frozen_camera":
            kept = self._kept.setdefault(frame.name, frame)
            return CameraFrame(name=frame.name, rgb=kept.rgb, depth_m=kept.depth_m, K=frame.K,
                               T_world_camera=kept.T_world_camera, time_s=frame.time_s)  # fmt: skip
        rgb = np.clip(frame.rgb + self.rng.normal(0, 35, frame.rgb.shape), 0, 255).astype(np.uint8)
        depth = (frame.require_depth() + self.rng.normal(0, 0.02, frame.rgb.shape[:2])).astype(np.float32)
        return CameraFrame(name=frame.name, rgb=rgb, depth_m=depth, K=frame.K, T_world_camera=frame.T_world_camera,
                           time_s=frame.time_s)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A run that was spoilt, and what blame said of it."""

    fault: str
    blamed: str
    confidence: float
    why: str
    wall_s: float


class Rig:
    """Runs tasks with and without faults, and has the spoilt runs judged."""

    def __init__(self, folder: Path, budget_s: float) -> None:
        self._folder = folder
        self._budget_s = budget_s
        self._planner, self._policy = make_planner("embedded"), make_policy("flow")
        self._skills = SkillLibrary.load()
        self._config = LoopConfig(max_retries=1)
        self._runs = 0

    def task(self, family: str, seed: int) -> tuple[SceneSpec, Task, int] | None:
        """A task of two or three steps that succeeds without a fault; None if it does not."""
        scene, task = sample_scene_for(family, seed, "test", min_steps=2, max_steps=3)
        claimed, reached, _ = self._run(scene, task, seed, "", np.random.default_rng(seed))
        return (scene, task, seed) if claimed and reached else None

    def case(self, given: tuple[SceneSpec, Task, int], level: str, number: int) -> Case | None:
        """The task with a fault of a level; None if it succeeds all the same."""
        scene, task, seed = given
        fault = FAULTS[level][number % len(FAULTS[level])]
        _, reached, path = self._run(scene, task, seed, fault, np.random.default_rng([seed, number]))
        record = RunRecord.open(path)
        claimed = record.finished is not None and record.finished.outcome == "succeeded"
        if reached and claimed:
            return None
        world = rebuild_world(record.manifest.world, record.manifest.world_config)
        try:
            witnesses = Witnesses(self._planner, lambda name: self._policy, world, TabletopJudge(task.goal))
            found = blame(record, witnesses, budget_s=self._budget_s)
        finally:
            world.close()
        return Case(fault, found.level or found.outcome, found.confidence, found.why, found.wall_s)

    def _run(
        self, scene: SceneSpec, task: Task, seed: int, fault: str, rng: np.random.Generator
    ) -> tuple[bool, bool, Path]:
        import json

        self._runs += 1
        path = self._folder / f"run{self._runs}"
        manifest = Manifest.collect(
            task.instruction, world="tabletop-random", seed=seed, planner=self._planner.id, policy="flow",
            world_config={"scene": json.loads(scene.to_json())}, config=json.loads(self._config.to_json()),
        )  # fmt: skip
        assert task.goal is not None
        policy: Any = FaultyPolicy(self._policy, fault, rng)
        with TabletopWorld(scene) as world, RunRecorder.create(path, manifest, durable=False) as recorder:
            truth = GroundTruth(world)
            seen: Any = FaultyCameras(world, fault, rng) if fault in ("camera_noise", "frozen_camera") else world
            body = FaultyBody(seen, recorder, self._config, CancelToken(), seed=seed, fault=fault, truth=truth, rng=rng)
            parts = Parts(
                planner=FaultyPlanner(self._planner, fault, rng), policy_for=lambda name: policy, body=body,
                recorder=recorder, verifier=FaultyVerifier(fault),
            )  # fmt: skip
            begin(manifest, parts)
            loop = Orchestrator(parts, skills=self._skills, config=self._config, seed=seed)
            ending = loop.run(task.instruction)
            return ending.outcome == "succeeded", goal_reached(truth, task.goal), path


def _flipped(verdict: Verdict) -> Verdict:
    return verdict.replace(value="no" if verdict.value == "yes" else "yes")
