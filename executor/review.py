"""Shows each decision to whoever controls the run, and puts what they change or hold on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

from hiervla.executor.activities import Parts
from hiervla.executor.control import Answer, CorrectionError, Decision, Say, Value
from hiervla.representations import ActionChunk, Keypoints, Plan, Refusal, Step, Verdict
from hiervla.representations.events import CorrectionGiven, DecisionKind, Paused, Resumed
from hiervla.representations.plans import StepOutcome
from hiervla.skills import SkillContext, SkillLibrary

STEP_OUTCOMES: Final[tuple[StepOutcome, ...]] = get_args(StepOutcome)
_MAY_BECOME: Final[Mapping[DecisionKind, tuple[type, ...]]] = {
    "plan": (Plan, Say),
    "step": (Step, Plan, Say),
    "keypoints": (Step, Say),
    "ready": (Verdict, Say),
    "chunk": (ActionChunk, Say),
    "done": (Verdict, Say),
    "outcome": (str,),
}
_FIELD: Final[Mapping[type, str]] = {
    Say: "text",
    Plan: "plan",
    Step: "step",
    Verdict: "verdict",
    ActionChunk: "chunk",
    str: "outcome",
}


class Interjected(Exception):
    """Somebody said something instead of answering; the planner has to hear it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Reviewer:
    """One typed question for each kind of decision.

    Every method returns what is to be done, raises :class:`Interjected` for words, and :class:`CorrectionError` for an
    answer of a wrong type.
    """

    def __init__(self, parts: Parts, skills: SkillLibrary) -> None:
        self._parts = parts
        self._skills = skills

    def check_skills(self, plan: Plan) -> None:
        """See that the library has every skill of a plan.

        Raises:
            UnknownNameError: it lacks one.
        """
        for step in plan.steps:
            self._skills.get(step.skill, place=f"step {step.id} of the plan")

    def plan(self, answer: Plan | Refusal) -> Plan | Refusal:
        """The planner's answer."""
        decided = self._ask("plan", answer)
        if decided is not answer and isinstance(decided, Plan):
            self.check_skills(decided)
        assert isinstance(decided, Plan | Refusal)
        return decided

    def step(self, step: Step) -> Step | Plan:
        """The step about to start; a plan where the whole plan is changed at this point."""
        decided = self._ask("step", step, step)
        if isinstance(decided, Plan):
            self.check_skills(decided)
            return decided
        assert isinstance(decided, Step)
        self._skills.get(decided.skill, place=f"the corrected step {step.id}")
        return decided if decided.id == step.id else decided.replace(id=step.id)

    def keypoints(self, grounded: Step, step: Step, attempt: int) -> Step:
        """The step with its grounded artifacts."""
        decided = self._ask("keypoints", grounded, step, attempt)
        assert isinstance(decided, Step)
        return decided

    def verdict(self, kind: Literal["ready", "done"], verdict: Verdict, step: Step, attempt: int) -> Verdict:
        """Whether the step may start, or is done."""
        decided = self._ask(kind, verdict, step, attempt)
        assert isinstance(decided, Verdict)
        return decided

    def chunks(self, attempt: int) -> Callable[[ActionChunk, SkillContext], ActionChunk]:
        """What to show a policy's chunks to."""

        def review(chunk: ActionChunk, context: SkillContext) -> ActionChunk:
            decided = self._ask("chunk", chunk, context.step, attempt)
            assert isinstance(decided, ActionChunk)
            return decided

        return review

    def outcome(self, outcome: StepOutcome, step: Step, attempt: int) -> StepOutcome:
        """How the attempt is taken to have ended."""
        decided = self._ask("outcome", outcome, step, attempt)
        return next(o for o in STEP_OUTCOMES if o == decided)

    def _ask(self, kind: DecisionKind, value: Value, step: Step | None = None, attempt: int = 0) -> Value:
        parts = self._parts
        step_id = step.id if step is not None else None
        held = 0

        def hold() -> None:
            nonlocal held
            body = parts.body
            if not held:
                parts.recorder.emit(Paused, time_s=body.now_s, parent=body.parent, decision=kind, step_id=step_id)
                parts.recorder.sync()
            held += 1
            body.hold(1)

        control = parts.control
        answer = control.review(Decision(kind, value, step, attempt), hold)
        # Only now: whoever reviews a decision may have exchanged the parts.
        body, recorder = parts.body, parts.recorder
        if held:
            recorder.emit(Resumed, time_s=body.now_s, parent=body.parent, decision=kind, ticks=held)
        if answer is value:
            return value
        recorder.emit(
            CorrectionGiven,
            time_s=body.now_s,
            parent=body.parent,
            decision=kind,
            step_id=step_id,
            author=control.author,
            **{_field(kind, answer): answer.text if isinstance(answer, Say) else answer},
        )
        recorder.sync()
        if isinstance(answer, Say):
            raise Interjected(answer.text)
        return answer


def to_lift(step: Step) -> bool:
    """Whether a step that somebody changed has points that still have to be lifted to the world."""
    return any(p.position_w is None for a in step.artifacts if isinstance(a, Keypoints) for p in a.points)


def _field(kind: DecisionKind, answer: Answer) -> str:
    """Which field of a correction holds an answer.

    Raises:
        CorrectionError: this kind of decision cannot become that.
    """
    allowed = _MAY_BECOME[kind]
    if not isinstance(answer, allowed) or (isinstance(answer, str) and answer not in STEP_OUTCOMES):
        raise CorrectionError(kind, answer, STEP_OUTCOMES if kind == "outcome" else [t.__name__ for t in allowed])
    return _FIELD[type(answer)]


def evidence_words(verdict: Verdict) -> str:
    """A verdict's evidence in a line."""
    parts = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in verdict.evidence.items())
    return ", ".join(parts)
