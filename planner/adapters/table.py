"""The table of all conventions for the documentation, made from the very objects that the adapters compute with."""

from __future__ import annotations

from typing import Final

from hiervla.planner.adapters.base import Convention
from hiervla.planner.adapters.registry import adapter_names, get_adapter

_HEADER: Final = ("family", "can be asked for", "first number", "range", "step", "0 and the end of the range", "source")
_FIRST: Final = {"xy": "x (across)", "yx": "y (down)", "tile": "column, then row"}
_ORIGIN: Final = {"top_left": "top left", "bottom_left": "bottom left"}


def conventions_table() -> str:
    """Markdown table with a row for each registered adapter."""
    rows = [_HEADER, ("---",) * len(_HEADER)]
    for name in adapter_names():
        adapter = get_adapter(name)
        c = adapter.convention
        kinds = ", ".join(f"`{kind}`" for kind in adapter.kinds)
        rows.append((f"`{name}`", kinds, _FIRST[c.axis_order], _range(c), f"{c.step:g}", _ends(c), c.source))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _range(c: Convention) -> str:
    if c.high is None:
        return f"{c.low:g} to the size of the sent image, pixels"
    words = f"{c.low:g} to {c.high:g}"
    if c.axis_order == "tile":
        words = "a1 to e5"
    return words + (", depth in metres" if c.depth == "metre" else "")


def _ends(c: Convention) -> str:
    if c.ends == "pixel_centres":
        return "centres of the first and the last pixel"
    return f"edges of the {'sent' if c.relative_to == 'sent' else 'original'} image, from the {_ORIGIN[c.origin]}"
