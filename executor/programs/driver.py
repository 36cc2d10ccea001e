"""Runs a plan's program: to its next call, which becomes a step of the plan, and on with how that step came out.

A program is never loaded from saved state. To come back to a call, after a crash, at a fork, or when somebody edits the
text of a running program, it is run from its beginning with the answers of before, for as long as it makes the same
calls of skills; the robot does not do again what it has done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hiervla.executor.activities import Parts
from hiervla.executor.config import LoopConfig
from hiervla.executor.patience import Question
from hiervla.executor.programs.questions import answer
from hiervla.executor.state import RunState
from hiervla.planner.base import Planner, PlannerContext
from hiervla.planner.embedded.wording import conditions, step_text
from hiervla.planner.given import PERSON
from hiervla.planner.seeing import NoVisionError, Seeing
from hiervla.representations import HiervlaError, Observation, Plan, Program, SeenThing, Step
from hiervla.representations.events import EventBase, ProgramCalled, ProgramEnded, ProgramReturned, SceneSeen
from hiervla.representations.plans import StepOutcome
from hiervla.skills import SkillLibrary
from hiervla.skills.programs import Call, CallResult, Ended, ProgramError, Sandbox, Vocabulary
from hiervla.skills.programs.text import plan_text
from hiervla.skills.programs.vocabulary import QUESTIONS
from hiervla.skills.saved import ProgramSkill


class ProgramEditError(HiervlaError, ValueError):
    """An edited program that does not make the calls that were carried out already.

    Attributes:
        made: calls of skills that it makes as before.
        before: the call that was carried out.
        now: what the edited text does instead.
    """

    exit_code = 2

    def __init__(self, made: int, before: str, now: str) -> None:
        super().__init__(
            f"edited program, call {made + 1} of a skill: it was {before}, and the edited text has {now}, but what was "
            f"done cannot be undone. Leave the first {made + 1} calls as they are, or fork the run at an earlier step."
        )
        self.made = made
        self.before = before
        self.now = now


@dataclass(frozen=True)
class Doors:
    """What the loop does for a program.

    Attributes:
        look: takes an observation.
        context: what the planner is told.
        refreshed: puts a plan with its next step pointed at on record; None when that is not in view.
        ask: asks the planner about what is seen, patiently; its answers that could not be taken go on record.
    """

    look: Callable[[], Observation]
    context: Callable[[], PlannerContext]
    refreshed: Callable[[Plan, str], Plan | None]
    ask: Callable[[Observation, Question[tuple[SeenThing, ...]]], tuple[SeenThing, ...]]


@dataclass
class _Frame:
    """A program that runs: the plan's, or that of a saved skill that it calls."""

    sandbox: Sandbox
    skill: str = ""
    event: EventBase | None = None
    call: int = 0


@dataclass
class _Memory:
    """What was asked and answered so far: enough to come back to the same place."""

    calls: list[tuple[str, CallResult]] = field(default_factory=list)
    scenes: dict[int, tuple[SeenThing, ...]] = field(default_factory=dict)
    held: list[str | None] = field(default_factory=list)


class ProgramDriver:
    """The programs of one run of the loop.

    Attributes:
        ended: how the plan's program came to its end; None while it runs.
    """

    def __init__(
        self,
        parts: Parts,
        skills: SkillLibrary,
        config: LoopConfig,
        seed: int,
        state: RunState,
        doors: Doors,
    ) -> None:
        """Set up; nothing runs yet.

        Args:
            parts: planner, body and recorder.
            skills: the library.
            config: limits of programs.
            seed: of ``random`` in programs.
            state: the loop's.
            doors: what the loop does for a program.
        """
        self._parts = parts
        self._skills = skills
        self._config = config
        self._limits = config.program
        self._seed = seed
        self._state = state
        self._doors = doors
        self._frames: list[_Frame] = []
        self._memory = _Memory()
        self._source = ""
        self._made = 0
        self._calls = 0
        self._result: CallResult | None = None
        self._open: tuple[EventBase, int, str] | None = None
        self.ended: Ended | None = None

    def leave(self) -> None:
        """Give the program up: what comes next has nothing to do with it."""
        self.close()
        self._memory = _Memory()
        self._source, self._made, self._result, self.ended = "", 0, None, None

    def close(self) -> None:
        """End the sandboxes."""
        while self._frames:
            self._frames.pop().sandbox.close()

    def next(self, plan: Plan) -> Plan:
        """The plan with its program's next call as the step to do; nothing remains once the program has ended.

        A plan without a program comes back as it is, unless one of its steps is a saved skill: then it becomes a
        program of its steps.

        Raises:
            ProgramError: the program may not run.
            ProgramEditError: it takes the place of one that has done other things.
        """
        plan = self._as_program(plan)
        if plan.program is None or plan.remaining:
            return plan
        result, self._result = self._result, None
        if result is None or plan.program.source != self._source:
            request = self._begin(plan.program.source)
        else:
            request = self._frames[-1].sandbox.answer(result)
        while True:
            if isinstance(request, Ended):
                frame = self._frames.pop()
                frame.sandbox.close()
                if not self._frames:
                    self._end(frame, request)
                    return plan
                request = self._frames[-1].sandbox.answer(self._inner(frame, request))
            elif request.function in QUESTIONS:
                request = self._frames[-1].sandbox.answer(self._asked(request))
            elif isinstance(skill := self._skills.get(request.function), ProgramSkill):
                request = self._enter(skill, request)
            elif self._made < len(self._memory.calls):
                request = self._again(request)
            elif self._made >= self._limits.calls:
                request = Ended("failed", f"it made {self._made} calls of skills, which is the limit", request.line)
                self.close_inner()
            else:
                fresh = self._step(plan, request)
                if fresh is not None:
                    return fresh
                request = self._frames[-1].sandbox.answer(self._answered("not_found", "it is not in view"))

    def returned(self, plan: Plan, step: Step, outcome: StepOutcome, reason: str) -> Plan:
        """How a call's step came out; the plan without it, or with it among what is done."""
        self._state.failures.pop(str(step), None)
        self._result = self._answered(outcome, reason)
        steps = plan.steps if outcome == "succeeded" else tuple(s for s in plan.steps if s.id != step.id)
        done = (*plan.done, step.id) if outcome == "succeeded" else plan.done
        return plan.replace(steps=steps, done=done, remaining=())

    def may_ask_again(self, plan: Plan) -> bool:
        """Is a plan asked for after a program broke? Not for a person's own program, and not for ever."""
        failures = self._state.failures
        failures["program"] = failures.get("program", 0) + 1
        program = plan.program
        own = program is not None and program.provenance is not None and program.provenance.model == PERSON
        return not own and failures["program"] <= self._config.max_retries and self._config.replan != "never"

    def close_inner(self) -> None:
        """End the sandboxes of saved skills, so that what comes next is about the plan's own program."""
        while len(self._frames) > 1:
            self._frames.pop().sandbox.close()

    def _as_program(self, plan: Plan) -> Plan:
        """A plan with saved skills among its steps as a program; one without program or such steps leaves the program.

        Its steps keep their order, and what is done stays done.
        """
        if plan.program is not None:
            return plan
        if self._source:
            self.leave()
        steps = [plan.step(i) for i in plan.remaining]
        if not any(isinstance(self._skills.get(s.skill), ProgramSkill) for s in steps):
            return plan
        source = plan_text(steps, {s.name: s.signature for s in self._skills})
        done = tuple(s for s in plan.steps if s.id in plan.done)
        return plan.replace(steps=done, remaining=(), program=Program(source=source))

    def _begin(self, source: str) -> Call | Ended:
        """Run a text from its beginning; what was answered before is answered again."""
        self.close()
        self._source, self._made, self._result, self.ended = source, 0, None, None
        self._memory.held = self._memory.held or [self._state.belief.held]
        frame = _Frame(Sandbox("the plan's program", source, self._vocabulary(), self._limits, seed=self._seed))
        request = frame.sandbox.begin()
        self._frames.append(frame)
        return request

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._skills.signatures())

    def _again(self, request: Call) -> Call | Ended:
        """A call that was carried out before the text was edited."""
        before, result = self._memory.calls[self._made]
        if str(request) != before:
            raise ProgramEditError(self._made, before, str(request))
        self._made += 1
        return self._frames[-1].sandbox.answer(result)

    def _step(self, plan: Plan, request: Call) -> Plan | None:
        """The plan with a call as its next step, pointed at; None when what it speaks of is not in view."""
        self._called(request)
        before, after = conditions(request.function, request.args, self._skills.get(request.function).signature)
        step = Step(
            id=f"c{self._calls}",
            skill=request.function,
            args=request.args,
            text=step_text(request.function, request.args),
            preconditions=before,
            postconditions=after,
        )
        where = (
            f"line {request.line}" if not self._frames[-1].skill else f"{self._frames[-1].skill}, line {request.line}"
        )
        return self._doors.refreshed(
            plan.replace(steps=(*plan.steps, step), remaining=(step.id,)), f"call {self._calls} of the program, {where}"
        )

    def _called(self, request: Call) -> EventBase:
        """Put a call on record, before anything is done for it."""
        self._calls += 1
        frame = self._frames[-1]
        event = self._parts.recorder.emit(
            ProgramCalled,
            time_s=self._parts.body.now_s,
            parent=frame.event,
            call=self._calls,
            function=request.function,
            args=request.args,
            line=request.line,
            start=request.start,
            end=request.end,
            skill=frame.skill,
            printed=request.printed,
            snapshot=self._parts.recorder.program_state(frame.sandbox.dump),
        )
        self._open = (event, self._calls, str(request))
        return event

    def _answered(self, outcome: StepOutcome, message: str) -> CallResult:
        """The result of the call that was put on record last, on record itself."""
        assert self._open is not None, "what is answered was asked"
        event, call, said = self._open
        result = CallResult(outcome, message)
        self._parts.recorder.emit(
            ProgramReturned,
            time_s=self._parts.body.now_s,
            parent=event,
            call=call,
            outcome=outcome,
            message=message,
        )
        self._memory.calls.append((said, result))
        self._memory.held.append(self._state.belief.held)
        self._made += 1
        return result

    def _asked(self, request: Call) -> bool | int | str | list[str]:
        """The answer to a question; one look serves until something moves."""
        rerun = self._made < len(self._memory.calls)
        if not rerun:
            event = self._called(request)
        things: tuple[SeenThing, ...] = ()
        if request.function != "held":
            if self._made not in self._memory.scenes:
                if rerun:
                    before = self._memory.calls[self._made][0]
                    raise ProgramEditError(self._made, before, f"{request}, for which nobody looked then")
                self._memory.scenes[self._made] = self._seen()
            things = self._memory.scenes[self._made]
        value = answer(request.function, request.args, things, self._memory.held[self._made])
        if not rerun:
            self._parts.recorder.emit(
                ProgramReturned,
                time_s=self._parts.body.now_s,
                parent=event,
                call=self._calls,
                value=tuple(value) if isinstance(value, list) else value,
            )
        return value

    def _seen(self) -> tuple[SeenThing, ...]:
        if not isinstance(self._parts.planner, Seeing):
            raise NoVisionError(self._parts.planner.id)
        observation = self._doors.look()
        began = time.perf_counter()
        things = self._doors.ask(observation, self._things)
        self._parts.recorder.emit(
            SceneSeen,
            time_s=self._parts.body.now_s,
            things=things,
            wall_latency_s=time.perf_counter() - began,
        )
        return things

    def _things(self, planner: Planner, observation: Observation) -> tuple[SeenThing, ...]:
        if not isinstance(planner, Seeing):
            raise NoVisionError(planner.id)
        return planner.things(observation, self._doors.context())

    def _enter(self, skill: ProgramSkill, request: Call) -> Call | Ended:
        """Begin a saved skill's program, with the call's arguments."""
        if len(self._frames) >= self._limits.depth:
            result = CallResult("failed", f"saved skills call each other {self._limits.depth} deep, which is the limit")
            return self._frames[-1].sandbox.answer(result)
        event = None if self._made < len(self._memory.calls) else self._called(request)
        sandbox = Sandbox(
            skill.name, skill.source, self._vocabulary(), self._limits, seed=self._seed, inputs=request.args
        )
        frame = _Frame(sandbox, skill.name, event, self._calls)
        try:
            inner = sandbox.begin()
        except ProgramError as error:
            return self._frames[-1].sandbox.answer(self._inner(frame, Ended("failed", str(error))))
        self._frames.append(frame)
        return inner

    def _inner(self, frame: _Frame, ended: Ended) -> CallResult:
        """What the end of a saved skill's program is to the program that called it."""
        result = CallResult("succeeded" if ended.how == "finished" else "failed", ended.message)
        if frame.event is not None:
            self._parts.recorder.emit(
                ProgramReturned,
                time_s=self._parts.body.now_s,
                parent=frame.event,
                call=frame.call,
                outcome=result.outcome,
                message=result.message,
            )
        return result

    def _end(self, frame: _Frame, ended: Ended) -> None:
        self.ended = ended
        self._parts.recorder.emit(
            ProgramEnded,
            time_s=self._parts.body.now_s,
            how=ended.how,
            message=ended.message,
            line=ended.line,
            printed=ended.printed,
            calls=self._calls,
        )
        self._parts.recorder.sync()
