"""A program in its sandbox: checked, started, suspended at every call, answered, ended.

The interpreter is pydantic-monty: its own bytecode, heap and limits in a worker process, without files, network, clock,
environment or any object of ours. Whatever a program asks for that is no word of its vocabulary ends it.

A suspended program can be saved (:meth:`Sandbox.dump`). Monty's documentation is plain that only unmodified bytes from
a trusted producer may be loaded, and that it authenticates none; a run record may come from anybody. So nothing here
loads such bytes: to come back to a call, the program is run again from its text, with the recorded answers.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from uuid import UUID, uuid5

from hiervla.representations import MissingDependencyError
from hiervla.representations.plans import StepOutcome
from hiervla.skills.programs.errors import Problem, ProgramError
from hiervla.skills.programs.limits import ProgramLimits
from hiervla.skills.programs.vocabulary import GIVE_UP, QUESTIONS, ArgumentProblem, Vocabulary

if TYPE_CHECKING:
    import pydantic_monty

_SPACE: Final = UUID("6d0f2a4e-3b51-5c0e-9a58-5d2f3f0f7c11")
_EPOCH: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_WATCHDOG_S: Final = 10.0
_FILE: Final = "program.py"


@dataclass(frozen=True)
class CallResult:
    """How a skill's call came out; the program sees it as an ``Outcome``."""

    outcome: StepOutcome
    message: str = ""

    @property
    def succeeded(self) -> bool:
        """Did it?"""
        return self.outcome == "succeeded"


Answer = CallResult | bool | int | str | list[str]


@dataclass(frozen=True)
class Call:
    """A program waits for the answer to a call.

    Attributes:
        function: a skill, or one of the questions.
        args: its arguments as words, by parameter.
        line: in the program's text, from 1; 0 for a call in a text that the program made and evaluates.
        start: where the call begins in the text's UTF-8 bytes.
        end: where it ends, exclusive.
        printed: what was printed since the call before.
    """

    function: str
    args: dict[str, str]
    line: int
    start: int
    end: int
    printed: str = ""

    def __str__(self) -> str:
        """``pick(red mug)``."""
        return f"{self.function}({', '.join(self.args.values())})"


@dataclass(frozen=True)
class Ended:
    """A program's end.

    Attributes:
        how: it came to its end, said ``give_up``, or broke.
        message: one line for a person.
        line: where it broke.
        printed: what was printed since the last call.
    """

    how: Literal["finished", "gave_up", "failed"]
    message: str
    line: int | None = None
    printed: str = ""


@dataclass
class _Given:
    """A result that went into the program, and whether the program has looked at it."""

    call: Call
    result: CallResult
    looked: bool = False


@dataclass
class _Printed:
    text: str = ""
    left: int = 0
    limit: int = field(default=0)

    def __call__(self, stream: str, text: str) -> None:
        taken = text[: self.left]
        self.left -= len(taken)
        self.text += taken

    def taken(self) -> str:
        text, self.text = self.text, ""
        return text


class Sandbox:
    """One run of one program. Not for several threads at once."""

    def __init__(
        self,
        name: str,
        source: str,
        vocabulary: Vocabulary,
        limits: ProgramLimits | None = None,
        *,
        seed: int = 0,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            name: what messages call the program.
            source: its text.
            vocabulary: what it may call.
            limits: what it may use up.
            seed: of ``random`` inside of it.
            inputs: strings that it is given, by name.
        """
        self.name = name
        self.source = source
        self.vocabulary = vocabulary
        self.limits = limits or ProgramLimits()
        self._seed = seed
        self._inputs = dict(inputs or {})
        self._pool: Any = None
        self._session: Any = None
        self._waiting: Any = None
        self._call: Call | None = None
        self._given: dict[UUID, _Given] = {}
        self._last: _Given | None = None
        self._printed = _Printed(left=self.limits.printed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> Call | Ended:
        """Check the types, and run to the first call.

        Raises:
            ProgramError: the text does not parse, or its types are wrong; nothing of it ran.
            MissingDependencyError: pydantic-monty is not installed.
        """
        monty = _monty()
        if len(self.source) > self.limits.source:
            problem = Problem(0, f"it has {len(self.source)} characters, {self.limits.source} are allowed")
            raise ProgramError(self.name, (problem,))
        if "\0" in self.source or not _is_text(self.source):
            raise ProgramError(self.name, (Problem(0, "it holds characters that are no text"),))
        self._pool = monty.Monty(max_processes=1, request_timeout=self.limits.seconds + _WATCHDOG_S)
        try:
            self._pool.__enter__()
            limits = self.limits
            self._session = self._pool.checkout(
                script_name=_FILE,
                type_check=True,
                type_check_stubs=self.vocabulary.stubs(tuple(self._inputs)),
                type_check_format="json",
                limits={
                    "max_feed_duration_secs": limits.seconds,
                    "max_memory": limits.memory_mb * 1_000_000,
                    "max_recursion_depth": limits.recursion,
                    "max_suspensions": limits.suspensions,
                    "max_total_sleep_secs": 0.0,
                },
                # What a clock or a die says would not be the same in a replay.
                os_policy={"datetime": _EPOCH, "sleep": "zero", "random_start": {"seed": self._seed}},
            )
            self._session.__enter__()
            return self._run(
                lambda: self._session.feed_start(self.source, inputs=self._inputs, print_callback=self._printed)
            )
        except BaseException:
            self.close()
            raise

    def answer(self, value: Answer) -> Call | Ended:
        """Give the waiting call its answer, and run to the next one."""
        waiting, call = self._waiting, self._call
        assert waiting is not None and call is not None, "a program is answered when it waits for an answer"
        if isinstance(value, CallResult):
            given = _Given(call, value)
            key = uuid5(_SPACE, str(len(self._given)))
            self._given[key] = self._last = given
            return self._run(lambda: waiting.resume({"return_value": _outcome(key)}))
        return self._run(lambda: waiting.resume({"return_value": value}))

    def dump(self) -> bytes:
        """The suspended program as the sandbox saves it, about 4 kB; other bytes each time. Never load a stranger's."""
        return bytes(self._waiting.dump())

    def close(self) -> None:
        """End the worker process; may be called twice."""
        for manager in (self._session, self._pool):
            if manager is not None:
                manager.__exit__(None, None, None)
        self._session = self._pool = self._waiting = None

    def _run(self, step: Any) -> Call | Ended:
        monty = _monty()
        try:
            snapshot = step()
            while True:
                found = self._take(monty, snapshot)
                if isinstance(found, Call | Ended):
                    return found
                snapshot = found()
        except monty.MontyTypingError as error:
            raise ProgramError(self.name, _diagnostics(error.display())) from None
        except monty.MontySyntaxError as error:
            raise ProgramError(self.name, (Problem(0, str(error)),)) from None
        except monty.MontyRuntimeError as error:
            frames = error.traceback()
            return self._end("failed", _short(str(error)), frames[-1].line if frames else None)
        except monty.MontyCrashedError as error:
            return self._end("failed", f"its sandbox had to be stopped: {_short(str(error))}", None)
        except monty.MontyError as error:
            return self._end("failed", _short(str(error)), None)

    def _take(self, monty: Any, snapshot: Any) -> Any:
        """A call, the end, or how to go on."""
        if isinstance(snapshot, monty.MontyComplete):
            return self._unheeded("the end") or self._end("finished", "the program came to its end", None)
        if isinstance(snapshot, monty.NameLookupSnapshot):
            return self._look_up(snapshot)
        if not isinstance(snapshot, monty.FunctionSnapshot) or snapshot.is_os_function or snapshot.object_id:
            what = getattr(snapshot, "function_name", "a value that comes later")
            return self._end("failed", f"it asked for {what}, which no program may have", self._line(snapshot))
        name = str(snapshot.function_name)
        if name not in self.vocabulary:
            return lambda: snapshot.resume(_raised("NameError", f"name '{name}' is not defined"))
        try:
            args = self.vocabulary.bind(name, snapshot.args, snapshot.kwargs)
        except ArgumentProblem as problem:
            text = str(problem)
            return lambda: snapshot.resume(_raised("TypeError", text))
        if name == GIVE_UP.name:
            return self._end("gave_up", args["message"], self._line(snapshot))
        if name not in QUESTIONS and (ended := self._unheeded(f"the call in line {self._line(snapshot)}")):
            return ended
        at = snapshot.position
        start, end = (at.start, at.end) if self._line(snapshot) else (0, 0)
        self._waiting = snapshot
        self._call = Call(name, args, self._line(snapshot), start, end, self._printed.taken())
        return self._call

    def _look_up(self, snapshot: Any) -> Any:
        """The attribute of an outcome, or a function by its name."""
        name = str(snapshot.variable_name)
        if snapshot.object_id is None:
            if name in self.vocabulary:
                return lambda: snapshot.resume(value=_named(name))
            return snapshot.resume
        given = self._given.get(snapshot.object_id)
        if given is None or name not in {"succeeded", "outcome", "message"}:
            return snapshot.resume
        given.looked = True
        value = getattr(given.result, name)
        return lambda: snapshot.resume(value=value)

    def _unheeded(self, what: str) -> Ended | None:
        """The end of a program that goes on after a failure that it has not looked at."""
        last = self._last
        if last is None or last.looked or last.result.succeeded:
            return None
        why = f": {last.result.message}" if last.result.message else ""
        message = f"{last.call} ended as {last.result.outcome}{why}; the program had not looked at it by {what}"
        return self._end("failed", message, last.call.line)

    def _end(self, how: Literal["finished", "gave_up", "failed"], message: str, line: int | None) -> Ended:
        return Ended(how, message, line, self._printed.taken())

    def _line(self, snapshot: Any) -> int:
        """The line of a call; 0 for one in a text that the program made itself and evaluates."""
        if snapshot.position.filename.startswith("<string"):
            return 0
        return self.source.encode()[: snapshot.position.start].count(b"\n") + 1


def check_program(
    name: str,
    source: str,
    vocabulary: Vocabulary,
    limits: ProgramLimits | None = None,
    *,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """See that a program parses, that its types are right, and that it comes to a first call. Nothing moves.

    Raises:
        ProgramError: it does not.
        MissingDependencyError: pydantic-monty is not installed.
    """
    with Sandbox(name, source, vocabulary, limits, inputs=inputs) as sandbox:
        first = sandbox.begin()
    if isinstance(first, Ended) and first.how == "failed":
        raise ProgramError(name, (Problem(first.line or 0, first.message, "before-first-call"),))


def _monty() -> Any:
    try:
        import pydantic_monty
    except ImportError as error:
        raise MissingDependencyError(
            "pydantic-monty", "running a program", 'Install it with pip install "pydantic-monty>=1.4,<1.5"'
        ) from error
    return pydantic_monty


class _Outcome:
    """What an outcome is outside of the sandbox: nothing, since every look at it is answered by name."""


def _outcome(key: UUID) -> Any:
    return _monty().ClassInstance(_Outcome(), id=key)


def _named(name: str) -> Any:
    def function(*_: Any, **__: Any) -> None:
        raise AssertionError("calls come as suspensions")

    function.__name__ = function.__qualname__ = name
    return function


def _raised(kind: str, message: str) -> pydantic_monty.ExternalResult:
    return {"exc_type": kind, "message": message}  # type: ignore[typeddict-item]  # kinds are Monty's own names


def _diagnostics(text: str) -> tuple[Problem, ...]:
    found = [
        Problem(int(d["location"]["row"]), _short(str(d["message"])), str(d.get("code") or ""))
        for d in json.loads(text)
    ]
    # One mistake in the syntax makes others of types; the first of them is what to mend.
    syntax = [p for p in found if p.code == "invalid-syntax"]
    return tuple(syntax or found)


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 400 else f"{one[:397]}..."


def _is_text(source: str) -> bool:
    try:
        source.encode()
    except UnicodeEncodeError:
        return False
    return True
