"""The executor's hands: recorded ticks, transits, holding still and stopping, all through the safety envelope."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.controllers.envelope import EnvelopeEvent, SafetyEnvelope
from hiervla.controllers.kinematics import topdown_pose
from hiervla.controllers.timing import Trajectory
from hiervla.controllers.tracker import ChunkTracker
from hiervla.controllers.transit import HeldObject, TransitPlanner, obstacles_from_depth
from hiervla.executor.record.writer import Recorder
from hiervla.representations import HiervlaError, JointCommand, Observation, Proprioception
from hiervla.representations.events import EnvelopeFired, TransitPlanned
from hiervla.worlds.base import CONTROL_PERIOD_S, World


class RunCancelled(HiervlaError):
    """Somebody asked the run to stop; the arm is brought to rest inside the envelope."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("the run was cancelled. Its record is closed and can be inspected.")


class EnvelopeStop(HiervlaError):
    """The safety envelope refused a command and latched a stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the safety envelope stopped the arm: {reason}. Inspect the record before running again.")
        self.reason = reason


class CancelToken:
    """Thread-safe request to stop at the next control tick."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask for the stop; may be called from any thread or a signal handler."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Has it been asked for?"""
        return self._event.is_set()
