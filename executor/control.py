"""A person's hand on a running plan: look at a decision, hold the robot, correct it, say something, let it go on.

The orchestrator shows every decision to a :class:`Control` before it takes effect. What the control changes is written
to the record as a typed correction, so that a replay repeats it and training can learn from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, get_args

from hiervla.representations import ActionChunk, HiervlaError, Plan, Refusal, Step, UnknownNameError, Verdict
from hiervla.representations.events import DecisionKind
from hiervla.representations.plans import StepOutcome

DECISIONS: Final[tuple[DecisionKind, ...]] = get_args(DecisionKind)
"""Every kind of decision, in the order in which they come."""

Value = Plan | Refusal | Step | Verdict | ActionChunk | StepOutcome


class CorrectionError(HiervlaError, ValueError):
    """An answer that cannot take the place of a decision.

    Attributes:
        kind: the kind of decision.
        answer: what was given.
        allowed: names of the types that may be given.
    """

    def __init__(self, kind: str, answer: object, allowed: Iterable[str]) -> None:
        self.kind = kind
        self.answer = answer
        self.allowed = tuple(allowed)
        given = repr(answer) if isinstance(answer, str) else type(answer).__name__
        super().__init__(
            f"a correction of the decision '{kind}' cannot be {given}. Return the decision's own value to leave it, or "
            f"one of {', '.join(self.allowed)}."
        )


@dataclass(frozen=True)
class Decision:
    """A decision that is about to take effect.

    Attributes:
        kind: ``plan`` (a Plan or a Refusal), ``step`` (the Step about to start), ``keypoints`` (the Step with its
            artifacts lifted to the world), ``ready`` and ``done`` (a Verdict), ``chunk`` (an ActionChunk), ``outcome``
            (a StepOutcome).
        value: what was decided.
        step: the step that it is about; None for a plan.
        attempt: attempts at that step so far.
    """

    kind: DecisionKind
    value: Value
    step: Step | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Say:
    """Words instead of an answer: the running step ends, and the planner is asked again from here, with the words."""

    text: str


Answer = Value | Say


class Control(Protocol):
    """Looks at every decision; :class:`LetItRun` is the one that changes nothing."""

    author: str
    """Who corrects; it stands in the record."""

    def review(self, decision: Decision, hold: Callable[[], None]) -> Answer:
        """What is to be done: the decision's own value, another of its kind, or words.

        Args:
            decision: what was decided.
            hold: stands still for one control tick; call it while waiting, for a robot that is not told anything
                does not know that it is meant to hold. Raises RunCancelled when the run was cancelled meanwhile.
        """
        ...


class LetItRun:
    """No hand on the run."""

    author = "nobody"

    def review(self, decision: Decision, hold: Callable[[], None]) -> Answer:
        """The decision as it is."""
        return decision.value


MOST_QUESTIONS: Final = 3
"""Questions in a row without a plan; after them the refusal stands."""
Answerer = Callable[[Refusal, Callable[[], None]], str | None]
PostHook = Callable[[Decision], Answer | None]
Asked = Callable[[Decision, Callable[[], None]], Answer]


class Hooks:
    """Control from Python: hooks at decisions, answers to what the planner asks back, breakpoints, words at any time.

    >>> hooks = Hooks()
    >>> @hooks.on("keypoints")
    ... def higher(decision):
    ...     ...  # look at decision.value, return another Step, a Say, or None to leave it
    >>> agent.run("clear the table", control=hooks)
    """

    def __init__(self, *, author: str = "hooks", ask: Asked | None = None, breaks: Iterable[str] = ()) -> None:
        """Set up.

        Args:
            author: who the corrections are from.
            ask: called at breakpoints; it may take as long as it likes if it calls ``hold`` while it waits.
            breaks: kinds of decisions to stop at.

        Raises:
            UnknownNameError: there is no such kind of decision.
        """
        self.author = author
        self._ask = ask
        self._breaks = {decision_kind(name) for name in breaks}
        self._hooks: dict[DecisionKind, list[PostHook]] = {}
        self._said: list[str] = []
        self._answerer: Answerer | None = None
        self._asked = 0

    def on(self, kind: str) -> Callable[[PostHook], PostHook]:
        """Decorator: have the function shown every decision of a kind; what it returns, if anything, takes its place.

        Raises:
            UnknownNameError: there is no such kind of decision.
        """
        wanted = decision_kind(kind)

        def add(hook: PostHook) -> PostHook:
            self._hooks.setdefault(wanted, []).append(hook)
            return hook

        return add

    def answer(self, hook: Answerer) -> Answerer:
        """Decorator: have the function asked what the planner does not understand, or which of several things is meant.

        It gets the refusal (``reason``, ``message``, ``unknown``, ``candidates``) and what holds the arm for one
        control tick, to be called while it waits; it returns words, or None to let the refusal stand. One of the
        candidates may be given short: "the red one", "red" or its number, from 1.
        """
        self._answerer = hook
        return hook

    @property
    def answers(self) -> bool:
        """Whether somebody is there to be asked."""
        return self._answerer is not None

    def say(self, text: str) -> None:
        """Interject: at the next decision the running step ends and the planner is asked again. Any thread may call it.

        Raises:
            ValueError: no words.
        """
        if not text.strip():
            raise ValueError("an interjection needs words, such as 'no, the blue one'")
        self._said.append(text.strip())

    def break_at(self, *kinds: str) -> None:
        """Stop at further kinds of decisions.

        Raises:
            UnknownNameError: there is no such kind of decision.
        """
        self._breaks |= {decision_kind(name) for name in kinds}

    def review(self, decision: Decision, hold: Callable[[], None]) -> Answer:
        """See :class:`Control`."""
        if self._said and decision.kind != "outcome":
            return Say(self._said.pop(0))
        for hook in self._hooks.get(decision.kind, ()):
            answer = hook(decision)
            if answer is not None:
                return answer
        said = self._asked_back(decision, hold) if decision.kind == "plan" else None
        if said is not None:
            return said
        if self._ask is not None and decision.kind in self._breaks:
            return self._ask(decision, hold)
        return decision.value

    def _asked_back(self, decision: Decision, hold: Callable[[], None]) -> Say | None:
        """The answer to a refusal that asks for one."""
        refusal = decision.value
        if not isinstance(refusal, Refusal):
            self._asked = 0
            return None
        if self._answerer is None or not refusal.can_be_said_otherwise or self._asked >= MOST_QUESTIONS:
            return None
        self._asked += 1
        answer = self._answerer(refusal, hold)
        return Say(meant(refusal, answer)) if answer is not None and answer.strip() else None


def meant(refusal: Refusal, answer: str) -> str:
    """What a person's answer says: the candidate that it names by its number or by some of its words, or the answer.

    To a single candidate "yes" is an answer, too.

    >>> refusal = Refusal(reason="ambiguous", message="Which?", candidates=("the red block", "the blue block"))
    >>> meant(refusal, "blue"), meant(refusal, "1"), meant(refusal, "the green one")
    ('the blue block', 'the red block', 'the green one')
    """
    text = answer.strip()
    if text.isdigit() and 1 <= int(text) <= len(refusal.candidates):
        return refusal.candidates[int(text) - 1]
    if len(refusal.candidates) == 1 and text.lower().rstrip(".!") in ("y", "yes", "yes please", "ok", "right"):
        return refusal.candidates[0]
    words = set(text.lower().rstrip(".!").split()) - {"the", "one", "please"}
    named = [c for c in refusal.candidates if words and words <= set(c.lower().split())]
    return named[0] if len(named) == 1 else text


def decision_kind(name: str) -> DecisionKind:
    """A kind of decision by name.

    Raises:
        UnknownNameError: there is none; the message lists them.
    """
    for kind in DECISIONS:
        if kind == name:
            return kind
    raise UnknownNameError("kind of decision", name, DECISIONS, place="a breakpoint or hook")
