"""The planner that comes with hiervla: one camera image and an instruction in, a plan with points out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hiervla.planner.base import PlannerContext, RejectedAttempt
from hiervla.planner.embedded.answering import answered, handled
from hiervla.planner.embedded.asking import known_words, question, unknown_words
from hiervla.planner.embedded.interjections import amended
from hiervla.planner.embedded.intermediates import (
    KINDS,
    corrections,
    kept_motions,
    say_steps,
    scene_of,
    without_motions,
)
from hiervla.planner.embedded.loading import load_planner
from hiervla.planner.embedded.naming import named
from hiervla.planner.embedded.seeing import things_of
from hiervla.planner.embedded.slots import SceneSlots
from hiervla.planner.embedded.tokenizer import MAX_HISTORY, prompt_text
from hiervla.planner.embedded.wording import conditions, record_line, refusal_message, step_text
from hiervla.planner.expression import subtasks_of
from hiervla.planner.grounded import ground_step
from hiervla.planner.grounding import (
    UngroundedError,
    check_inside,
    check_workspace,
    distance_outside,
    image_ref,
    lift_bar,
    lift_opening,
    lift_point,
)
from hiervla.representations import (
    AffordanceMap,
    Artifact,
    CameraFrame,
    ImageRef,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    PlanError,
    Provenance,
    Refusal,
    SeenThing,
    SkillSignature,
    Step,
    SubtaskList,
)

if TYPE_CHECKING:
    from hiervla.planner.embedded.generation import Generated
    from hiervla.planner.embedded.modeling import Seen
    from hiervla.planner.embedded.pointing import PointRequest
    from hiervla.planner.embedded.vision import Slot

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The checkpoint that ships with the package."""
_LOW: Final = ("plate", "spill")
"""Things that hardly rise above what they lie on."""


class EmbeddedPlanner:
    """Plans with the small model of `hiervla.planner.embedded`; needs no network and no GPU.

    Args:
        path: folder of a checkpoint; the one that ships with the package by default.
        camera: name of the camera that it looks through.

    Attributes:
        rejected: attempts of the last question that did not pass the checks.
        kinds: kinds of intermediate that it can say its steps as.
        looks_over: it can tell from a picture and what was done that nothing is left to do.

    Raises:
        CheckpointError: the folder holds no readable checkpoint of this model.
    """

    kinds = KINDS
    looks_over = True

    def __init__(self, path: Path | str | None = None, camera: str = "front") -> None:
        self.camera = camera
        self.rejected: tuple[RejectedAttempt, ...] = ()
        self._model, self._decoder, self.id = load_planner(Path(path) if path is not None else WEIGHTS)
        self._words = known_words(self._decoder.tokenizer)
        self._boxes: dict[str, list[Slot]] = {}
        self._known: dict[str, SkillSignature] = {}

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """A plan whose remaining steps lead from here to the goal, or a polite no.

        Raises:
            CameraError: the planner's camera is not in the observation.
        """
        self.rejected = ()
        instruction = amended(instruction, without_motions(context.said))
        began = time.perf_counter()
        frame = observation.frame(self.camera)
        records = context.history[-MAX_HISTORY:]
        known = handled(records)
        seen, slots = self._look(frame, [n for n in named(instruction) if n not in known])
        names = self._model.scene_slots(seen.slots[0])
        words = names.names()
        if not instruction.strip():
            return Refusal(
                reason="empty_instruction",
                message='Tell me what to do, for example "put the red mug on the top shelf".',
                seen=tuple(words),
                provenance=Provenance(model=self.id, latency_s=time.perf_counter() - began),
            )
        self._known = signatures = {s.name: s for s in context.skills}
        lines = [record_line(r.step, r.outcome == "succeeded", r.source, signatures.get(r.step.skill)) for r in records]
        prompt = prompt_text(instruction, lines)
        provenance = Provenance(
            model=self.id,
            prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
            sampling={"decoding": "greedy", "grammar": "json_schema", "seed": context.seed},
        )
        try:
            found = answered(self._decoder, names, instruction, records, lines, context)
        except PlanError as error:
            self.rejected = (RejectedAttempt(raw_text="", problem=str(error)),)
            return Refusal(
                reason="not_understood",
                message="I could not make a plan of that; please say it in fewer or other words.",
                seen=tuple(words),
                provenance=provenance.replace(latency_s=time.perf_counter() - began),
            )
        answer, names = found.generated, found.slots
        if found.absent:
            provenance = provenance.replace(sampling={**provenance.sampling, "not in view": found.absent})
        provenance = provenance.replace(raw_text=answer.text)
        if answer.requests:
            taken_apart = {**provenance.sampling, "requests": " | ".join(answer.requests)}
            provenance = provenance.replace(sampling=taken_apart)
        draft = answer.draft
        done = tuple(dict.fromkeys(k for k in draft.done if k < len(records)))
        if draft.refuse is not None or (not draft.remaining and not any(r.outcome == "succeeded" for r in records)):
            draft = draft if draft.refuse is not None else replace(draft, refuse="nothing_to_do")
            assert draft.refuse is not None
            unknown = unknown_words(instruction, self._words, context.skills)
            return Refusal(
                reason=draft.refuse,
                message=refusal_message(draft, words, found.hidden, unknown),
                missing=(draft.missing,) if draft.missing else (),
                unknown=unknown,
                seen=tuple(words),
                provenance=provenance.replace(latency_s=time.perf_counter() - began),
            )
        image = image_ref(frame)
        finished = [records[k].step.replace(id=f"s{n + 1}", artifacts=(), depends_on=()) for n, k in enumerate(done)]
        steps = say_steps(
            self._steps(answer, names, slots, seen, signatures, image, len(finished)),
            context, observation, frame, slots, self._ground,
        )  # fmt: skip
        if not records:
            in_view = things_of(self._model.scene_slots(seen.slots[0]), slots)
            asked = question(instruction, in_view, steps, self._words, context.skills)
            if asked is not None and context.may_ask:
                provenance = provenance.replace(latency_s=time.perf_counter() - began)
                return asked.replace(seen=tuple(words), provenance=provenance)
            if asked is not None:
                provenance = provenance.replace(sampling={**provenance.sampling, "guessed": asked.message})
        told = corrections(context)
        if steps and told:
            steps = (steps[0].replace(artifacts=(*steps[0].artifacts, *told)), *steps[1:])
        provenance = provenance.replace(latency_s=time.perf_counter() - began)
        return Plan(
            goal=instruction.strip(),
            steps=(*finished, *steps),
            done=tuple(s.id for s in finished),
            remaining=tuple(s.id for s in steps),
            scene=scene_of(slots, image) + ((subtasks_of((*finished, *steps)),) if context.emit == "subtasks" else ()),
            provenance=provenance,
        )

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """The same plan with the artifacts of its remaining steps found anew; None if the next step's is not in view.

        Things are found by name; of several with one name, the one nearest to where the step pointed before. A later
        step whose thing is out of view goes without artifacts until its turn comes.

        Raises:
            CameraError: the planner's camera is not in the observation.
        """
        self.rejected = ()
        began = time.perf_counter()
        frame = observation.frame(self.camera)
        steps = [plan.step(i) for i in plan.remaining]
        seen, slots = self._look(frame, [value for s in steps for value in s.args.values()])
        self._known |= {s.name: s for s in context.skills}
        if any(s.skill not in {k.name for k in context.skills} for s in steps):
            return None
        asked = self._requests(steps, self._known, seen, slots)
        if steps and (not asked or asked[0][0] != 0):
            return None
        image = image_ref(frame)
        pointed = self._point(asked, self._model.scene_slots(seen.slots[0]), slots, seen, image)
        again = [plan.step(i).replace(artifacts=pointed.get(k, ())) for k, i in enumerate(plan.remaining)]
        said = say_steps(again, context, observation, frame, slots, self._ground)
        kept = kept_motions(plan.step(plan.remaining[0])) if plan.remaining else ()
        fresh = {s.id: s if k else s.replace(artifacts=(*s.artifacts, *kept)) for k, s in enumerate(said)}
        return plan.replace(
            steps=tuple(fresh.get(s.id, s) for s in plan.steps),
            scene=scene_of(slots, image),
            provenance=Provenance(model=self.id, latency_s=time.perf_counter() - began),
        )

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """Everything that the model sees, from left to right; see :class:`hiervla.planner.seeing.Seeing`."""
        self.rejected = ()
        seen, slots = self._look(observation.frame(self.camera))
        return things_of(self._model.scene_slots(seen.slots[0]), slots)

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step with its keypoints lifted to the world frame.

        Raises:
            GroundingError: a keypoint stands on nothing, outside of the workspace or away from its thing, or it
                belongs to another image; or the step has none.
            CameraError: the camera gives no depth.
        """
        frame = observation.frame(self.camera)
        frame.require_depth()
        if any(isinstance(a, SubtaskList) for a in step.artifacts):
            step = self._found_by_name(frame, step)
        return ground_step(observation, frame, step, self._ground)

    def _found_by_name(self, frame: CameraFrame, step: Step) -> Step:
        """A step that says only in words where: its keypoint, looked for by the names in it."""
        if any(isinstance(a, Keypoints) for a in step.artifacts):
            return step
        seen, slots = self._look(frame)
        asked = self._requests([step], {step.skill: self._known[step.skill]}, seen, slots)
        pointed = self._point(asked, self._model.scene_slots(seen.slots[0]), slots, seen, image_ref(frame))
        return step.replace(artifacts=(*step.artifacts, *pointed.get(0, ())[:1]))

    def _requests(
        self, steps: Sequence[Step], signatures: Mapping[str, SkillSignature], seen: Seen, slots: Sequence[Slot]
    ) -> list[tuple[int, PointRequest, Any]]:
        """What to point at for steps that name things in words, by index; nothing for what is not in view."""
        from hiervla.planner.embedded.pointing import request_of

        names = self._model.scene_slots(seen.slots[0])
        words = names.names()
        kinds = [names.category_of(i) for i in range(len(names))]
        asked: list[tuple[int, PointRequest, Any]] = []
        for k, step in enumerate(steps):
            call = {"skill": step.skill} | {n: _slot_of(w, words, slots, step) for n, w in step.args.items()}
            request = request_of(call, signatures[step.skill], kinds)
            if request is not None:
                asked.append((k, request, None))
        return asked

    def _look(self, frame: CameraFrame, names: Iterable[str] = ()) -> tuple[Seen, list[Slot]]:
        """What the model sees, things of these names looked for with care, and its slots in pixels of the frame."""
        from hiervla.planner.embedded.processing import HierVLAPlannerImageProcessor

        height, width = self._model.image_size
        pixels = HierVLAPlannerImageProcessor(height, width).preprocess(frame.rgb)["pixel_values"]
        seen = self._model.seek(pixels, self._model.see(pixels), names)
        sx, sy = frame.width / width, frame.height / height
        slots = []
        for s in seen.slots[0]:
            a, b, c, d = s.box
            slots.append(replace(s, u=s.u * sx, v=s.v * sy, box=(a * sx, b * sy, c * sx, d * sy)))
        self._boxes = {frame.sha256: slots}
        return seen, slots

    def _steps(
        self,
        answer: Generated,
        names: SceneSlots,
        slots: Sequence[Slot],
        seen: Seen,
        signatures: Mapping[str, SkillSignature],
        image: ImageRef,
        first: int,
    ) -> list[Step]:
        from hiervla.planner.embedded.pointing import request_of

        kinds = [names.category_of(i) for i in range(len(names))]
        calls = answer.draft.remaining
        asked: list[tuple[int, PointRequest, Any]] = []
        for k, call in enumerate(calls):
            request = request_of(call, signatures[call["skill"]], kinds)
            if request is not None and (request.slot is None or request.slot < len(slots)):
                where = answer.argument_tokens[k].get(request.argument)
                asked.append((k, request, answer.hidden[where] if where is not None else None))
        pointed = self._point(asked, names, slots, seen, image)
        steps: list[Step] = []
        for k, call in enumerate(calls):
            args = {name: _word(value, names) for name, value in call.items() if name != "skill"}
            if call["skill"] == "pick" and call["object"][1:].isdigit():
                args["source"] = names.source(int(call["object"][1:]))
            before, after = conditions(call["skill"], args, signatures[call["skill"]])
            steps.append(
                Step(
                    id=f"s{first + k + 1}",
                    skill=call["skill"],
                    args=args,
                    text=step_text(call["skill"], args),
                    artifacts=pointed.get(k, ()),
                    depends_on=tuple(f"s{first + j + 1}" for j in _needs(calls, k)),
                    preconditions=before,
                    postconditions=after,
                )
            )
        return steps

    def _point(
        self,
        asked: Sequence[tuple[int, PointRequest, Any]],
        names: SceneSlots,
        slots: Sequence[Slot],
        seen: Seen,
        image: ImageRef,
    ) -> dict[int, tuple[Artifact, ...]]:
        """Keypoint and affordance map for each request: (key, request, state of the language model or None)."""
        from hiervla.planner.embedded.pointing import make_batch

        if not asked:
            return {}
        height, width = self._model.image_size
        rows = [(0, request, seen.slots[0], state) for _, request, state in asked]
        batch = make_batch(rows, width, height, self._model.language.config.hidden_size)
        maps, points, mass = self._model.point(seen.dense, batch)
        sx, sy = image.width / width, image.height / height
        found: dict[int, tuple[Artifact, ...]] = {}
        for n, (key, request, _) in enumerate(asked):
            u, v = (float(c) for c in points[n])
            sure = float(mass[n]) * (1.0 if request.slot is None else slots[request.slot].score)
            if request.role == "object" and request.slot is not None:
                slot = slots[request.slot]
                if distance_outside(u * sx, v * sy, slot.box) > _NEAR_PX:
                    # Attention and detection disagree about where the named thing is: go by where it was seen.
                    u, v, sure = slot.u / sx, slot.v / sy, 0.5 * sure
            values, label = maps[n].numpy().astype(np.float32), _label(request, names)
            point = Keypoint(label=label, u=u * sx, v=v * sy, confidence=min(max(sure, 0.0), 1.0))
            found[key] = (
                Keypoints(image=image, points=(point,)),
                AffordanceMap(image=image, label=label, values=values / values.sum()),
            )
        return found

    def _ground(self, frame: CameraFrame, step: Step, point: Keypoint) -> Keypoint:
        slots = self._boxes.get(frame.sha256)
        if slots is None:
            _, slots = self._look(frame)
        if step.skill == "throw_away":
            bins = [s for s in slots if s.category_name == "bin"]
            if not bins:
                raise UngroundedError(point.label, point.u, point.v, "there is no bin in view")
            check_inside("bin", point, bins[0].box, frame.width)
            lifted = lift_opening(frame, point.u, point.v, bins[0].box, point.label)
        elif step.skill in ("open_drawer", "close_drawer"):
            lifted = lift_bar(frame, point.u, point.v, point.label)
        else:
            lifted = lift_point(frame, point.u, point.v, point.label)
        if step.skill in ("pick", "wipe"):
            named = step.args.get("object", step.args.get("surface", ""))
            near = [s for s in slots if s.name == named]
            if not near and step.skill == "pick":
                raise UngroundedError(point.label, point.u, point.v, f"no {named} is seen anywhere")
            if near:
                s = min(near, key=lambda s: float(np.hypot(s.u - point.u, s.v - point.v)))
                check_inside(named, point, s.box, frame.width)
                if step.skill == "pick" and s.category_name not in _LOW and lifted.position_w[2] < 0.006:
                    raise UngroundedError(point.label, point.u, point.v, "it shows the bare table")
        check_workspace(point.label, point, lifted.position_w)
        return point.replace(position_w=lifted.position_w, confidence=point.confidence * lifted.confidence)


def _word(value: str, names: SceneSlots) -> str:
    if value.startswith("o") and value[1:].isdigit() and int(value[1:]) < len(names):
        return names.name(int(value[1:]))
    return value


_NEAR_PX: Final = 6.0
"""A keypoint further than this outside of its thing's box does not mean that thing [px]."""


def _slot_of(word: str, words: Sequence[str], slots: Sequence[Slot], step: Step) -> str:
    """The slot that a step's argument names, as ``o3``; the word itself where nothing in view has that name."""
    same = [i for i, w in enumerate(words) if w == word]
    if not same:
        return word
    before = next((a.points[0] for a in step.artifacts if isinstance(a, Keypoints)), None)
    if before is None:
        return f"o{same[0]}"
    return f"o{min(same, key=lambda i: float(np.hypot(slots[i].u - before.u, slots[i].v - before.v)))}"


def _label(request: PointRequest, names: SceneSlots) -> str:
    thing = "table" if request.slot is None else names.name(request.slot)
    return thing if request.role == "object" else f"{request.role.replace('_', ' ')} {thing}"


def _needs(calls: Sequence[Mapping[str, str]], k: int) -> list[int]:
    """Earlier steps that step `k` needs: the last one about each thing that it speaks of, and what fills the hand."""

    def things(call: Mapping[str, str]) -> set[str]:
        return {v for name, v in call.items() if name != "skill" and v[:1] == "o" and v[1:].isdigit()}

    needed = set()
    for thing in things(calls[k]):
        earlier = [j for j in range(k) if thing in things(calls[j])]
        needed.update(earlier[-1:])
    if calls[k]["skill"] == "wipe":
        needed.update([j for j in range(k) if calls[j]["skill"] == "pick"][-1:])
    return sorted(needed)
