"""Breakpoints and words at the terminal while a robot runs: it holds still as long as a person thinks."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from rich.console import Console
from rich.text import Text

from hiervla.cli.travelling import EditorError, edit_text
from hiervla.executor.control import Answer, Decision, Hooks, Say
from hiervla.executor.replay.corrections import CorrectionFileError, parse_correction
from hiervla.executor.review import STEP_OUTCOMES
from hiervla.representations import ActionChunk, Plan, Refusal, Step, Verdict
from hiervla.worlds.base import CONTROL_PERIOD_S

_HELP = (
    "Enter: go on    n: stop at the next decision too    c: go on and ask no more    e: edit in $EDITOR\n"
    "y, n!, u: the verdict is yes, no, unsure    o OUTCOME: take the attempt as that    anything else: say it"
)


class TerminalControl:
    """Asks at breakpoints, and passes on what is typed while nothing is asked."""

    author = "person at the terminal"

    def __init__(
        self,
        out: Console,
        breaks: Iterable[str],
        *,
        listen: bool = False,
        answers: bool = False,
        lines: TextIO | None = None,
        apart: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Begin to read.

        Args:
            out: where questions are written.
            breaks: kinds of decisions to stop at.
            listen: whether a line that comes while nothing is asked is said to the planner; without it, the line
                answers the next question.
            answers: whether the planner may ask back what it does not understand.
            lines: what is typed; standard input by default.
            apart: gives what makes room for a question while it lasts.

        Raises:
            UnknownNameError: there is no such kind of decision.
        """
        self._out = out
        self._hooks = Hooks(author=self.author, ask=self._ask, breaks=breaks)
        if answers:
            self._hooks.answer(self._answered)
        self._apart = apart
        self._reading = False
        self._typed: queue.Queue[str | None] = queue.Queue()
        self._every = False
        self._silent = False
        self._listening = listen
        self._lines = lines or sys.stdin
        if breaks or listen:
            self._read()

    @property
    def answers(self) -> bool:
        """Whether the planner may ask back."""
        return self._hooks.answers

    def review(self, decision: Decision, hold: Callable[[], None]) -> Answer:
        """See :class:`hiervla.executor.control.Control`."""
        if self._listening and decision.kind != "outcome":
            while not self._typed.empty():
                line = self._typed.get_nowait()
                if line is None:
                    # The end of the input is for the next question to hear of.
                    self._typed.put(None)
                    break
                if line.strip():
                    self._hooks.say(line)
        if self._every and not self._silent:
            self._every = False
            return self._ask(decision, hold)
        return self._hooks.review(decision, hold)

    def _read(self) -> None:
        """Begin to take in what is typed; a run in which nothing is asked leaves the input alone."""
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._listen, name="terminal", daemon=True).start()

    def _listen(self) -> None:
        for line in self._lines:
            self._typed.put(line.rstrip("\n"))
        self._typed.put(None)

    def _ask(self, decision: Decision, hold: Callable[[], None]) -> Answer:
        if self._silent:
            return decision.value
        self._out.print(Text(f"break: {decision.kind}", style="bold yellow"), Text(shown(decision)))
        self._out.print(Text(_HELP, style="dim"))
        while True:
            line = self._wait(hold)
            if line is None:
                self._out.print(Text("nobody is at the terminal any more: going on without asking", style="yellow"))
                self._silent = True
                return decision.value
            try:
                answer = self._answer(decision, line.strip())
            except (CorrectionFileError, EditorError) as error:
                self._out.print(Text(str(error), style="red"))
                continue
            if answer is not None:
                return answer

    def _answered(self, refusal: Refusal, hold: Callable[[], None]) -> str | None:
        """What a person answers to the planner's question; None when they leave it, or are gone."""
        if self._silent:
            return None
        with self._apart():
            self._out.print(Text("the planner asks: ", style="bold yellow"), Text(refusal.message), sep="")
            for number, candidate in enumerate(refusal.candidates, 1):
                self._out.print(Text(f"  {number}  {candidate}"))
            choice = "a number or a name" if refusal.candidates else "other words"
            self._out.print(Text(f"{choice}, or a whole new instruction; Enter: leave it", style="dim"))
            self._read()
            return self._wait(hold)

    def _wait(self, hold: Callable[[], None]) -> str | None:
        """The next line; the arm is told to stand still every control tick until it comes."""
        due = time.monotonic()
        while True:
            try:
                return self._typed.get_nowait()
            except queue.Empty:
                hold()
                due += CONTROL_PERIOD_S
                time.sleep(max(0.0, due - time.monotonic()))

    def _answer(self, decision: Decision, line: str) -> Answer | None:
        """What a line means here; None when it means nothing, and the question stands."""
        if line in {"", "c", "n"}:
            self._silent, self._every = line == "c", line == "n"
            return decision.value
        if line == "e":
            return self._edited(decision)
        if isinstance(decision.value, Verdict) and line in {"y", "n!", "u"}:
            value = {"y": "yes", "n!": "no", "u": "unsure"}[line]
            return decision.value.replace(value=value, confidence=1.0, evidence={"said_by": self.author})
        if decision.kind == "outcome":
            wanted = line.removeprefix("o ").strip()
            for outcome in STEP_OUTCOMES:
                if outcome == wanted:
                    return outcome
            self._out.print(Text(f"an outcome is one of {', '.join(STEP_OUTCOMES)}", style="red"))
            return None
        return Say(line)

    def _edited(self, decision: Decision) -> Answer | None:
        value = decision.value
        if not isinstance(value, Step | Plan):
            self._out.print(Text(f"a decision '{decision.kind}' is not edited as text; answer it", style="red"))
            return None
        text = edit_text(json.dumps(json.loads(value.to_json()), indent=2))
        if text is None:
            return value
        step = value if isinstance(value, Step) else value.step(value.remaining[0])
        return parse_correction(text, step, "what the editor left")


def shown(decision: Decision) -> str:
    """A decision in words."""
    value = decision.value
    if isinstance(value, Plan):
        return "; ".join(str(value.step(s)) for s in value.remaining) or "nothing is left to do"
    if isinstance(value, Refusal):
        return f"refused: {value.message}"
    if isinstance(value, Step):
        from hiervla.executor.record.describe import describe

        lines = [line for artifact in value.artifacts for line in describe(artifact)]
        return "\n  ".join([str(value), *lines])
    if isinstance(value, Verdict):
        return f"{value.name}: {value.value} ({value.confidence:.2f})"
    if isinstance(value, ActionChunk):
        x, y, z = value.positions[-1]
        return f"{value.horizon} rows at {value.rate_hz:g} Hz to ({x:.3f}, {y:.3f}, {z:.3f}) m, done {value.done_prob}"
    return str(value)
