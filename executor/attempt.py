"""One attempt at a step: point, check that it may start, go there, let the policy act, check that it worked."""

from __future__ import annotations

from typing import Literal

from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.executor.activities import Parts
from hiervla.executor.body import EnvelopeStop, RunCancelled
from hiervla.executor.closing import Closing
from hiervla.executor.config import LoopConfig
from hiervla.executor.review import Interjected, Reviewer, evidence_words, to_lift
from hiervla.executor.segment import PolicyRunner
from hiervla.executor.state import RunState
from hiervla.executor.told import Asking, Heard
from hiervla.planner.base import GroundingError, PlannerFailedError, StepRecord
from hiervla.representations import Observation, Step, Verdict
from hiervla.representations.events import Grounded, GroundingFailed, StepFinished, StepStarted, VerdictGiven
from hiervla.representations.plans import StepOutcome
from hiervla.skills import Belief, Skill, SkillContext, SkillLibrary
from hiervla.skills.checks import holding


class Attempts(Asking):
    """Tries steps; made for one run.

    Attributes:
        policies: runs the policies' parts.
    """

    def __init__(
        self,
        parts: Parts,
        skills: SkillLibrary,
        config: LoopConfig,
        seed: int,
        state: RunState,
        *,
        review: Reviewer,
        closing: Closing,
        heard: Heard,
    ) -> None:
        """Put together what an attempt needs.

        Args:
            parts: planner, policies, body, checks, recorder and control.
            skills: the library.
            config: what steers the loop.
            seed: of all sampling.
            state: of the run; belief and history are kept in it.
            review: shows decisions to whoever controls the run.
            closing: keeps the effects that are looked over at the end.
            heard: keeps what the parts were asked.
        """
        super().__init__(parts, heard)
        self.skills = skills
        self.config = config
        self.seed = seed
        self.state = state
        self.review = review
        self.closing = closing
        self.policies = PolicyRunner(parts, config)

    def run(self, step: Step, attempt: int) -> tuple[StepOutcome, str, str | None]:
        """One attempt: how it ended, why, and what was said meanwhile if that ended it."""
        skill = self.skills.get(step.skill, place=f"step {step.id} of the plan")
        begun = self.body.now_s
        started = self.recorder.emit(StepStarted, time_s=begun, step=step, attempt=attempt)
        self.body.parent = started.id
        said: str | None = None
        try:
            try:
                outcome, reason = self._execute(skill, step, attempt)
            except Interjected as interjection:
                said = interjection.text
                outcome, reason = "cancelled", f"somebody said: {said}"
                self.body.home(step.id)
                self._forget_hand()
        except (RunCancelled, EnvelopeStop) as stop:
            broken_off: StepOutcome = "cancelled" if isinstance(stop, RunCancelled) else "envelope_stop"
            self.state.history.append(StepRecord(step=step, outcome=broken_off))
            raise
        finally:
            self.body.parent = None
        self.recorder.emit(
            StepFinished,
            time_s=self.body.now_s,
            parent=started.id,
            step_id=step.id,
            attempt=attempt,
            outcome=outcome,
            reason=reason,
            duration_s=self.body.now_s - begun,
        )
        self.recorder.sync()
        return outcome, reason, said

    def _execute(self, skill: Skill, step: Step, attempt: int) -> tuple[StepOutcome, str]:
        before = self.state.observation
        assert before is not None, "a step is attempted only after the planner has looked"
        try:
            step = self._grounded(before, step, attempt)
        except (GroundingError, PlannerFailedError) as error:
            self.recorder.emit(
                GroundingFailed,
                time_s=self.body.now_s,
                parent=self.body.parent,
                step_id=step.id,
                problem=error.problem,
                message=str(error),
                told=self.heard.take(),
            )
            return "not_found", str(error)
        self.closing.ledger.attempted(step)
        context = SkillContext(step=step, before=before, proprio=self.body.proprio(), belief=self.state.belief)
        if self.config.verify:
            ready = self._verdict(step, "ready", self.verifier.ready(skill, context), attempt)
            if not ready.yes:
                return "precondition_failed", f"not ready: {ready.name} ({evidence_words(ready)})"
        try:
            self.body.approach(step, skill.approach(context), context.target_w, before)
            seed = self.seed + 1009 * self.state.attempts + attempt
            ended, reason = self.policies.run(skill, context, seed=seed, review=self.review.chunks(attempt))
            self.body.home(step.id)
        except (NoPath, UnreachablePose) as error:
            self.body.home(step.id)
            return "blocked" if isinstance(error, NoPath) else "unreachable", str(error)
        if not self.config.verify:
            self.state.belief = skill.effect(context)
            return "succeeded", ended
        return self._check(skill, context, ended, reason, attempt)

    def _grounded(self, before: Observation, step: Step, attempt: int) -> Step:
        """The step with its points in the world, as whoever controls the run lets them stand."""
        grounded = self._lift(before, step)
        decided = self.review.keypoints(grounded, step, attempt)
        return self._lift(before, decided) if to_lift(decided) else decided

    def _lift(self, before: Observation, step: Step) -> Step:
        grounded = self.planner.ground(before, step)
        self.recorder.emit(
            Grounded,
            time_s=self.body.now_s,
            parent=self.body.parent,
            step_id=step.id,
            artifacts=grounded.artifacts,
            told=self.heard.take(),
        )
        return grounded

    def _check(
        self, skill: Skill, context: SkillContext, ended: StepOutcome, reason: str, attempt: int
    ) -> tuple[StepOutcome, str]:
        after = self.body.look("verify")
        late = SkillContext(
            step=context.step,
            before=context.before,
            proprio=after.proprio,
            belief=context.belief,
            after=after,
        )
        done = self._verdict(context.step, "done", self.verifier.done(skill, late), attempt)
        if done.value != "no" and not (done.value == "unsure" and ended != "succeeded"):
            outcome: StepOutcome = "succeeded"
            why = f"{done.name}: {done.value}"
        else:
            outcome = ended if ended != "succeeded" else "failed"
            why = f"{done.name}: {done.value} ({evidence_words(done)}) {reason}"
        decided = self.review.outcome(outcome, context.step, attempt)
        if decided != outcome:
            why = f"taken as {decided}, was {outcome}: {why}"
        if decided == "succeeded":
            self.state.belief = skill.effect(late)
            if done.yes and type(skill).lasts is not Skill.lasts:
                self.closing.ledger.succeeded(len(self.state.history), skill, late)
        else:
            self._forget_hand(after)
        return decided, why

    def _forget_hand(self, after: Observation | None = None) -> None:
        """Nothing is believed to be held that the gripper does not feel."""
        proprio = self.body.proprio() if after is None else after.proprio
        if not holding(proprio).yes:
            self.state.belief = Belief()

    def _verdict(self, step: Step, phase: Literal["ready", "done"], verdict: Verdict, attempt: int) -> Verdict:
        self.recorder.emit(
            VerdictGiven,
            time_s=self.body.now_s,
            parent=self.body.parent,
            step_id=step.id,
            phase=phase,
            verdict=verdict,
            told=self.heard.take(),
        )
        return self.review.verdict(phase, verdict, step, attempt)
