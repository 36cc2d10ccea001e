"""Two runs as decisions: where they first part, and what differs from there on, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.diff.blocks import Block, Decision, align, blocks_of, decisions_of
from hiervla.executor.replay.diff.decisions import decision_key, findings, headers
from hiervla.executor.replay.diff.finding import Finding
from hiervla.representations.events import Forked


@dataclass(frozen=True)
class DecisionDiff:
    """A decision that two runs took differently, or that one of them did not take.

    Attributes:
        a: in the first run.
        b: in the second run.
        findings: what differs; empty where one of the two is missing, or the two decide about different things.
    """

    a: Decision | None
    b: Decision | None
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "a": _decision_json(self.a),
            "b": _decision_json(self.b),
            "findings": [f.to_json() for f in self.findings],
        }


@dataclass(frozen=True)
class BlockDiff:
    """A plan or an attempt at a step in both runs, or in one of them.

    Attributes:
        a: in the first run.
        b: in the second run.
        same: decisions that are the same.
        differing: the others, in order.
    """

    a: Block | None
    b: Block | None
    same: int
    differing: tuple[DecisionDiff, ...]

    @property
    def status(self) -> str:
        """``same``, ``differs``, ``only_a`` or ``only_b``."""
        if self.a is None or self.b is None:
            return "only_a" if self.b is None else "only_b"
        return "differs" if self.differing else "same"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        there = self.a if self.a is not None else self.b
        assert there is not None
        return {
            "kind": there.kind,
            "name": there.name,
            "status": self.status,
            "lines": {"a": _lines(self.a), "b": _lines(self.b)},
            "same": self.same,
            "differing": [d.to_json() for d in self.differing],
        }


@dataclass(frozen=True)
class RunDiff:
    """How the decisions of two runs differ.

    Attributes:
        a: the first record.
        b: the second record.
        counts: decisions of each.
        headers: what was known before the runs and differs.
        relation: how the runs are related, in words; empty for unrelated ones.
        common: decisions before the first one that differs.
        last_common: the last of those, as the first run has it.
        first: the first decision that differs; None where there is none.
        blocks: plans and attempts, aligned.
    """

    a: RunRecord
    b: RunRecord
    counts: tuple[int, int]
    headers: tuple[Finding, ...]
    relation: str
    common: int
    last_common: Decision | None
    first: DecisionDiff | None
    blocks: tuple[BlockDiff, ...]

    @property
    def same(self) -> bool:
        """Did both runs decide the same, from beginning to end?"""
        return self.first is None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {
            "same": self.same,
            "a": _run_json(self.a, self.counts[0]),
            "b": _run_json(self.b, self.counts[1]),
            "relation": self.relation,
            "before": [f.to_json() for f in self.headers],
            "common": self.common,
            "last_common": _decision_json(self.last_common),
            "first": None if self.first is None else self.first.to_json(),
            "blocks": [b.to_json() for b in self.blocks],
        }


def diff_runs(a: RunRecord, b: RunRecord) -> RunDiff:
    """Compare the decisions of two records, closed or not.

    When, by whom and from which image something was decided is not compared; what was decided is.

    Raises:
        CorruptRecordError: a line of one of them holds no event of this version.
    """
    first, second = list(decisions_of(a)), list(decisions_of(b))
    common, parting = _first(first, second)
    return RunDiff(
        a=a,
        b=b,
        counts=(len(first), len(second)),
        headers=tuple(headers(a, b)),
        relation=_relation(a, b),
        common=common,
        last_common=first[common - 1] if common else None,
        first=parting,
        blocks=tuple(_block(x, y) for x, y in align(blocks_of(first), blocks_of(second))),
    )


def _first(a: Sequence[Decision], b: Sequence[Decision]) -> tuple[int, DecisionDiff | None]:
    for index, (x, y) in enumerate(zip_longest(a, b)):
        found = _compare(x, y)
        if found is not None:
            return index, found
    return len(a), None


def _compare(x: Decision | None, y: Decision | None) -> DecisionDiff | None:
    """How two decisions differ; None where they are the same."""
    if x is None or y is None or decision_key(x.event) != decision_key(y.event):
        return DecisionDiff(x, y)
    # A fork repeats the lines of its parent.
    found = [] if x.written == y.written else findings(x.event, y.event)
    return DecisionDiff(x, y, tuple(found)) if found else None


def _block(a: Block | None, b: Block | None) -> BlockDiff:
    if a is None or b is None:
        return BlockDiff(a, b, 0, ())
    first, second = a.keyed(), b.keyed()
    pairs = list(_merged(list(first.items()), second))
    differing = [d for x, y in pairs if (d := _compare(x, y)) is not None]
    return BlockDiff(a, b, len(pairs) - len(differing), tuple(differing))


def _merged(
    first: Sequence[tuple[tuple[str, str, int], Decision]], second: dict[tuple[str, str, int], Decision]
) -> Iterator[tuple[Decision | None, Decision | None]]:
    """Decisions of one key together, in the first run's order; what only the second has comes where it stood there."""
    rest = dict(second)
    keys = {key for key, _ in first}
    for key, x in first:
        y = rest.pop(key, None)
        if y is not None:
            for other in [k for k, d in rest.items() if k not in keys and d.line < y.line]:
                yield None, rest.pop(other)
        yield x, y
    for y in rest.values():
        yield None, y


def _relation(a: RunRecord, b: RunRecord) -> str:
    forks = [next(record.of(Forked), None) for record in (a, b)]
    for name, fork, other, other_name in (("A", forks[0], b, "B"), ("B", forks[1], a, "A")):
        if fork is not None and fork.parent_run == other.manifest.run_id:
            return f"{name} is a fork of {other_name}, made after line {int(fork.id[1:]) - 1}"
    if forks[0] is not None and forks[1] is not None and forks[0].parent_run == forks[1].parent_run:
        return f"both are forks of {forks[0].parent_run}"
    return ""


def _lines(block: Block | None) -> list[int] | None:
    return None if block is None else [block.decisions[0].line, block.decisions[-1].line]


def _decision_json(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    event = decision.event
    return {
        "line": decision.line,
        "event": event.id,
        "type": event.type,
        "time_s": event.time_s,
        "text": decision.text,
    }


def _run_json(record: RunRecord, decisions: int) -> dict[str, Any]:
    finished = record.finished
    return {
        "path": str(record.path),
        "run_id": record.manifest.run_id,
        "instruction": record.manifest.instruction,
        "seed": record.manifest.seed,
        "closed": record.closed,
        "outcome": finished.outcome if finished else None,
        "message": finished.message if finished else "",
        "duration_s": finished.time_s if finished else None,
        "decisions": decisions,
        "notices": list(record.notices),
    }
