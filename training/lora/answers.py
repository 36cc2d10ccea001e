"""Plans as the answers that :mod:`hiervla.planner.vlm.answers` reads: the inverse of reading."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hiervla.planner.vlm.answers import MAX_SEEN, SCALE, AnswerError, Call, Draft, Point, Refuse, has_point, read_answer
from hiervla.representations import Boxes, HiervlaError, ImageRef, Keypoints, Parameter, Plan, SkillSignature, Step

_ASIDE: Final = re.compile(r"\s*\([^()]*\)\s*$")
NOTHING_TO_DO: Final = Refuse(refuse="nothing_to_do", message="Everything is as it was asked for.")

Deed = tuple[str, tuple[tuple[str, str], ...]]
"""A skill and its arguments."""


class UnwritableError(HiervlaError, ValueError):
    """A plan that the planner's model could not have answered with.

    Attributes:
        problem: why not, in words that are the same for all plans of that fault.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"the plan cannot be an answer: {problem}. Leave it out.")
        self.problem = problem


def write_answer(draft: Draft, signatures: Sequence[SkillSignature]) -> str:
    """The answer as the constrained decoder writes it, compact; :func:`read_answer` gives the draft back.

    Raises:
        UnwritableError: the draft does not fit these skills.
    """
    by_name = {s.name: s for s in signatures}
    body: dict[str, Any]
    if draft.refuse is not None:
        body = draft.refuse.model_dump()
    else:
        body = {"steps": [_call(c, by_name) for c in draft.calls]}
    text = compact({"seen": list(draft.seen), "answer": body})
    try:
        again = read_answer(text, signatures)
    except AnswerError as error:
        raise UnwritableError(error.problem) from error
    if again != draft:
        raise UnwritableError("it would be read as another plan")
    return text


def write_point(point: Point | None) -> str:
    """The answer to "where is it now?"; :func:`~hiervla.planner.vlm.answers.read_point` gives the point back."""
    return compact({"point": None if point is None else point.model_dump()})


def plan_draft(
    plan: Plan,
    image: ImageRef,
    signatures: Sequence[SkillSignature],
    *,
    seen: Sequence[str] | None = None,
    known: Mapping[Deed, Point] | None = None,
) -> Draft:
    """What is still to do in a plan, as an answer to the question that showed this image.

    Args:
        plan: from whichever planner.
        image: the image of the question; points in another one are not taken.
        signatures: the skills that the question names.
        seen: what the answer says is in view; by default what the plan says.
        known: points in this image for steps that carry none.

    Raises:
        UnwritableError: a step has no point in this image, or is of no such skill; or the plan is a program.
    """
    if plan.program is not None:
        raise UnwritableError("a program is no list of steps")
    names = named(seen if seen is not None else plan_seen(plan))
    if not plan.remaining:
        return Draft(names, refuse=NOTHING_TO_DO)
    by_name = {s.name: s for s in signatures}
    calls = []
    for step in map(plan.step, plan.remaining):
        signature = by_name.get(step.skill)
        if signature is None:
            raise UnwritableError("a skill of it is not installed")
        args = arguments(step, signature)
        point = None
        if has_point(signature):
            point = point_of(step, image) or (known or {}).get(deed(step, signature))
            if point is None:
                raise UnwritableError("a step has no point in the image that the planner saw")
        calls.append(Call(step.skill, args, point))
    return Draft(names, tuple(calls))


def arguments(step: Step, signature: SkillSignature) -> dict[str, str]:
    """The step's arguments as an answer has them: those of the signature and no others.

    Raises:
        UnwritableError: one is missing, or is no number where it should be.
    """
    missing = [p.name for p in signature.params if p.name not in step.args]
    if missing:
        raise UnwritableError(f"{step.skill} lacks its {missing[0]}")
    return {p.name: _word(p, step.args[p.name]) for p in signature.params}


def deed(step: Step, signature: SkillSignature) -> Deed:
    """What a step does, whatever its id.

    Raises:
        UnwritableError: see :func:`arguments`.
    """
    return step.skill, tuple(arguments(step, signature).items())


def point_of(step: Step, image: ImageRef) -> Point | None:
    """The step's first keypoint in this very image, on the scale of answers."""
    for artifact in step.artifacts:
        if isinstance(artifact, Keypoints) and artifact.image.sha256 == image.sha256:
            return scaled(artifact.points[0].u, artifact.points[0].v, image.width, image.height)
    return None


def scaled(u: float, v: float, width: int, height: int) -> Point:
    """A pixel of an image as whole numbers from 0 to :data:`~hiervla.planner.vlm.answers.SCALE`."""
    x, y = (min(max(round(c / size * SCALE), 0), SCALE) for c, size in ((u, width), (v, height)))
    return Point(x=x, y=y)


def plan_seen(plan: Plan) -> list[str]:
    """What a plan says is in view: its scene's labels, or what a model wrote."""
    for artifact in plan.scene:
        if isinstance(artifact, Keypoints):
            return [p.label for p in artifact.points]
        if isinstance(artifact, Boxes):
            return [b.label for b in artifact.boxes]
    try:
        said = json.loads((plan.provenance.raw_text if plan.provenance else None) or "null")
    except ValueError:
        return []
    names = said.get("seen") if isinstance(said, dict) else None
    return [str(n) for n in names] if isinstance(names, list) else []


def named(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels as answers list them: lower case, without what stands in brackets, each that can be a name."""
    plain = [_ASIDE.sub("", label).strip().lower() for label in labels]
    fit = [n for n in plain if re.fullmatch(r"[a-z0-9][a-z0-9 '_-]{0,47}", n)]
    return tuple(fit[:MAX_SEEN])


def compact(value: Any) -> str:
    """JSON without spaces, as the grammar of the planner's decoder has it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _call(call: Call, by_name: Mapping[str, SkillSignature]) -> dict[str, Any]:
    if call.skill not in by_name:
        raise UnwritableError("a skill of it is not installed")
    kinds = {p.name: p.type for p in by_name[call.skill].params}
    args: dict[str, Any] = dict(call.args)
    for name in (n for n in args if kinds.get(n) == "number"):
        try:
            args[name] = float(args[name])
        except ValueError:
            raise UnwritableError(f"its {name} is no number") from None
    point = {} if call.point is None else {"point": call.point.model_dump()}
    return {"skill": call.skill, "args": args, **point}


def _word(parameter: Parameter, value: str) -> str:
    """An argument as reading gives it: names in lower case, numbers with their point."""
    if parameter.type in ("object", "location"):
        return _ASIDE.sub("", value).strip().lower()
    if parameter.type != "number":
        return value
    try:
        return str(float(value))
    except ValueError:
        raise UnwritableError(f"its {parameter.name} is no number") from None
