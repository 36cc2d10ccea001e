"""A policy's part of a step: asynchronous chunk execution with a receding horizon, until the termination says stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hiervla.executor.body import Body
from hiervla.executor.config import LoopConfig
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.recorder import Recorder
from hiervla.representations import ActionChunk, Observation, Verdict
from hiervla.representations.events import ChunkProposed, VerdictGiven
from hiervla.representations.plans import StepOutcome
from hiervla.skills import Skill, SkillContext, Timer


class PolicyRunner:
    """Runs the policies of skills.

    The next chunk is computed in a thread while the present one is tracked. The tick at which it takes over is fixed
    by the configuration and not by how fast the computer is, so that a run repeats under its seed; a computer that is
    too slow makes the simulated world wait, and the record shows the latency.
    """

    def __init__(self, policy_for: Callable[[str], Policy], body: Body, recorder: Recorder, config: LoopConfig) -> None:
        self._policy_for = policy_for
        self._body = body
        self._recorder = recorder
        self._config = config
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")

    def close(self) -> None:
        """Wait for a chunk in the making and end the thread."""
        self._pool.shutdown(wait=True)

    def run(self, skill: Skill, context: SkillContext, *, seed: int) -> tuple[StepOutcome, str]:
        """Let the skill's policy act until its termination.

        Args:
            skill: the skill; its termination is asked at every chunk boundary.
            context: grounded step and observation at its start.
            seed: seed of the policy's sampling for this step.

        Returns:
            Outcome of the policy's part and the reason in words; "succeeded" means that it ended by itself.
        """
        body, config = self._body, self._config
        policy = self._policy_for(skill.policy)
        policy.reset(context.step, seed)
        body.start_tracking()
        started = body.now_s
        chunk, latency = _timed(policy, body.observe("act"), context)
        index = 0
        track = max(1, config.chunk_rows * round(1.0 / (chunk.rate_hz * body.tick_s)) - config.think_ticks)
        while True:
            self._propose(context, chunk, index, latency)
            body.track(chunk, track)
            observation = body.observe("act")
            future = self._pool.submit(_timed, policy, observation, context)
            try:
                body.track(None, config.think_ticks)
            finally:
                chunk, latency = future.result()
            index += 1
            now = replace(
                context,
                proprio=body.proprio(),
                elapsed_s=body.now_s - started,
                done_prob=chunk.done_prob,
                progress=chunk.progress,
            )
            stop = self._stop(skill, now)
            if stop is not None:
                return stop

    def _stop(self, skill: Skill, context: SkillContext) -> tuple[StepOutcome, str] | None:
        if not self._config.learned_termination:
            timer = Timer(skill.naive_s)(context)
            self._log(context, timer)
            return ("succeeded", "timer") if timer.yes else None
        invariant = skill.holds(context) if self._config.verify else None
        if invariant is not None and not invariant.yes:
            self._log(context, invariant)
            return "lost_object", f"{invariant.name}: {invariant.value}"
        verdict = skill.termination(context)
        self._log(context, verdict)
        if not verdict.yes:
            return None
        if verdict.evidence.get("timer") == "yes" and verdict.evidence.get("done_head") != "yes":
            return "timed_out", f"no end after {context.elapsed_s:.1f} s"
        return "succeeded", verdict.name

    def _propose(self, context: SkillContext, chunk: ActionChunk, index: int, latency: float) -> None:
        self._recorder.emit(
            ChunkProposed,
            time_s=self._body.now_s,
            parent=self._body.parent,
            step_id=context.step.id,
            index=index,
            chunk=chunk,
            staleness_s=self._body.now_s - chunk.observed_at_s,
            wall_latency_s=latency,
        )

    def _log(self, context: SkillContext, verdict: Verdict) -> None:
        self._recorder.emit(
            VerdictGiven,
            time_s=self._body.now_s,
            parent=self._body.parent,
            step_id=context.step.id,
            phase="during",
            verdict=verdict,
        )


def _timed(policy: Policy, observation: Observation, context: SkillContext) -> tuple[ActionChunk, float]:
    started = time.perf_counter()
    chunk = policy.act(observation, context.step)
    return chunk, time.perf_counter() - started
