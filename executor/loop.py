"""The orchestrator: plan, ground, check ready, act, verify, retry, replan from here, give up safely.

All its decisions are functions of recorded inputs: observations, the planner's answers, the policy's chunks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.executor.activities import Parts, RobotBody, Verifier
from hiervla.executor.body import EnvelopeStop, RunCancelled
from hiervla.executor.closing import Closing
from hiervla.executor.config import LoopConfig
from hiervla.executor.programs.driver import Doors, ProgramDriver
from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.recorder import Recorder
from hiervla.executor.review import Interjected, Reviewer, evidence_words, to_lift
from hiervla.executor.screening import no_plan_passed, program_ran_out
from hiervla.executor.segment import PolicyRunner
from hiervla.executor.state import Ending, RunState
from hiervla.executor.told import Heard, HeardPlanner, HeardVerifier
from hiervla.planner.base import GroundingError, Objection, Planner, PlannerContext, StepRecord
from hiervla.planner.kinds import check_chosen
from hiervla.representations import HiervlaError, Observation, Plan, Refusal, Step, Verdict
from hiervla.representations.events import (
    ArtifactsAged,
    Grounded,
    GroundingFailed,
    PlanProposed,
    PlanRefused,
    PlanRejected,
    PlanStale,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    VerdictGiven,
)
from hiervla.representations.plans import StepOutcome
from hiervla.skills import Belief, Skill, SkillContext, SkillLibrary
from hiervla.skills.checks import holding


class Orchestrator:
    """Runs one instruction to its end. Made for one run; :meth:`run` is called once."""

    def __init__(self, parts: Parts, *, skills: SkillLibrary, config: LoopConfig, seed: int) -> None:
        """Put a loop together.

        Args:
            parts: planner, policies, body, checks, recorder and control.
            skills: the library.
            config: what steers the loop.
            seed: of all sampling.
        """
        self.parts = parts
        self.skills = skills
        self.config = config
        self.seed = seed
        self.policies = PolicyRunner(parts, config)
        self.review = Reviewer(parts, skills)
        self.closing = Closing(parts, config)
        self.state = RunState()
        doors = Doors(self._look, self._context, self._refreshed, self._record_rejected)
        self.programs = ProgramDriver(parts, skills, config, seed, self.state, doors)
        self.heard = Heard()

    @property
    def planner(self) -> Planner:
        """Who plans."""
        return HeardPlanner(self.parts.planner, self.heard)

    @property
    def verifier(self) -> Verifier:
        """Who checks."""
        return HeardVerifier(self.parts.verifier, self.heard)

    @property
    def body(self) -> RobotBody:
        """What looks and moves."""
        return self.parts.body

    @property
    def recorder(self) -> Recorder:
        """What keeps the record."""
        return self.parts.recorder

    def run(self, instruction: str) -> Ending:
        """Carry out ``instruction``; whatever happens, the arm ends at rest and the last event is written."""
        try:
            ending = self._run(instruction)
        except (RunCancelled, KeyboardInterrupt):
            self.body.stop()
            ending = Ending("cancelled", "the run was cancelled; the arm was brought to rest inside the envelope")
        except EnvelopeStop as stop:
            ending = Ending("envelope_stop", str(stop))
        except HiervlaError as error:
            self.body.stop()
            ending = Ending("error", str(error))
        except BaseException as error:
            # The record has to tell how a run ended also when the reason is a defect of ours.
            self.body.stop()
            self._finish(Ending("error", f"{type(error).__name__}: {error}"))
            raise
        finally:
            self.policies.close()
            self.programs.close()
        self._finish(ending)
        return ending

    def _finish(self, ending: Ending) -> None:
        plan = self.state.plan
        self.recorder.emit(
            RunFinished,
            time_s=self.body.now_s,
            outcome=ending.outcome,
            message=ending.message,
            done=plan.done if plan else (),
            remaining=plan.remaining if plan else (),
        )
        self.recorder.sync()

    def _run(self, instruction: str) -> Ending:
        state, config = self.state, self.config
        self.body.home("start")
        answer = self._ask(instruction, "initial")
        while True:
            try:
                answer = self.review.plan(answer)
                if isinstance(answer, Plan):
                    state.plan = answer = self.programs.next(answer)
                    ran = self.programs.ended
                    if ran is not None and ran.how != "finished":
                        if ran.how == "gave_up" or not self.programs.may_ask_again(answer):
                            return self._give_up(f"the program ended: {ran.message}")
                        answer = self._ask(instruction, f"the program ended: {ran.message}")
                        continue
                if isinstance(answer, Refusal) or not answer.remaining:
                    ended = self._ended(instruction, answer)
                    if isinstance(ended, Ending):
                        return ended
                    answer = ended
                    continue
                if state.attempts >= config.max_steps:
                    return self._give_up(f"gave up after {state.attempts} attempts at steps")
                step = answer.step(answer.remaining[0])
                self.body.snapshot(f"before {step.id}")
                decided = self.review.step(step)
            except Interjected as said:
                answer = self._hear(instruction, said.text)
                continue
            if isinstance(decided, Plan):
                answer = decided
                continue
            if decided is not step:
                answer = answer.replace(steps=tuple(decided if s.id == step.id else s for s in answer.steps))
                state.plan, step = answer, decided
            elif (fresh := self._pointed_anew(instruction, answer, step)) is not None:
                if isinstance(fresh, Refusal) or step.id not in fresh.remaining[:1]:
                    answer = fresh
                    continue
                state.plan = answer = fresh
                step = fresh.step(step.id)
            key = str(step)
            held = state.belief.held
            outcome, reason, said_text = self._attempt(step, state.failures.get(key, 0))
            state.attempts += 1
            state.history.append(StepRecord(step=step, outcome=outcome, source=step.args.get("source", "")))
            if said_text is not None:
                answer = self._hear(instruction, said_text)
                continue
            if outcome == "succeeded":
                state.memory.did(step)
            else:
                state.failures[key] = state.failures.get(key, 0) + 1
                if state.failures[key] > config.max_retries and config.verify and answer.program is None:
                    return self._give_up(f"gave up on '{step}' after {state.failures[key]} attempts: {reason}")
            answer = self._next(instruction, answer, step, outcome, reason, same_hand=held == state.belief.held)

    def _ended(self, instruction: str, answer: Plan | Refusal) -> Ending | Plan | Refusal:
        """How it ends with an answer that leaves nothing to do, looked over once more; or what to go on with."""
        program = isinstance(answer, Plan) and answer.program is not None

        def ask(why: str) -> Plan | Refusal:
            # A program that is through is not run again for what did not last.
            return program_ran_out(why) if program else self._ask(instruction, why)

        ended = self.closing.end(answer, self.state.history, ask)
        if not isinstance(ended, Ending):
            return ended
        if ended.outcome == "failed":
            return self._give_up(ended.message)
        ran = self.programs.ended
        return replace(ended, message=ran.message) if program and ran is not None else ended

    def _hear(self, instruction: str, text: str) -> Plan | Refusal:
        """The planner's answer from here, now that something was said."""
        self.state.said.append(text)
        self.state.failures.clear()
        return self._ask(instruction, f"somebody said: {text}")

    def _next(
        self, instruction: str, plan: Plan, step: Step, outcome: StepOutcome, reason: str, *, same_hand: bool
    ) -> Plan | Refusal:
        """The plan to go on with: the old one, a step further or with the same step again, or the planner's new one."""
        config = self.config
        ok = outcome == "succeeded" or not config.verify
        retries = self.skills.get(step.skill).recovery.retries
        repeats = config.repeats if retries is None else retries
        again = ok or (same_hand and self.state.failures.get(str(step), 0) <= repeats)
        if plan.program is not None:
            repeated = again and not ok and config.replan != "never"
            fresh = self._refreshed(plan, f"followed after {step.id}: {outcome}") if repeated else None
            return fresh or self.programs.returned(plan, step, outcome, reason)
        if ok:
            rest = tuple(s for s in plan.remaining if s != step.id)
            plan = plan.replace(done=(*plan.done, step.id), remaining=rest)
        if config.replan == "never":
            return plan
        if config.replan == "on_failure" and again:
            return plan if not plan.remaining else self._follow(instruction, plan, f"after {step.id}: {outcome}")
        return self._ask(instruction, f"after {step.id}: {outcome}")

    def _pointed_anew(self, instruction: str, plan: Plan, step: Step) -> Plan | Refusal | None:
        """The plan with artifacts of now where the image that they were found in is too old; None where it is not."""
        seen = self.state.observation
        age = 0.0 if seen is None else self.body.now_s - seen.time_s
        if not self.config.verify or age <= self.config.stale_after_s:
            return None
        self.recorder.emit(ArtifactsAged, time_s=self.body.now_s, step_id=step.id, age_s=age)
        return self._follow(instruction, plan, f"{step.id} was pointed at too long ago")

    def _follow(self, instruction: str, plan: Plan, reason: str) -> Plan | Refusal:
        """The same plan, pointed at anew in a new image; where the next step's things are not in view, a new plan."""
        fresh = self._refreshed(plan, f"followed {reason}")
        if fresh is None and plan.program is not None:
            return self.programs.returned(plan, plan.step(plan.remaining[0]), "not_found", "it is not in view")
        return fresh or self._ask(instruction, f"{reason}, and what comes next is not in view")

    def _refreshed(self, plan: Plan, reason: str) -> Plan | None:
        """The same plan, pointed at anew in a new image and on record; None where its next step's things are not."""
        observation = self._look()
        started = time.perf_counter()
        fresh = self.planner.refresh(observation, plan, self._context())
        self._record_rejected()
        if fresh is None:
            self.recorder.emit(
                PlanStale,
                time_s=self.body.now_s,
                step_id=plan.remaining[0],
                wall_latency_s=time.perf_counter() - started,
                told=self.heard.take(),
            )
            return None
        self.recorder.emit(
            PlanProposed,
            time_s=self.body.now_s,
            plan=fresh,
            reason=reason,
            wall_latency_s=time.perf_counter() - started,
            told=self.heard.take(),
        )
        self.state.memory.saw(fresh, observation.time_s)
        self.recorder.sync()
        return fresh

    def _look(self) -> Observation:
        observation = self.body.look("plan")
        self.state.observation = observation
        return observation

    def _context(self, objections: Sequence[Objection] = ()) -> PlannerContext:
        return PlannerContext(
            history=tuple(self.state.history),
            skills=self.skills.signatures(),
            seed=self.seed,
            said=tuple(self.state.said),
            unseen=self.state.memory.unseen(),
            objections=tuple(objections),
            emit=self.config.emit,
        )

    def _ask(self, instruction: str, reason: str) -> Plan | Refusal:
        """The planner's answer from here; a plan that does not pass the checks goes back to it, a few times."""
        self.programs.leave()
        observation = self._look()
        objections: list[Objection] = []
        while True:
            started = time.perf_counter()
            answer = self.planner.plan(observation, instruction, self._context(objections))
            latency = time.perf_counter() - started
            self._record_rejected()
            if isinstance(answer, Refusal):
                break
            self.review.check_skills(answer)
            if not self.state.history:
                check_chosen(
                    self.config.emit, [self.skills.get(answer.step(i).skill).signature for i in answer.remaining]
                )
            objection = self._objection(answer, observation)
            if objection is None:
                self.recorder.emit(
                    PlanProposed,
                    time_s=self.body.now_s,
                    plan=answer,
                    reason=reason,
                    wall_latency_s=latency,
                    told=self.heard.take(),
                )
                break
            self.recorder.emit(
                PlanRejected,
                time_s=self.body.now_s,
                raw_text=objection.raw_text,
                problem=objection.problem,
                plan=answer,
                step=objection.step,
            )
            objections.append(objection)
            if len(objections) > self.config.repairs:
                answer = no_plan_passed(objections)
                break
        self.state.memory.saw(answer, observation.time_s)
        if isinstance(answer, Refusal):
            self.recorder.emit(PlanRefused, time_s=self.body.now_s, refusal=answer, told=self.heard.take())
        self.recorder.sync()
        self.closing.asked = answer
        return answer

    def _objection(self, plan: Plan, observation: Observation) -> Objection | None:
        screen = self.parts.screen
        if screen is None or not self.config.screen:
            return None
        return screen.objection(plan, observation, self.state.belief, self.skills)

    def _record_rejected(self) -> None:
        for attempt in self.planner.rejected:
            self.recorder.emit(PlanRejected, time_s=self.body.now_s, raw_text=attempt.raw_text, problem=attempt.problem)

    def _give_up(self, message: str) -> Ending:
        """End at rest, at home; what is held stays held, since dropping it could do harm."""
        self.body.home("giving up")
        return Ending("gave_up" if message.startswith("gave up") else "failed", message)

    def _attempt(self, step: Step, attempt: int) -> tuple[StepOutcome, str, str | None]:
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
        except GroundingError as error:
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


def begin(manifest: Manifest | RunStarted, parts: Parts) -> None:
    """Write what every run begins with: who was asked what, and the physical state."""
    parts.recorder.emit(
        RunStarted,
        time_s=parts.body.now_s,
        instruction=manifest.instruction,
        world=manifest.world,
        planner=manifest.planner,
        policy=manifest.policy,
        seed=manifest.seed,
        config=manifest.config,
    )
    parts.body.snapshot("start")
