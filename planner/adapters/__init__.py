"""From the text of public vision-language models to typed artifacts: one adapter a family, one convention inside."""

from __future__ import annotations

from hiervla.planner.adapters.base import AdapterError, Convention, ImageSize, Kind, OutputAdapter

__all__ = ["AdapterError", "Convention", "ImageSize", "Kind", "OutputAdapter"]
