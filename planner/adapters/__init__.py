"""From the text of public vision-language models to typed artifacts: one adapter a family, one convention inside."""

from __future__ import annotations

from hiervla.planner.adapters.base import AdapterError, Convention, ImageSize, Kind, OutputAdapter
from hiervla.planner.adapters.moka import MokaAdapter
from hiervla.planner.adapters.registry import DuplicateAdapterError, adapter_names, get_adapter, register
from hiervla.planner.adapters.resizing import smart_resize

__all__ = [
    "AdapterError",
    "Convention",
    "DuplicateAdapterError",
    "ImageSize",
    "Kind",
    "MokaAdapter",
    "OutputAdapter",
    "adapter_names",
    "get_adapter",
    "register",
    "smart_resize",
]
