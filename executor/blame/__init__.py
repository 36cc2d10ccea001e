"""Which level made a run fail: planner, grounding, policy, controller, verifier, hand-off or world."""

from __future__ import annotations

from hiervla.executor.blame.findings import LEVELS, Blame, Finding, Judge, Level
from hiervla.executor.blame.trial import blame

__all__ = ["LEVELS", "Blame", "Finding", "Judge", "Level", "blame"]
