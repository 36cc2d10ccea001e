"""What a program may say: type stubs from the live skill library, and a call's arguments as a step's words."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hiervla.representations import ConventionError, Parameter, SkillSignature

_NAME: Final = Parameter(name="name", type="text", doc="as the planner calls it, such as 'red mug'")
_ON: Final = Parameter(name="on", type="text", default="", doc="only those on or in that thing or place")

QUESTIONS: Final[Mapping[str, tuple[SkillSignature, str]]] = {
    signature.name: (signature, returns)
    for signature, returns in (
        (SkillSignature(name="see", params=(_NAME,), doc="is such a thing in view?"), "bool"),
        (
            SkillSignature(
                name="count",
                params=(Parameter(name="kind", type="text", doc="a kind, 'mug', or a name, 'red mug'"), _ON),
                doc="how many such things are in view",
            ),
            "int",
        ),
        (
            SkillSignature(
                name="things",
                params=(Parameter(name="kind", type="text", default="", doc="a kind or a name; all by default"), _ON),
                doc="names of such things in view",
            ),
            "list[str]",
        ),
        (
            SkillSignature(
                name="is_on",
                params=(
                    Parameter(name="thing", type="text", doc="name or kind of the thing"),
                    Parameter(name="place", type="text", doc="name or kind of what is under or around it, or 'table'"),
                ),
                doc="is such a thing seen on or in such a place?",
            ),
            "bool",
        ),
        (SkillSignature(name="is_open", params=(_NAME,), doc="is it in view and open?"), "bool"),
        (SkillSignature(name="held", doc="name of the thing that the hand is believed to hold, '' for none"), "str"),
    )
}
"""Questions about what is in view, with what they answer; the planner's own vision answers them from images."""

GIVE_UP: Final = SkillSignature(
    name="give_up",
    params=(Parameter(name="message", type="text", doc="why, for a person"),),
    doc="end the program and the run as failed",
)

_HEAD: Final = '''\
from typing import Literal, NoReturn


class Outcome:
    """How a skill's step ended. Look at it: a failure that nobody has looked at by the next call ends the program."""

    # So that `if pick(...)` is an error, and not always true.
    __bool__: None

    @property
    def succeeded(self) -> bool: ...
    @property
    def outcome(
        self,
    ) -> Literal[
        "succeeded", "precondition_failed", "lost_object", "unreachable", "not_found", "timed_out", "blocked",
        "envelope_stop", "cancelled", "gave_up", "failed",
    ]: ...
    @property
    def message(self) -> str: ...

'''
_MAX_WORD: Final = 200


class ArgumentProblem(Exception):  # noqa: N818  it is raised inside the program as a TypeError or ValueError
    """A call whose arguments are none that the function can take."""


class Vocabulary:
    """Every function that a program may call.

    Attributes:
        skills: signatures of the skills among them, by name.
        left_out: skills that a program cannot name, with the reason.
    """

    def __init__(self, signatures: Iterable[SkillSignature]) -> None:
        """Make the vocabulary of a library's signatures."""
        self.skills: dict[str, SkillSignature] = {}
        self.left_out: dict[str, str] = {}
        for signature in signatures:
            reason = _unfit(signature)
            if reason:
                self.left_out[signature.name] = reason
            else:
                self.skills[signature.name] = signature

    def __contains__(self, name: object) -> bool:
        """May a program call it?"""
        return name in self.skills or name in QUESTIONS or name == GIVE_UP.name

    def stubs(self, inputs: Sequence[str] = ()) -> str:
        """Python type stubs of everything that a program may call.

        Args:
            inputs: names of strings that are given to the program.
        """
        parts = [_HEAD, *(_stub(signature, "Outcome") for signature in self.skills.values())]
        parts += [_stub(signature, returns) for signature, returns in QUESTIONS.values()]
        parts.append(_stub(GIVE_UP, "NoReturn"))
        parts += [f"{name}: str\n" for name in inputs]
        parts += [f"# not callable: {name}, {reason}\n" for name, reason in self.left_out.items()]
        return "\n".join(parts)

    def bind(self, function: str, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, str]:
        """A call's arguments by parameter, as a step holds them.

        Raises:
            ArgumentProblem: one is missing, too many, or none that its parameter can take.
        """
        signature = self._signature(function)
        names = [p.name for p in signature.params]
        if len(args) > len(names):
            raise ArgumentProblem(f"{function}() takes {len(names)} arguments, {len(args)} were given")
        given = dict(zip(names, args, strict=False))
        for name, value in named.items():
            if name not in names:
                raise ArgumentProblem(f"{function}() has no argument '{name}'; it has {', '.join(names) or 'none'}")
            if name in given:
                raise ArgumentProblem(f"{function}() got '{name}' twice")
            given[name] = value
        words: dict[str, str] = {}
        for p in signature.params:
            if p.name in given:
                words[p.name] = _word(function, p, given[p.name])
            elif p.default is None:
                raise ArgumentProblem(f"{function}() needs '{p.name}'")
            else:
                words[p.name] = p.default
        return words

    def _signature(self, function: str) -> SkillSignature:
        if function in self.skills:
            return self.skills[function]
        return GIVE_UP if function == GIVE_UP.name else QUESTIONS[function][0]


def _word(function: str, parameter: Parameter, value: object) -> str:
    if parameter.type == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentProblem(f"{function}(): '{parameter.name}' has to be a number")
        word = f"{value:.4f}".rstrip("0").rstrip(".")
    elif not isinstance(value, str) or len(value) > _MAX_WORD or not value.isprintable():
        raise ArgumentProblem(f"{function}(): '{parameter.name}' has to be a line of up to {_MAX_WORD} characters")
    else:
        word = value.strip()
        if not word and parameter.default is None:
            raise ArgumentProblem(f"{function}(): '{parameter.name}' is empty")
    try:
        parameter.check(word)
    except ConventionError as error:
        raise ArgumentProblem(f"{function}(): {error}") from None
    return word


def _unfit(signature: SkillSignature) -> str:
    """Why a skill cannot be a function of that name; empty when it can."""
    name = signature.name
    if name in QUESTIONS or name in {GIVE_UP.name, "Outcome"}:
        return "the name is that of a function of every program"
    if keyword.iskeyword(name) or hasattr(builtins, name):
        return "the name means something else in Python"
    bad = [p.name for p in signature.params if keyword.iskeyword(p.name)]
    return f"its argument '{bad[0]}' is a word of Python" if bad else ""


def _stub(signature: SkillSignature, returns: str) -> str:
    parts: list[str] = []
    named_only = False
    for p in signature.params:
        if p.default is None and not named_only and any("=" in part for part in parts):
            parts.append("*")
            named_only = True
        default = "" if p.default is None else f" = {p.default if p.type == 'number' else repr(p.default)}"
        parts.append(f"{p.name}: {_annotation(p)}{default}")
    doc = signature.doc + "".join(f"\n    {p.name}: {about}" for p in signature.params if (about := _about(p)))
    # A literal made by repr: words of strangers cannot end it.
    return f"def {signature.name}({', '.join(parts)}) -> {returns}:\n    {doc!r}\n"


def _annotation(parameter: Parameter) -> str:
    if parameter.type == "choice":
        return f"Literal[{', '.join(map(repr, parameter.choices))}]"
    return "float" if parameter.type == "number" else "str"


def _about(parameter: Parameter) -> str:
    return str(parameter.argument_schema().get("description", ""))
