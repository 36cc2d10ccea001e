"""What the model is told: the skills that exist, how to answer, what was tried, and the instruction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hiervla.planner.base import Objection, PlannerContext, StepRecord
from hiervla.planner.embedded.wording import step_text
from hiervla.planner.vlm.answers import SCALE, has_point
from hiervla.planner.vlm.backend import Message
from hiervla.representations import Parameter, SkillSignature, Step

POINT_AT: Final[Mapping[str, str]] = {
    "pick": "a visible point in the middle of the object",
    "place": "the free spot where the object shall go",
    "throw_away": "the middle of the bin's opening",
    "open_drawer": "the middle of the handle",
    "close_drawer": "the middle of the handle",
    "wipe": "the middle of the spill",
}
"""What the point of a step means for the built-in skills, as `docs/conventions.md` has it."""
_ELSE: Final = "the middle of what the skill is about"

_POINTS: Final = (
    f'A point is {{"x": ..., "y": ...}}: whole numbers from 0 to {SCALE}, x from the left edge of the image to the '
    f"right edge, y from the top edge to the bottom edge."
)
_FORM: Final = """Answer with one JSON object and nothing else. Either a plan:
{"seen": ["red mug", "blue block"], "answer": {"steps": [STEP]}}
or a refusal:
{"seen": ["red mug", "blue block"], "answer": {"refuse": "not_in_scene", "message": "There is no green mug.", \
"missing": ["green mug"]}}
"seen" lists what you see. Names are short, in lower case, with the colour first: "red mug". Reasons to refuse: \
"not_in_scene" (something that is asked for is not in the image; name it in "missing"), "nothing_to_do" (all is as it \
was asked for), "cannot_do" (no skill does that), "not_understood". Only "not_in_scene" has "missing"."""

_ASK: Final = """
Where the instruction can mean several things that you see, do not guess but ask:
{"seen": [...], "answer": {"refuse": "ambiguous", "message": "Which block do you mean?", \
"candidates": ["red block", "blue block"]}}"""


def plan_prompt(instruction: str, context: PlannerContext, *, points: bool = True) -> Message:
    """The question for a plan.

    Args:
        instruction: free text.
        context: skills and history.
        points: whether steps carry points.
    """
    step = '{"skill": "...", "args": {...}' + (', "point": {"x": 512, "y": 300}}' if points else "}")
    parts = [
        "You plan for a robot arm that you see through the camera that took this image. Plan the steps that are still "
        "to do from what the image shows now, in order, so that the instruction is fulfilled.",
        "Skills, with their arguments:\n" + "\n".join(_skill(s, points) for s in context.skills),
        *([_POINTS + " Every step of a skill with a point has one."] if points else []),
        _FORM.replace("STEP", step) + (_ASK if context.may_ask else ""),
        history_text(context.history),
        *situation(instruction, context),
    ]
    return Message("user", "\n\n".join(p for p in parts if p))


def situation(instruction: str, context: PlannerContext) -> list[str]:
    """What is out of sight, what was asked for, and what was said since."""
    unseen = [f"{r.name} ({r.place})" if r.place else r.name for r in context.unseen]
    return [
        f"Seen before and out of sight now: {', '.join(unseen)}." if unseen else "",
        f"Instruction: {' '.join(instruction.split())}",
        *(f"Said since then, and it counts more: {' '.join(words.split())}" for words in context.said),
    ]


def objected(objections: Sequence[Objection]) -> list[Message]:
    """The turns of the conversation in which earlier answers to this question were sent back."""
    turns = ((Message("assistant", o.raw_text), repair_prompt(o.problem)) for o in objections)
    return [message for pair in turns for message in pair]


def point_prompt(step: Step) -> Message:
    """The question where a step's point is now."""
    what = POINT_AT.get(step.skill, _ELSE)
    text = (
        f"You guide a robot arm that you see through the camera that took this image. Its next step: {step}.\n"
        f"Point at {what}. {_POINTS}\n"
        'Answer with one JSON object and nothing else: {"point": {"x": 512, "y": 300}}, or {"point": null} if it is '
        "not in view."
    )
    return Message("user", text)


def repair_prompt(problem: str) -> Message:
    """What the model is told about an answer that could not be taken."""
    return Message(
        "user",
        f"That answer cannot be taken: {problem}.\nAnswer again with one JSON object of the form asked for and nothing "
        "else.",
    )


def prompt_bytes(messages: Sequence[Message], images: Sequence[str], schema: Mapping[str, Any]) -> bytes:
    """Everything that the answer depends on besides the sampling, for the hash in the provenance.

    Args:
        messages: the conversation.
        images: content hashes of the images.
        schema: JSON Schema of the answer.
    """
    turns = [[m.role, m.text] for m in messages]
    return json.dumps([turns, list(images), schema], sort_keys=True, ensure_ascii=False).encode()


def _skill(signature: SkillSignature, points: bool) -> str:
    names = ", ".join(p.name for p in signature.params)
    lines = [f"- {signature.name}({names})" + (f": {signature.doc}" if signature.doc else "")]
    lines += [f"    {p.name}: {_parameter(p)}" for p in signature.params]
    if points and has_point(signature):
        lines.append(f"    point: {POINT_AT.get(signature.name, _ELSE)}")
    return "\n".join(lines)


def _parameter(parameter: Parameter) -> str:
    kinds = {"object": "a thing in the image", "location": "a thing or place in the image", "number": "a number"}
    if parameter.type == "choice":
        text = "one of " + ", ".join(parameter.choices)
    else:
        text = kinds.get(parameter.type, "text")
    if parameter.categories:
        text += " (" + ", ".join(c.replace("_", " ") for c in parameter.categories) + ")"
    return text + (f"; {parameter.doc}" if parameter.doc else "")


def history_text(history: Sequence[StepRecord]) -> str:
    """What was tried so far, for the model; empty when nothing was."""
    if not history:
        return ""
    lines = [
        f"{k}. {r.step.text or step_text(r.step.skill, r.step.args)}: {r.outcome.replace('_', ' ')}"
        for k, r in enumerate(history, 1)
    ]
    return (
        "What was tried so far, oldest first. What succeeded is not planned again unless the image shows that it came "
        "undone; what failed is tried again, or in another way:\n" + "\n".join(lines)
    )
