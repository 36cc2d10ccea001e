"""The side of a LeRobot policy: runs in LeRobot's own environment, with its Python and packages.

Nothing in this folder imports hiervla. :mod:`hiervla.executor.policies.remote.lerobot` starts it as a process;
:mod:`hiervla.executor.policies.remote.wire` shares its packing, and :mod:`hiervla.executor.policies.remote.server` how
it lets clients in. It needs lerobot from 0.4 on with Python from 3.10 on, msgpack and websockets.
"""
