"""Demonstration data of the field, in and out, behind one typed stream of episodes.

:func:`hiervla.training.data.opening.open_dataset` recognises a format and gives a :class:`~.types.Source`;
:class:`hiervla.training.data.lerobot.writer.LeRobotWriter` writes one. `docs/data.md` has the fields of every format.
"""
