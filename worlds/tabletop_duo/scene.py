"""What a table with two arms is made of: a tabletop scene for each arm, joined at the bin that both use.

The root frame is the left arm's base frame. The right arm sits across the bin, turned by half a turn about the bin's
middle, so that the bin stands in both base frames where the skills were trained to find it. Everything else an arm has
for itself: its things, its shelf, its cabinet with the drawer, its front and its wrist camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from hiervla.representations._base import Typed, Vec2
from hiervla.worlds.base import SharedSpace
from hiervla.worlds.tabletop.sampling import Request, SceneRequestError, sample_scene
from hiervla.worlds.tabletop.specs import GRIPPER, SceneSpec

Arm = Literal["left", "right"]
ARMS: Final[tuple[Arm, ...]] = ("left", "right")
SHARED_BIN_XY: Final[Vec2] = (0.20, 0.47)
"""Middle of the bin in either base frame [m]; the bases stand twice as far from each other."""
SHARED_SPACE: Final = SharedSpace(name="bin", normal=(0.0, 1.0, 0.0), free_m=0.27, entered_m=0.61)
"""Both reach over the bin. Either arm alone keeps to its own side of 0.27 m; one that has the space may go to 0.61 m,
which leaves 60 mm between the two: more than what is carried stands out beyond a hand."""
_TRIES: Final = 60
_USUAL: Final[tuple[Request, ...]] = (("can", None, "table"), ("block", None, "table"), ("mug", None, "table"))


class DuoScene(Typed):
    """The recipe of a world with two arms; lengths in metres, each half in its own arm's base frame."""

    seed: int
    left: SceneSpec
    right: SceneSpec

    @model_validator(mode="after")
    def _joined(self) -> DuoScene:
        if self.left.furniture.bin_xy != self.right.furniture.bin_xy:
            raise ValueError("both halves need the bin at the same place in their base frames: it is one bin")
        for name in ARMS:
            half = self.half(name)
            if half.carried_by(GRIPPER) or half.carried_by("bin"):
                raise ValueError(f"nothing can start in the {name} gripper or in the shared bin")
        return self

    def half(self, arm: str) -> SceneSpec:
        """What stands before an arm.

        Raises:
            KeyError: there is no such arm.
        """
        return {"left": self.left, "right": self.right}[arm]

    def T_root_base(self, arm: str) -> NDArray[np.float64]:
        """(4, 4) pose of an arm's base in the root frame."""
        pose = np.eye(4)
        if arm == "right":
            x, y = self.left.furniture.bin_xy
            pose[:3, :3] = np.diag([-1.0, -1.0, 1.0])
            pose[:3, 3] = (2 * x, 2 * y, 0.0)
        return pose


def sample_duo_scene(
    seed: int, left: Sequence[Request] = _USUAL, right: Sequence[Request] = _USUAL, *, spill: bool = False
) -> DuoScene:
    """Draw a scene. The same arguments give the same scene; no two things have the same colour and category.

    Args:
        seed: of everything that is drawn.
        left: what stands before the left arm, see :data:`hiervla.worlds.tabletop.sampling.Request`.
        right: what stands before the right arm.
        spill: whether each half has a spill.

    Raises:
        SceneRequestError: a request is contradictory, unknown or does not fit into the scene.
    """
    one = _half(2 * seed, left, spill)
    taken = {o.name for o in one.objects}
    for k in range(_TRIES):
        other = _half(2 * seed + 1 + 100_003 * k, right, spill)
        if taken.isdisjoint(o.name for o in other.objects):
            # One lamp and one table top; each camera has its own error.
            errors = {n: getattr(other.look, n) for n in ("camera_shift", "target_shift", "fovy_deg")}
            return DuoScene(seed=seed, left=one, right=other.replace(look=one.look.replace(**errors)))
    raise SceneRequestError(f"left={list(left)}, right={list(right)}", "they name the same things; name others")


def _half(seed: int, require: Sequence[Request], spill: bool) -> SceneSpec:
    scene = sample_scene(
        seed, n_objects=len(require), require=require, spill=spill, drawer_open=False, stacks=0, shelf_prob=0.0
    )
    return scene.replace(furniture=scene.furniture.replace(bin_xy=SHARED_BIN_XY))
