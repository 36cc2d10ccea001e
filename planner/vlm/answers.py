"""What a vision-language model may answer: types and JSON Schema from the skills that exist, and the reading of it.

The schema keeps to what servers agree on (OpenAI's strict mode is the narrowest): the root is an object, every
property is required, nothing else is allowed, alternatives are `anyOf`, there are no references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Union

from pydantic import BeforeValidator, Field, FiniteFloat, TypeAdapter, ValidationError, create_model

from hiervla.representations import HiervlaError, Parameter, SkillSignature, Typed

SCALE: Final = 1000
"""Points are whole numbers from 0 to this: x from the left edge to the right one, y from the top edge to the bottom."""
MAX_STEPS: Final = 24
MAX_SEEN: Final = 24
_FENCE: Final = re.compile(r"^\s*```(?:json)?\s*\n?(.*?)\n?\s*```\s*$", re.DOTALL)


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9 '_-]{0,47}$"), BeforeValidator(_lower)]
"""What a thing is called: lower-case words such as "red mug"."""
Sentence = Annotated[str, Field(pattern=r"^[ !#-\[\]-~]{1,200}$")]
"""One line of plain ASCII without quotes and backslashes: what every server's schema engine was seen to keep to."""
Number = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]
Coordinate = Annotated[int, Field(ge=0, le=SCALE)]
Reason = Literal["nothing_to_do", "cannot_do", "not_understood"]


class AnswerError(HiervlaError, ValueError):
    """A model's answer that cannot be taken.

    Attributes:
        problem: what is wrong with it, in words that the model is told.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"the planner's model gave an answer that cannot be taken: {problem}.")
        self.problem = problem


class Point(Typed):
    """A point in the image. Named coordinates, because model families differ in the order of unnamed ones."""

    x: Coordinate
    y: Coordinate


class Refuse(Typed):
    """No plan, and why."""

    refuse: Reason
    message: Sentence


class Missing(Typed):
    """No plan, because something is not in the image."""

    refuse: Literal["not_in_scene"]
    message: Sentence
    missing: tuple[Name, ...] = Field(min_length=1, max_length=4)


class Which(Typed):
    """No plan, because what was said can mean several things; only where somebody can be asked."""

    refuse: Literal["ambiguous"]
    message: Sentence
    candidates: tuple[Name, ...] = Field(min_length=2, max_length=6)


No = Refuse | Missing | Which
"""Any refusal."""
_KINDS: Final[Mapping[str, type[No]]] = {"not_in_scene": Missing, "ambiguous": Which}


class Where(Typed):
    """Where something is now; no point when it is not in view."""

    point: Point | None


@dataclass(frozen=True)
class Call:
    """One step of an answer: a skill, its arguments as words, and where it points."""

    skill: str
    args: Mapping[str, str]
    point: Point | None


@dataclass(frozen=True)
class Draft:
    """An answer that passed the checks.

    Attributes:
        seen: what the model says that it sees.
        calls: the steps; empty for a refusal.
        refuse: the refusal, or None.
    """

    seen: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    refuse: No | None = None


def has_point(signature: SkillSignature) -> bool:
    """Whether a step of this skill points at something: it speaks of an object or a place, and a point is of use."""
    return "keypoints" in signature.accepts and any(p.type in ("object", "location") for p in signature.params)


def answer_schema(
    signatures: Sequence[SkillSignature], *, points: bool = True, may_ask: bool = False
) -> dict[str, Any]:
    """JSON Schema of every answer that makes sense with these skills.

    Args:
        signatures: the skills that exist.
        points: whether steps carry the point that they are about.
        may_ask: whether it may be asked back which of several things is meant.
    """
    branches = [plain_schema(TypeAdapter(Refuse)), plain_schema(TypeAdapter(Missing))]
    if may_ask:
        branches.append(plain_schema(TypeAdapter(Which)))
    if signatures:
        steps = {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_STEPS,
            "items": plain_schema(_calls(tuple(signatures), points)),
        }
        branches.insert(0, object_schema({"steps": steps}))
    return object_schema({"seen": plain_schema(TypeAdapter(SeenNames)), "answer": {"anyOf": branches}})


def point_schema() -> dict[str, Any]:
    """JSON Schema of the answer to "where is it now?"."""
    return plain_schema(TypeAdapter(Where))


def read_answer(
    text: str, signatures: Sequence[SkillSignature], *, points: bool = True, may_ask: bool = False
) -> Draft:
    """The answer, checked against the types that :func:`answer_schema` describes.

    Raises:
        AnswerError: it is no JSON, or does not fit.
    """
    value = json_object(text)
    if set(value) != {"seen", "answer"}:
        raise AnswerError(f'the object must have exactly the properties "seen" and "answer", not {sorted(value)}')
    seen = checked(TypeAdapter(SeenNames), value["seen"], "seen")
    body = value["answer"]
    if not isinstance(body, dict):
        raise AnswerError('"answer" must be an object with "steps" or "refuse"')
    if "refuse" in body:
        if body["refuse"] == "ambiguous" and not may_ask:
            raise AnswerError("nobody can be asked which thing is meant; take the likeliest one, or refuse otherwise")
        kind = _KINDS.get(str(body["refuse"]), Refuse)
        return Draft(seen, refuse=checked(TypeAdapter(kind), body, "answer"))
    if set(body) != {"steps"} or not isinstance(body["steps"], list):
        raise AnswerError('"answer" must have "steps", a list, or "refuse" and "message"')
    steps = body["steps"]
    if not signatures or not 1 <= len(steps) <= MAX_STEPS:
        raise AnswerError(f"there are {len(steps)} steps, where 1 to {MAX_STEPS if signatures else 0} can be")
    adapter = _calls(tuple(signatures), points)
    parsed = [checked(adapter, step, f"answer.steps[{k}]") for k, step in enumerate(steps)]
    return Draft(seen, tuple(Call(s.skill, _words(s.args), getattr(s, "point", None)) for s in parsed))


def read_point(text: str) -> Point | None:
    """Where the thing is, None when it is not in view.

    Raises:
        AnswerError: the text is not such an answer.
    """
    where: Where = checked(TypeAdapter(Where), json_object(text), "answer")
    return where.point


SeenNames = Annotated[tuple[Name, ...], Field(max_length=MAX_SEEN)]
"""What a model lists as seen."""


@lru_cache(maxsize=32)
def _calls(signatures: tuple[SkillSignature, ...], points: bool) -> TypeAdapter[Any]:
    """Any call of any of the skills."""
    models: list[Any] = []
    for signature in signatures:
        # Aliases, because a parameter may be called as a method of the base class is.
        fields: dict[str, Any] = {
            f"p{k}": (_argument(p), Field(alias=p.name, description=p.doc or None))
            for k, p in enumerate(signature.params)
        }
        args = create_model(f"{signature.name}_args", __base__=Typed, **fields)
        parts: dict[str, Any] = {"skill": (Literal[signature.name], ...), "args": (args, ...)}
        if points and has_point(signature):
            parts["point"] = (Point, ...)
        models.append(create_model(signature.name, __base__=Typed, **parts))
    if len(models) == 1:
        return TypeAdapter(models[0])
    any_call: Any = Annotated[Union[tuple(models)], Field(discriminator="skill")]  # noqa: UP007  made at run time
    return TypeAdapter(any_call)


def _argument(parameter: Parameter) -> Any:
    if parameter.type in ("object", "location"):
        return Name
    if parameter.type == "choice" and parameter.choices:
        return Literal[parameter.choices]
    return Number if parameter.type == "number" else Sentence


def _words(args: Typed) -> dict[str, str]:
    values = args.model_dump(by_alias=True)
    return {name: str(v) for name, v in values.items()}


def json_object(text: str) -> dict[str, Any]:
    """The object in a text, which may stand in a fence.

    Raises:
        AnswerError: there is none.
    """
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"it is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise AnswerError("it is no JSON object")
    return value


def checked(adapter: TypeAdapter[Any], value: Any, place: str) -> Any:
    """A value of a type.

    Raises:
        AnswerError: it is none; the message says where and why.
    """
    try:
        return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        problems = []
        for e in error.errors(include_url=False, include_context=False)[:4]:
            where = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in e["loc"])
            problems.append(f"{place}{where}: {e['msg'][0].lower()}{e['msg'][1:]}")
        raise AnswerError("; ".join(problems)) from error
    except ValueError as error:
        # Lone surrogates and the like: JSON can write them, UTF-8 cannot.
        raise AnswerError(f"{place}: {error}") from error


def object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object with exactly these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def plain_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The schema of a type without references, titles and the words that only some servers know."""
    schema = adapter.json_schema()
    defs = schema.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(n) for n in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return plain(defs[node["$ref"].rsplit("/", 1)[-1]])
        if node.get("type") == "object":
            return object_schema({name: plain(n) for name, n in node.get("properties", {}).items()})
        rename = {"oneOf": "anyOf"}
        dropped = {"title", "default", "discriminator", "description"}
        return {rename.get(k, k): plain(v) for k, v in node.items() if k not in dropped}

    out: dict[str, Any] = plain(schema)
    return out
