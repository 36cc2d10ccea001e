"""Run records as experience: what was seen, what was done, who corrected it, and how the attempt came out.

An attempt is read whole or not at all; what is left out is counted with the reason. How it came out is what its own
check, the closing look of the run, and people said of it: a record holds no ground truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hiervla.executor.calibration import find_records
from hiervla.executor.policies.base import SKILLS, MissingTargetError, target_point
from hiervla.executor.policies.features import FeatureSpec, observe_features
from hiervla.executor.policies.network import NetworkSpec
from hiervla.executor.policies.words import words_of
from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import ActionChunk, LanguageMotion, Step
from hiervla.representations import events as ev
from hiervla.representations.errors import CameraError
from hiervla.skills.language_motions import read_motion
from hiervla.training.demos import Sample
from hiervla.training.experts.motion import as_actions
from hiervla.training.improve.experience import FAILED, SUCCEEDED, Moment, Trail

CorrectionKind = Literal["edited artifact", "language motion", "taken over", "words", "other"]

_SPAN_S = 0.8
"""Least time that a chunk has to cover: what is carried out of a policy's before the next [s]."""


@dataclass
class Told:
    """What was read.

    Attributes:
        runs: records.
        attempts: that are experience, by how they came out.
        moments: in them.
        corrections: by kind, in all records.
        corrected: moments that count as a person's.
        skipped: records and attempts that were left out, by reason.
    """

    runs: int = 0
    attempts: Counter[str] = field(default_factory=Counter)
    moments: int = 0
    corrections: Counter[str] = field(default_factory=Counter)
    corrected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """For a person to read."""
        made = ", ".join(f"{n} {how}" for how, n in sorted(self.attempts.items())) or "no attempt"
        yield f"runs: {self.runs} read; {made}; {self.moments} moments, {self.corrected} of them corrected by people"
        if self.corrections:
            yield "corrections: " + ", ".join(f"{n} {kind}" for kind, n in self.corrections.most_common())
        for why, n in self.skipped.most_common():
            yield f"left out: {n} x {why}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Told:
        """The inverse of :meth:`to_json`."""
        plain: dict[str, Any] = {k: Counter(v) if isinstance(v, dict) else v for k, v in values.items()}
        return cls(**plain)


@dataclass
class _Attempt:
    """What a record tells of an attempt."""

    run: str
    started: ev.StepStarted
    step: Step
    edited: bool
    seen: dict[float, ev.ObservationTaken] = field(default_factory=dict)
    chunks: list[tuple[ev.ChunkProposed, ActionChunk | None]] = field(default_factory=list)
    finished: ev.StepFinished | None = None
    undone: bool = False

    @property
    def done(self) -> list[tuple[ev.ChunkProposed, ActionChunk | None]]:
        """What was carried out: the last chunk is only asked whether it is done, and a recovery begins anew."""
        own = self.chunks
        for k in range(1, len(own)):
            if own[k][0].index == 0:
                own = own[:k]
                break
        return own if own and own[-1][1] is not None else own[:-1]


def correction_kind(event: ev.CorrectionGiven) -> CorrectionKind:
    """What a person's correction is, as far as a policy can learn from it."""
    if event.chunk is not None:
        return "taken over"
    if event.step is not None:
        return "edited artifact"
    if event.text is not None:
        return "language motion" if read_motion(event.text) is not None else "words"
    return "other"


def read_runs(paths: Sequence[Path], features: FeatureSpec, spec: NetworkSpec) -> tuple[Told, list[Trail]]:
    """All attempts in some records that can be learned from.

    Args:
        paths: records, or folders of records.
        features: what the policy sees.
        spec: of its network: length and rate of its chunks.

    Raises:
        DatasetError: there is no record.
    """
    told, trails, known = Told(), [], set()
    for path in find_records(paths):
        try:
            record = RunRecord.open(path)
            attempts = list(_attempts(record, told.corrections))
        except RecordError as error:
            told.skipped[f"record: {getattr(error, 'problem', type(error).__name__)}"] += 1
            continue
        told.runs += 1
        for attempt in attempts:
            origin = f"{attempt.run} {attempt.started.id}"
            # A fork repeats what its parent did up to there.
            if origin in known:
                continue
            known.add(origin)
            trail = _read(record, attempt, origin, features, spec)
            if isinstance(trail, str):
                told.skipped[f"attempt: {trail}"] += 1
                continue
            trails.append(trail)
            told.attempts["succeeded" if trail.success else "failed"] += 1
            told.moments += len(trail.moments)
            told.corrected += sum(m.human for m in trail.moments)
    return told, trails


def _attempts(record: RunRecord, corrections: Counter[str]) -> Iterable[_Attempt]:
    found: list[_Attempt] = []
    now: _Attempt | None = None
    edited = motioned = False
    for event in record:
        match event:
            case ev.Forked():
                # What is up to here the parent did; its corrections are counted there.
                for attempt in found:
                    attempt.run = event.parent_run
            case ev.CorrectionGiven():
                kind = correction_kind(event)
                corrections[kind] += 1
                motioned = motioned or kind == "language motion"
                if event.step is not None:
                    edited = True
                    if now is not None:
                        now.edited, now.step = True, event.step
                if event.chunk is not None and now is not None and now.chunks:
                    now.chunks[-1] = (now.chunks[-1][0], event.chunk)
            case ev.StepStarted():
                # A planner can speak in motions too; only a person's are corrections.
                heeds = motioned and any(isinstance(a, LanguageMotion) for a in event.step.artifacts)
                now = _Attempt(record.manifest.run_id, event, event.step, edited or heeds)
                found.append(now)
                edited = False
            case ev.Grounded() if now is not None:
                now.step = now.step.replace(artifacts=event.artifacts)
            case ev.ObservationTaken(purpose="act") if now is not None:
                now.seen[event.observed_at_s] = event
            case ev.ChunkProposed() if now is not None:
                now.chunks.append((event, None))
            case ev.StepFinished() if now is not None:
                # The attempt that words end is not yet the one that heeds them.
                motioned = motioned and event.outcome == "cancelled"
                now.finished, now, edited = event, None, False
            case ev.VerdictGiven(phase="lasting") if event.verdict.value == "no":
                for attempt in found:
                    if attempt.started.step.id == event.step_id:
                        attempt.undone = True
            case _:
                pass
    return found


def _read(record: RunRecord, attempt: _Attempt, origin: str, features: FeatureSpec, spec: NetworkSpec) -> Trail | str:
    """The attempt, or why it cannot be learned from."""
    if attempt.finished is None:
        return "it was broken off, so that nobody knows how it would have come out"
    if attempt.step.skill not in spec.skills or attempt.step.skill not in SKILLS:
        return f"the policy has no skill {attempt.step.skill}"
    if not attempt.done:
        return "nothing was done by a policy in it"
    try:
        target = target_point(attempt.step)
    except MissingTargetError:
        return "its step has no point in the world"
    success = attempt.finished.outcome == "succeeded" and not attempt.undone
    trail = Trail(attempt.step.skill, origin, success=success, words=words_of(attempt.step))
    began = attempt.done[0][0].chunk.observed_at_s
    trail.seconds = max(attempt.chunks[-1][0].chunk.observed_at_s - began, _SPAN_S)
    for proposed, given in attempt.done:
        chunk, at = given or proposed.chunk, proposed.chunk.observed_at_s
        seen = attempt.seen.get(at)
        if seen is None:
            return "what a chunk answered is not on record"
        missing = [f.image.camera for f in seen.frames if f.depth_blob is None and f.image.camera in features.cameras]
        if missing:
            return f"camera {missing[0]} has no depth"
        actions = _rows(chunk, at, target, spec)
        if actions is None:
            return f"a chunk is shorter than {_SPAN_S} s"
        try:
            inputs = observe_features(record.observation(seen), target, features)
        except CameraError as error:
            return str(error).splitlines()[0].rstrip(".")
        except RecordError as error:
            return f"an image is missing or damaged ({type(error).__name__})"
        time_s = at - began
        share = time_s / trail.seconds if success else 0.0
        progress = proposed.chunk.progress if proposed.chunk.progress is not None else share
        # An artifact that a person moved is a correction of the whole attempt, where it helped.
        human = given is not None or (attempt.edited and success)
        trail.moments.append(
            Moment(Sample(inputs, actions, False, progress), time_s, human, SUCCEEDED if success else FAILED)
        )
    return trail


def _rows(chunk: ActionChunk, observed_at_s: float, target: Any, spec: NetworkSpec) -> np.ndarray | None:  # type: ignore[type-arg]
    """(H, 6) what a chunk says of the moments after an observation, held where it ends; None if it is too short."""
    due = observed_at_s + np.arange(1, spec.horizon + 1) / spec.rate_hz
    has = chunk.observed_at_s + np.arange(1, chunk.horizon + 1) / chunk.rate_hz
    if has[-1] - observed_at_s < _SPAN_S - 1e-6:
        return None
    columns = [*chunk.positions.T, np.unwrap(chunk.yaws, period=np.pi), chunk.gripper]
    return as_actions(np.stack([np.interp(due, has, c) for c in columns], axis=1), target)


__all__ = ["CorrectionKind", "Told", "correction_kind", "read_runs"]
