"""A person takes the controls for a while: their chunks in the place of the policy's, through the same envelope.

A chunk boundary is where it changes hands. Every chunk of the person's goes to the tracker and the safety envelope as
a policy's does, and is on record as a typed correction of the decision ``chunk``, beside what the policy would have
done; consecutive ones are a :class:`HumanSegment`. A replay repeats them, and `hiervla improve` learns from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from hiervla.executor.control import Decision, Hooks
from hiervla.representations import ActionChunk
from hiervla.representations.events import ChunkProposed, CorrectionGiven, StepStarted

if TYPE_CHECKING:
    from hiervla.executor.record.reader import RunRecord

Source = Callable[[Decision], ActionChunk | None]
"""What a person wants next, given the policy's chunk (``decision.value``) and the step; None hands back."""


class Takeover:
    """Lets a person drive from Python, at the chunk boundaries of a running step.

    >>> hooks = Hooks(author="anna")
    >>> takeover = Takeover(hooks)
    >>> agent.run("clear the table", control=hooks)  # meanwhile, from any thread:
    >>> takeover.take(joystick.next_chunk)
    >>> takeover.hand_back()

    A source that takes its time holds the run: the simulated world waits, and a real arm tracks the last chunk to its
    end and stays there.
    """

    def __init__(self, hooks: Hooks) -> None:
        """Be asked at every chunk; `hooks.author` is who stands in the record."""
        self._source: Source | None = None
        self._lock = Lock()
        hooks.on("chunk")(self._review)

    @property
    def taken(self) -> bool:
        """Whether a person drives."""
        return self._source is not None

    def take(self, source: Source) -> None:
        """From the next chunk boundary on `source` drives; any thread may call it."""
        with self._lock:
            self._source = source

    def hand_back(self) -> None:
        """From the next chunk boundary on the policy drives again; any thread may call it."""
        with self._lock:
            self._source = None

    def _review(self, decision: Decision) -> ActionChunk | None:
        with self._lock:
            source = self._source
        if source is None:
            return None
        chunk = source(decision)
        if chunk is None:
            self.hand_back()
        return chunk


@dataclass(frozen=True)
class HumanSegment:
    """A stretch of a recorded attempt in which a person drove.

    Attributes:
        author: who.
        attempt: id of the event with which the attempt began.
        step_id: of the step.
        corrections: the person's chunks, in order; ``corrections[k].chunk`` is never None.
        instead_of: what the policy would have done, one for each.
    """

    author: str
    attempt: str
    step_id: str
    corrections: tuple[CorrectionGiven, ...]
    instead_of: tuple[ChunkProposed, ...]

    @property
    def start_s(self) -> float:
        """When the person took over, on the world's clock [s]."""
        return self.corrections[0].time_s


def human_segments(record: RunRecord) -> tuple[HumanSegment, ...]:
    """The stretches of a run in which a person drove, in order.

    Raises:
        CorruptRecordError: a line holds no event of this version.
    """
    found: list[HumanSegment] = []
    attempt, proposed = "", None
    run: list[tuple[CorrectionGiven, ChunkProposed]] = []

    def end() -> None:
        if run:
            first = run[0][0]
            given, instead = zip(*run, strict=True)
            found.append(HumanSegment(first.author, attempt, first.step_id or "", given, instead))
            run.clear()

    for event in record:
        if isinstance(event, StepStarted):
            end()
            attempt, proposed = event.id, None
        elif isinstance(event, ChunkProposed):
            if run and run[-1][1] is not proposed:
                end()
            proposed = event
        elif isinstance(event, CorrectionGiven) and event.chunk is not None and proposed is not None:
            if run and run[-1][0].author != event.author:
                end()
            run.append((event, proposed))
    end()
    return tuple(found)


__all__ = ["HumanSegment", "Source", "Takeover", "human_segments"]
