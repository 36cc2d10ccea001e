"""Runs recorded commands from recorded states: does the world do, and do its cameras show, what is on record?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers.envelope import world_snapshot
from hiervla.executor.blame.commands import number
from hiervla.executor.blame.contracts import Ledger
from hiervla.executor.blame.testimony import Attempt, Testimony
from hiervla.executor.replay.seen import StateStream, lazy_observation
from hiervla.representations import Boxes, CameraFrame, Observation, Plan, SnapshotError
from hiervla.representations import events as ev
from hiervla.worlds.base import SnapshotWorld

SAME_STATE = 1e-5
"""Joint positions of a repeated motion may differ by this much: another processor rounds differently [rad]."""
CHANGED_SHARE = 0.002
"""Images of the same state may differ in this share of their pixels."""
HOLES_SHARE = 0.3
"""A depth image with a greater share of pixels without depth cannot be used."""
_STILL_M = 0.05


@dataclass(frozen=True)
class Interval:
    """What lies between two snapshots.

    Attributes:
        begin: where the world is set to.
        end: what its state is compared with; None for the last stretch of a run.
        first: first control tick.
        last: control tick at which it ends, not executed.
        observations: what was seen in it, each with its tick.
        attempt: the attempt that lies in it, if any.
    """

    begin: ev.SnapshotTaken
    end: ev.SnapshotTaken | None
    first: int
    last: int
    observations: tuple[tuple[int, ev.ObservationTaken], ...]
    attempt: Attempt | None


def intervals(said: Testimony, states: StateStream) -> Iterator[Interval]:
    """The stretches between snapshots, in order."""
    record = said.record
    snapshots = list(record.of(ev.SnapshotTaken))
    observations = [(states.index(o.observed_at_s), o) for o in record.of(ev.ObservationTaken)]
    for k, begin in enumerate(snapshots):
        end = snapshots[k + 1] if k + 1 < len(snapshots) else None
        last = end.ticks if end is not None else len(states.ticks)
        until = number(end) if end is not None else len(record.lines)
        seen = tuple((i, o) for i, o in observations if number(begin) < number(o) < until)
        inside = [a for a in said.attempts if number(begin) < number(a.started) < until]
        yield Interval(begin, end, begin.ticks, last, seen, inside[0] if inside else None)


def repeat_physics(said: Testimony, states: StateStream, world: SnapshotWorld, ledger: Ledger) -> None:
    """Execute the recorded commands between snapshots, and compare states and images."""
    for piece in intervals(said, states):
        try:
            world.restore(world_snapshot(said.record.snapshot(piece.begin)))
        except SnapshotError as error:
            ledger.untested["commands executed again"] = str(error).rstrip(".")
            return
        ledger.tested["commands executed again"] += 1
        _repeat(said, states, world, piece, ledger)


def look_at_images(said: Testimony, ledger: Ledger) -> None:
    """What shows without a world: depth that is mostly holes, and images that stay while the arm moves."""
    last: ev.ObservationTaken | None = None
    for event in said.record.of(ev.ObservationTaken):
        ledger.tested["image looked at"] += 1
        observation = lazy_observation(said.record, event)
        if event.purpose in {"plan", "verify"}:
            _holes(said, event, observation.frames[0], ledger)
        if last is not None and len(last.frames) == len(event.frames):
            moved = float(np.linalg.norm(_hand(event) - _hand(last)))
            same = all(a.image.sha256 == b.image.sha256 for a, b in zip(last.frames, event.frames, strict=True))
            if same and moved > _STILL_M:
                ledger.add(
                    "world", "the camera images", None, _attempt_at(said, event), recorded="the same as before",
                    expected="other ones, since the hand has moved", distance=f"{moved * 1e3:.0f} mm of the hand",
                    weight=0.9, event=event.id, time_s=event.time_s,
                )  # fmt: skip
        last = event


def changed(a: CameraFrame, b: CameraFrame) -> NDArray[np.bool_]:
    """Pixels in which two images of one camera differ, (H, W)."""
    other = np.abs(a.rgb.astype(np.int16) - b.rgb.astype(np.int16)).max(axis=2) > 30
    if a.depth_m is None or b.depth_m is None:
        return np.asarray(other)
    known = [np.isfinite(f) & (f > 0) for f in (a.depth_m, b.depth_m)]
    both = known[0] & known[1]
    far = np.zeros_like(both)
    far[both] = np.abs(a.depth_m[both] - b.depth_m[both]) > 0.01
    return np.asarray(other | far | (known[0] != known[1]))


def _repeat(said: Testimony, states: StateStream, world: SnapshotWorld, piece: Interval, ledger: Ledger) -> None:
    looks: dict[int, list[ev.ObservationTaken]] = {}
    acts = 0
    for index, event in piece.observations:
        acts += event.purpose == "act"
        # Every image that is kept for a decision about the step, and every third of those that the policy saw.
        if event.purpose != "act" or acts % 3 == 1:
            looks.setdefault(index, []).append(event)
    joints = 0.0
    seen: tuple[float, ev.ObservationTaken, CameraFrame, NDArray[np.bool_]] | None = None
    for index in range(piece.first, piece.last + 1):
        for event in looks.get(index, ()):
            found = _compare_images(said, event, world.observe([f.image.camera for f in event.frames]))
            if found is not None and seen is None:
                seen = found
        if index == piece.last:
            break
        tick = states.ticks[index]
        joints = max(joints, float(np.abs(tick.q - world.proprio().q).max()))
        world.step(tick.command)
    state = ""
    if piece.end is not None and world.snapshot() != world_snapshot(said.record.snapshot(piece.end)):
        state = f"another state '{piece.end.label}'"
    if joints <= SAME_STATE and not state and seen is None:
        return
    _report(said, piece, joints, state, seen, ledger)


def _report(
    said: Testimony,
    piece: Interval,
    joints: float,
    state: str,
    seen: tuple[float, ev.ObservationTaken, CameraFrame, NDArray[np.bool_]] | None,
    ledger: Ledger,
) -> None:
    parts, event = [], piece.end or piece.begin
    at: ev.EventBase = event
    if joints > SAME_STATE:
        parts.append(f"{joints:.2g} rad of a joint")
    if seen is not None:
        share, at, frame, mask = seen
        parts.append(f"{100 * share:.1f} % of the pixels of '{frame.name}'{_place(said, frame, mask)}")
    moved = bool(state) or joints > SAME_STATE or piece.end is None
    # Bytes alone may differ between computers; what is seen, or what the arm feels, may not.
    weight = 0.95 if seen is not None or joints > 100 * SAME_STATE else 0.4
    ledger.add(
        "world",
        "the recorded commands from the recorded state" if moved else "the camera's image of the recorded state",
        None, piece.attempt,
        recorded=state or ("other images" if seen is not None else "other joint states"),
        expected="what the commands lead to" if moved else "what the camera shows in that state",
        distance=", ".join(parts), weight=weight, event=at.id, time_s=at.time_s,
    )  # fmt: skip


def _compare_images(
    said: Testimony, event: ev.ObservationTaken, now: Observation
) -> tuple[float, ev.ObservationTaken, CameraFrame, NDArray[np.bool_]] | None:
    for record, fresh in zip(event.frames, now.frames, strict=True):
        if record.image.sha256 == fresh.sha256 and record.depth_blob is None:
            continue
        frame = said.record.frame(record)
        mask = changed(frame, fresh)
        if float(mask.mean()) > CHANGED_SHARE:
            return float(mask.mean()), event, frame, mask
    return None


def _place(said: Testimony, frame: CameraFrame, mask: NDArray[np.bool_]) -> str:
    """Which of the things that the planner saw lies where the image differs, in words."""
    v, u = (float(np.median(c)) for c in np.nonzero(mask))
    plans = [a.answer for a in said.asked if isinstance(a.answer, Plan) and a.time_s <= frame.time_s + 1e-6]
    boxes = [b for p in plans[-1:] for a in p.scene if isinstance(a, Boxes) and a.image.camera == frame.name
             for b in a.boxes]  # fmt: skip
    near = [b.label for b in boxes if b.u_min - 4 <= u <= b.u_max + 4 and b.v_min - 4 <= v <= b.v_max + 4]
    return f" around (u={u:.0f}, v={v:.0f})" + (f", where '{near[0]}' was seen" if near else "")


def _holes(said: Testimony, event: ev.ObservationTaken, frame: CameraFrame, ledger: Ledger) -> None:
    if frame.depth_m is None:
        return
    share = float(np.mean(~(np.isfinite(frame.depth_m) & (frame.depth_m > 0))))
    if share > HOLES_SHARE:
        ledger.add(
            "world", f"depth of camera '{frame.name}'", None, _attempt_at(said, event),
            recorded=f"{100 * share:.0f} % of the pixels without depth", expected="depth", weight=0.8,
            event=event.id, time_s=event.time_s,
        )  # fmt: skip


def _attempt_at(said: Testimony, event: ev.ObservationTaken) -> Attempt | None:
    """The attempt that an observation was made in, or else the next one, which is planned from it."""
    after: Sequence[Attempt] = [a for a in said.attempts if a.finished is None or number(a.finished) > number(event)]
    return after[0] if after else None


def _hand(event: ev.ObservationTaken) -> NDArray[np.float64]:
    return np.array(event.T_world_ee)[:3, 3]
