"""One run of several arms: look, plan for all, then one loop for each arm, all in one time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.fence import Fence
from hiervla.executor.activities import Parts, Verifier
from hiervla.executor.arms.claims import Claims
from hiervla.executor.arms.conductor import Conductor, TakingTurns, TakingTurnsAndSaving
from hiervla.executor.arms.control import ArmControl
from hiervla.executor.arms.planning import ArmPlanner
from hiervla.executor.arms.sharing import Share, Shared, assigned, share_out, shared
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Control
from hiervla.executor.loop import Orchestrator, announce, begin
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.recorder import NullRecorder, Recorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.result import RunResult
from hiervla.executor.screening import PlanScreen
from hiervla.executor.state import Ending
from hiervla.planner.base import GroundingError, Planner, PlannerContext, PlannerFailedError
from hiervla.representations import CameraError, Event, Observation, Plan, Refusal, Step
from hiervla.representations.events import PlannerFailed, PlanProposed, PlanRefused, PlanRejected, RunFinished
from hiervla.representations.plans import RunOutcome
from hiervla.skills import MissingTargetError, SkillLibrary, target_point
from hiervla.worlds.base import ArmsWorld, SnapshotWorld

SHARED_OUT = "shared out among the arms"
"""Why the plan of all arms was made; it stands in the record of the whole run."""
_WORST: tuple[RunOutcome, ...] = (
    "cancelled",
    "error",
    "envelope_stop",
    "planner_failed",
    "gave_up",
    "failed",
    "refused",
)
_GOOD: tuple[RunOutcome, ...] = ("succeeded", "nothing_to_do")


@dataclass(frozen=True)
class ArmParts:
    """What one arm thinks with."""

    planner: Planner
    policy_for: Callable[[str], Policy]


@dataclass(frozen=True)
class Asked:
    """What a run is to do: words, a plan in their place where there is one, and whether the arms move in turn."""

    instruction: str
    plan: Plan | None = None
    one_by_one: bool = False


class ArmsRun:
    """Made for one run; :meth:`carry_out` is called once."""

    def __init__(
        self,
        world: ArmsWorld,
        parts: Mapping[str, ArmParts],
        skills: SkillLibrary,
        config: LoopConfig,
        manifest: Manifest,
        cancel: CancelToken,
        control: Control,
        verifier: Verifier,
    ) -> None:
        """Put a run together.

        Args:
            world: the arms, in their one world.
            parts: planner and policies of each arm.
            skills: the library.
            config: what steers each loop.
            manifest: of the whole run.
            cancel: stops all arms.
            control: who may hold and correct the run.
            verifier: answers the questions of the skills' contracts.
        """
        self._world = world
        self._parts = parts
        self._skills = skills
        self._config = config
        self._manifest = manifest
        self._cancel = cancel
        self._control = control
        self._verifier = verifier
        self._conductor = Conductor(world)
        self._bases = {arm: world.T_root_base(arm) for arm in world.arms}
        spaces = {arm: world.shared_space(arm) for arm in world.arms}
        self._fences = {arm: Fence(s.name, s.normal, s.free_m, s.entered_m) for arm, s in spaces.items()}

    def carry_out(
        self,
        asked: Asked,
        folder: Path | None,
        *,
        on_event: Callable[[Event], object] | None = None,
        on_arm: Callable[[str, Event], object] | None = None,
    ) -> RunResult:
        """Plan, run every arm's loop to its end, and say what came of it.

        Args:
            asked: what to do.
            folder: where the record is made; None keeps none.
            on_event: called with the events of the whole run.
            on_arm: called with those of each arm.

        Raises:
            PlanError: the given plan cannot be shared out.
        """
        with contextlib.ExitStack() as records:
            joint = records.enter_context(_recorder(folder, self._manifest))
            if on_event is not None:
                joint.subscribe(on_event)
            announce(self._manifest, joint, self._world.time_s)
            planners = {arm: self._planner(arm) for arm in self._world.arms}
            plan: Shared | Refusal | Ending
            try:
                plan = self._plan(asked, joint, planners)
            except PlannerFailedError as error:
                plan = self._lost(joint, error)
            shares = plan.shares if isinstance(plan, Shared) else {}
            recorders = {}
            for arm in self._world.arms:
                words = shares[arm].instruction if arm in shares else asked.instruction
                recorders[arm] = records.enter_context(_recorder(folder and folder / arm, self._part(arm, words)))
                if on_arm is not None:
                    recorders[arm].subscribe(partial(on_arm, arm))
                if arm not in shares:
                    self._idle(arm, recorders[arm], words)
            if isinstance(plan, Ending):
                return self._end(asked, folder, joint, plan)
            if isinstance(plan, Refusal):
                outcome: RunOutcome = "nothing_to_do" if plan.reason == "nothing_to_do" else "refused"
                ended = self._end(asked, folder, joint, Ending(outcome, plan.message))
                return replace(ended, refusal=plan if outcome == "refused" else None)
            claims = Claims.of(plan.plan, shares)
            loops = {}
            for arm, share in shares.items():
                planners[arm].begin_with(share.plan)
                control = ArmControl(arm, claims, self._fences[arm], joint, self._control, one_by_one=asked.one_by_one)
                loops[arm] = partial(self._loop, arm, share, planners[arm], recorders[arm], control)
            results = self._conductor.run(loops)
            return self._end(asked, folder, joint, _ending(results, claims), plan.plan, results, claims)

    def _planner(self, arm: str) -> ArmPlanner:
        # Nothing moves before there is a plan: this body only says what the arm can reach.
        still = self._body(arm, NullRecorder())
        return ArmPlanner(arm, self._parts[arm].planner, self._skills, still.reaches)

    def _part(self, arm: str, instruction: str) -> Manifest:
        """The manifest of one arm's part."""
        whole = self._manifest
        config = {**whole.world_config, "arm": arm}
        return whole.replace(run_id=f"{whole.run_id}-{arm}", instruction=instruction, world_config=config)

    def _lost(self, joint: Recorder, error: PlannerFailedError) -> Ending:
        """How a run ends for which nobody plans: nothing has moved, and nobody waits."""
        joint.emit(
            PlannerFailed,
            time_s=self._world.time_s,
            planner=error.planner,
            problem=error.problem,
            message=str(error),
            passing=error.passing,
            then="end",
        )
        return Ending("planner_failed", str(error))

    def _plan(self, asked: Asked, joint: Recorder, planners: Mapping[str, ArmPlanner]) -> Shared | Refusal:
        """The plan of all arms, from what each one sees now; every answer on the way is on record."""
        seen: dict[str, Observation] = {}
        for arm in planners:
            seen[arm] = self._world.arm(arm).observe(self._config.cameras)
            joint.observation(seen[arm], "plan")
        context = PlannerContext(skills=self._skills.signatures(), seed=self._manifest.seed, emit=self._config.emit)
        now_s = self._world.time_s

        def ask(arm: str, words: str) -> Plan | Refusal:
            answer = _lifted(planners[arm], seen[arm], planners[arm].plan(seen[arm], words, context))
            told = {"arm": arm, "instruction": words}
            for attempt in planners[arm].rejected:
                joint.emit(PlanRejected, time_s=now_s, raw_text=attempt.raw_text, problem=f"{arm}: {attempt.problem}")
            if isinstance(answer, Refusal):
                joint.emit(PlanRefused, time_s=now_s, refusal=answer, told=told)
            else:
                joint.emit(PlanProposed, time_s=now_s, plan=answer, reason=f"{arm} was asked: {words}", told=told)
            return answer

        def able(arm: str, steps: Sequence[Step]) -> bool:
            ids = {s.id for s in steps}
            alone = tuple(s.replace(depends_on=tuple(n for n in s.depends_on if n in ids)) for s in steps)
            part = Plan(goal=asked.instruction, steps=alone, remaining=tuple(s.id for s in alone))
            fresh = planners[arm].refresh(seen[arm], part, context)
            if fresh is None:
                return False
            left = planners[arm].within_reach(seen[arm], fresh)
            return isinstance(left, Plan) and len(left.remaining) == len(alone)

        found: Shared | Refusal
        if asked.plan is None:
            found = share_out(asked.instruction, self._world.arms, ask, place_of(self._bases))
        else:
            found = shared(assigned(asked.plan, self._world.arms, able), self._world.arms)
        if isinstance(found, Refusal):
            joint.emit(PlanRefused, time_s=now_s, refusal=found)
        else:
            joint.emit(PlanProposed, time_s=now_s, plan=found.plan, reason=SHARED_OUT)
        joint.sync()
        return found

    def _loop(self, arm: str, share: Share, planner: ArmPlanner, recorder: Recorder, control: ArmControl) -> RunResult:
        """One arm's part, from its first event to its last."""
        body = self._body(arm, recorder)
        parts = Parts(
            planner=planner,
            policy_for=self._parts[arm].policy_for,
            body=body,
            recorder=recorder,
            verifier=self._verifier,
            screen=PlanScreen(planner, body.reaches),
            control=control,
        )
        loop = Orchestrator(parts, skills=self._skills, config=self._config, seed=self._manifest.seed)
        control.attach(loop, body, recorder)
        begin(self._part(arm, share.instruction), parts)
        try:
            ending = loop.run(share.instruction)
        finally:
            control.end()
        return RunResult.of(share.instruction, ending, loop.state, recorder.path, self._world.arm(arm))

    def _body(self, arm: str, recorder: Recorder) -> Body:
        view = self._world.arm(arm)
        kind = TakingTurnsAndSaving if isinstance(view, SnapshotWorld) else TakingTurns
        turns = kind(self._conductor, arm, view)
        seed = self._manifest.seed
        return Body(turns, recorder, self._config, self._cancel, seed=seed, fence=self._fences[arm])

    def _idle(self, arm: str, recorder: Recorder, instruction: str) -> None:
        """The record of an arm that has nothing to do."""
        announce(self._part(arm, instruction), recorder, self._world.time_s)
        message = f"nothing was asked of the {arm} arm"
        recorder.emit(RunFinished, time_s=self._world.time_s, outcome="nothing_to_do", message=message)

    def _end(
        self,
        asked: Asked,
        folder: Path | None,
        joint: Recorder,
        ending: Ending,
        plan: Plan | None = None,
        results: Mapping[str, RunResult] | None = None,
        claims: Claims | None = None,
    ) -> RunResult:
        results = results or {}
        undone = claims.undone(plan) if plan is not None and claims is not None else ()
        done = tuple(s.id for s in plan.steps if s.id not in undone) if plan is not None else ()
        joint.emit(
            RunFinished,
            time_s=self._world.time_s,
            outcome=ending.outcome,
            message=ending.message,
            done=done,
            remaining=undone,
        )
        return RunResult(
            instruction=asked.instruction,
            outcome=ending.outcome,
            message=ending.message,
            plan=plan,
            steps=tuple(s for r in results.values() for s in r.steps),
            record=folder,
            duration_s=self._world.time_s,
            arms=dict(results),
        )


def _recorder(folder: Path | None, manifest: Manifest) -> Recorder:
    return NullRecorder() if folder is None else RunRecorder.create(folder, manifest)


def _lifted(planner: ArmPlanner, seen: Observation, answer: Plan | Refusal) -> Plan | Refusal:
    """An answer with its points in the arm's base frame, so that the record says where everything is."""
    if isinstance(answer, Refusal):
        return answer
    steps = []
    for step in answer.steps:
        try:
            steps.append(planner.ground(seen, step))
        except (GroundingError, CameraError):
            steps.append(step)
    return answer.replace(steps=tuple(steps))


def place_of(bases: Mapping[str, NDArray[np.float64]]) -> Callable[[str, Step], NDArray[np.float64] | None]:
    """Says where a lifted step points in the frame that all arms share.

    Args:
        bases: (4, 4) pose of each arm's base in that frame.
    """

    def where(arm: str, step: Step) -> NDArray[np.float64] | None:
        try:
            target = target_point(step)
        except MissingTargetError:
            return None
        return np.asarray(bases[arm][:3, :3] @ target + bases[arm][:3, 3])

    return where


def _ending(results: Mapping[str, RunResult], claims: Claims) -> Ending:
    """How a run ended whose arms ended so: as badly as the worst of them."""
    bad = [r for r in results.values() if r.outcome not in _GOOD]
    messages = "; ".join(f"{arm}: {r.message}" for arm, r in results.items())
    if not bad:
        left_out = claims.left_out
        if left_out:
            return Ending("failed", f"{messages}; left out: {', '.join(left_out)}")
        worked = any(r.outcome == "succeeded" for r in results.values())
        return Ending("succeeded" if worked else "nothing_to_do", messages)
    return Ending(min((r.outcome for r in bad), key=_WORST.index), messages)
