"""Any vision-language model as the planner: a backend that answers, a prompt, an output held to a schema."""

from __future__ import annotations

from hiervla.planner.vlm.backend import Backend, Generation, Message, Sampling
from hiervla.planner.vlm.errors import BackendError
from hiervla.planner.vlm.planner import KindStrategy, PointStrategy, VLMPlanner
from hiervla.planner.vlm.pointing import FamilyPoints

__all__ = [
    "Backend",
    "BackendError",
    "FamilyPoints",
    "Generation",
    "KindStrategy",
    "Message",
    "PointStrategy",
    "Sampling",
    "VLMPlanner",
]
