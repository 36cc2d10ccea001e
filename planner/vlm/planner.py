"""The planner that asks a vision-language model: prompt, backend, checks, bounded repair, points and their lifting."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from hiervla.planner.base import Objection, PlannerContext, RejectedAttempt
from hiervla.planner.embedded.wording import conditions, step_text
from hiervla.planner.expression import WAY_KINDS, Expression, subtasks_of
from hiervla.planner.grounded import ground_step
from hiervla.planner.grounding import image_ref
from hiervla.planner.kinds import kind_for
from hiervla.planner.vlm.answers import (
    SCALE,
    AnswerError,
    Draft,
    Missing,
    Point,
    Which,
    answer_schema,
    has_point,
    point_schema,
    read_answer,
    read_point,
)
from hiervla.planner.vlm.backend import Backend, Generation, Message, Sampling
from hiervla.planner.vlm.errors import UnreadableAnswerError
from hiervla.planner.vlm.lifting import lift_for
from hiervla.planner.vlm.programs import program_answer
from hiervla.planner.vlm.prompt import objected, plan_prompt, point_prompt, prompt_bytes, repair_prompt
from hiervla.planner.vlm.seeing import read_scene, scene_prompt, scene_schema
from hiervla.representations import (
    Artifact,
    ArtifactKind,
    CameraFrame,
    ConventionError,
    ImageRef,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Provenance,
    Refusal,
    SeenThing,
    SkillSignature,
    Step,
)

T = TypeVar("T")
_LARGER: Final = "Use a larger model, or one that is served with response_format"


@runtime_checkable
class PointStrategy(Protocol):
    """Finds what a step is about, in place of the points that the planner's own answer would carry.

    This is where a model that points in a format of its own comes in: ask it, have its answer translated to pixels of
    the very frame, and give that back.
    """

    def find(self, frame: CameraFrame, step: Step) -> Sequence[Artifact]:
        """Artifacts of the step in this frame, `Keypoints` first; none when what it is about is not in view.

        Raises:
            BackendError: there is no answer.
        """
        ...


@runtime_checkable
class KindStrategy(PointStrategy, Protocol):
    """A strategy that can be asked for several kinds of artifact, such as :class:`~hiervla.planner.vlm.FamilyPoints`.

    Attributes:
        rejected: answers to its last question that could not be read; they belong on the record.
    """

    rejected: tuple[RejectedAttempt, ...]

    @property
    def kinds(self) -> tuple[ArtifactKind, ...]:
        """What it can be asked for."""
        ...

    def find_kind(self, frame: CameraFrame, step: Step, kind: ArtifactKind) -> Sequence[Artifact]:
        """What the step is about, as an artifact of a kind; none when it is not in view.

        Raises:
            BackendError: there is no answer.
        """
        ...


class VLMPlanner:
    """Plans with any vision-language model.

    The model's answer is one JSON object that fits a schema made from the skills that exist now. What does not fit is
    answered with what is wrong and asked for again, `repairs` times; after that the planner has failed.

    A plan that goes well is followed by asking for the next step's point in the new image only, not for a new plan.

    Args:
        backend: what runs the model.
        camera: name of the camera that it looks through.
        repairs: how often an answer that cannot be taken is asked for again.
        sampling: how tokens are drawn; the seed is that of the run.
        points: finds the points of steps; by default they are part of the answer.
        programs: ask for a program (``docs/programs.md``) where a plan would be asked for.

    Attributes:
        rejected: answers to the last question, of :meth:`plan` or :meth:`refresh`, that could not be taken.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        camera: str = "front",
        repairs: int = 2,
        sampling: Sampling | None = None,
        points: PointStrategy | None = None,
        programs: bool = False,
    ) -> None:
        if repairs < 0:
            raise ConventionError("repairs", f"{repairs} is negative", "Give 0 to take or leave the first answer")
        self.backend = backend
        self.camera = camera
        self.repairs = repairs
        self.sampling = sampling or Sampling()
        self.points = points
        self.programs = programs
        self.rejected: tuple[RejectedAttempt, ...] = ()
        self._skills: tuple[SkillSignature, ...] = ()

    @property
    def id(self) -> str:
        """The backend's."""
        return self.backend.id

    @property
    def kinds(self) -> tuple[ArtifactKind, ...]:
        """Kinds of intermediate: what its family writes, and what depth and the arm's state make of a point."""
        own = self.points.kinds if isinstance(self.points, KindStrategy) else ("keypoints",)
        return tuple(dict.fromkeys((*own, "subtasks", *WAY_KINDS, "program")))

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """A plan whose remaining steps lead from here to the goal, or a polite no.

        Raises:
            CameraError: the planner's camera is not in the observation.
            BackendError: the model gives no answer, or none that can be read.
        """
        self.rejected = ()
        self._skills = context.skills
        frame = observation.frame(self.camera)
        if not instruction.strip():
            return Refusal(
                reason="empty_instruction",
                message='Tell me what to do, for example "put the red mug on the top shelf".',
                provenance=Provenance(model=self.id),
            )
        if self.programs or context.emit == "program":
            return program_answer(self._ask, frame, instruction, context, self.repairs + 1)
        inside = self.points is None
        draft, provenance = self._ask(
            frame,
            plan_prompt(instruction, context, points=inside),
            answer_schema(context.skills, points=inside, may_ask=context.may_ask),
            lambda text: read_answer(text, context.skills, points=inside, may_ask=context.may_ask),
            context.seed,
            context.objections,
        )
        if draft is None:
            problem = f"its model gave no plan that can be read in {self.repairs + 1} attempts"
            raise UnreadableAnswerError(self.id, problem, _LARGER)
        if draft.refuse is not None:
            no = draft.refuse
            return Refusal(
                reason=no.refuse,
                message=no.message,
                missing=no.missing if isinstance(no, Missing) else (),
                candidates=tuple(f"the {c}" for c in no.candidates) if isinstance(no, Which) else (),
                seen=draft.seen,
                provenance=provenance,
            )
        return self._plan(observation, instruction, context, draft, provenance)

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """The same plan with the next step's point found anew; None when it is not in view or the answer is of no use.

        Only the next step is asked about, since it is all that will be acted upon before the next look: the others go
        without points until their turn comes.

        Raises:
            CameraError: the planner's camera is not in the observation.
            BackendError: the model gives no answer.
        """
        self.rejected = ()
        self._skills = context.skills
        frame = observation.frame(self.camera)
        signatures = {s.name: s for s in context.skills}
        if not plan.remaining or any(plan.step(i).skill not in signatures for i in plan.remaining):
            return None
        following = plan.step(plan.remaining[0])
        artifacts: tuple[Artifact, ...] = ()
        provenance = Provenance(model=self.id)
        if has_point(signatures[following.skill]):
            kind = self._kind(signatures[following.skill], context)
            if kind != "subtasks":
                began = time.perf_counter()
                artifacts, note = self._find(frame, following.replace(artifacts=()), kind, context)
                provenance = note or provenance.replace(latency_s=time.perf_counter() - began)
            if not artifacts and kind != "subtasks":
                return None
            saying = Expression(observation, frame, lift_for)
            artifacts = self._said(saying, kind, following, artifacts)
        fresh = {i: plan.step(i).replace(artifacts=()) for i in plan.remaining}
        fresh[following.id] = following.replace(artifacts=artifacts)
        return plan.replace(steps=tuple(fresh.get(s.id, s) for s in plan.steps), provenance=provenance)

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """Everything that the model says is in view; see :class:`hiervla.planner.seeing.Seeing`.

        Raises:
            CameraError: the planner's camera is not in the observation.
            BackendError: the model gives no answer, or none that can be read.
        """
        self.rejected = ()
        frame = observation.frame(self.camera)
        found, _ = self._ask(frame, scene_prompt(), scene_schema(), read_scene, context.seed)
        if found is None:
            problem = f"it gave no list of what is in view that can be read in {self.repairs + 1} attempts"
            raise UnreadableAnswerError(self.id, problem, "Use a larger model, or a program without such questions")
        return found

    def _kind(self, signature: SkillSignature, context: PlannerContext) -> ArtifactKind:
        return kind_for(signature, context.emit, self.kinds)

    def _find(
        self, frame: CameraFrame, step: Step, kind: ArtifactKind, context: PlannerContext
    ) -> tuple[tuple[Artifact, ...], Provenance | None]:
        """What a step is about: in the wanted kind where the model writes that itself, as a keypoint otherwise."""
        if isinstance(self.points, KindStrategy):
            found = self.points.find_kind(frame, step, kind if kind in self.points.kinds else "keypoints")
            self.rejected += self.points.rejected
            return tuple(found), None
        if self.points is not None:
            return tuple(self.points.find(frame, step)), None
        signatures = {s.name: s for s in context.skills}
        answer, note = self._ask(
            frame, point_prompt(step), point_schema(), lambda text: (read_point(text),), context.seed
        )
        point = answer[0] if answer is not None else None
        if point is None:
            return (), note
        return (_keypoints(image_ref(frame), point, _label(step, signatures)),), note

    def _said(
        self, saying: Expression, kind: ArtifactKind, step: Step, found: Sequence[Artifact]
    ) -> tuple[Artifact, ...]:
        """What was found, in the kind that is wanted."""
        if any(a.kind == kind for a in found):
            return tuple(found)
        return saying.say(kind, step.replace(artifacts=()), found)

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step with its keypoints lifted to the world frame.

        Raises:
            GroundingError: a keypoint stands on nothing, out of reach or on a bare surface, or belongs to another
                image; or the step has none.
            CameraError: the camera gives no depth.
        """
        frame = observation.frame(self.camera)
        frame.require_depth()
        if all(a.kind == "subtasks" for a in step.artifacts) and step.artifacts:
            # Said in words only: where that is, is asked now.
            context = PlannerContext(skills=self._skills)
            step = step.replace(artifacts=(*step.artifacts, *self._find(frame, step, "keypoints", context)[0]))
        return ground_step(observation, frame, step, lift_for)

    def _ask(
        self,
        frame: CameraFrame,
        question: Message,
        schema: Mapping[str, Any],
        read: Callable[[str], T],
        seed: int,
        objections: Sequence[Objection] = (),
    ) -> tuple[T | None, Provenance]:
        """The answer as `read` has it, or None after all repairs; what could not be taken goes to `rejected`."""
        sampling = self.sampling.replace(seed=seed)
        messages = [question, *objected(objections)]
        began = time.perf_counter()
        value: T | None = None
        while True:
            prompt = prompt_bytes(messages, [frame.sha256], schema)
            answer = self.backend.generate(messages, [frame.rgb], schema, sampling)
            try:
                if not answer.complete:
                    raise AnswerError(f"it was cut off after {sampling.max_tokens} tokens; answer in fewer words")
                value = read(answer.text)
                break
            except AnswerError as error:
                self.rejected += (RejectedAttempt(raw_text=answer.text, problem=error.problem),)
                if len(self.rejected) > self.repairs:
                    break
                messages = [*messages, Message("assistant", answer.text), repair_prompt(error.problem)]
        return value, Provenance(
            model=answer.model,
            prompt_sha256=hashlib.sha256(prompt).hexdigest(),
            sampling=_sampling(sampling, answer),
            raw_text=answer.text,
            attempts=len(self.rejected) + (value is not None),
            latency_s=time.perf_counter() - began,
        )

    def _plan(
        self, observation: Observation, instruction: str, context: PlannerContext, draft: Draft, provenance: Provenance
    ) -> Plan:
        frame = observation.frame(self.camera)
        saying = Expression(observation, frame, lift_for)
        succeeded = [r.step for r in context.history if r.outcome == "succeeded"]
        finished = [s.replace(id=f"s{n}", artifacts=(), depends_on=()) for n, s in enumerate(succeeded, 1)]
        signatures = {s.name: s for s in context.skills}
        image = image_ref(frame)
        steps: list[Step] = []
        for k, call in enumerate(draft.calls):
            before, after = conditions(call.skill, call.args)
            step = Step(
                id=f"s{len(finished) + k + 1}",
                skill=call.skill,
                args=dict(call.args),
                text=step_text(call.skill, call.args),
                depends_on=_needs(steps, _things(call.skill, call.args, signatures), signatures),
                preconditions=before,
                postconditions=after,
            )
            artifacts: Sequence[Artifact] = ()
            kind = self._kind(signatures[call.skill], context)
            if call.point is not None:
                artifacts = (_keypoints(image, call.point, _label(step, signatures)),)
            elif self.points is not None and kind != "subtasks" and has_point(signatures[call.skill]):
                artifacts, _ = self._find(frame, step, kind, context)
            if has_point(signatures[call.skill]):
                artifacts = self._said(saying, kind, step, artifacts)
            steps.append(step.replace(artifacts=tuple(artifacts)))
        return Plan(
            goal=instruction.strip(),
            steps=(*finished, *steps),
            done=tuple(s.id for s in finished),
            remaining=tuple(s.id for s in steps),
            scene=(subtasks_of((*finished, *steps)),) if context.emit == "subtasks" else (),
            provenance=provenance,
        )


def _sampling(sampling: Sampling, answer: Generation) -> dict[str, float | int | str | bool]:
    record: dict[str, float | int | str | bool] = {**sampling.model_dump(), "constrained": answer.constrained}
    counts = {"prompt_tokens": answer.prompt_tokens, "tokens": answer.tokens, "requests": answer.attempts}
    record |= {"left_out": " ".join(answer.left_out)} if answer.left_out else {}
    return record | {name: n for name, n in counts.items() if n is not None}


def _keypoints(image: ImageRef, point: Point, label: str) -> Keypoints:
    u, v = point.x / SCALE * image.width, point.y / SCALE * image.height
    return Keypoints(image=image, points=(Keypoint(label=label, u=u, v=v),))


def _things(skill: str, args: Mapping[str, str], signatures: Mapping[str, SkillSignature]) -> list[str]:
    """The things and places that a call speaks of."""
    return [args[p.name] for p in signatures[skill].params if p.type in ("object", "location")]


def _label(step: Step, signatures: Mapping[str, SkillSignature]) -> str:
    """What the point is on: the last thing or place that the step speaks of; the bin is not among the arguments."""
    if step.skill == "throw_away":
        return "bin"
    return _things(step.skill, step.args, signatures)[-1]


def _needs(earlier: Sequence[Step], things: Sequence[str], signatures: Mapping[str, SkillSignature]) -> tuple[str, ...]:
    """The last earlier step about each of these things."""
    needed = []
    for thing in things:
        about = [s.id for s in earlier if thing in _things(s.skill, s.args, signatures)]
        needed += about[-1:]
    return tuple(dict.fromkeys(needed))
