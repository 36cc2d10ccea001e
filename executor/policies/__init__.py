"""Learned low-level policies behind one interface. Importing this loads no weights and no torch."""

from __future__ import annotations

from hiervla.executor.policies.base import SKILLS, MissingTargetError, Policy, make_policy, target_point
from hiervla.executor.policies.registry import DuplicatePolicyError, PolicyError, create, names, register, unfit

__all__ = [
    "SKILLS",
    "DuplicatePolicyError",
    "MissingTargetError",
    "Policy",
    "PolicyError",
    "create",
    "make_policy",
    "names",
    "register",
    "target_point",
    "unfit",
]
