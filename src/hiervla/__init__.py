"""hiervla: hierarchical vision-language-action, with a record of every decision.

The public names are loaded when they are first used, so that `import hiervla` and `hiervla --help`
stay light: no numpy, torch, mujoco or pydantic until something needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hiervla._version import __version__

if TYPE_CHECKING:  # what type checkers and editors see; _EXPORTS says the same at run time
    from hiervla.executor.agent import Agent
    from hiervla.executor.arms.agent import ArmsAgent
    from hiervla.representations import (
        ActionChunk,
        Artifact,
        CameraFrame,
        Event,
        HiervlaError,
        JointCommand,
        Keypoints,
        Observation,
        Plan,
        Proprioception,
        Refusal,
        Step,
        Verdict,
    )
    from hiervla.skills import Skill, SkillLibrary, skill

__all__ = [
    "ActionChunk",
    "Agent",
    "ArmsAgent",
    "Artifact",
    "CameraFrame",
    "Event",
    "HiervlaError",
    "JointCommand",
    "Keypoints",
    "Observation",
    "Plan",
    "Proprioception",
    "Refusal",
    "Skill",
    "SkillLibrary",
    "Step",
    "Verdict",
    "__version__",
    "skill",
]

_EXPORTS = {
    "Agent": "hiervla.executor.agent",
    "ArmsAgent": "hiervla.executor.arms.agent",
    "Skill": "hiervla.skills",
    "SkillLibrary": "hiervla.skills",
    "skill": "hiervla.skills",
}


if not TYPE_CHECKING:  # hidden from type checkers, which would otherwise accept any name

    def __getattr__(name: str) -> object:
        """Loads a public name from the module that defines it."""
        if name not in __all__:
            raise AttributeError(f"module 'hiervla' has no attribute {name!r}; it has {', '.join(__all__)}")
        value = getattr(import_module(_EXPORTS.get(name, "hiervla.representations")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Lists the public names without loading any of them."""
    return list(__all__)
