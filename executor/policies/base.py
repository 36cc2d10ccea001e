"""The one interface of all low-level policies, and how to have one made."""

from __future__ import annotations

from typing import Any

from hiervla.skills.context import MissingTargetError, target_point
from hiervla.skills.policy import OwnPolicy, Policy

__all__ = ["SKILLS", "MissingTargetError", "Policy", "make_policy", "target_point"]

SKILLS: tuple[str, ...] = ("pick", "place", "open_drawer", "close_drawer", "wipe", "throw_away")
"""Skills that the built-in policy knows, in the order of its skill embedding."""

HOVER_M: dict[str, float] = {
    "pick": 0.13, "place": 0.16, "open_drawer": 0.13, "close_drawer": 0.13, "wipe": 0.13, "throw_away": 0.24,
}  # fmt: skip
"""Height of the hover above the keypoint at which each of them takes over from the transit [m]."""


def make_policy(name: str, **options: Any) -> Policy:
    """A policy by its registered name, or the one that a skill brought along.

    Args:
        name: as ``Skill.policy`` has it; see :mod:`hiervla.executor.policies.registry`.
        options: passed to a registered policy's factory.

    Raises:
        UnknownNameError: nothing is registered under that name.
        PolicyError: the package that offers it fails to load, or gives something else than a policy.
    """
    from hiervla.executor.policies.registry import create, made

    if isinstance(name, OwnPolicy):
        return made(name, f"the skill '{name.removeprefix('own:')}'", name.make())
    return create(name, **options)
