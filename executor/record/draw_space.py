"""Where artifacts of the world frame appear in a camera's image, and how a value map is painted over it."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from hiervla.representations import (
    Artifact,
    CameraFrame,
    Constraints,
    LanguageMotion,
    SubtaskList,
    ValueMap,
    Waypoints3D,
)
from hiervla.representations.geometry import project
from hiervla.skills.value_maps import peak_of

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

_STRENGTH: Final = 0.55
"""How much of the frame the painting covers."""
_CAPTIONS: Final = 12


def projected(frame: CameraFrame, artifact: Artifact) -> list[tuple[float, float]]:
    """(u, v) [px] of the points of a 3D artifact that lie in the image; of a value map, its highest place."""
    match artifact:
        case Waypoints3D():
            points = [p.position_w for p in artifact.points]
        case Constraints():
            points = [k.position_w for k in artifact.keypoints if k.position_w is not None]
        case ValueMap() if artifact.values.size:
            points = [peak_of(artifact)]
        case _:
            return []
    if not points:
        return []
    pixels, depths = project(frame, points)
    inside = (pixels >= 0.0).all(axis=1) & (pixels <= (frame.width, frame.height)).all(axis=1) & (depths > 0.0)
    return [(float(u), float(v)) for u, v in pixels[inside]]


def captions(artifact: Artifact) -> list[str]:
    """What an artifact says in words, a line each; nothing for one that says it in places."""
    match artifact:
        case LanguageMotion():
            return [artifact.text]
        case SubtaskList():
            lines = []
            for k, text in enumerate(artifact.subtasks):
                needed = [str(earlier + 1) for later, earlier in artifact.depends_on if later == k]
                after = f" (after {', '.join(needed)})" if needed else ""
                lines.append(f"{k + 1}. {text}{after}" if len(artifact.subtasks) > 1 else text)
            more = len(lines) - _CAPTIONS
            return lines if more <= 0 else [*lines[:_CAPTIONS], f"and {more} more"]
        case Constraints():
            return [f"stage {c.stage}: {c}" for c in artifact.constraints][:_CAPTIONS]
        case _:
            return []


def paint_value_map(rgb: Pixels, frame: CameraFrame, artifact: ValueMap, scale: int) -> Pixels:
    """A picture with the layer of the map that holds its highest place, from blue (low) over red to yellow (high).

    Each voxel of the layer is drawn as a square that lies in the world; what else the map holds is not shown.
    """
    values = artifact.values
    k = int(np.unravel_index(int(values.argmax()), values.shape)[2])
    layer = values[:, :, k]
    low, high = float(layer.min()), float(layer.max())
    share = (layer - low) / max(high - low, 1e-9)
    i, j = np.indices(layer.shape)
    r, (ox, oy, oz) = artifact.resolution_m, artifact.origin_w
    corners = []
    for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
        x, y = ox + r * (i + di), oy + r * (j + dj)
        corners.append(np.stack([x, y, np.full(x.shape, oz + r * (k + 0.5))], axis=-1))
    pixels, depths = project(frame, np.stack(corners, axis=2))
    overlay = Image.fromarray(rgb)
    pen = ImageDraw.Draw(overlay)
    # From far to near, as a painter does it.
    for index in np.argsort(-depths.min(axis=2), axis=None):
        a, b = np.unravel_index(int(index), layer.shape)
        if (depths[a, b] <= 0.0).any():
            continue
        s = float(share[a, b])
        colour = tuple(int(255 * min(max(c, 0.0), 1.0)) for c in (2 * s, 2 * s - 1, 1 - 2 * s))
        pen.polygon([(float(u) * scale, float(v) * scale) for u, v in pixels[a, b]], fill=colour)
    return np.asarray(rgb * (1 - _STRENGTH) + np.asarray(overlay) * _STRENGTH + 0.5, dtype=np.uint8)
