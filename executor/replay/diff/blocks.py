"""The decisions of a run in blocks, plans and attempts at steps, and which blocks of two runs belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hiervla.executor.record.reader import RunRecord, event_type
from hiervla.executor.record.view import sentence
from hiervla.executor.replay.diff.decisions import decision_key, is_decision
from hiervla.representations import Event, Step
from hiervla.representations import events as ev

BlockKind = Literal["home", "plan", "step", "end"]


@dataclass(frozen=True)
class Decision:
    """One decision of a run.

    Attributes:
        line: its line in the events file, from 1.
        event: the event.
        written: the event as it stands in the file.
    """

    line: int
    event: Event
    written: bytes

    @property
    def text(self) -> str:
        """In one line, for people."""
        return sentence(self.event) or self.event.type.replace("_", " ")


@dataclass
class Block:
    """Decisions that belong together.

    Attributes:
        kind: ``home`` (the arm goes home outside of a step), ``plan`` (what the planner answered, until a step
            begins), ``step`` (an attempt at one), ``end``.
        decisions: in order.
    """

    kind: BlockKind
    decisions: list[Decision] = field(default_factory=list)

    @property
    def step(self) -> Step | None:
        """The step that is attempted."""
        event = self.decisions[0].event
        return event.step if isinstance(event, ev.StepStarted) else None

    @property
    def attempt(self) -> int:
        """Failed attempts at the step before this one."""
        event = self.decisions[0].event
        return event.attempt if isinstance(event, ev.StepStarted) else 0

    @property
    def name(self) -> str:
        """For people."""
        event = self.decisions[0].event
        if self.step is not None:
            return f"step '{self.step}'" + (f", attempt {self.attempt + 1}" if self.attempt else "")
        if self.kind == "plan":
            plan = next((d.event for d in self.decisions if isinstance(d.event, ev.PlanProposed)), None)
            return f"plan ({plan.reason})" if plan is not None else "planner's answer"
        if self.kind == "home":
            return f"way home ({getattr(event, 'step_id', '')})"
        return "end of the run"

    def keyed(self) -> dict[tuple[str, str, int], Decision]:
        """Its decisions by type, question, and how many of the kind came before it."""
        seen: Counter[tuple[str, str]] = Counter()
        found = {}
        for decision in self.decisions:
            key = decision_key(decision.event)
            found[(*key, seen[key])] = decision
            seen[key] += 1
        return found


def decisions_of(record: RunRecord) -> Iterator[Decision]:
    """The decisions of a record, in order; other lines are not parsed.

    Raises:
        CorruptRecordError: a line holds no event of this version.
    """
    for number, line in enumerate(record.lines, 1):
        if is_decision(event_type(line)):
            yield Decision(number, record.event(number), line.event)


def blocks_of(decisions: Sequence[Decision]) -> list[Block]:
    """The decisions in blocks."""
    blocks: list[Block] = []
    attempt: Block | None = None
    for decision in decisions:
        event = decision.event
        if isinstance(event, ev.StepStarted):
            attempt = Block("step")
            blocks.append(attempt)
        if attempt is not None and not isinstance(event, ev.RunFinished):
            attempt.decisions.append(decision)
            if isinstance(event, ev.StepFinished):
                attempt = None
            continue
        attempt = None
        kind: BlockKind = "plan"
        if isinstance(event, ev.RunFinished):
            kind = "end"
        elif isinstance(event, ev.TransitPlanned | ev.TransitFailed):
            kind = "home"
        if kind != "plan" or not blocks or blocks[-1].kind != "plan":
            blocks.append(Block(kind))
        blocks[-1].decisions.append(decision)
    return blocks


def align(a: Sequence[Block], b: Sequence[Block]) -> list[tuple[Block | None, Block | None]]:
    """Blocks that belong together, in order; what one run has more of stands alone.

    The alignment with the highest total likeness (Needleman and Wunsch, Journal of Molecular Biology 48(3), 1970,
    with gaps that cost nothing).
    """
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            like = _likeness(a[i], b[j])
            together = best[i + 1][j + 1] + like if like > 0 else -1.0
            best[i][j] = max(together, best[i + 1][j], best[i][j + 1])
    pairs: list[tuple[Block | None, Block | None]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        like = _likeness(a[i], b[j])
        if like > 0 and best[i][j] == best[i + 1][j + 1] + like:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((a[i], None))
            i += 1
        else:
            pairs.append((None, b[j]))
            j += 1
    return pairs + [(x, None) for x in a[i:]] + [(None, y) for y in b[j:]]


def _likeness(a: Block, b: Block) -> float:
    if a.kind != b.kind:
        return 0.0
    x, y = a.step, b.step
    if x is None or y is None:
        return 2.0 if a.name == b.name else 1.0
    if (x.skill, x.args) == (y.skill, y.args):
        return 4.0 if a.attempt == b.attempt else 3.0
    return 1.0 if x.skill == y.skill else 0.0
