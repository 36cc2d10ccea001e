"""Adapters by the name of their family. Built-in and third-party ones come in by the same :func:`register`."""

from __future__ import annotations

from hiervla.planner.adapters.base import OutputAdapter
from hiervla.planner.adapters.hamster import HamsterAdapter
from hiervla.planner.adapters.moka import MokaAdapter
from hiervla.planner.adapters.molmo import molmo_adapters
from hiervla.planner.adapters.objects import object_adapters
from hiervla.planner.adapters.tuples import tuple_adapters
from hiervla.representations import HiervlaError, UnknownNameError


class DuplicateAdapterError(HiervlaError, ValueError):
    """Two adapters want the same name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"an output adapter named '{name}' is registered already. Choose another name.")


_ADAPTERS: dict[str, OutputAdapter] = {}


def register(adapter: OutputAdapter) -> None:
    """Make an adapter available under the name of its family.

    Raises:
        DuplicateAdapterError: the name is taken.
    """
    name = adapter.family.lower()
    if name in _ADAPTERS:
        raise DuplicateAdapterError(adapter.family)
    _ADAPTERS[name] = adapter


def get_adapter(name: str) -> OutputAdapter:
    """The adapter of a model family; case does not matter.

    Raises:
        UnknownNameError: there is none; the message suggests the nearest.
    """
    try:
        return _ADAPTERS[name.lower()]
    except KeyError:
        raise UnknownNameError("output adapter", name, _ADAPTERS) from None


def adapter_names() -> tuple[str, ...]:
    """Registered names in order of registration."""
    return tuple(_ADAPTERS)


for _adapter in (HamsterAdapter(), *tuple_adapters(), *object_adapters(), *molmo_adapters(), MokaAdapter()):
    register(_adapter)
