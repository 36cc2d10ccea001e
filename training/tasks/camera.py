"""Where things appear in the front camera's image, without rendering."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hiervla.training.tasks.domain import HEIGHT, SymbolicScene


@dataclass(frozen=True, slots=True)
class FrontCamera:
    """A pinhole camera that looks back at the robot: the image's right is world +y.

    Attributes:
        eye: camera centre in the world [m].
        look_at: world point at the image centre [m].
        focal: focal length in image widths.
        aspect: image width / height.
    """

    eye: tuple[float, float, float] = (1.25, 0.0, 1.0)
    look_at: tuple[float, float, float] = (0.376, 0.0, 0.0)
    focal: float = 0.8134
    aspect: float = 4 / 3

    def project(self, points_w: np.ndarray) -> np.ndarray:
        """Image positions (N, 2) of world points (N, 3) [m], as fractions 0..1 of width and height."""
        eye, axes = _pose(self.eye, self.look_at)
        p = (points_w - eye) @ axes
        depth = np.maximum(p[:, 2], 0.05)
        u = 0.5 + self.focal * p[:, 0] / depth
        v = 0.5 + self.focal * self.aspect * p[:, 1] / depth
        return np.stack([u, v], axis=1)

    def jittered(self, rng: np.random.Generator) -> FrontCamera:
        """This camera, moved and turned by a little."""
        e, t = rng.normal(0.0, 0.015, 3), rng.normal(0.0, 0.012, 3)
        return FrontCamera(
            (self.eye[0] + e[0], self.eye[1] + e[1], self.eye[2] + e[2]),
            (self.look_at[0] + t[0], self.look_at[1] + t[1], self.look_at[2] + t[2]),
            self.focal * float(rng.uniform(0.96, 1.04)),
            self.aspect,
        )


@lru_cache(maxsize=8)
def _pose(eye: tuple[float, float, float], look_at: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre (3,) and the camera axes in the world as columns (3, 3): right, down, forward."""
    forward = np.subtract(look_at, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right)
    down = np.cross(forward, right)
    return np.asarray(eye), np.stack([right, down, forward], axis=1)


def seen_points(scene: SymbolicScene) -> tuple[list[str], np.ndarray]:
    """Ids of the visible things and the world points (N, 3) [m] that stand for them: their centres."""
    ids = [i for i in scene.objects if scene.visible(i)]
    points = np.array([scene.objects[i].position for i in ids])
    points[:, 2] += [HEIGHT[scene.objects[i].category] / 2 for i in ids]
    return ids, points


def columns_of(scene: SymbolicScene, camera: FrontCamera | None = None) -> dict[str, float]:
    """Image column (0..1) of each visible thing."""
    ids, points = seen_points(scene)
    return dict(zip(ids, (camera or FrontCamera()).project(points)[:, 0].tolist(), strict=True))
