"""A vision-language model's program: asked for as JSON or code, its types checked before anybody runs it.

Under a grammar a program is a list of lines in single quotes only, which every server's schema engine keeps to. Models
that write free text may answer with a fenced block of Python instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, TypeVar

from pydantic import Field, TypeAdapter

from hiervla.planner.base import PlannerContext
from hiervla.planner.vlm.answers import (
    AnswerError,
    Missing,
    Refuse,
    SeenNames,
    checked,
    json_object,
    object_schema,
    plain_schema,
)
from hiervla.planner.vlm.backend import Message
from hiervla.planner.vlm.errors import UnreadableAnswerError
from hiervla.planner.vlm.prompt import history_text, situation
from hiervla.representations import CameraFrame, Plan, Program, Provenance, Refusal, SkillSignature
from hiervla.skills.programs import ProgramError, ProgramLimits, Vocabulary, check_program

T = TypeVar("T")

MAX_LINES: Final = 80
Line = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{0,160}$")]
_Lines = Annotated[tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES)]
_CODE: Final = re.compile(r"```(?:python|py)\s*\n(.*?)\n?\s*```", re.DOTALL)


class Ask(Protocol):
    """Asks the model, and asks again what cannot be taken; see ``VLMPlanner``."""

    def __call__(
        self, frame: CameraFrame, question: Message, schema: Mapping[str, Any], read: Callable[[str], T], seed: int
    ) -> tuple[T | None, Provenance]:
        """The answer as it was read, None after all repairs, and how it came about."""
        ...


@dataclass(frozen=True)
class ProgramDraft:
    """An answer that passed the checks: a program, or a refusal."""

    source: str = ""
    seen: tuple[str, ...] = ()
    refuse: Refuse | Missing | None = None


def program_answer(
    ask: Ask, frame: CameraFrame, instruction: str, context: PlannerContext, attempts: int
) -> Plan | Refusal:
    """The model's program as a plan without steps, or its refusal.

    Args:
        ask: asks the model.
        frame: what it sees.
        instruction: free text.
        context: skills and history.
        attempts: how often it may answer, for the message.

    Raises:
        BackendError: the model gives no answer, or none that can be read.
        MissingDependencyError: pydantic-monty is not installed.
    """
    draft, provenance = ask(
        frame,
        program_prompt(instruction, context),
        program_schema(),
        lambda text: read_program(text, context.skills),
        context.seed,
    )
    if draft is None:
        problem = f"its model gave no program that can be run in {attempts} attempts"
        raise UnreadableAnswerError(provenance.model, problem, "Use a larger model, or ask it for plans")
    if draft.refuse is not None:
        no = draft.refuse
        missing = no.missing if isinstance(no, Missing) else ()
        return Refusal(reason=no.refuse, message=no.message, missing=missing, seen=draft.seen, provenance=provenance)
    return Plan(
        goal=instruction.strip(),
        steps=(),
        remaining=(),
        program=Program(source=draft.source, provenance=provenance),
        provenance=provenance,
    )


def program_schema() -> dict[str, Any]:
    """JSON Schema of every answer."""
    branches = [object_schema({"program": plain_schema(TypeAdapter(_Lines))})]
    branches += [plain_schema(TypeAdapter(Refuse)), plain_schema(TypeAdapter(Missing))]
    return object_schema({"seen": plain_schema(TypeAdapter(SeenNames)), "answer": {"anyOf": branches}})


def read_program(text: str, signatures: Sequence[SkillSignature], limits: ProgramLimits | None = None) -> ProgramDraft:
    """The program of an answer, its types checked against the skills that exist now.

    Raises:
        AnswerError: it is neither such an object nor a block of code, or the program may not run; the message has what
            the checker says, with lines.
    """
    code = _CODE.search(text)
    if code is not None:
        draft = ProgramDraft(code[1] + "\n")
    else:
        value = json_object(text)
        if set(value) != {"seen", "answer"} or not isinstance(value["answer"], dict):
            raise AnswerError('the object must have exactly the properties "seen" and "answer", an object')
        seen, body = checked(TypeAdapter(SeenNames), value["seen"], "seen"), value["answer"]
        if "refuse" in body:
            kind = Missing if body["refuse"] == "not_in_scene" else Refuse
            return ProgramDraft(seen=seen, refuse=checked(TypeAdapter(kind), body, "answer"))
        if set(body) != {"program"}:
            raise AnswerError('"answer" must have "program", a list of lines, or "refuse" and "message"')
        lines = checked(TypeAdapter(_Lines), body["program"], "answer.program")
        draft = ProgramDraft("\n".join(lines) + "\n", seen)
    try:
        check_program("answer", draft.source, Vocabulary(signatures), limits)
    except ProgramError as error:
        raise AnswerError("; ".join(str(p) for p in error.problems[:4])) from error
    return draft


def program_prompt(instruction: str, context: PlannerContext) -> Message:
    """The question for a program."""
    parts = [
        "You plan for a robot arm that you see through the camera that took this image. Write a small Python program "
        "that does what is still to do from what the image shows now, so that the instruction is fulfilled.",
        f"All that it may call:\n{Vocabulary(context.skills).stubs()}",
        _RULES,
        history_text(context.history),
        *situation(instruction, context),
    ]
    return Message("user", "\n\n".join(p for p in parts if p))


_RULES: Final = """Every call of a skill moves the robot and returns an Outcome; look at .succeeded before the next \
call where it may fail, since a failure that was not looked at ends the program. Ask see, count, things, is_on again \
after each move: they look at a new image. No imports and no files. Write strings in single quotes.
Answer with one JSON object and nothing else. Either a program, one string a line:
{"seen": ["red mug", "blue block"], "answer": {"program": ["for name in things('mug', on='table'):", \
"    if pick(name).succeeded:", "        place(name, 'in', 'drawer')"]}}
or a refusal:
{"seen": ["red mug", "blue block"], "answer": {"refuse": "not_in_scene", "message": "There is no green mug.", \
"missing": ["green mug"]}}
Names are short, in lower case, with the colour first: "red mug". Reasons to refuse: "not_in_scene" (name what is not \
in the image in "missing"), "nothing_to_do", "cannot_do" (no skill does that), "not_understood"."""
