"""What ``hiervla inspect RUN`` prints of one step, one attempt, one kind of artifact, one event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.text import Text

from hiervla.cli.arms import of_one_arm
from hiervla.cli.inspecting import step_json
from hiervla.cli.terminal import coloured, console
from hiervla.executor.record.describe import describe, evidence
from hiervla.executor.record.draw import half_blocks, marks, plain_blocks
from hiervla.executor.record.errors import OutputError
from hiervla.executor.record.fold import view_of
from hiervla.executor.record.light import AnyEvent
from hiervla.executor.record.pictures import Picture, artifacts_of, pictures_of, step_pictures
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.view import Attempt, StepRun, milliseconds, sentence, words
from hiervla.representations import Artifact, UnknownNameError
from hiervla.representations.events import Grounded, PlanProposed, StepStarted

KINDS: tuple[str, ...] = tuple(m.model_fields["kind"].default for m in get_args(get_args(Artifact)[0]))
"""The kinds of artifacts that ``--artifact`` takes."""


def show_step(
    path: Path, which: str, *, attempt: int | None = None, png: Path | None = None, as_json: bool = False
) -> None:
    """Print one step with its artifacts, and write the picture of them.

    Raises:
        RecordError: the record cannot be read.
        UnknownNameError: there is no such step or attempt.
    """
    record = RunRecord.open(path)
    of_one_arm(record, "--step")
    run, number = _find(record, which, attempt)
    chosen = run.attempts[number - 1]
    pictures, missing = step_pictures(record, chosen)
    written = _write(pictures, png or Path(f"{record.manifest.run_id}-step{run.number}.png"))
    if as_json:
        values = {
            **step_json(run),
            "attempt": number,
            "pictures": [str(p) for p in written],
            "missing": list(missing),
            "notices": list(record.notices),
        }
        values["artifacts"] = [a.model_dump(mode="json") for a in artifacts_of(record, chosen)]
        print(json.dumps(values, indent=2))
        return
    out = console()
    _print_step(out, run, number, chosen)
    for artifact in artifacts_of(record, chosen):
        for line in describe(artifact):
            out.print(Text(f"  {line}"))
    _print_pictures(out, pictures, missing)
    _print_end(out, record, written)


def show_artifacts(
    path: Path, kind: str, *, step: str | None = None, attempt: int | None = None, as_json: bool = False
) -> None:
    """Print every artifact of one kind, in the run or in one attempt at a step, with where it came from.

    Raises:
        RecordError: the record cannot be read.
        UnknownNameError: there is no such kind, step or attempt.
    """
    if kind not in KINDS:
        raise UnknownNameError("artifact", kind, KINDS)
    record = RunRecord.open(path)
    if step is None:
        found = [(event, a) for event in record.any_events() for a in event_artifacts(event) if a.kind == kind]
    else:
        run, number = _find(record, step, attempt)
        chosen = run.attempts[number - 1]
        events = [record.event(chosen.started.id), *chosen.grounded]
        found = [(event, a) for event in events for a in event_artifacts(event) if a.kind == kind]
    if as_json:
        values = [{"event": e.id, "time_s": e.time_s, "artifact": a.model_dump(mode="json")} for e, a in found]
        print(json.dumps(values, indent=2))
        return
    out = console()
    if not found:
        where = f"step {step}" if step else "the run"
        print(f"no {kind} in {where}")
    for event, artifact in found:
        out.print(Text(f"{event.id}  {event.time_s:7.2f} s  {_whence(event)}", style="bold"))
        _print_artifact(out, artifact)
    _print_end(out, record, [])


def show_event(path: Path, which: str, *, png: Path | None = None, as_json: bool = False) -> None:
    """Print one event, and draw its artifacts on the frames that they were computed from.

    Raises:
        RecordError: the record cannot be read.
        UnknownNameError: there is no such event.
    """
    record = RunRecord.open(path)
    try:
        number = record.number(which)
    except KeyError:
        known = [f"e1 to e{len(record)}"] if len(record) else []
        raise UnknownNameError("event", which, known, f"record '{path}'") from None
    if as_json:
        print(json.dumps(json.loads(record.lines[number - 1].event), indent=2))
        return
    event = record.any_event(number)
    out = console()
    parent = f", in {event.parent}" if event.parent else ""
    out.print(Text(f"{event.id}  {event.time_s:.2f} s  {words(event.type)}{parent}", style="bold"))
    text = sentence(event)
    if text:
        out.print(Text(f"  {text}"))
    artifacts = event_artifacts(event)
    if artifacts:
        for artifact in artifacts:
            _print_artifact(out, artifact)
    else:
        for line in _fields(json.loads(record.lines[number - 1].event)):
            out.print(Text(f"  {line}", style="dim"))
    pictures, missing = pictures_of(record, artifacts)
    _print_pictures(out, pictures, missing)
    _print_end(out, record, _write(pictures, png) if png else [])


def event_artifacts(event: AnyEvent) -> tuple[Artifact, ...]:
    """All artifacts that an event carries; those of a plan are its scene's, then its steps'."""
    match event:
        case PlanProposed():
            return (*event.plan.scene, *(a for step in event.plan.steps for a in step.artifacts))
        case StepStarted():
            return event.step.artifacts
        case Grounded():
            return event.artifacts
        case _:
            return ()


def _find(record: RunRecord, which: str, attempt: int | None) -> tuple[StepRun, int]:
    view = view_of(record)
    try:
        run = view.find(which)
    except KeyError:
        known = [str(s.number) for s in view.steps]
        raise UnknownNameError("step", which, known, f"record '{record.path}'") from None
    number = len(run.attempts) if attempt is None else attempt
    if not 1 <= number <= len(run.attempts):
        known = [str(n) for n in range(1, len(run.attempts) + 1)]
        raise UnknownNameError("attempt", str(attempt), known, f"step {which}")
    return run, number


def _whence(event: AnyEvent) -> str:
    match event:
        case PlanProposed():
            return f"plan ({event.reason})"
        case StepStarted():
            return f"step {event.step.id}: {event.step}"
        case Grounded():
            return f"grounded for step {event.step_id}"
        case _:
            return words(event.type)


def _print_step(out: Console, run: StepRun, number: int, attempt: Attempt) -> None:
    step = run.step
    out.print(Text(f"step {run.number} ({step.id}): {step}", style="bold"))
    out.print(f"  {step.skill}({', '.join(f'{k}={v}' for k, v in step.args.items())})", markup=False)
    for name, conditions in (("before", step.preconditions), ("after", step.postconditions)):
        if conditions:
            out.print(f"  {name}: {', '.join(map(str, conditions))}", markup=False)
    ended = words(attempt.outcome or "cut off")
    of = f"attempt {number} of {len(run.attempts)}: {ended}"
    why = f", {attempt.finished.reason}" if attempt.finished and attempt.finished.reason else ""
    out.print(f"  {of}{why}", markup=False)
    happened = [
        (t.time_s, f"{t.purpose} by {t.method}, {t.duration_s:.2f} s, planned in {milliseconds(t.wall_latency_s)}")
        for t in attempt.transits
    ]
    for verdict in attempt.verdicts:
        if verdict.phase != "during" or verdict is attempt.verdicts[-1] or verdict.verdict.yes:
            v = verdict.verdict
            shown = f" ({evidence(v.evidence)})" if v.evidence else ""
            happened.append((verdict.time_s, f"{verdict.phase}  {v.name}: {v.value} {v.confidence:.2f}{shown}"))
    happened += [(e.time_s, sentence(e)) for e in (*attempt.envelope, *attempt.other)]
    for time_s, text in sorted(happened, key=lambda item: item[0]):
        out.print(Text(f"  {time_s:7.2f} s  {text}"))
    if attempt.chunks:
        latency = [c.wall_latency_s for c in attempt.chunks]
        stale = max(c.staleness_s for c in attempt.chunks)
        out.print(
            f"  {len(attempt.chunks)} chunks of '{attempt.chunks[0].policy}': {milliseconds(min(latency))} "
            f"to {milliseconds(max(latency))} each, executed at most {stale:.2f} s after their observation",
            markup=False,
        )


def _print_artifact(out: Console, artifact: Artifact) -> None:
    for line in describe(artifact):
        out.print(Text(f"  {line}"))
    image = getattr(artifact, "image", None)
    if image is not None:
        out.print(
            Text(f"    in camera '{image.camera}' at {image.time_s:.2f} s, image {image.sha256[:12]}…", style="dim")
        )
    made = artifact.provenance
    if made is not None:
        took = "" if made.latency_s is None else f", {milliseconds(made.latency_s)}"
        tries = f", {made.attempts} attempts" if made.attempts > 1 else ""
        out.print(Text(f"    made by {made.model}{took}{tries}", style="dim"))
        if made.raw_text:
            out.print(Text(f"    from the text {made.raw_text[:400]!r}", style="dim"))


def _print_pictures(out: Console, pictures: Iterable[Picture], missing: Iterable[str]) -> None:
    for text in missing:
        out.print(Text(f"  not drawn: {text}", style="yellow"))
    columns = min(96, out.width)
    for picture in pictures:
        out.print(Text(f"  camera '{picture.frame.name}' at {picture.frame.time_s:.2f} s", style="dim"))
        if out.is_terminal and out.color_system:
            out.print(coloured(half_blocks(picture.drawn(2), columns)), end="")
        else:
            for line in plain_blocks(picture.frame.rgb, marks(picture.frame, picture.artifacts), columns):
                print(line)


def _print_end(out: Console, record: RunRecord, written: Iterable[Path]) -> None:
    for picture in written:
        print(f"picture: {picture}")
    for notice in record.notices:
        out.print(Text(f"note: {notice}", style="yellow"))


def _fields(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The fields of an event, dotted, one a line; long numbers and texts shortened."""
    for name, value in values.items():
        if not prefix and name in {"id", "parent", "time_s", "type", "version", "wall_time_s"}:
            continue
        match value:
            case {"zlib_base64": _, "shape": shape, "dtype": dtype}:
                yield f"{prefix}{name}: {dtype} array of {' x '.join(map(str, shape))}"
            case dict():
                yield from _fields(value, f"{prefix}{name}.")
            case [dict(), *_]:
                for index, item in enumerate(value):
                    if isinstance(item, dict):
                        yield from _fields(item, f"{prefix}{name}[{index}].")
            case _:
                text = json.dumps(value)
                yield f"{prefix}{name}: {text if len(text) <= 160 else text[:159] + '…'}"


def _write(pictures: Iterable[Picture], path: Path) -> list[Path]:
    from PIL import Image

    written = []
    for number, picture in enumerate(pictures):
        target = path if number == 0 else path.with_stem(f"{path.stem}-{picture.frame.name}-{number + 1}")
        try:
            Image.fromarray(picture.drawn()).save(target, "PNG")
        except OSError as error:
            raise OutputError(target, error.strerror or str(error)) from error
        written.append(target)
    return written
