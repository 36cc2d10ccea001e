"""Pixels to metres and back, in the conventions of ``docs/conventions.md``. Pure numpy, vectorised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiervla.representations.observations import CameraFrame

Floats = NDArray[np.float64]


def deproject(frame: CameraFrame) -> Floats:
    """World position of every pixel centre.

    Returns:
        (H, W, 3) points in the world frame [m]; NaN where the camera has no return.

    Raises:
        CameraError: the camera gives no depth.
    """
    depth = frame.require_depth().astype(np.float64)
    depth = np.where(np.isfinite(depth) & (depth > 0.0), depth, np.nan)
    v, u = np.indices(depth.shape, dtype=np.float64)
    return lift(frame, u + 0.5, v + 0.5, depth)


def lift(frame: CameraFrame, u: Any, v: Any, depth_m: Any) -> Floats:
    """World positions of pixels at known depths along the optical axis.

    Args:
        frame: calibrated camera frame.
        u: columns [px], any shape S.
        v: rows [px], shape S.
        depth_m: distance along the optical axis [m], shape S.

    Returns:
        (*S, 3) points in the world frame [m].
    """
    K, T = frame.K, frame.T_world_camera
    z = np.asarray(depth_m, dtype=np.float64)
    x = (np.asarray(u, dtype=np.float64) - K[0, 2]) / K[0, 0] * z
    y = (np.asarray(v, dtype=np.float64) - K[1, 2]) / K[1, 1] * z
    camera = np.stack([x, y, z], axis=-1)
    return np.asarray(camera @ T[:3, :3].T + T[:3, 3])


def project(frame: CameraFrame, points_w: Any) -> tuple[Floats, Floats]:
    """Project world points into an image.

    Args:
        frame: calibrated camera frame.
        points_w: (*S, 3) points in the world frame [m].

    Returns:
        ((*S, 2) pixels (u, v), (*S,) depth along the optical axis [m]); depth is not positive behind the camera.
    """
    T = frame.T_world_camera
    camera = (np.asarray(points_w, dtype=np.float64) - T[:3, 3]) @ T[:3, :3]
    depth = camera[..., 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    u = frame.K[0, 0] * camera[..., 0] / safe + frame.K[0, 2]
    v = frame.K[1, 1] * camera[..., 1] / safe + frame.K[1, 2]
    return np.stack([u, v], axis=-1), depth
