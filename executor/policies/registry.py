"""Policies by name. Built-in and third-party ones come in by the same :func:`register`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hiervla.executor.policies.base import Policy
from hiervla.representations.errors import HiervlaError, UnknownNameError

Factory = Callable[..., Policy]


class DuplicatePolicyError(HiervlaError, ValueError):
    """Two policies want the same name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a policy named '{name}' is registered already. Choose another name.")


_FACTORIES: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """Make a policy available under `name`.

    Args:
        name: what ``--policy`` takes.
        factory: called with the options of :func:`create`; heavy imports belong inside it.

    Raises:
        DuplicatePolicyError: the name is taken.
    """
    if name in _FACTORIES:
        raise DuplicatePolicyError(name)
    _FACTORIES[name] = factory


def names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(_FACTORIES))


def create(name: str, **options: Any) -> Policy:
    """Build a policy.

    Raises:
        UnknownNameError: nothing is registered under that name.
        CheckpointError: its weights cannot be read.
    """
    if name not in _FACTORIES:
        raise UnknownNameError("policy", name, _FACTORIES)
    return _FACTORIES[name](**options)


def _flow(**options: Any) -> Policy:
    from hiervla.executor.policies.flow import FlowPolicy

    return FlowPolicy.load(**options)


register("flow", _flow)
