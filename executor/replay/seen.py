"""What a recorded run saw and sensed: observations whose images are decoded on demand, and the arm at any tick."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hiervla.controllers.kinematics import Kinematics
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.streams import Tick
from hiervla.representations import CameraFrame, HiervlaError, Observation, Proprioception
from hiervla.representations import events as ev
from hiervla.worlds.base import CONTROL_PERIOD_S


class StateStream:
    """Proprioception at any tick of a record; reads the streams once, when first asked."""

    def __init__(self, record: RunRecord) -> None:
        self.ticks: list[Tick] = list(record.ticks())
        self._times = [t.sensed_at_s for t in self.ticks]
        self._kinematics = Kinematics()

    def index(self, time_s: float) -> int:
        """The first tick at or after a time [s]; the number of ticks when there is none."""
        return bisect_left(self._times, time_s - CONTROL_PERIOD_S / 2)

    def at(self, time_s: float) -> Proprioception:
        """What the arm sensed at a time [s], or at the last tick before the end.

        Raises:
            HiervlaError: the record holds no ticks.
        """
        if not self.ticks:
            raise HiervlaError(
                "the record holds no control ticks, so the arm's state is not known. Replay another run."
            )
        tick = self.ticks[min(self.index(time_s), len(self.ticks) - 1)]
        return Proprioception(
            q=tick.q,
            dq=tick.dq,
            T_world_ee=self._kinematics.forward(tick.q),
            gripper_width_m=tick.gripper_width_m,
            gripper_effort_n=tick.gripper_effort_n,
            time_s=tick.sensed_at_s,
        )


class LazyFrames(Sequence[CameraFrame]):
    """Frames of a recorded observation, decoded when somebody looks."""

    def __init__(self, record: RunRecord, frames: tuple[ev.FrameRecord, ...]) -> None:
        self._record = record
        self._frames = frames
        self._decoded: dict[int, CameraFrame] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        if index not in self._decoded:
            self._decoded[index] = self._record.frame(self._frames[index])
        return self._decoded[index]

    def __iter__(self) -> Iterator[CameraFrame]:
        return (self[i] for i in range(len(self)))


def lazy_observation(record: RunRecord, event: ev.ObservationTaken) -> Observation:
    """The recorded observation, whose images are read from the disk only when somebody looks at them."""
    proprio = Proprioception.model_construct(
        q=np.array(event.q),
        dq=np.array(event.dq),
        T_world_ee=np.array(event.T_world_ee),
        gripper_width_m=event.gripper_width_m,
        gripper_effort_n=event.gripper_effort_n,
        time_s=event.sensed_at_s,
    )
    # Validation would turn the frames into a tuple, and read them all.
    frames: Any = LazyFrames(record, event.frames)
    return Observation.model_construct(frames=frames, proprio=proprio, time_s=event.observed_at_s)
