"""What a vision-language model says that it sees, for programs that ask."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from hiervla.planner.vlm.answers import MAX_SEEN, Name, checked, json_object, plain_schema
from hiervla.planner.vlm.backend import Message
from hiervla.representations import SeenThing, Typed


class _Thing(Typed):
    name: Name
    kind: Name
    where: Name


class _Scene(Typed):
    things: Annotated[tuple[_Thing, ...], Field(max_length=MAX_SEEN)]


def scene_schema() -> dict[str, Any]:
    """JSON Schema of the answer to "what is in view?"."""
    return plain_schema(TypeAdapter(_Scene))


def read_scene(text: str) -> tuple[SeenThing, ...]:
    """The things of an answer, in its order.

    Raises:
        AnswerError: the text is not such an answer.
    """
    scene: _Scene = checked(TypeAdapter(_Scene), json_object(text), "answer")
    return tuple(
        SeenThing(name=t.name, kind=t.kind, where="" if t.where == _UNKNOWN else t.where) for t in scene.things
    )


def scene_prompt() -> Message:
    """The question what is in view."""
    return Message("user", _QUESTION)


_UNKNOWN: Final = "unknown"
_QUESTION: Final = f"""You see the workspace of a robot arm through the camera that took this image. List every thing \
in view from left to right, the furniture too. Answer with one JSON object and nothing else:
{{"things": [{{"name": "red mug", "kind": "mug", "where": "table"}}, \
{{"name": "drawer", "kind": "drawer", "where": "closed"}}]}}
Names are short, in lower case, with the colour first. "where" is the name of what it is on or in, "table", or \
"gripper"; for what opens, "open" or "closed"; "{_UNKNOWN}" where you cannot tell."""
