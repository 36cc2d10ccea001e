"""``python -m hiervla.cli`` is the same as ``hiervla``."""

from hiervla.cli import script

script()
