"""The orchestrator: plan, ground, check ready, act, verify, retry, replan from here, give up safely.

All its decisions are functions of recorded inputs: observations, the planner's answers, the policy's chunks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from hiervla.executor.activities import Parts
from hiervla.executor.attempt import Attempts
from hiervla.executor.body import EnvelopeStop, RunCancelled
from hiervla.executor.closing import Closing
from hiervla.executor.config import LoopConfig
from hiervla.executor.patience import Patience, PlannerLostError, Question
from hiervla.executor.programs.driver import Doors, ProgramDriver
from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.recorder import Recorder
from hiervla.executor.review import Interjected, Reviewer
from hiervla.executor.screening import no_plan_passed, program_ran_out
from hiervla.executor.segment import PolicyRunner
from hiervla.executor.state import Ending, RunState
from hiervla.executor.told import Asking, Heard
from hiervla.planner.base import Objection, PlannerContext, StepRecord
from hiervla.planner.kinds import check_chosen
from hiervla.representations import HiervlaError, Observation, Plan, Refusal, SeenThing, Step
from hiervla.representations.events import (
    ArtifactsAged,
    PlanProposed,
    PlanRefused,
    PlanRejected,
    PlanStale,
    RunFinished,
    RunStarted,
)
from hiervla.representations.plans import StepOutcome
from hiervla.skills import SkillLibrary

T = TypeVar("T")


class Orchestrator(Asking):
    """Runs one instruction to its end. Made for one run; :meth:`run` is called once."""

    def __init__(self, parts: Parts, *, skills: SkillLibrary, config: LoopConfig, seed: int) -> None:
        """Put a loop together.

        Args:
            parts: planner, policies, body, checks, recorder and control.
            skills: the library.
            config: what steers the loop.
            seed: of all sampling.
        """
        super().__init__(parts, Heard())
        self.skills = skills
        self.config = config
        self.seed = seed
        self.review = Reviewer(parts, skills)
        self.closing = Closing(parts, config)
        self.state = RunState()
        self.attempts = Attempts(
            parts, skills, config, seed, self.state, review=self.review, closing=self.closing, heard=self.heard
        )
        self.patience = Patience(self, config.planner_retries, config.planner_wait_s, self._look)
        doors = Doors(self._look, self._context, self._refreshed, self._seen)
        self.programs = ProgramDriver(parts, skills, config, seed, self.state, doors)

    @property
    def policies(self) -> PolicyRunner:
        """Who runs the policies' parts."""
        return self.attempts.policies

    def run(self, instruction: str) -> Ending:
        """Carry out ``instruction``; whatever happens, the arm ends at rest and the last event is written."""
        try:
            ending = self._run(instruction)
        except (RunCancelled, KeyboardInterrupt):
            self.body.stop()
            ending = Ending("cancelled", "the run was cancelled; the arm was brought to rest inside the envelope")
        except EnvelopeStop as stop:
            ending = Ending("envelope_stop", str(stop))
        except PlannerLostError as error:
            self.body.stop()
            ending = Ending("planner_failed", str(error))
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
            outcome, reason, said_text = self.attempts.run(step, state.failures.get(key, 0))
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
        if config.replan == "never" or (config.replan == "on_failure" and again and not plan.remaining):
            return plan
        try:
            if config.replan == "on_failure" and again:
                return self._follow(instruction, plan, f"after {step.id}: {outcome}")
            return self._ask(instruction, f"after {step.id}: {outcome}")
        except PlannerLostError:
            # What is told of the end is how far the plan was come when nobody answered any more.
            self.state.plan = plan
            raise

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
        observation, fresh = self._patiently(
            observation, lambda planner, seen: planner.refresh(seen, plan, self._context())
        )
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

    def _patiently(self, seen: Observation, question: Question[T]) -> tuple[Observation, T]:
        return self.patience.ask(seen, question, begun=self.state.plan is not None)

    def _seen(self, seen: Observation, question: Question[tuple[SeenThing, ...]]) -> tuple[SeenThing, ...]:
        """What the planner sees, for a program that asks."""
        _, things = self._patiently(seen, question)
        self._record_rejected()
        return things

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
            may_ask=self.config.ask,
        )

    def _ask(self, instruction: str, reason: str) -> Plan | Refusal:
        """The planner's answer from here; a plan that does not pass the checks goes back to it, a few times."""
        self.programs.leave()
        observation = self._look()
        objections: list[Objection] = []
        while True:
            started = time.perf_counter()
            context = self._context(objections)
            observation, answer = self._patiently(observation, _planned(instruction, context))
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
        self.state.refusal = answer if isinstance(answer, Refusal) else None
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


def _planned(instruction: str, context: PlannerContext) -> Question[Plan | Refusal]:
    return lambda planner, seen: planner.plan(seen, instruction, context)


def begin(manifest: Manifest | RunStarted, parts: Parts) -> None:
    """Write what every run begins with: who was asked what, and the physical state."""
    announce(manifest, parts.recorder, parts.body.now_s)
    parts.body.snapshot("start")


def announce(manifest: Manifest | RunStarted, recorder: Recorder, now_s: float) -> None:
    """Write who was asked what."""
    recorder.emit(
        RunStarted,
        time_s=now_s,
        instruction=manifest.instruction,
        world=manifest.world,
        planner=manifest.planner,
        policy=manifest.policy,
        seed=manifest.seed,
        config=manifest.config,
    )
