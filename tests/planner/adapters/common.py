"""Images, sizes, calibrated frames and the corpus that the tests of the adapters share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.planner.adapters import ImageSize, smart_resize
from hiervla.representations import Artifact, Boxes, CameraFrame, ImageRef, Keypoints, Waypoints2D

CORPUS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "corpus.json").read_text())
PIXEL_FAMILIES = ("qwen2.5-vl", "robobrain-2.0")


def image(width: int = 640, height: int = 480, sha256: str = "0" * 64) -> ImageRef:
    return ImageRef(camera="front", sha256=sha256, width=width, height=height, time_s=0.0)


def sent_for(family: str, ref: ImageRef) -> ImageSize | None:
    """What the family's processor makes of the image; None where the family does not care."""
    return smart_resize(ref.width, ref.height) if family in PIXEL_FAMILIES else None


def frame(width: int = 64, height: int = 48) -> CameraFrame:
    """A camera one metre above the table that looks straight down."""
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1.0, -1.0])
    T[:3, 3] = (0.5, 0.0, 1.0)
    K = np.array([[60.0, 0.0, width / 2], [0.0, 60.0, height / 2], [0.0, 0.0, 1.0]])
    rgb = np.zeros((height, width, 3), np.uint8)
    return CameraFrame(name="front", rgb=rgb, K=K, T_world_camera=T, time_s=0.0)


def ref_of(seen: CameraFrame) -> ImageRef:
    return image(seen.width, seen.height, seen.sha256)


def places(artifact: Artifact) -> list[tuple[float, ...]]:
    """Pixels of an artifact's points, or corners of its boxes."""
    if isinstance(artifact, Boxes):
        return [(b.u_min, b.v_min, b.u_max, b.v_max) for b in artifact.boxes]
    assert isinstance(artifact, Keypoints | Waypoints2D)
    return [(p.u, p.v) for p in artifact.points]
