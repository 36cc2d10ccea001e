"""A policy's part of a step: asynchronous chunk execution with a receding horizon, until the termination says stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

from hiervla.executor.activities import Parts
from hiervla.executor.config import LoopConfig
from hiervla.executor.policies.base import Policy
from hiervla.executor.told import Heard, HeardPolicy, HeardVerifier
from hiervla.representations import ActionChunk, Observation, Proprioception, Verdict
from hiervla.representations.events import ChunkProposed, VerdictGiven
from hiervla.representations.plans import StepOutcome
from hiervla.skills import Skill, SkillContext, Timer
from hiervla.skills.checks import holding
from hiervla.skills.motion import MotionPolicy, Path

Review = Callable[[ActionChunk, SkillContext], ActionChunk]
"""Shows a chunk to whoever controls the run, and returns the one to track."""


class PolicyRunner:
    """Runs the policies of skills.

    The next chunk is computed in a thread while the present one is tracked. The tick at which it takes over is fixed
    by the configuration and not by how fast the computer is, so that a run repeats under its seed; a computer that is
    too slow makes the simulated world wait, and the record shows the latency.
    """

    def __init__(self, parts: Parts, config: LoopConfig) -> None:
        self._parts = parts
        self._config = config
        self._heard = Heard()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")

    def close(self) -> None:
        """Wait for a chunk in the making and end the thread."""
        self._pool.shutdown(wait=True)

    def run(
        self, skill: Skill, context: SkillContext, *, seed: int, review: Review | None = None
    ) -> tuple[StepOutcome, str]:
        """Let the skill's policy act until its termination.

        Args:
            skill: the skill; its termination is asked at every chunk boundary.
            context: grounded step and observation at its start.
            seed: seed of the policy's sampling for this step.
            review: shown every chunk that is about to be tracked; what it returns is tracked.

        Returns:
            Outcome of the policy's part and the reason in words; "succeeded" means that it ended by itself.
        """
        body, config = self._parts.body, self._config
        policy = HeardPolicy(self._parts.policy_for(skill.runner(context.step)), self._heard)
        policy.reset(context.step, seed)
        body.start_tracking()
        started = body.now_s
        observation = body.observe("act")
        dropped = self._dropped(skill, context, observation.proprio)
        if dropped is not None:
            return dropped
        chunk, latency = _timed(policy, observation, context)
        index = 0
        self._propose(context, chunk, index, latency)
        if chunk.gave_up is not None:
            return "gave_up", chunk.gave_up
        track = max(1, config.chunk_rows * round(1.0 / (chunk.rate_hz * body.tick_s)) - config.think_ticks)
        while True:
            if review is not None:
                chunk = review(chunk, context)
            body.track(chunk, track)
            observation = body.observe("act")
            future = self._pool.submit(_timed, policy, observation, context)
            try:
                body.track(None, config.think_ticks)
            finally:
                chunk, latency = future.result()
            index += 1
            self._propose(context, chunk, index, latency)
            if chunk.gave_up is not None:
                self._recover(skill, context, "gave_up")
                return "gave_up", chunk.gave_up
            now = replace(
                context,
                proprio=body.proprio(),
                elapsed_s=round(body.now_s - started, 6),
                done_prob=chunk.done_prob,
                progress=chunk.progress,
                now=observation,
            )
            stop = self._stop(skill, now)
            if stop is not None:
                self._recover(skill, context, stop[0])
                return stop

    def _dropped(self, skill: Skill, context: SkillContext, proprio: Proprioception) -> tuple[StepOutcome, str] | None:
        """Whether what was in the hand got lost on the way to the hover; None where all is well, or nothing was."""
        if not (self._config.verify and self._config.check_arrival) or not holding(context.proprio).yes:
            return None
        if skill.approach(context).gripper_width_m is not None:
            return None
        verdict = holding(proprio)
        self._log(context, "invariant", verdict)
        return None if verdict.yes else ("lost_object", "what was held got lost on the way")

    def _stop(self, skill: Skill, context: SkillContext) -> tuple[StepOutcome, str] | None:
        if not self._config.learned_termination:
            timer = Timer(skill.naive_s)(context)
            self._log(context, "during", timer)
            return ("succeeded", "timer") if timer.yes else None
        verifier = HeardVerifier(self._parts.verifier, self._heard)
        invariant = verifier.holds(skill, context) if self._config.verify else None
        if invariant is not None:
            self._log(context, "invariant", invariant)
            if not invariant.yes:
                return "lost_object", f"{invariant.name}: {invariant.value}"
        verdict = verifier.stop(skill, context)
        self._log(context, "during", verdict)
        if not verdict.yes:
            return None
        if skill.ended(verdict) == "timed_out":
            return "timed_out", f"no end after {context.elapsed_s:.1f} s"
        return "succeeded", verdict.name

    def _recover(self, skill: Skill, context: SkillContext, ended: StepOutcome) -> None:
        """The short motion with which a skill answers an attempt that went wrong, before the arm goes home."""
        recovery = skill.recover(ended)
        if recovery is None or not recovery.moves:
            return
        body, config = self._parts.body, self._config
        observation = body.observe("act")
        way = recovery.waypoints(observation)
        policy = MotionPolicy(f"{skill.name}-recovery", lambda seen, step: way)
        policy.reset(context.step, 0)
        body.start_tracking()
        until = body.now_s + Path(observation, way).duration_s
        index = 0
        while body.now_s < until:
            chunk, latency = _timed(policy, observation, context)
            self._propose(context, chunk, index, latency)
            body.track(chunk, config.chunk_rows * round(1.0 / (chunk.rate_hz * body.tick_s)))
            observation = body.observe("act")
            index += 1

    def _propose(self, context: SkillContext, chunk: ActionChunk, index: int, latency: float) -> None:
        self._parts.recorder.emit(
            ChunkProposed,
            time_s=self._parts.body.now_s,
            parent=self._parts.body.parent,
            step_id=context.step.id,
            index=index,
            chunk=chunk,
            staleness_s=self._parts.body.now_s - chunk.observed_at_s,
            wall_latency_s=latency,
            told=self._heard.take(),
        )

    def _log(self, context: SkillContext, phase: Literal["invariant", "during"], verdict: Verdict) -> None:
        self._parts.recorder.emit(
            VerdictGiven,
            time_s=self._parts.body.now_s,
            parent=self._parts.body.parent,
            step_id=context.step.id,
            phase=phase,
            verdict=verdict,
            told=self._heard.take(),
        )


def _timed(policy: Policy, observation: Observation, context: SkillContext) -> tuple[ActionChunk, float]:
    started = time.perf_counter()
    chunk = policy.act(observation, context.step)
    return chunk, time.perf_counter() - started
