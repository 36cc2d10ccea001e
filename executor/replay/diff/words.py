"""A comparison of two runs as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.diff.blocks import Decision
from hiervla.executor.replay.diff.finding import Finding
from hiervla.executor.replay.diff.runs import BlockDiff, DecisionDiff, RunDiff
from hiervla.representations import events as ev

Tone = Literal["title", "plain", "dim", "same", "differs", "only"]
Line = tuple[Tone, str]
"""What a line is, for those who colour it, and its text."""

_AT_FIRST: Final = 6
_MARKS: Final[dict[str, tuple[str, Tone]]] = {
    "same": ("=", "same"),
    "differs": ("~", "differs"),
    "only_a": ("-", "only"),
    "only_b": ("+", "only"),
}


def lines(diff: RunDiff, *, every: bool = False) -> Iterator[Line]:
    """The comparison, line by line.

    Args:
        diff: what was found.
        every: show every chunk and every check in between by itself, instead of in one line a step.
    """
    yield from _head("A", diff.a, diff.counts[0])
    yield from _head("B", diff.b, diff.counts[1])
    if diff.relation:
        yield "dim", f"   {diff.relation}"
    for finding in diff.headers:
        yield "dim", f"   {finding}"
    yield "plain", ""
    if diff.first is None:
        yield "title", f"the same decisions: all {diff.common}"
        return
    yield from _first(diff)
    yield "plain", ""
    yield "title", "block by block  (= same, ~ differs, - only in A, + only in B)"
    told: set[str] = set()
    for block in diff.blocks:
        yield from _block(block, told, every=every)


def _head(name: str, record: RunRecord, decisions: int) -> Iterator[Line]:
    manifest, finished = record.manifest, record.finished
    yield "title", f"{name}  {record.path}"
    end = f"{finished.outcome.replace('_', ' ')} after {finished.time_s:.1f} s" if finished else "cut off"
    yield "plain", f'   "{manifest.instruction}", seed {manifest.seed}: {end}, {decisions} decisions'
    for notice in record.notices:
        yield "dim", f"   {notice}"


def _first(diff: RunDiff) -> Iterator[Line]:
    first = diff.first
    assert first is not None
    before = f"after {diff.common} that are the same" if diff.common else "nothing before it is the same"
    yield "title", f"first different decision, {before}"
    if diff.last_common is not None:
        yield "same", f"  = {_place(diff.last_common)}  {diff.last_common.text}"
    for name, decision, record in (("A", first.a, diff.a), ("B", first.b, diff.b)):
        if decision is not None:
            yield "differs", f"  {name} {_place(decision)}  {decision.text}"
        else:
            end = "nothing more" if record.finished else "its record was cut off here"
            yield "differs", f"  {name} {end}"
    for finding in first.findings[:_AT_FIRST]:
        yield from _finding("      ", finding)
    if len(first.findings) > _AT_FIRST:
        yield "differs", f"      and {len(first.findings) - _AT_FIRST} more, below"


def _place(decision: Decision) -> str:
    return f"line {decision.line}, {decision.event.time_s:.2f} s"


def _block(block: BlockDiff, told: set[str], *, every: bool) -> Iterator[Line]:
    mark, tone = _MARKS[block.status]
    there = block.a if block.a is not None else block.b
    assert there is not None
    name = there.name
    if block.a is not None and block.b is not None and block.a.name != block.b.name:
        name = f"{block.a.name} | {block.b.name}"
    if block.a is None or block.b is None:
        yield tone, f"{mark} {name}  {_outcome(there.decisions[-1])}".rstrip()
        return
    same = f"  ({block.same} of {block.same + len(block.differing)} decisions are the same)" if block.differing else ""
    yield tone, f"{mark} {name}{same}"
    repeated = _repeated(block.differing) if not every else set()
    gathered: dict[str, list[DecisionDiff]] = {}
    for decision in block.differing:
        kind = _gathered(decision)
        if kind and not every:
            gathered.setdefault(kind, []).append(decision)
        elif there.kind == "plan" and not every:
            yield from _plan(decision, told)
        else:
            yield from _decision(decision, repeated)
    for kind, decisions in gathered.items():
        yield from _chunks(decisions) if kind == "chunks" else _during(kind, decisions)


def _decision(decision: DecisionDiff, repeated: set[str]) -> Iterator[Line]:
    there = decision.a if decision.a is not None else decision.b
    assert there is not None
    if decision.a is None or decision.b is None:
        mark = "+" if decision.a is None else "-"
        yield "only", f"    {mark} {there.text}"
        return
    for finding in decision.findings:
        if not (isinstance(there.event, ev.StepStarted) and finding.field in repeated):
            yield from _finding(f"    {_about(there)}", finding)


def _plan(decision: DecisionDiff, told: set[str]) -> Iterator[Line]:
    """What differs in a plan and did not in the plans before it; what the planner saw besides in one line."""
    if decision.a is None or decision.b is None:
        yield from _decision(decision, set())
        return
    scene = [f for f in decision.findings if f.field.startswith("scene: ")]
    rest = [f for f in decision.findings if f not in scene]
    for finding in rest:
        if str(finding) not in told:
            yield from _finding("    ", finding)
    if scene:
        yield "differs", f"    what it saw: {_seen(scene)}"
    again = sum(str(f) in told for f in rest)
    if again:
        yield "dim", f"    and {again} of the differences above"
    told.update(str(f) for f in rest)


def _seen(scene: Sequence[Finding]) -> str:
    overlaps = [f.distances["iou"] for f in scene if f.distances and "iou" in f.distances]
    pixels = [f.distances["image_px"] for f in scene if f.distances and "image_px" in f.distances]
    said = []
    if overlaps:
        said.append(f"{_number(len(overlaps), 'box', 'boxes')} with IoU from {min(overlaps):.2f}")
    if pixels:
        said.append(f"{_number(len(pixels), 'point', 'points')} up to {max(pixels):.1f} px apart")
    for name in "AB":
        alone = sum(f.text == f"only in {name}" for f in scene)
        if alone:
            said.append(f"{alone} only in {name}")
    return ", ".join(said) or _number(len(scene), "difference", "differences")


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _about(decision: Decision) -> str:
    match decision.event:
        case ev.VerdictGiven():
            return f"{decision.event.phase} "
        case ev.TransitPlanned() | ev.TransitFailed():
            return f"{decision.event.purpose} "
        case ev.Grounded():
            return "grounded "
        case ev.ChunkProposed():
            return f"chunk {decision.event.index} "
        case ev.CorrectionGiven():
            return "correction "
        case _:
            return ""


def _finding(indent: str, finding: Finding) -> Iterator[Line]:
    first, *more = str(finding).splitlines()
    yield "differs", f"{indent}{first}"
    for text in more:
        yield "differs", f"{' ' * (len(indent) + 2)}{text}"


def _repeated(decisions: Sequence[DecisionDiff]) -> set[str]:
    """What a grounding tells again, with metres: it need not be told of the step's beginning too."""
    grounded = [d for d in decisions if d.a is not None and isinstance(d.a.event, ev.Grounded)]
    return {f.field for d in grounded for f in d.findings}


def _gathered(decision: DecisionDiff) -> str:
    """Under which heading a decision of many is told; empty for one that is told by itself."""
    there = decision.a if decision.a is not None else decision.b
    assert there is not None
    if isinstance(there.event, ev.ChunkProposed):
        return "chunks"
    if isinstance(there.event, ev.VerdictGiven) and there.event.phase in {"during", "invariant"}:
        return there.event.phase
    return ""


def _chunks(decisions: Sequence[DecisionDiff]) -> Iterator[Line]:
    both = [d for d in decisions if d.a is not None and d.b is not None]
    apart = [f.distances for d in both for f in d.findings if f.field == "positions" and f.distances]
    said = []
    if both:
        said.append(f"{len(both)} differ")
    if apart:
        mean = sum(x["mean_mm"] for x in apart) / len(apart)
        said.append(f"{mean:.1f} mm apart on average, {max(x['max_mm'] for x in apart):.1f} mm at most")
    yield "differs", f"    chunks: {', '.join([*said, *_alone(decisions)])}"


def _during(phase: str, decisions: Sequence[DecisionDiff]) -> Iterator[Line]:
    both = [d for d in decisions if d.a is not None and d.b is not None]
    turned = [d for d in both if any(f.field == "value" for f in d.findings)]
    said = [f"{len(both)} differ"] if both else []
    if turned:
        said.append(f"{len(turned)} of them in their answer")
    yield "differs", f"    checks '{phase}': {', '.join([*said, *_alone(decisions)])}"


def _alone(decisions: Sequence[DecisionDiff]) -> list[str]:
    a, b = sum(d.b is None for d in decisions), sum(d.a is None for d in decisions)
    return [f"{n} only in {name}" for name, n in (("A", a), ("B", b)) if n]


def _outcome(decision: Decision) -> str:
    event = decision.event
    if isinstance(event, ev.StepFinished):
        return f"({event.outcome.replace('_', ' ')} after {event.duration_s:.1f} s)"
    return ""
