"""A spill that a sponge wipes away, disc by disc."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.worlds.tabletop.model import TabletopModel
from hiervla.worlds.tabletop.things import SPILL_DISCS, spill_points

WIPE_GAP_M = 0.008
"""A disc goes when a sponge's body comes closer to it than this from above."""


class Spill:
    """Which discs of the spill are left; the bits of `mask` are part of the world's state.

    The spill has no contacts. Colours of the model's geoms follow the mask.
    """

    def __init__(self, built: TabletopModel) -> None:
        self._geom_rgba = built.mj.geom_rgba
        self._geoms = built.spill_geoms
        spill = built.scene.spill
        self._points = np.zeros((0, 3)) if spill is None else spill_points(spill) * (1.0, 1.0, 0.0)
        if built.T_root_base is not None:
            self._points = self._points @ built.T_root_base[:3, :3].T + built.T_root_base[:3, 3]
        pairs = zip(built.scene.objects, built.object_qpos, strict=True)
        self._sponges = [(q, np.array(o.size) / 2) for o, q in pairs if o.category == "sponge"]
        self._left = np.ones(len(self._points), dtype=bool)

    @property
    def mask(self) -> int:
        """Bit k is set while disc k is there."""
        return sum(1 << int(k) for k in np.flatnonzero(self._left))

    @mask.setter
    def mask(self, bits: int) -> None:
        self._left = np.array([bool(bits >> k & 1) for k in range(len(self._points))], dtype=bool)
        self._geom_rgba[self._geoms, 3] = self._left.astype(np.float32)

    @property
    def remaining(self) -> float:
        """Share of the discs that is left, 0 to 1; 0 without a spill."""
        return float(self._left.mean()) if len(self._left) else 0.0

    def wipe(self, data: mujoco.MjData) -> None:
        """Take away the discs that a sponge touches in its present pose."""
        if not self._left.any():
            return
        for address, half in self._sponges:
            touched = self._left & _under(data.qpos[address : address + 7], half, self._points)
            if touched.any():
                self._left &= ~touched
                self._geom_rgba[self._geoms, 3] = self._left.astype(np.float32)


def _under(pose: NDArray[np.float64], half: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points on the table lie inside a sponge that is blown up by the gap along the vertical."""
    if pose[2] > WIPE_GAP_M + 2 * float(half.max()):
        return np.zeros(len(points), dtype=bool)
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, pose[3:])
    rotation = matrix.reshape(3, 3)
    centre = pose[:3] + rotation @ np.array([0.0, 0.0, half[2]])
    local = (points - centre) @ rotation
    slack = np.where(np.abs(rotation[2]) > 0.7, WIPE_GAP_M, 0.001)
    return np.asarray((np.abs(local) <= half + slack).all(axis=1))


__all__ = ["SPILL_DISCS", "WIPE_GAP_M", "Spill"]
