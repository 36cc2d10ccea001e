"""Which pointing format a model writes, where its name or its architecture says so for certain."""

from __future__ import annotations

import re
from typing import Final

_BY_NAME: Final = (
    (r"robobrain[-_ ]?2\.0", "robobrain-2.0"),
    (r"robobrain[-_ ]?2\.5", "robobrain-2.5"),
    (r"robopoint", "robopoint"),
    (r"molmoact", "molmoact"),
    (r"molmo[-_ ]?2", "molmo2"),
    (r"molmo", "molmo"),
    (r"hamster", "hamster"),
    (r"gemini[-_ ]robotics[-_ ]er", "gemini-robotics-er"),
    (r"qwen[-_ ]?3[-_ ]vl", "qwen3-vl"),
    (r"qwen[-_ ]?2\.5[-_ ]vl", "qwen2.5-vl"),
)
"""In order: the names of some models hold those of the models that they were made from."""
_BY_TYPE: Final = {"qwen2_5_vl": "qwen2.5-vl", "qwen3_vl": "qwen3-vl", "qwen3_vl_moe": "qwen3-vl"}
"""Architectures whose makers published one pointing format for them."""


def family_of(name: str, model_type: str = "") -> str | None:
    """The pointing family of a model, None where it is not certain.

    A model's own name counts more than its architecture: RoboBrain 2.0 is a Qwen2.5-VL that answers otherwise.

    Args:
        name: of the model, or of its folder, with or without an owner before a slash.
        model_type: what its config.json says; empty where that is not known.
    """
    found = [family for pattern, family in _BY_NAME if re.search(pattern, name.rsplit("/", 1)[-1], re.IGNORECASE)]
    return found[0] if found else _BY_TYPE.get(model_type)
