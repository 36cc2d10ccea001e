"""Run records as episodes: what was sensed and commanded every control tick, with plan and subtasks in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hiervla.executor.record.errors import RecordError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.representations.events import FrameRecord, ObservationTaken, RunStarted, StepFinished, StepStarted
from hiervla.training.data.errors import DatasetError, EpisodeError
from hiervla.training.data.images import EncodedImages, encode_png
from hiervla.training.data.run_language import spoken
from hiervla.training.data.types import ACTION, IMAGE_PREFIX, ActionMeaning, Array, DatasetSpec, Episode, Feature, Skip
from hiervla.worlds.base import World

Pictures = Literal["rendered", "recorded", "none"]
ORIGIN = "hiervla-run"
MEANING = ActionMeaning(
    "joint_position",
    "base",
    "width_m",
    text="joint positions [rad] and distance of the fingers [m] that are to be reached at the next frame, as they left "
    "the safety envelope",
)
AGE = "observation.image_age_s"


class RunSource:
    """Run records opened as a dataset; one record is in memory at a time.

    Attributes:
        spec: its columns.
        skipped: what the last pass left out: runs that did not succeed, and damaged or still records.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, fps: float = 10.0, images: Pictures = "recorded", every: bool = False
    ) -> None:
        """Find the records.

        Args:
            paths: records, or folders of records.
            fps: frames a second; a divisor of the control rate, 50 Hz.
            images: ``"recorded"`` shows at every frame the last image that was taken, with its age in
                `observation.image_age_s` (a run takes images at decisions only); ``"rendered"`` executes the recorded
                commands again in the recorded world and takes an image at every frame; ``"none"``.
            every: keep runs that did not succeed.

        Raises:
            DatasetError: there is no record, or none that is kept.
        """
        self.skipped: list[Skip] = []
        self._paths = _records(paths)
        self._fps, self._pictures, self._every = fps, images, every
        problems = []
        for path in self._paths:
            try:
                record = self._open(path)
                self.spec = self._spec(record, self._ticks(record))
                return
            except (EpisodeError, RecordError) as error:
                problems.append(f"{path.name} {_why(error)}")
        listing = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise DatasetError(paths[0], f"holds no run that can be taken: {listing}", "See them with `hiervla runs`")

    def _open(self, path: Path) -> RunRecord:
        record = RunRecord.open(path)
        outcome = record.finished.outcome if record.finished is not None else "unfinished"
        if outcome != "succeeded" and not self._every:
            raise EpisodeError(path, f"ended as {outcome.replace('_', ' ')}")
        return record

    def _ticks(self, record: RunRecord) -> list[Tick]:
        ticks = list(record.ticks())
        stride = self._stride(ticks, record.path)
        if len(ticks) < stride:
            raise EpisodeError(record.path, "holds no motion")
        return ticks

    def _stride(self, ticks: list[Tick], path: Path) -> int:
        """Control ticks from one frame to the next."""
        times = np.array([t.command.time_s for t in ticks])
        if len(times) < 2:
            raise EpisodeError(path, "holds no motion")
        periods = np.diff(times)
        period = float(np.median(periods))
        if period <= 0 or np.abs(periods - period).max() > 0.01 * period:
            raise EpisodeError(path, "its control ticks are not evenly spaced in time")
        stride = round(1.0 / (self._fps * period))
        if stride < 1 or abs(stride * period * self._fps - 1.0) > 0.01:
            rate = f"{1.0 / period:.4g}"
            raise DatasetError(path, f"{self._fps:g} frames a second do not divide its {rate} Hz", "Give another --fps")
        return stride

    def _spec(self, record: RunRecord, ticks: list[Tick]) -> DatasetSpec:
        joints = tuple(f"joint_{i + 1}" for i in range(len(ticks[0].q)))
        names = (*joints, "gripper_width_m")
        features = [
            Feature("observation.state", "float32", (len(names),), names, "sensed joint positions [rad], fingers [m]"),
            Feature("observation.velocity", "float32", (len(joints),), joints, "sensed joint velocities [rad/s]"),
            Feature("observation.effort", "float32", (1,), ("gripper_effort_n",), "squeezing force of the fingers [N]"),
            Feature("observation.ee_position", "float32", (3,), ("x", "y", "z"), "tool centre point, world frame [m]"),
            Feature(ACTION, "float32", (len(names),), names, MEANING.text),
        ]
        if self._pictures != "none":
            first = next(record.of(ObservationTaken), None)
            if first is None or not first.frames:
                raise EpisodeError(record.path, "holds no images")
            cameras = tuple(f.image.camera for f in first.frames)
            if self._pictures == "recorded":
                meaning = "time since the image that this frame shows was taken [s]"
                features.append(Feature(AGE, "float32", (len(cameras),), cameras, meaning))
            for frame in first.frames:
                shape = (frame.image.height, frame.image.width, 3)
                features.append(Feature(IMAGE_PREFIX + frame.image.camera, "uint8", shape, image=True))
        robot = "panda" if record.manifest.world == "tabletop" else record.manifest.world
        extra = {"images": self._pictures}
        return DatasetSpec(ORIGIN, tuple(features), MEANING, self._fps, robot, len(self._paths), extra)

    def episodes(self) -> Iterator[Episode]:
        """Every run that is kept, in order; see :class:`hiervla.training.data.types.Source`."""
        self.skipped = []
        for path in self._paths:
            try:
                record = self._open(path)
                episode = self._episode(record, self._ticks(record))
                episode.require(self.spec)
            except (EpisodeError, RecordError) as error:
                self.skipped.append(Skip(path.name, _why(error)))
                continue
            yield episode

    def _episode(self, record: RunRecord, ticks: list[Tick]) -> Episode:
        stride = self._stride(ticks, record.path)
        shown = ticks[: len(ticks) // stride * stride]
        first, last = shown[::stride], shown[stride - 1 :: stride]
        times = np.array([t.command.time_s for t in first])
        columns: dict[str, Array] = {
            "observation.state": np.array([[*t.q, t.gripper_width_m] for t in first], dtype=np.float32),
            "observation.velocity": np.array([t.dq for t in first], dtype=np.float32),
            "observation.effort": np.array([[t.gripper_effort_n] for t in first], dtype=np.float32),
            "observation.ee_position": np.array([t.ee_position_w for t in first], dtype=np.float32),
            ACTION: np.array([[*t.command.q, t.command.gripper_width_m] for t in last], dtype=np.float32),
        }
        images: dict[str, EncodedImages] = {}
        if self._pictures == "recorded":
            images, columns[AGE] = self._recorded(record, times)
        elif self._pictures == "rendered":
            images = self._rendered(record, stride, len(first))
        started = next(record.of(RunStarted), None)
        finished = record.finished
        return Episode(
            source=record.path.name,
            instruction=started.instruction if started is not None else record.manifest.instruction,
            columns=columns,
            images=images,
            subtasks=_subtasks(record, times),
            language=spoken(record, times, frozenset(images)),
            fps=self._fps,
            success=finished is not None and finished.outcome == "succeeded",
            facts={"run": record.manifest.run_id, "seed": record.manifest.seed, "world": record.manifest.world},
        )

    def _cameras(self) -> list[Feature]:
        return [f for f in self.spec.features if f.image]

    def _recorded(self, record: RunRecord, times: Array) -> tuple[dict[str, EncodedImages], Array]:
        taken: dict[str, list[tuple[float, FrameRecord]]] = {f.name: [] for f in self._cameras()}
        for event in record.of(ObservationTaken):
            for frame in event.frames:
                taken.setdefault(IMAGE_PREFIX + frame.image.camera, []).append((event.observed_at_s, frame))
        images, ages = {}, []
        for feature in self._cameras():
            frames = sorted(taken[feature.name], key=lambda pair: pair[0])
            seen = np.array([time_s for time_s, _ in frames])
            # A tick's clock may differ from that of the exposure by rounding.
            which = np.searchsorted(seen, times + 1e-6, side="right") - 1
            if len(frames) == 0 or which.min() < 0:
                raise EpisodeError(record.path, f"has no image of '{feature.name}' before it moves")
            files = {int(i): encode_png(record.frame(frames[int(i)][1]).rgb) for i in np.unique(which)}
            data = [files[int(i)] for i in which]
            images[feature.name] = EncodedImages(data, str(record.path), shape=feature.shape)
            ages.append(np.maximum(times - seen[which], 0.0))
        return images, np.stack(ages, axis=1).astype(np.float32)

    def _rendered(self, record: RunRecord, stride: int, frames: int) -> dict[str, EncodedImages]:
        from hiervla.executor.record.physics_replay import replay

        names = [f.name.removeprefix(IMAGE_PREFIX) for f in self._cameras()]
        made: dict[str, list[bytes]] = {name: [] for name in names}

        def look(tick: int, world: World) -> None:
            if tick % stride == 0 and tick // stride < frames:
                for frame in world.observe(cameras=names).frames:
                    made[frame.name].append(encode_png(frame.rgb))

        report = replay(record, on_tick=look)
        if report.divergence is not None:
            raise EpisodeError(record.path, f"cannot be rendered: executed again, its {report.divergence}")
        return {
            f.name: EncodedImages(made[f.name.removeprefix(IMAGE_PREFIX)], str(record.path), shape=f.shape)
            for f in self._cameras()
        }


def _records(paths: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DatasetError(path, "does not exist", "List the records that exist with `hiervla runs`")
        inside = sorted(p.parent for p in path.glob("*/manifest.json"))
        found += [path] if (path / "manifest.json").exists() else inside
    if not found:
        raise DatasetError(paths[0], "holds no run record", "List the records that exist with `hiervla runs`")
    return found


def _subtasks(record: RunRecord, times: Array) -> tuple[str, ...]:
    """The step at hand at each time, in words; empty between steps."""
    words = [""] * len(times)
    ends: dict[str, float] = {}
    for end in record.of(StepFinished):
        ends[end.parent or ""] = end.time_s
    for start in record.of(StepStarted):
        during = (times >= start.time_s - 1e-6) & (times < ends.get(start.id, np.inf) - 1e-6)
        for i in np.flatnonzero(during):
            words[int(i)] = str(start.step)
    return tuple(words)


def _why(error: Exception) -> str:
    problem: Any = getattr(error, "problem", None)
    return str(problem or error)
