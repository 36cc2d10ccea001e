"""Names for what pixels show: loose objects, furniture, spill, table, robot."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.representations import UnknownNameError
from hiervla.worlds.tabletop.specs import SceneSpec

FIXED_NAMES: tuple[str, ...] = (
    "background", "table", "robot", "top_shelf", "bottom_shelf", "cabinet", "drawer", "bin",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label for each pixel.

    Attributes:
        ids: (H, W) int32, an index into `names`.
        names: `FIXED_NAMES`, then the object ids in the order of the scene, then the spill's id.
    """

    ids: NDArray[np.int32]
    names: tuple[str, ...]

    def mask(self, name: str) -> NDArray[np.bool_]:
        """(H, W) where a thing is seen.

        Raises:
            UnknownNameError: nothing in this scene has that name.
        """
        if name not in self.names:
            raise UnknownNameError("thing", name, self.names, "this segmentation")
        return np.asarray(self.ids == self.names.index(name))

    def visible(self, min_pixels: int = 1) -> dict[str, int]:
        """Number of pixels of each thing that shows at least `min_pixels`."""
        counts = np.bincount(self.ids.ravel(), minlength=len(self.names))
        return {name: int(n) for name, n in zip(self.names, counts, strict=True) if n >= min_pixels}


def label_geoms(model: mujoco.MjModel, scene: SceneSpec, prefix: str = "") -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Label of each geom (ngeom,) and the names that the labels index.

    Args:
        model: the compiled scene, or several of them.
        scene: the one that is labelled; of another one in the model only the robot and what both use have a label.
        prefix: what its names begin with in the model.
    """
    spills = [] if scene.spill is None else [scene.spill.id]
    names = (*FIXED_NAMES, *(o.id for o in scene.objects), *spills)
    index = {name: i for i, name in enumerate(names)}
    labels = np.zeros(model.ngeom, dtype=np.int32)
    for geom in range(model.ngeom):
        body = model.body(int(model.geom_bodyid[geom])).name
        name = model.geom(geom).name.removeprefix(prefix)
        if body != "world":
            labels[geom] = _label_of_body(body, prefix, index)
        elif name.startswith("spill_disc"):
            labels[geom] = index[spills[0]]
        elif name.startswith("table"):
            labels[geom] = index["table"]
    return labels, names


def _label_of_body(body: str, prefix: str, index: dict[str, int]) -> int:
    if body.startswith(prefix):
        return index.get(body.removeprefix(prefix), index["robot"])
    other = body.partition("_")[2]
    if other in (*panda.LINK_NAMES, panda.HAND_BODY, *panda.FINGER_NAMES):
        return index["robot"]
    return index["bin"] if other == "bin" else index["background"]


def label_image(geoms: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn an image of geom ids (-1 for none) into an image of labels."""
    table = np.concatenate([labels, np.zeros(1, dtype=np.int32)])
    return np.asarray(table[geoms], dtype=np.int32)
